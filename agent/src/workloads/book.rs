//! Observations in, a report out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::groups::{Gathered, Group, Groups, Lonely};
use super::history::History;
use super::report::{Kind, Restart, ServerWorkloads, SurveyStatus, WorkloadReport, WorkloadRow};
use super::{OTHER, Owners, Rules, ServerSurvey, UNASSIGNED};
use crate::kubernetes::Pod;
use crate::snapshot::{ClientSnapshot, ServerSnapshot, Snapshot};

/// One server when a survey has ended.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// Label `server`.
    pub server: String,
    /// The kernel's counters of its clients.
    pub clients: Vec<ClientSnapshot>,
    /// What the survey found; `None` if it could not look at this server.
    pub survey: Option<ServerSurvey>,
}

/// The rules, and what is known of each workload beside the kernel's counters.
///
/// Bounded: a survey per server, and per server as many histories as `limits.workloads`.
#[derive(Debug, Default)]
pub struct Workloads {
    rules: Rules,
    owners: Owners,
    servers: BTreeMap<String, Book>,
    last: Option<(Instant, Duration, Duration)>,
}

#[derive(Debug, Default)]
struct Book {
    survey: Option<ServerSurvey>,
    histories: BTreeMap<Group, History>,
    /// What a row has to have added to the opens of the addresses that it has now: those of addresses that the kernel
    /// forgot and, after a change of the rules, whatever keeps the row from jumping.
    base: BTreeMap<String, i64>,
    /// Opens of addresses that the kernel forgot. It shows them as those of unknown addresses.
    left: u64,
}

impl Workloads {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Takes a survey of the live servers. `cost` is the CPU time it took, `interval` the least time to the next one.
    pub fn observe(
        &mut self,
        at: Instant,
        cost: Duration,
        interval: Duration,
        observations: Vec<Observation>,
    ) {
        self.last = Some((at, cost, interval));
        for observation in observations {
            let groups = Groups::new(&self.rules, &observation.clients, observation.survey.as_ref());
            let book = self.servers.entry(observation.server).or_default();
            book.remember(at, &self.rules, &groups);
            book.survey = observation.survey;
        }
    }

    /// The kernel forgets a client at a server, and how many connections it has opened.
    pub fn depart(&mut self, server: &str, address: IpAddr, opened: u64) {
        let name = match self.rules.rule_of(address) {
            Some(rule) => self.rules.name(rule).unwrap_or(OTHER),
            None => UNASSIGNED,
        };
        let book = self.servers.entry(server.to_owned()).or_default();
        *book.base.entry(name.to_owned()).or_default() += opened as i64;
        book.left += opened;
    }

    /// The workload that an address belongs to, by name; `None` if no rule has it, or one beyond the limit.
    #[must_use]
    pub fn name_of(&self, address: IpAddr) -> Option<&str> {
        self.rules.name(self.rules.rule_of(address)?)
    }

    /// A server is gone, with all it had counted.
    pub fn forget(&mut self, server: &str) {
        self.servers.remove(server);
    }

    /// Other rules from now on. Counters go on from where they stand, those of new workloads from zero; what was learned of
    /// pools is learned anew.
    pub fn replace_rules(&mut self, mut rules: Rules, snapshot: &Snapshot) {
        rules.set_owners(&self.owners);
        self.replace(rules, &snapshot.servers);
        for book in self.servers.values_mut() {
            book.histories.clear();
        }
    }

    /// Whether other pods have the addresses than it was told.
    #[must_use]
    pub fn knows_others(&self, owners: &Owners) -> bool {
        let whose = |pod: &Arc<Pod>| (pod.namespace.clone(), pod.owner.clone());
        self.owners.len() != owners.len()
            || owners.iter().any(|(address, pod)| {
                let known = self.owners.get(address);
                known.is_none_or(|known| !Arc::ptr_eq(known, pod) && whose(known) != whose(pod))
            })
    }

    /// Other pods have the addresses from now on. Counters go on from where they stand: what an address had opened before it
    /// was known stays where it was counted.
    pub fn replace_owners(&mut self, owners: Owners, snapshot: &Snapshot) {
        let mut rules = self.rules.clone();
        rules.set_owners(&owners);
        self.owners = owners;
        self.replace(rules, &snapshot.servers);
    }

    fn replace(&mut self, rules: Rules, servers: &[ServerSnapshot]) {
        for server in servers {
            let book = self.servers.entry(server.label.clone()).or_default();
            let before = opens(&self.rules, server, book);
            book.base.clear();
            for (name, after) in opens(&rules, server, book) {
                let stood = before.get(&name).copied().unwrap_or(0);
                book.base.insert(name, stood as i64 - after as i64);
            }
        }
        self.rules = rules;
    }

    /// How many are followed at a server.
    #[cfg(test)]
    pub(super) fn followed(&self, server: &str) -> usize {
        self.servers.get(server).map_or(0, |book| book.histories.len())
    }

