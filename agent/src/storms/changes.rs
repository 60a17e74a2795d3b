//! What the clients of a server have done since a quiet moment, address by address, and who stands out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use super::course::Onset;
use super::finding::{Measure, ratio};
use super::guests::{Guests, RESTART_SECONDS};
use super::observation::{ClientDetail, Detail};
use super::storm::{Culprit, Moment, Subject};

/// Culprits that are named, of each subject.
const NAMED: usize = 3;

/// A share below this is nobody's fault.
const LEAST_SHARE: f64 = 0.05;

/// Standard deviations of what is usual (its root, as of all that comes by chance) that are no excess.
const CHANCE: f64 = 3.0;

/// Share of what was found for which those who are named have to account.
const EXPLAINED: f64 = 0.5;

/// Looks that are kept for those who want to know what has grown: four of the last minute, and one of the last five to ten.
const LOOKS: usize = 4;
const SPACING_MILLISECONDS: u64 = 15_000;
const MINUTES_BACK: u64 = 300_000;

/// Clients as they were in quiet moments.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    recent: Option<Look<Then>>,
    /// What the server had counted at that moment.
    opened_total: u64,
    /// The look before, with the same: the last one may have been taken when a storm had begun that nobody had seen yet.
    earlier: Option<(Look<Then>, u64)>,
    /// Connections held. The oldest first.
    looks: VecDeque<Look<u32>>,
    old: Option<Look<u32>>,
    guests: Guests,
}

/// Clients at one moment: 36 bytes for each address, 24 of those that are past.
#[derive(Debug, Clone, Default)]
struct Look<T> {
    at: Moment,
    clients: HashMap<IpAddr, T>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Then {
    opened: u32,
    connections: u32,
    /// Opens per second before.
    rate: f32,
    /// The most connections that it held lately; what is past fades as fast as a restart is done. A guest's do not count.
    held: f32,
}

impl Quiet {
    /// Whether there was a look.
    pub(super) const fn has_looked(&self) -> bool {
        self.recent.is_some()
    }

    /// Takes a look at a quiet moment, at which the server had counted so many opens.
    pub(super) fn remember(&mut self, at: Moment, opened_total: u64, detail: &Detail) {
        let before = self.recent.take().unwrap_or_default();
        let seconds = at.since(before.at) as f64 / 1e3;
        self.guests.learn(seconds, detail);
        let fading = (-seconds / RESTART_SECONDS).exp() as f32;
        let now = detail.clients.iter().map(|client| {
            let then = before.clients.get(&client.address);
            (client.address, self.remembered(client, then, seconds, fading))
        });
        let mut clients: HashMap<IpAddr, Then> = now.collect();
        for (address, then) in &before.clients {
            // The kernel forgets who is gone, and what it has opened.
            let held = then.held * fading;
            if held >= 1.0 {
                let gone = || Then {
                    held,
                    ..Then::default()
                };
                clients.entry(*address).or_insert_with(gone);
            }
        }
        self.recent = Some(Look { at, clients });
        let opened_before = std::mem::replace(&mut self.opened_total, opened_total);
        self.put_aside(at, &before);
        self.earlier = (before.at != Moment::default()).then_some((before, opened_before));
    }

    fn remembered(&self, client: &ClientDetail, then: Option<&Then>, seconds: f64, fading: f32) -> Then {
        let rate = then.map_or(0.0, |then| {
            let opened = client.opened.saturating_sub(u64::from(then.opened)) as f64;
            // Half of it new: a batch that ran once is soon forgotten.
            f64::midpoint(f64::from(then.rate), ratio(opened, seconds))
        });
        let faded = then.map_or(0.0, |then| then.held * fading);
        Then {
            opened: u32::try_from(client.opened).unwrap_or(u32::MAX),
            connections: u32::try_from(client.connections).unwrap_or(u32::MAX),
            rate: rate as f32,
            held: if self.guests.have(client) {
                0.0
            } else {
                faded.max(client.connections as f32)
            },
        }
    }

