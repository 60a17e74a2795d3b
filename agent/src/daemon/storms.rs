//! The judgement: every tick the counters of each server go to the detectors, every second its traffic, and, when one of them asks,
//! who the clients are.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Evidence,
    looks::Looks,
    survey::thread_time,
    watch::{Server, Watch},
};
use crate::{
    alerts::{Alerts, AlertsStatus},
    clients::{DEFAULT_USER, NONE, UNKNOWN},
    config::Settings,
    incidents::{Archive, ArchiveStatus, Flight, TenantAt, TenantsAt, Work},
    metrics::{StormReport, VERSION},
    snapshot::{ClientSnapshot, ConnectionSnapshot, Snapshot},
    storms::{ClientDetail, Detail, Engine, Event, Kind, Moment, Observation},
    tenants::{PrefixNames, TenantRow, Tenants},
};

/// How often limits of clients are read again: CONFIG SET of maxclients is not seen at all, a restarted server is.
const LIMITS_INTERVAL: Duration = Duration::from_secs(5);

/// How often the names of the connections are listed, at least, and how many times its cost lies between two listings: a
/// thousandth of a core.
const NAMES_INTERVAL: Duration = Duration::from_secs(10);
const NAMES_REST: u32 = 1_000;

/// How often the tenants are recorded while a storm goes on.
const TENANTS_INTERVAL: Duration = Duration::from_secs(5);

/// What the judgement remembers between ticks.
pub(super) struct Judge {
    engine: Engine,
    alerts: Alerts,
    incidents: Arc<Archive>,
    flight: Flight,
    next_tenants: Instant,
    limits: BTreeMap<String, u64>,
    next_limits: Instant,
    /// What each client address has said of itself, by server.
    names: HashMap<Arc<str>, HashMap<IpAddr, Names>>,
    next_names: Instant,
    looks: Looks,
}

/// The library and the user of most connections of an address.
#[derive(Debug, Clone, Default)]
struct Names {
    library: Option<Arc<str>>,
    user: Option<Arc<str>>,
    /// By user or client name; without one the address decides.
    workload: Option<Arc<str>>,
}

impl Judge {
    pub(super) fn new(settings: &Settings, evidence: Evidence, now: Instant) -> Self {
        let mut engine = Engine::new(settings.storms);
        // There is no storm yet.
        engine.show_prefixes_as(evidence.names, evidence.alerts.now());
        Self {
            engine,
            alerts: evidence.alerts,
            incidents: evidence.incidents,
            flight: Flight::new(settings.incidents.clone(), VERSION),
            next_tenants: now,
            limits: BTreeMap::new(),
            next_limits: now,
            names: HashMap::new(),
            next_names: now,
            looks: Looks::default(),
        }
    }

    /// Other thresholds, and names of prefixes, from now on.
    pub(super) fn change(&mut self, settings: &Settings, names: PrefixNames) {
        self.engine.configure(settings.storms);
        let now = self.alerts.now();
        let renamed = self.engine.show_prefixes_as(names, now);
        self.tell(&renamed, now);
        self.alerts.reload(&settings.alerts);
        self.incidents.reload(&settings.incidents);
        self.flight.configure(settings.incidents.clone());
    }

    /// Takes up what was announced since the last time, once a second.
    pub(super) fn heed_announcements(&mut self) {
        let announced = self.alerts.announcements().list(self.alerts.now());
        self.engine
            .expect(announced.into_iter().map(Into::into).collect());
    }

    /// The one place that every event passes.
    fn tell(&mut self, events: &[Event], now: Moment) {
        for event in events {
            self.alerts.tell(event.storm(), now);
            self.record(|flight| flight.storm(now, event.storm()));
        }
    }

    /// Hands over what the flight recorder has for the archive.
    fn record<T: IntoIterator<Item = Work>>(&mut self, change: impl FnOnce(&mut Flight) -> T) {
        for work in change(&mut self.flight) {
            self.incidents.take(work);
        }
    }
}

impl Watch {
    /// Every 100 ms.
    pub(super) fn judge(&mut self, now: Instant) {
        if now >= self.judge.next_limits {
            self.judge.next_limits = now + LIMITS_INTERVAL;
            self.judge.limits = self.clients_limits();
        }
        let moment = self.judge.alerts.moment(now);
        for (label, seen) in self.observations() {
            // The engine asks for details while it is borrowed: they are read by what it does not touch.
            let mut judge = std::mem::take(&mut self.judge.engine);
            let events = judge.observe(&label, moment, &seen, &mut || self.detail(&label, now));
            self.judge.engine = judge;
            self.judge.record(|flight| flight.note(&label, moment, &seen));
            self.judge.tell(&events, moment);
        }
        self.judge.looks.end_tick();
        for (label, traffic) in self.traffic(now) {
            let events = self.judge.engine.observe_traffic(&label, moment, &traffic);
            self.judge
                .record(|flight| flight.traffic(&label, moment, &traffic));
            self.judge.tell(&events, moment);
        }
    }

