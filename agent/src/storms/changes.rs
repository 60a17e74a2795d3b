//! What the clients of a server have done since a quiet moment, address by address, and who stands out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use super::finding::{Measure, ratio};
use super::observation::{ClientDetail, Detail};
use super::storm::{Culprit, Moment, Subject};
use crate::numbers;

/// Culprits that are named, of each subject.
const NAMED: usize = 3;

/// A share below this is nobody's fault.
const LEAST_SHARE: f64 = 0.05;

/// Looks that are kept for those who want to know what has grown: four of the last minute, and one of the last five to ten.
const LOOKS: usize = 4;
const SPACING_MILLISECONDS: u64 = 15_000;
const MINUTES_BACK: u64 = 300_000;

/// Clients as they were in quiet moments.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    recent: Option<Look>,
    /// The oldest first.
    looks: VecDeque<Look>,
    old: Option<Look>,
}

/// Clients at one moment: 32 bytes for each address.
#[derive(Debug, Clone, Default)]
struct Look {
    at: Moment,
    clients: HashMap<IpAddr, Then>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Then {
    opened: u32,
    connections: u32,
    /// Opens per second before.
    rate: f32,
}

impl Quiet {
    /// Takes a look at a quiet moment.
    pub(super) fn remember(&mut self, at: Moment, detail: &Detail) {
        let before = self.recent.take();
        let clients = detail.clients.iter().map(|client| {
            let then = before
                .as_ref()
                .and_then(|look| Some((look.at, look.clients.get(&client.address)?)));
            let rate = then.map_or(0.0, |(moment, then)| {
                let opened = client.opened.saturating_sub(u64::from(then.opened)) as f64;
                // Half of it new: a batch that ran once is soon forgotten.
                f64::midpoint(f64::from(then.rate), ratio(opened * 1e3, at.since(moment) as f64))
            });
            let then = Then {
                opened: u32::try_from(client.opened).unwrap_or(u32::MAX),
                connections: u32::try_from(client.connections).unwrap_or(u32::MAX),
                rate: rate as f32,
            };
            (client.address, then)
        });
        self.recent = Some(Look {
            at,
            clients: clients.collect(),
        });
        let is_past = |look: Option<&Look>, age| look.is_none_or(|look| at.since(look.at) > age);
        if is_past(self.looks.back(), SPACING_MILLISECONDS) {
            self.looks.extend(before);
            if self.looks.len() > LOOKS {
                let oldest = self.looks.pop_front();
                if is_past(self.old.as_ref(), 2 * MINUTES_BACK) {
                    self.old = oldest;
                }
            }
        }
    }

    /// The look that is nearest to a moment.
    fn nearest(&self, moment: Moment) -> Option<&Look> {
        let looks = self.old.iter().chain(&self.looks).chain(&self.recent);
        looks.min_by_key(|look| look.at.0.abs_diff(moment.0))
    }

    /// What has changed since the last look; and what has grown since `onset`.
    pub(super) fn changes(&self, now: Moment, onset: Moment, detail: &Detail) -> Changes {
        let nobody = Look::default();
        let recent = self.recent.as_ref().unwrap_or(&nobody);
        let old = self.nearest(onset).unwrap_or(recent);
        let seconds = if self.recent.is_some() {
            now.since(recent.at) as f64 / 1e3
        } else {
            0.0
        };
        let rows = detail.clients.iter().map(|client| {
            let then = recent.clients.get(&client.address).copied();
            let before = then.unwrap_or_default();
            let opened = client.opened.saturating_sub(u64::from(before.opened)) as f64;
            let expected = f64::from(before.rate) * seconds;
            let long_ago = old
                .clients
                .get(&client.address)
                .map_or(0, |then| then.connections);
            Change {
                client: client.clone(),
                // Before the first look nobody has opened anything that could be told from what is usual.
                opened: if self.recent.is_some() {
                    (opened - expected).max(0.0)
                } else {
                    0.0
                },
                held_before: f64::from(before.connections),
                grown: (client.connections as f64 - f64::from(long_ago)).max(0.0),
            }
        });
        Changes {
            rows: rows.collect(),
            known: self.recent.is_some(),
        }
    }
}

/// What has changed since the last quiet look.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes {
    rows: Vec<Change>,
    /// Whether there was a quiet look.
    pub(super) known: bool,
}

#[derive(Debug, Clone)]
struct Change {
    client: ClientDetail,
    /// Connections opened beyond what this address usually does.
    opened: f64,
    held_before: f64,
    grown: f64,
}