    /// Keeps a look that is past for those who want to know what has grown.
    fn put_aside(&mut self, at: Moment, before: &Look<Then>) {
        let is_past = |look: Option<&Look<u32>>, age| look.is_none_or(|look| at.since(look.at) > age);
        if before.clients.is_empty() || !is_past(self.looks.back(), SPACING_MILLISECONDS) {
            return;
        }
        let clients = before.clients.iter();
        self.looks.push_back(Look {
            at: before.at,
            clients: clients
                .map(|(address, then)| (*address, then.connections))
                .collect(),
        });
        if self.looks.len() > LOOKS {
            let oldest = self.looks.pop_front();
            if is_past(self.old.as_ref(), 2 * MINUTES_BACK) {
                self.old = oldest;
            }
        }
    }

    /// Connections that an address held at the look nearest to a moment; none if there was no look.
    fn held_near(&self, moment: Moment) -> impl Fn(IpAddr) -> u32 {
        let past = self.old.iter().chain(&self.looks);
        let nearest = past.min_by_key(|look| look.at.0.abs_diff(moment.0));
        let recent = self.recent.as_ref().filter(|recent| {
            nearest.is_none_or(|look| recent.at.0.abs_diff(moment.0) <= look.at.0.abs_diff(moment.0))
        });
        move |address| match (recent, nearest) {
            (Some(recent), _) => recent.clients.get(&address).map_or(0, |then| then.connections),
            (None, Some(look)) => look.clients.get(&address).copied().unwrap_or(0),
            (None, None) => 0,
        }
    }

    /// What has changed since the last look; and what has grown since `onset`.
    pub(super) fn changes(&self, now: Moment, onset: Moment, detail: &Detail) -> Changes {
        let last = self.recent.as_ref().map(|recent| (recent, self.opened_total));
        self.changes_since(last, now, onset, detail)
    }

    /// The same since a look before `onset`: where the last one tells nobody from anybody else, it may have been taken when all was done.
    pub(super) fn changes_before(&self, now: Moment, onset: Moment, detail: &Detail) -> Changes {
        let is_later = self.recent.as_ref().is_some_and(|recent| recent.at > onset);
        match &self.earlier {
            Some((earlier, opened_total)) if is_later => {
                self.changes_since(Some((earlier, *opened_total)), now, onset, detail)
            }
            _ => self.changes(now, onset, detail),
        }
    }

    fn changes_since(
        &self,
        look: Option<(&Look<Then>, u64)>,
        now: Moment,
        onset: Moment,
        detail: &Detail,
    ) -> Changes {
        let held_at_onset = self.held_near(onset);
        let grown = |client: &ClientDetail| {
            (client.connections as f64 - f64::from(held_at_onset(client.address))).max(0.0)
        };
        let Some((recent, opened_total)) = look else {
            // Nobody has opened anything yet that could be told from what is usual.
            let rows = detail.clients.iter().map(|client| Change {
                client: client.clone(),
                usual: 0.0,
                beyond: 0.0,
                held_before: 0.0,
                held: 0.0,
                lost: 0.0,
                unnoticed: 0.0,
                grown: grown(client),
            });
            return Changes {
                rows: rows.collect(),
                ..Changes::default()
            };
        };
        let seconds = now.since(recent.at) as f64 / 1e3;
        let rows = detail.clients.iter().map(|client| {
            let before = recent.clients.get(&client.address).copied().unwrap_or_default();
            let opened = client.opened.saturating_sub(u64::from(before.opened)) as f64;
            let held = f64::from(before.held);
            let still_there = (client.connections as f64 - opened).clamp(0.0, held);
            // Who opens as many again has lost them, even if the server has not noticed yet.
            let unnoticed = if opened >= held { still_there } else { 0.0 };
            let usual = f64::from(before.rate) * seconds;
            Change {
                client: client.clone(),
                usual,
                beyond: opened - usual,
                held_before: f64::from(before.connections),
                held,
                lost: held - still_there + unnoticed,
                unnoticed,
                grown: grown(client),
            }
        });
        let rows: Vec<Change> = rows.collect();
        let all: f64 = recent.clients.values().map(|then| f64::from(then.held)).sum();
        let of_rows: f64 = rows.iter().map(|row| row.held).sum();
        Changes {
            rows,
            known: Some((recent.at, opened_total)),
            gone: (all - of_rows).max(0.0),
        }
    }
}

/// What has changed since the last quiet look.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes {
    rows: Vec<Change>,
    /// When the quiet look was, and what the server had counted by then; `None` if there was none.
    known: Option<(Moment, u64)>,
    /// Connections held lately by addresses that nothing is known of any more.
    gone: f64,
}

