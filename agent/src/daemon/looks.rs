//! Looks at the clients while something is suspected: as many as the detectors want, as long as they cost little.
//!
//! A look reads the kernel's table of clients, in which those of all servers are: whoever asks in the same tick shares it. After a
//! look a server waits `REST` times what it has cost it, a twentieth of a core, and anybody `REST_OF_OTHERS` times, a fifth: a leak
//! at one server, suspected for minutes, leaves a storm of two seconds at another one its look.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use crate::snapshot::ClientSnapshot;

/// So many times the CPU time of a look pass before the next one at the same server.
const REST: u32 = 20;

/// And before one at another server: all together take a fifth of a core at most.
const REST_OF_OTHERS: u32 = 4;

/// The clients of every server.
pub(super) type ClientsByServer = BTreeMap<String, Vec<ClientSnapshot>>;

/// The look of this tick, and when there may be another one.
#[derive(Debug, Default)]
pub(super) struct Looks {
    taken: Option<ClientsByServer>,
    /// When any server may be looked at.
    next: Option<Instant>,
    /// When those may that were looked at lately.
    resting: HashMap<String, Instant>,
}

impl Looks {
    /// The clients of a server; `None` if that would cost too much so soon. `look` reads those of all servers.
    pub(super) fn at(
        &mut self,
        server: &str,
        now: Instant,
        look: impl FnOnce() -> ClientsByServer,
    ) -> Option<Vec<ClientSnapshot>> {
        let clients = if let Some(clients) = &self.taken {
            clients
        } else {
            self.resting.retain(|_, until| *until > now);
            if self.next.is_some_and(|next| now < next) || self.resting.contains_key(server) {
                return None;
            }
            self.taken.insert(look())
        };
        Some(clients.get(server).cloned().unwrap_or_default())
    }

    /// The look at a server has cost so much CPU time, with what was made of it.
    pub(super) fn charge(&mut self, server: &str, now: Instant, cost: Duration) {
        let next = self.next.map_or(now, |next| next.max(now));
        self.next = Some(next + cost * REST_OF_OTHERS);
        self.resting.insert(server.to_owned(), now + cost * REST);
    }

    /// The tick is over: the next one looks for itself.
    pub(super) fn end_tick(&mut self) {
        self.taken = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    /// Ticks in ten seconds in which each server had a look, and how many looks were taken. Each wants one from its tick on.
    fn ten_seconds(cost: Duration, since: &[(&'static str, u32)]) -> (Vec<Vec<u32>>, u32) {
        let (begin, mut looks, mut taken) = (Instant::now(), Looks::default(), 0);
        let mut had = vec![Vec::new(); since.len()];
        for tick in 0..100 {
            let now = begin + TICK * tick;
            for ((server, from), had) in since.iter().zip(&mut had) {
                let mut spent = Duration::ZERO;
                let look = || {
                    taken += 1;
                    spent = cost;
                    ClientsByServer::new()
                };
                if tick >= *from && looks.at(server, now, look).is_some() {
                    looks.charge(server, now, spent);
                    had.push(tick);
                }
            }
            looks.end_tick();
        }
        (had, taken)
    }

    #[test]
    fn a_cheap_look_is_taken_in_every_tick_and_once_for_all_servers() {
        let (had, taken) = ten_seconds(Duration::from_millis(1), &[("a", 0), ("b", 0)]);
        assert_eq!(had, [(0..100).collect::<Vec<_>>(), (0..100).collect()]);
        assert_eq!(taken, 100);
    }

    #[test]
    fn whoever_is_looked_at_all_the_time_leaves_another_server_its_look() {
        let cost = Duration::from_millis(100);
        let (had, _) = ten_seconds(cost, &[("leak", 0), ("storm", 31)]);
        assert_eq!(had[0][..2], [0, 20]);
        // At once, if the last look is long ago; and never later than the ration of all allows.
        assert_eq!(had[1][0], 31);
        let (had, _) = ten_seconds(cost, &[("leak", 0), ("storm", 21)]);
        assert_eq!(had[1][0], 24);
    }

    #[test]
    fn all_together_take_a_fifth_of_a_core_and_nobody_goes_without() {
        let cost = Duration::from_millis(100);
        let servers = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let begin: Vec<_> = servers
            .iter()
            .zip(0..)
            .map(|(name, tick)| (*name, tick))
            .collect();
        let (had, taken) = ten_seconds(cost, &begin);
        assert!(taken <= 25, "{taken} looks of {cost:?} in ten seconds");
        assert!(had.iter().all(|had| had.len() >= 4), "{had:?}");
    }
}