impl Changes {
    /// Connections that took the place of others: of each address no more than it holds, or held. Somebody who opens the same
    /// connection again and again counts once.
    pub(super) fn renewed(&self) -> f64 {
        let rows = self.rows.iter();
        rows.map(|row| row.opened.min(row.held_before.max(row.client.connections as f64)))
            .sum()
    }

    /// Connections opened by addresses that had some before, and how many they had.
    pub(super) fn by_the_same(&self) -> (f64, f64) {
        let usual = self.rows.iter().filter(|row| row.held_before > 0.0);
        usual.fold((0.0, 0.0), |(opened, held), row| {
            (opened + row.opened, held + row.held_before)
        })
    }

    /// Addresses with connections before that opened more than `times` as many since.
    pub(super) fn reopening(&self, times: f64) -> usize {
        let usual = self.rows.iter().filter(|row| row.held_before > 0.0);
        usual.filter(|row| row.opened > times * row.held_before).count()
    }

    /// Who did it, the largest share first.
    pub(super) fn culprits(&self, measure: &Measure) -> Vec<Culprit> {
        let nobody_opened = self.rows.iter().all(|row| row.opened < 1.0);
        let amount = |row: &Change| match measure {
            // Before a full accept queue nobody gets as far as to open.
            Measure::Opens if nobody_opened => (row.held_before - row.client.connections as f64).max(0.0),
            Measure::Opens => row.opened,
            Measure::Growth => row.grown,
            Measure::Traffic(_) => 0.0,
        };
        let total: f64 = self.rows.iter().map(amount).sum();
        let mut sums: BTreeMap<(Subject, String), Culprit> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| amount(row) > 0.0) {
            for (subject, name) in subjects(&row.client) {
                let culprit = sums.entry((subject, name.clone())).or_insert_with(|| Culprit {
                    subject,
                    name,
                    share: 0.0,
                    instances: 0,
                    connections: 0,
                    amount: 0.0,
                });
                culprit.amount += amount(row);
                culprit.instances += 1;
                culprit.connections += row.client.connections.max(row.held_before as u64);
            }
        }
        let mut culprits: Vec<Culprit> = sums.into_values().collect();
        for culprit in &mut culprits {
            culprit.share = ratio(culprit.amount, total);
        }
        // Those with equal shares stay in the order of their names.
        culprits.sort_by(|left, right| right.share.total_cmp(&left.share));
        let mut named: BTreeMap<Subject, usize> = BTreeMap::new();
        culprits.retain(|culprit| {
            let count = named.entry(culprit.subject).or_default();
            *count += 1;
            *count <= NAMED && culprit.share >= LEAST_SHARE
        });
        culprits
    }
}

/// Everything that a client is part of.
fn subjects(client: &ClientDetail) -> impl Iterator<Item = (Subject, String)> {
    let owner = match &client.workload {
        Some(workload) => (Subject::Workload, workload.to_string()),
        None => (Subject::Client, client.address.to_string()),
    };
    let library = client
        .library
        .as_ref()
        .map(|library| (Subject::Library, library.to_string()));
    let user = client.user.as_ref().map(|user| (Subject::User, user.to_string()));
    [Some(owner), library, user].into_iter().flatten()
}

/// Names the leading culprit and its share: `92 % of 4,100 opens in 3 s: workload cart-api, go-redis 8.11, 312 instances, 13
/// connections each`.
pub(super) fn sentence(noun: &str, amount: f64, seconds: f64, culprits: &[Culprit]) -> String {
    let of = format!("{} {noun} in {}", thousands(amount), duration(seconds));
    let owner = |culprit: &&Culprit| {
        matches!(
            culprit.subject,
            Subject::Workload | Subject::Client | Subject::Tenant | Subject::Prefix
        )
    };
    let Some(first) = culprits.iter().find(owner) else {
        return of;
    };
    let mut sentence = format!(
        "{:.0} % of {of}: {} {}",
        first.share * 100.0,
        first.subject.label(),
        first.name
    );
    let library = culprits
        .iter()
        .find(|culprit| culprit.subject == Subject::Library);
    if let Some(library) = library {
        sentence.push_str(&format!(", {}", library.name));
    }
    if first.instances > 1 {
        sentence.push_str(&format!(", {} instances", thousands(first.instances as f64)));
    }
    if first.instances > 0 {
        let each = first.connections as f64 / first.instances as f64;
        let what = if each.round() == 1.0 {
            "connection"
        } else {
            "connections"
        };
        let each_of = if first.instances > 1 { " each" } else { "" };
        sentence.push_str(&format!(", {} {what}{each_of}", thousands(each)));
    }
    sentence
}