#[derive(Debug, Clone)]
struct Change {
    client: ClientDetail,
    /// Connections that this address usually opens in that time.
    usual: f64,
    /// Connections opened beyond that; less than none, if it has opened fewer.
    beyond: f64,
    held_before: f64,
    /// The most that it held lately, unless it is a guest, and those of them that are lost.
    held: f64,
    lost: f64,
    /// Of the lost ones, those that the server still holds.
    unnoticed: f64,
    grown: f64,
}

impl Change {
    /// Connections opened beyond what this address usually does.
    const fn opened(&self) -> f64 {
        self.beyond.max(0.0)
    }
}

/// Connections that took the place of others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Replaced {
    /// Of those opened beyond what is usual.
    pub(super) share: f64,
    /// So many of those whose place was taken are still counted.
    pub(super) unnoticed: f64,
    /// Addresses that opened them, about.
    pub(super) clients: usize,
}

impl Changes {
    /// What was opened between the quiet look and `onset` beyond so many per second; `None` if there was no quiet look.
    pub(super) fn opened_before(&self, onset: &Onset, usual: f64) -> Option<f64> {
        let (at, opened_total) = self.known?;
        let opened = onset.before.opened_total.saturating_sub(opened_total) as f64;
        Some((opened - usual * onset.at.since(at) as f64 / 1e3).max(0.0))
    }

    /// Who took the place of others: a workload the place of its own connections, and where the workload is not known anybody that
    /// of anybody. Of each address no more counts than it holds, or held: somebody who opens the same connection again and
    /// again counts once. Of all this, `before` was done before it became too much.
    pub(super) fn replaced(&self, before: f64) -> Replaced {
        let mut by_workload: BTreeMap<Option<&str>, (f64, f64, usize)> = BTreeMap::new();
        for row in &self.rows {
            let of = by_workload.entry(row.client.workload.as_deref()).or_default();
            let most = row.held.max(row.held_before).max(row.client.connections as f64);
            of.0 += row.opened().min(most);
            of.1 += row.lost;
            of.2 += usize::from(row.opened() >= 1.0);
        }
        let (opened, lost, anybody) = by_workload.remove(&None).unwrap_or_default();
        let lost = lost + self.gone;
        let (mut replaced, mut clients, mut opened_by_others, mut lost_by_others) = (0.0, 0, 0.0, 0.0);
        for (opened, lost, count) in by_workload.into_values() {
            let own = opened.min(lost);
            replaced += own;
            clients += if own >= 1.0 { count } else { 0 };
            opened_by_others += opened - own;
            lost_by_others += lost - own;
        }
        let by_anybody = opened.min(lost + lost_by_others);
        let of_anybody = opened_by_others.min(lost - opened.min(lost));
        if by_anybody + of_anybody >= 1.0 {
            clients += anybody;
        }
        let all: f64 = self.rows.iter().map(Change::opened).sum();
        let replaced = replaced + by_anybody + of_anybody;
        Replaced {
            share: ratio((replaced - before).max(0.0), all - before),
            unnoticed: self.rows.iter().map(|row| row.unnoticed).sum(),
            clients,
        }
    }

    /// Connections opened by addresses that had some before, and how many they had.
    pub(super) fn by_the_same(&self) -> (f64, f64) {
        let usual = self.rows.iter().filter(|row| row.held_before > 0.0);
        usual.fold((0.0, 0.0), |(opened, held), row| {
            (opened + row.opened(), held + row.held_before)
        })
    }