    /// A server is forgotten.
    pub(super) fn stop_judging(&mut self, label: &str, now: Instant) {
        let moment = self.judge.alerts.moment(now);
        let events = self.judge.engine.forget(label, moment);
        self.judge.tell(&events, moment);
        self.judge.record(|flight| flight.forget(label, moment));
        self.judge.names.remove(label);
    }

    /// A quiet look at the clients of every server, which the survey has taken anyway.
    pub(super) fn remember_clients(&mut self, clients: &BTreeMap<String, Vec<ClientSnapshot>>, now: Instant) {
        if now >= self.judge.next_names {
            let began = Instant::now();
            self.list_names();
            self.judge.next_names = now + NAMES_INTERVAL.max(began.elapsed() * NAMES_REST);
        }
        let moment = self.judge.alerts.moment(now);
        for (label, clients) in clients {
            let detail = self.described(label, clients);
            self.judge.engine.remember(label, moment, &detail);
            self.judge
                .record(|flight| flight.remember(label, moment, &detail));
        }
    }

    /// What was recorded of them.
    pub(super) fn incidents_status(&self) -> ArchiveStatus {
        self.judge.incidents.status()
    }

    /// Every few seconds while an incident is recorded: what the tenants have had. Costs as much as a scrape does without its text.
    pub(super) fn record_tenants(&mut self, tenants: &mut Tenants, now: Instant) {
        if !self.judge.flight.is_recording() || now < self.judge.next_tenants {
            return;
        }
        self.judge.next_tenants = now + TENANTS_INTERVAL;
        let counted = Snapshot {
            servers: self.everything_counted(),
            ..Snapshot::default()
        };
        let at = self.judge.alerts.moment(now);
        let mut by_server: BTreeMap<String, Vec<TenantAt>> = BTreeMap::new();
        for TenantRow {
            server,
            tenant,
            counters,
        } in tenants.aggregate(&counted)
        {
            by_server.entry(server).or_default().push(TenantAt {
                tenant,
                commands: counters.commands(),
                bytes_in: counters.bytes_in,
                bytes_out: counters.bytes_out,
                errors: counters.errors.iter().sum(),
            });
        }
        for (server, tenants) in by_server {
            let tenants = TenantsAt { at, tenants };
            self.judge.record(|flight| flight.tenants(&server, tenants));
        }
    }

    /// Who was told of them.
    pub(super) fn alerts_status(&self) -> AlertsStatus {
        self.judge.alerts.status()
    }

    /// The storms of this moment.
    pub(super) fn storm_report(&self) -> StormReport {
        let engine = &self.judge.engine;
        let shown = self.servers.iter().filter(|(_, server)| server.is_shown());
        let counts = shown
            .flat_map(|(label, _)| Kind::ALL.map(|kind| (label.clone(), kind, engine.count(label, kind))));
        StormReport {
            active: engine.active().cloned().collect(),
            over: engine.over().cloned().collect(),
            counts: counts.collect(),
        }
    }

    /// The counters of every live server. Cheap: words of shared memory for each listening socket, and one question to
    /// sock_diag, of listening sockets only, for each network namespace.
    fn observations(&mut self) -> Vec<(String, Observation)> {
        let queues = self.accept_queues();
        let live = self.servers.iter().filter(|(_, server)| server.is_shown());
        let observations = live.map(|(label, server)| {
            let queue = queues.get(label).copied().unwrap_or_default();
            let mut seen = self.counted(server);
            seen.queue_length = queue.length;
            seen.queue_limit = queue.limit;
            seen.queue_drops_total = queue.drops;
            seen.clients_limit = self.judge.limits.get(label).copied();
            (label.clone(), seen)
        });
        observations.collect()
    }