/// `4,100`.
pub(super) fn thousands(number: f64) -> String {
    numbers::thousands(number.max(0.0).round_ties_even() as u64)
}

/// `0.7 s`, `3 s`, `12 min`.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        short if short < 2.0 => format!("{short:.1} s"),
        middling if middling < 120.0 => format!("{middling:.0} s"),
        long if long < 7_200.0 => format!("{:.0} min", long / 60.0),
        longer => format!("{:.0} h", longer / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(host: u8, workload: Option<&str>, opened: u64, connections: u64) -> ClientDetail {
        ClientDetail {
            address: [10, 0, 0, host].into(),
            workload: workload.map(Into::into),
            library: workload.map(|_| "go-redis 8.11".into()),
            user: None,
            opened,
            connections,
        }
    }

    fn detail(clients: Vec<ClientDetail>) -> Detail {
        Detail { clients }
    }

    /// A client that opens ten connections a second by design, and a fleet of three that holds 13 each.
    fn quiet() -> Quiet {
        let mut quiet = Quiet::default();
        for second in 0..30 {
            let mut clients: Vec<_> = (1..=3)
                .map(|host| client(host, Some("cart-api"), 13, 13))
                .collect();
            clients.push(client(9, None, 10 * second, 1));
            quiet.remember(Moment(1_000 * second), &detail(clients));
        }
        quiet
    }

    #[test]
    fn shares_are_of_the_excess_over_what_each_usually_does() {
        let mut after: Vec<_> = (1..=3)
            .map(|host| client(host, Some("cart-api"), 43, 13))
            .collect();
        after.push(client(9, None, 10 * 29 + 40, 1));
        let changes = quiet().changes(Moment(29_000 + 3_000), Moment(30_000), &detail(after));
        let culprits = changes.culprits(&Measure::Opens);
        assert_eq!(
            (culprits[0].name.as_str(), culprits[0].instances),
            ("cart-api", 3)
        );
        assert!((culprits[0].share - 0.9).abs() < 0.01, "{culprits:?}");
        assert_eq!(culprits[0].connections, 39);
        assert_eq!(
            sentence("opens", 4_100.0, 3.2, &culprits),
            "90 % of 4,100 opens in 3 s: workload cart-api, go-redis 8.11, 3 instances, 13 connections each"
        );
        assert_eq!(changes.renewed().round(), 40.0, "13 each, and one");
        assert_eq!(changes.reopening(2.0), 4);
    }

    #[test]
    fn what_has_grown_is_measured_from_the_look_nearest_to_the_onset() {
        let mut quiet = Quiet::default();
        for second in 0..=900 {
            let leaked = 2 * second;
            quiet.remember(
                Moment(1_000 * second),
                &detail(vec![client(1, None, leaked, leaked)]),
            );
        }
        let grown = |seconds: u64| {
            let now = detail(vec![client(1, None, 1_900, 1_900)]);
            let changes = quiet.changes(Moment(950_000), Moment(1_000 * seconds), &now);
            changes.culprits(&Measure::Growth)[0].amount
        };
        for (seconds, exact) in [(890, 120.0), (860, 180.0), (700, 500.0)] {
            assert!(
                (grown(seconds) - exact).abs() <= 300.0,
                "{seconds} {}",
                grown(seconds)
            );
        }
        assert!((grown(880) - 140.0).abs() <= 16.0, "{}", grown(880));
        assert_eq!(quiet.looks.len(), LOOKS);
    }

    #[test]
    fn nobody_is_accused_before_the_first_quiet_look() {
        let changes =
            Quiet::default().changes(Moment(5), Moment(5), &detail(vec![client(1, None, 1_000, 1_000)]));
        assert!(!changes.known);
        assert_eq!(changes.culprits(&Measure::Opens), []);
        assert_eq!(sentence("opens", 7.0, 0.71, &[]), "7 opens in 0.7 s");
    }

    #[test]
    fn few_are_named() {
        let clients: Vec<_> = (1..=20).map(|host| client(host, None, 100, 1)).collect();
        let quiet = quiet();
        let culprits = quiet
            .changes(Moment(30_000), Moment(30_000), &detail(clients))
            .culprits(&Measure::Opens);
        assert_eq!(culprits.len(), NAMED);
    }

    #[test]
    fn numbers_are_read_easily() {
        for (number, text) in [
            (0.4, "0"),
            (999.0, "999"),
            (1_000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(thousands(number), text);
        }
        for (seconds, text) in [
            (0.31, "0.3 s"),
            (59.6, "60 s"),
            (600.0, "10 min"),
            (9_000.0, "2 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