    /// Addresses with connections before that opened more than `times` as many since.
    pub(super) fn reopening(&self, times: f64) -> usize {
        let usual = self.rows.iter().filter(|row| row.held_before > 0.0);
        usual.filter(|row| row.opened() > times * row.held_before).count()
    }

    /// Who did it, the largest share first. `found`: how much there is of it.
    pub(super) fn culprits(&self, measure: &Measure, found: f64) -> Vec<Culprit> {
        let groups = match measure {
            // Before a full accept queue nobody gets as far as to open.
            Measure::Opens if self.rows.iter().all(|row| row.usual + row.beyond < 1.0) => {
                self.groups(|row| ((row.held_before - row.client.connections as f64).max(0.0), 0.0))
            }
            // What one of a fleet opens by chance, another one does not. If there is too little to tell chance from purpose, whoever
            // opened something has to do.
            Measure::Opens => {
                let groups = self.groups(|row| (row.beyond, row.usual));
                if groups.is_empty() {
                    self.groups(|row| (row.opened(), 0.0))
                } else {
                    groups
                }
            }
            Measure::Growth => self.groups(|row| (row.grown, 0.0)),
            Measure::Traffic(_) => Vec::new(),
        };
        let is_owner = |culprit: &Culprit| matches!(culprit.subject, Subject::Workload | Subject::Client);
        let owners = || groups.iter().filter(|(culprit, _)| is_owner(culprit));
        let total: f64 = owners().map(|(owner, _)| owner.amount).sum();
        // Whom a server refuses may not be known yet: those who are did not do it. What is usual of them was found with the rest.
        let explained = total + owners().map(|(_, usual)| usual).sum::<f64>();
        if matches!(measure, Measure::Opens) && explained < EXPLAINED * found {
            return Vec::new();
        }
        let mut culprits: Vec<_> = groups.into_iter().map(|(culprit, _)| culprit).collect();
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

    /// Everybody's parts of it, as far as they are no chance, and what is usual of them. `of`: the amount of an address, and how many
    /// events are usual of it.
    fn groups(&self, of: impl Fn(&Change) -> (f64, f64)) -> Vec<(Culprit, f64)> {
        let mut sums: BTreeMap<(Subject, String), (Culprit, f64)> = BTreeMap::new();
        for row in &self.rows {
            let (amount, usual) = of(row);
            if amount == 0.0 {
                continue;
            }
            for (subject, name) in subjects(&row.client) {
                let (culprit, of_usual) = sums.entry((subject, name.clone())).or_insert_with(|| {
                    let nothing = Culprit {
                        subject,
                        name,
                        share: 0.0,
                        instances: 0,
                        connections: 0,
                        amount: 0.0,
                    };
                    (nothing, 0.0)
                });
                culprit.amount += amount;
                *of_usual += usual;
                if amount > 0.0 {
                    culprit.instances += 1;
                    culprit.connections += row.client.connections.max(row.held_before as u64);
                }
            }
        }
        let groups = sums.into_values();
        groups
            .filter(|(culprit, usual)| culprit.amount > CHANCE * usual.sqrt())
            .collect()
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
            quiet.remember(Moment(1_000 * second), 0, &detail(clients));
        }
        quiet
    }

    #[test]
    fn shares_are_of_the_excess_over_what_each_usually_does() {
        let mut after: Vec<_> = (1..=3)
            .map(|host| client(host, Some("cart-api"), 43, 13))
            .collect();
        after.push(client(9, None, 10 * 29 + 60, 1));
        let changes = quiet().changes(Moment(29_000 + 3_000), Moment(30_000), &detail(after));
        let culprits = changes.culprits(&Measure::Opens, 0.0);
        assert_eq!(
            (culprits[0].name.as_str(), culprits[0].instances),
            ("cart-api", 3)
        );
        assert!((culprits[0].share - 0.75).abs() < 0.01, "{culprits:?}");
        assert_eq!(culprits[0].connections, 39);
        let replaced = changes.replaced(0.0);
        assert!(
            (replaced.share * 120.0 - 40.0).abs() < 1.0,
            "13 each, and one: {replaced:?}"
        );
        assert_eq!(changes.reopening(2.0), 4);
    }

