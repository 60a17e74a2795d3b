//! Guests: clients that come and go. A batch that has closed its connections and another one that opens as many a minute later
//! are no restart, whoever restarts is back soon. So whoever was away for longer than a restart takes is a guest when it comes
//! back, for as long as it was away.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use super::observation::{ClientDetail, Detail};

/// A restart takes less.
pub(super) const RESTART_SECONDS: f64 = 120.0;

/// Nobody is a guest for longer: who was away for the night belongs here an hour after it has come.
const STAY_SECONDS: f64 = 3_600.0;

/// Who was away for so long comes as if for the first time.
const FORGET_SECONDS: f64 = 86_400.0;

/// Two looks are not counted as further apart: in between nobody looked because something was suspected, not because of those
/// that left.
const APART_SECONDS: f64 = 60.0;

/// Of one server.
#[derive(Debug, Default)]
pub(super) struct Guests {
    addresses: Absences<IpAddr>,
    workloads: Absences<Arc<str>>,
}

impl Guests {
    /// Takes a look at a quiet moment, so many seconds after the one before.
    pub(super) fn learn(&mut self, seconds: f64, detail: &Detail) {
        let seconds = seconds.min(APART_SECONDS);
        let present = || detail.clients.iter().filter(|client| client.connections > 0);
        let addresses = present().map(|client| client.address).collect();
        let workloads = present().filter_map(|client| client.workload.clone()).collect();
        self.addresses.learn(seconds, addresses);
        self.workloads.learn(seconds, workloads);
    }

    /// Whether a client is one: its address or all of its workload was away. Who comes for the first time is none: more than
    /// that it comes is not known of it.
    pub(super) fn have(&self, client: &ClientDetail) -> bool {
        let workload = client.workload.as_ref();
        self.addresses.was_away(&client.address)
            || workload.is_some_and(|workload| self.workloads.was_away(workload))
    }
}

/// Who was not there lately.
#[derive(Debug)]
struct Absences<K> {
    present: HashSet<K>,
    /// Seconds of absence, less those since it is back.
    seconds: HashMap<K, f64>,
}

impl<K> Default for Absences<K> {
    fn default() -> Self {
        Self {
            present: HashSet::new(),
            seconds: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Absences<K> {
    fn learn(&mut self, seconds: f64, present: HashSet<K>) {
        self.seconds.retain(|who, away| {
            if present.contains(who) {
                *away = away.min(STAY_SECONDS) - seconds;
                *away > 0.0
            } else {
                *away += seconds;
                *away < FORGET_SECONDS
            }
        });
        for who in self.present.difference(&present) {
            self.seconds.entry(who.clone()).or_insert(seconds);
        }
        // Pods come under ever new addresses: those that are gone for good must not pile up.
        if self.seconds.len() > 2 * present.len() + 1_000 {
            self.seconds.retain(|who, _| present.contains(who));
        }
        self.present = present;
    }

    fn was_away(&self, who: &K) -> bool {
        self.seconds.get(who).is_some_and(|away| *away > RESTART_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every ten seconds at a client that is there or not. Returns whether it is a guest at last.
    fn guest(presence: &[(u64, bool)]) -> bool {
        let client = |workload: Option<&str>, host, connections| ClientDetail {
            address: [10, 0, 0, host].into(),
            workload: workload.map(Into::into),
            library: None,
            user: None,
            opened: 9,
            connections,
        };
        let mut guests = Guests::default();
        for (seconds, there) in presence {
            for _ in 0..seconds / 10 {
                let clients = vec![
                    client(None, 1, 5),
                    client(None, 2, u64::from(*there)),
                    client(Some("job"), 3, u64::from(*there)),
                ];
                guests.learn(10.0, &Detail { clients });
            }
        }
        assert!(!guests.have(&client(None, 1, 5)));
        assert!(!guests.have(&client(None, 99, 5)), "it was never here");
        let by_workload = guests.have(&client(Some("job"), 98, 5));
        assert_eq!(by_workload, guests.have(&client(None, 2, 5)));
        by_workload
    }

    #[test]
    fn who_was_away_is_a_guest_for_as_long() {
        assert!(!guest(&[(600, true)]), "there from the beginning");
        assert!(!guest(&[(600, true), (100, false), (10, true)]), "a restart");
        assert!(guest(&[(600, true), (900, false), (600, true)]));
        assert!(!guest(&[(600, true), (900, false), (900, true)]));
        assert!(guest(&[(600, true), (40_000, false), (3_000, true)]));
        assert!(
            !guest(&[(600, true), (40_000, false), (3_600, true)]),
            "no longer than an hour"
        );
        assert!(!guest(&[(600, true), (90_000, false), (10, true)]), "forgotten");
    }

    #[test]
    fn those_that_are_gone_for_good_do_not_pile_up() {
        let mut absences = Absences::default();
        for who in 0..1_500_u32 {
            absences.learn(0.1, HashSet::from([who]));
            assert!(absences.seconds.len() <= 1_003);
        }
    }
}
