//! Observations in, a report out.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_common::limits;

use super::groups::{Gathered, Group, Groups, Lonely, Sources};
use super::history::History;
use super::report::{Kind, Restart, ServerWorkloads, SurveyStatus, WorkloadReport, WorkloadRow};
use super::{OTHER, Owners, Rules, ServerSurvey, UNASSIGNED};
use crate::kubernetes::Pod;
use crate::snapshot::{ClientSnapshot, Introduction, ServerSnapshot, Snapshot};

/// One server when a survey has ended.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// Label `server`.
    pub server: String,
    /// The kernel's counters of its clients.
    pub clients: Vec<ClientSnapshot>,
    /// What they have said of themselves.
    pub introductions: Vec<Introduction>,
    /// What the survey found; `None` if it could not look at this server.
    pub survey: Option<ServerSurvey>,
}

/// Connections that ended, of one address that the kernel forgets, or that had said something that it forgets.
#[derive(Debug, Clone)]
pub struct Ended {
    /// ACL user.
    pub user: Arc<str>,
    /// Client name.
    pub name: Arc<str>,
    /// How many.
    pub connections: u64,
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
    /// Opens by address, of those that the kernel keeps, that went to workloads by names that it forgot.
    settled: HashMap<IpAddr, u64>,
    /// What each row has shown: what is read while connections come and go may be some too few, and no counter goes back.
    shown: BTreeMap<String, u64>,
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
            let book = self.servers.entry(observation.server).or_default();
            let sources = Sources {
                clients: &observation.clients,
                introductions: &observation.introductions,
                settled: &book.settled,
                survey: observation.survey.as_ref(),
            };
            let groups = Groups::new(&self.rules, sources);
            book.remember(at, &self.rules, &groups);
            book.survey = observation.survey;
        }
    }

    /// The kernel forgets a client at a server, how many connections it has opened, and those of them that had said something
    /// when they ended.
    pub fn depart(&mut self, server: &str, address: IpAddr, opened: u64, ended: &[Ended]) {
        let by_name = by_name(&self.rules, ended);
        let name = match self.rules.rule_of(address) {
            Some(rule) => self.rules.name(rule).unwrap_or(OTHER),
            None => UNASSIGNED,
        };
        let book = self.servers.entry(server.to_owned()).or_default();
        let mut rest = opened.saturating_sub(book.settled.remove(&address).unwrap_or(0));
        for (name, connections) in by_name {
            rest = rest.saturating_sub(connections);
            book.add_to_base(name, connections);
        }
        book.add_to_base(name, rest);
        book.left += opened;
    }

    /// The kernel forgets what connections of a client that it keeps had said of themselves.
    pub fn settle(&mut self, server: &str, address: IpAddr, ended: &[Ended]) {
        let by_name = by_name(&self.rules, ended);
        let book = self.servers.entry(server.to_owned()).or_default();
        for (name, connections) in by_name {
            book.add_to_base(name, connections);
            // Somebody whom the kernel has no room for.
            let is_known = book.settled.contains_key(&address) || book.settled.len() < limits::CLIENTS;
            let address = if is_known { address } else { NOBODY };
            *book.settled.entry(address).or_default() += connections;
        }
    }

    /// Whether names are asked for at all.
    #[must_use]
    pub fn have_names(&self) -> bool {
        self.rules.have_names()
    }

    /// The rule that a user or client name belongs to, by its place in the file.
    #[must_use]
    pub fn rule_of_names(&self, user: &str, name: &str) -> Option<usize> {
        self.rules.rule_of_names(user, name)
    }

    /// The workload of a user or client name; `None` if no rule has either, or one beyond the limit.
    #[must_use]
    pub fn name_of_names(&self, user: &str, name: &str) -> Option<&str> {
        self.rules.name(self.rules.rule_of_names(user, name)?)
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
            if let Some(survey) = &mut book.survey {
                survey.forget_names();
            }
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
            book.shown.clear();
            for (name, after) in opens(&rules, server, book) {
                let stood = before.get(&name).copied().unwrap_or(0);
                book.base.insert(name.clone(), stood as i64 - after as i64);
                book.shown.insert(name, stood);
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
    pub fn report(&mut self, now: Instant, snapshot: &Snapshot) -> WorkloadReport {
        let mut servers = Vec::with_capacity(snapshot.servers.len());
        for server in &snapshot.servers {
            let book = self.servers.entry(server.label.clone()).or_default();
            let rows = Rows {
                rules: &self.rules,
                book,
                now,
                stand_still: snapshot.unheard && self.rules.have_names(),
            }
            .of(server);
            for row in &rows.workloads {
                book.shown.insert(row.workload.clone(), row.opened);
            }
            servers.push(rows);
        }
        WorkloadReport {
            servers,
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
        let shown = self.shown.get(name).copied().unwrap_or(0);
        present.saturating_add_signed(base).max(shown)
    }

    fn add_to_base(&mut self, name: &str, opened: u64) {
        *self.base.entry(name.to_owned()).or_default() += opened as i64;
    }

    /// What is known of the clients of this server.
    fn sources<'a>(&'a self, server: &'a ServerSnapshot) -> Sources<'a> {
        Sources {
            clients: &server.clients,
            introductions: &server.introductions,
            settled: &self.settled,
            survey: self.survey.as_ref(),
        }
    }

    /// Opens of `(other)`: the kernel counts those of addresses that it forgot to the unknown ones.
    fn other_opened(&self, groups: &Groups) -> u64 {
        self.opened(OTHER, groups.other.opened.saturating_sub(self.left))
    }
}

/// Opens by row, as rules have it.
fn opens(rules: &Rules, server: &ServerSnapshot, book: &Book) -> BTreeMap<String, u64> {
    let sources = Sources {
        survey: None,
        ..book.sources(server)
    };
    let groups = Groups::new(rules, sources);
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

/// The rows that these count in by their names.
fn by_name<'a>(rules: &'a Rules, ended: &[Ended]) -> Vec<(&'a str, u64)> {
    let by_name = ended.iter().filter_map(|ended| {
        let rule = rules.rule_of_names(&ended.user, &ended.name)?;
        Some((rules.name(rule).unwrap_or(OTHER), ended.connections))
    });
    by_name.collect()
}

/// Stands for addresses that there is no room for: no client has it.
const NOBODY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Writes the rows of a server.
struct Rows<'a> {
    rules: &'a Rules,
    book: &'a Book,
    now: Instant,
    /// Who has opened what is not known this time: no row may get what is another's.
    stand_still: bool,
}

impl Rows<'_> {
    fn of(&self, server: &ServerSnapshot) -> ServerWorkloads {
        let survey = self.book.survey.as_ref();
        let groups = Groups::new(self.rules, self.book.sources(server));
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
        let opened = if self.stand_still {
            self.book.shown.get(name).copied().unwrap_or(0)
        } else {
            opened
        };
        WorkloadRow::new(name.to_owned(), kind, sum, opened, self.book.survey.is_some())
    }
}

fn filled(rows: impl Iterator<Item = WorkloadRow>) -> Vec<WorkloadRow> {
    rows.filter(|row| !row.is_empty()).collect()
}