    fn counted(&self, server: &Server) -> Observation {
        let earlier = &server.earlier;
        let mut adopted = earlier.adopted;
        let mut seen = Observation {
            opened_total: earlier.opened,
            closed_total: earlier.closed,
            closed_waiting_total: earlier.ends().waiting,
            rejected_total: earlier.ends().rejected,
            ..Observation::default()
        };
        for slot in server.slots() {
            let counters = self.kernel.counters(slot);
            adopted += counters.adopted;
            seen.opened_total += counters.opened;
            seen.closed_total += counters.closed;
            seen.closed_waiting_total += counters.closed_waiting;
            seen.rejected_total += counters.rejected;
        }
        seen.connections = (seen.opened_total + adopted).saturating_sub(seen.closed_total);
        seen
    }

    fn clients_limits(&mut self) -> BTreeMap<String, u64> {
        let facts = self.facts();
        let limits = facts.into_iter();
        limits
            .filter_map(|(label, facts)| Some((label, facts.clients_at_most()?)))
            .collect()
    }

    /// Who the clients of a server are now; `None` if the last look was too expensive to take another one so soon.
    fn detail(&mut self, label: &str, now: Instant) -> Option<Detail> {
        let began = thread_time();
        let mut looks = std::mem::take(&mut self.judge.looks);
        let clients = looks.at(label, now, || self.clients_by_server());
        self.judge.looks = looks;
        let detail = self.described(label, &clients?);
        let moment = self.judge.alerts.moment(now);
        self.judge.record(|flight| flight.clients(label, moment, &detail));
        let cost = thread_time().saturating_sub(began);
        self.judge.looks.charge(label, now, cost);
        Some(detail)
    }

    fn described(&self, label: &str, clients: &[ClientSnapshot]) -> Detail {
        let names = self.judge.names.get(label);
        // One text for each workload, however many clients it has.
        let mut workloads: HashMap<&str, Arc<str>> = HashMap::new();
        let described = clients.iter().filter_map(|client| {
            let address = client.address?;
            let said = names
                .and_then(|names| names.get(&address))
                .cloned()
                .unwrap_or_default();
            let by_address = || {
                let name = self.workloads.name_of(address)?;
                Some(Arc::clone(workloads.entry(name).or_insert_with(|| name.into())))
            };
            Some(ClientDetail {
                address,
                workload: said.workload.or_else(by_address),
                library: said.library,
                user: said.user,
                opened: client.opened,
                connections: client.connections,
            })
        });
        Detail {
            clients: described.collect(),
        }
    }

    /// Takes up what the clients say of themselves; those without a connection keep what they said.
    fn list_names(&mut self) {
        let connections = match self.connections_in_any_order() {
            Ok(connections) => connections,
            Err(error) => {
                return tracing::warn!(
                    error = format!("{error:#}"),
                    "storms will not be told with libraries and users"
                );
            }
        };
        let mut libraries: HashMap<(Arc<str>, Arc<str>), Arc<str>> = HashMap::new();
        let mut workloads: HashMap<(&str, &str), Option<Arc<str>>> = HashMap::new();
        let mut fresh: HashMap<Arc<str>, HashMap<IpAddr, Names>> = HashMap::new();
        for connection in &connections {
            let of_server = fresh.entry(Arc::clone(&connection.server)).or_default();
            let names = of_server.entry(connection.address).or_default();
            // The first connection that says so speaks for its address.
            if names.library.is_none() && is_said(&connection.library) {
                let key = (
                    Arc::clone(&connection.library),
                    Arc::clone(&connection.library_version),
                );
                names.library = Some(Arc::clone(
                    libraries.entry(key).or_insert_with(|| library(connection)),
                ));
            }
            if names.user.is_none() && is_said(&connection.user) && &*connection.user != DEFAULT_USER {
                names.user = Some(Arc::clone(&connection.user));
            }
            if names.workload.is_none() && self.workloads.have_names() {
                let said = (&*connection.user, &*connection.name);
                let workload = workloads
                    .entry(said)
                    .or_insert_with(|| self.workloads.name_of_names(said.0, said.1).map(Arc::from));
                names.workload.clone_from(workload);
            }
        }
        for (server, addresses) in fresh {
            let known = self.judge.names.entry(server).or_default();
            // Those that are gone for good must not pile up.
            if known.len() > 2 * addresses.len() + 1_000 {
                known.clear();
            }
            known.extend(addresses);
        }
    }
}

fn is_said(name: &str) -> bool {
    name != NONE && name != UNKNOWN
}

/// `go-redis 8.11`.
fn library(connection: &ConnectionSnapshot) -> Arc<str> {
    if is_said(&connection.library_version) {
        format!("{} {}", connection.library, connection.library_version).into()
    } else {
        Arc::clone(&connection.library)
    }
}