    /// The rows of this moment.
    #[must_use]
    pub fn report(&self, now: Instant, snapshot: &Snapshot) -> WorkloadReport {
        let nothing = Book::default();
        let servers = snapshot.servers.iter().map(|server| {
            let book = self.servers.get(&server.label).unwrap_or(&nothing);
            Rows {
                rules: &self.rules,
                book,
                now,
            }
            .of(server)
        });
        WorkloadReport {
            servers: servers.collect(),
            survey: self.last.map(|(at, cost, interval)| SurveyStatus {
                age: now.duration_since(at),
                cost,
                interval,
            }),
        }
    }
}

impl Book {
    fn remember(&mut self, at: Instant, rules: &Rules, groups: &Groups) {
        let mut histories = BTreeMap::new();
        for (group, sum) in groups.followed() {
            let mut history = self.histories.remove(&group).unwrap_or_default();
            let opened = match group {
                Group::Rule(rule) => self.opened(rules.name(rule).unwrap_or(OTHER), sum.opened),
                Group::Default(_) => sum.opened,
            };
            history.survey(at, sum.busy_per_instance.iter().copied());
            history.opened(at, opened);
            histories.insert(group, history);
        }
        self.histories = histories;
    }

    /// What a row shows whose present addresses have opened so many.
    fn opened(&self, name: &str, present: u64) -> u64 {
        let base = self.base.get(name).copied().unwrap_or(0);
        present.saturating_add_signed(base)
    }

    /// Opens of `(other)`: the kernel counts those of addresses that it forgot to the unknown ones.
    fn other_opened(&self, groups: &Groups) -> u64 {
        self.opened(OTHER, groups.other.opened.saturating_sub(self.left))
    }
}

/// Opens by row, as rules have it.
fn opens(rules: &Rules, server: &ServerSnapshot, book: &Book) -> BTreeMap<String, u64> {
    let groups = Groups::new(rules, &server.clients, None);
    let mut opens: BTreeMap<String, u64> = (0..)
        .map_while(|rule| rules.name(rule).map(|name| (rule, name)))
        .map(|(rule, name)| {
            let present = groups.rules.get(&rule).map_or(0, |sum| sum.opened);
            (name.to_owned(), book.opened(name, present))
        })
        .collect();
    opens.insert(
        UNASSIGNED.into(),
        book.opened(UNASSIGNED, groups.unassigned.opened),
    );
    opens.insert(OTHER.into(), book.other_opened(&groups));
    opens
}

/// Writes the rows of a server.
struct Rows<'a> {
    rules: &'a Rules,
    book: &'a Book,
    now: Instant,
}

impl Rows<'_> {
    fn of(&self, server: &ServerSnapshot) -> ServerWorkloads {
        let survey = self.book.survey.as_ref();
        let groups = Groups::new(self.rules, &server.clients, survey);
        let named = self.named(&groups);
        let unassigned = self.book.opened(UNASSIGNED, groups.unassigned.opened);
        let other = self.book.other_opened(&groups);

        let summary = [
            self.row(UNASSIGNED, Kind::Unassigned, &groups.unassigned, unassigned),
            self.row(OTHER, Kind::Other, &groups.other, other),
        ];
        let lonely = groups.lonely.iter().map(|(who, sum)| {
            let row = match who {
                Lonely::Owner(label) => self.row(label, Kind::Owner, sum, sum.opened),
                Lonely::Address(address) => self.row(&address.to_string(), Kind::Address, sum, sum.opened),
            };
            row.with(self.book.histories.get(&Group::Default(who.clone())), self.now)
        });
        let shown: u64 = groups.lonely.values().map(|sum| sum.opened).sum();
        let rest = groups.beyond.clone().and(&groups.other);
        let rest = self.row(
            OTHER,
            Kind::Other,
            &rest,
            other + unassigned.saturating_sub(shown),
        );

        let instances = groups
            .rules
            .values()
            .chain([&groups.unassigned, &groups.other])
            .map(|sum| sum.per_instance.len() as u64)
            .sum();
        ServerWorkloads {
            server: server.label.clone(),
            survey: survey.map(ServerSurvey::total),
            workloads: filled(named.iter().cloned().chain(summary)),
            detailed: filled(named.into_iter().chain(lonely).chain([rest])),
            restart: Restart::new(server.connections, instances, &server.accept_burst),
        }
    }

    /// The workloads of the configuration that have, or had, a connection here.
    fn named(&self, groups: &Groups) -> Vec<WorkloadRow> {
        let nobody = Gathered::default();
        (0..)
            .map_while(|rule| self.rules.name(rule).map(|name| (rule, name)))
            .map(|(rule, name)| {
                let sum = groups.rules.get(&rule).unwrap_or(&nobody);
                self.row(name, Kind::Rule, sum, self.book.opened(name, sum.opened))
                    .with(self.book.histories.get(&Group::Rule(rule)), self.now)
            })
            .collect()
    }

    fn row(&self, name: &str, kind: Kind, sum: &Gathered, opened: u64) -> WorkloadRow {
        WorkloadRow::new(name.to_owned(), kind, sum, opened, self.book.survey.is_some())
    }
}

fn filled(rows: impl Iterator<Item = WorkloadRow>) -> Vec<WorkloadRow> {
    rows.filter(|row| !row.is_empty()).collect()
}