    #[test]
    fn whoever_opens_twice_as_much_as_usual_accounts_for_all_of_it() {
        let mut after: Vec<_> = (1..=3)
            .map(|host| client(host, Some("cart-api"), 13, 13))
            .collect();
        after.push(client(9, None, 10 * 29 + 55, 1));
        let changes = quiet().changes(Moment(29_000 + 3_000), Moment(30_000), &detail(after));
        let culprits = changes.culprits(&Measure::Opens, 55.0);
        assert_eq!(culprits.len(), 1, "{changes:?}");
        assert_eq!(culprits[0].name, "10.0.0.9");
        assert!((culprits[0].amount - 25.0).abs() < 1.0, "{culprits:?}");
        // More than that was somebody else.
        assert_eq!(changes.culprits(&Measure::Opens, 120.0), []);
    }

    #[test]
    fn what_has_grown_is_measured_from_the_look_nearest_to_the_onset() {
        let mut quiet = Quiet::default();
        for second in 0..=900 {
            let leaked = 2 * second;
            quiet.remember(
                Moment(1_000 * second),
                0,
                &detail(vec![client(1, None, leaked, leaked)]),
            );
        }
        let grown = |seconds: u64| {
            let now = detail(vec![client(1, None, 1_900, 1_900)]);
            let changes = quiet.changes(Moment(950_000), Moment(1_000 * seconds), &now);
            changes.culprits(&Measure::Growth, 0.0)[0].amount
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
    fn a_fleet_is_not_accused_of_what_its_instances_open_by_turns() {
        let mut opened = [0_u64; 200];
        let (mut quiet, mut looks) = (Quiet::default(), 0);
        let mut look = |seconds: usize, of_batch: u64| {
            for host in looks..looks + seconds {
                opened[host * 7 % 199] += 1;
            }
            looks += seconds;
            let cart = opened.iter().enumerate();
            let mut clients: Vec<_> = cart
                .map(|(host, opened)| client(host as u8, Some("cart-api"), *opened, 13))
                .collect();
            clients.push(client(250, Some("batch"), of_batch, 1));
            detail(clients)
        };
        for second in 0..60 {
            quiet.remember(Moment(10_000 * second), 0, &look(10, 0));
        }
        let changes = quiet.changes(Moment(600_000), Moment(599_000), &look(10, 6));
        let culprits = changes.culprits(&Measure::Opens, 0.0);
        assert_eq!(culprits[0].name, "batch", "{culprits:?}");
    }

    #[test]
    fn nobody_is_named_who_does_not_account_for_what_was_found() {
        let after = (1..=3).map(|host| client(host, Some("cart-api"), if host == 1 { 14 } else { 13 }, 13));
        let mut after: Vec<_> = after.collect();
        after.push(client(9, None, 10 * 29 + 10, 1));
        let mut quiet = quiet();
        let usual = detail(after.clone());
        quiet.remember(Moment(30_000), 0, &usual);
        after[0].opened += 1;
        let changes = quiet.changes(Moment(30_100), Moment(30_000), &detail(after));
        let named = |found| changes.culprits(&Measure::Opens, found).len();
        assert!(named(1.0) > 0, "one opened, and one is somebody");
        assert_eq!(named(16.0), 0, "sixteen were refused, and it was not this one");
    }

    #[test]
    fn nobody_is_accused_before_the_first_quiet_look() {
        let changes =
            Quiet::default().changes(Moment(5), Moment(5), &detail(vec![client(1, None, 1_000, 1_000)]));
        assert_eq!(changes.known, None);
        assert_eq!(changes.culprits(&Measure::Opens, 0.0), []);
    }

    #[test]
    fn few_are_named() {
        let clients: Vec<_> = (1..=20).map(|host| client(host, None, 100, 1)).collect();
        let quiet = quiet();
        let culprits = quiet
            .changes(Moment(30_000), Moment(30_000), &detail(clients))
            .culprits(&Measure::Opens, 0.0);
        assert_eq!(culprits.len(), NAMED);
    }
}
