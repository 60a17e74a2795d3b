//! Surveys: from time to time, on a thread of their own, a look at every connection of the servers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use agent_common::{
    abi::{ClientKey, address_from_words},
    limits,
};
use nix::time::{ClockId, clock_gettime};

use super::{
    looks::ClientsByServer,
    watch::{Watch, owner},
};
use crate::{
    config::Clients,
    snapshot::ClientSnapshot,
    valkey::{Listener, SurveyedConnection, Surveyor},
    workloads::{Observation, ServerSurvey, Tally},
};

/// After a survey so many times its CPU time pass before the next one: it takes half a percent of a core at most, and leaves as
/// much to the rest of the daemon.
const REST: u32 = 200;

/// A survey that is due by the next tick begins now: the ticks are a second apart, and never quite.
const EARLY: Duration = Duration::from_millis(100);

/// When surveys are taken, and by whom.
pub(super) struct Surveys {
    settings: Clients,
    /// Away while a survey is being taken.
    surveyor: Option<Surveyor>,
    running: Option<JoinHandle<(Surveyor, Surveyed)>>,
    /// The rules have changed since that one began: its places in the file mean nothing.
    is_outrun: bool,
    /// When the last one began.
    last: Option<Instant>,
    next: Instant,
    /// Servers that a survey could not look at, in all.
    failed: u64,
}

/// Where to look.
struct Plan {
    servers: Vec<String>,
    /// Listening sockets by network namespace; with each the place of its server.
    namespaces: BTreeMap<u64, Vec<(Listener, u32)>>,
    /// Workloads of connections by users and client names: places in the file by the cookie of the socket.
    named: HashMap<u64, usize>,
    idle_after: Duration,
    busy_within: Duration,
}

/// What comes back.
struct Surveyed {
    servers: Vec<(String, Option<ServerSurvey>)>,
    cost: Duration,
}

impl Surveyed {
    /// The workloads of users and client names have other places in the file by now.
    fn forget_names(&mut self) {
        let surveys = self.servers.iter_mut().filter_map(|(_, survey)| survey.as_mut());
        surveys.for_each(ServerSurvey::forget_names);
    }
}

impl Surveys {
    pub(super) fn new(settings: Clients) -> Self {
        Self {
            settings,
            surveyor: Some(surveyor()),
            running: None,
            is_outrun: false,
            last: None,
            next: Instant::now(),
            failed: 0,
        }
    }

    /// Looks at other intervals, and for other workloads, from now on.
    pub(super) fn change(&mut self, settings: Clients) {
        self.settings = settings;
        self.is_outrun = self.running.is_some();
        if let Some(last) = self.last {
            self.next = last + self.least_interval();
        }
    }

    /// Servers that a survey could not look at, in all.
    pub(super) const fn failed(&self) -> u64 {
        self.failed
    }

    fn least_interval(&self) -> Duration {
        Duration::from_secs(self.settings.survey_seconds.get() as u64)
    }

    /// What a survey that has ended found.
    fn take(&mut self) -> Option<Surveyed> {
        let thread = self.running.take_if(|thread| thread.is_finished())?;
        match thread.join() {
            Ok((surveyor, mut surveyed)) => {
                self.surveyor = Some(surveyor);
                if std::mem::take(&mut self.is_outrun) {
                    surveyed.forget_names();
                }
                Some(surveyed)
            }
            Err(_) => {
                tracing::error!("a survey of the connections panicked; this is a defect of stormglass");
                None
            }
        }
    }
}

impl Watch {
    /// Once a second: takes over a survey that has ended, begins one that is due.
    pub(super) fn survey(&mut self, now: Instant) {
        if let Some(surveyed) = self.surveys.take() {
            self.observe(surveyed, now);
        }
        if now + EARLY >= self.surveys.next && self.surveys.running.is_none() {
            self.begin_survey(now);
        }
    }

    fn observe(&mut self, surveyed: Surveyed, now: Instant) {
        let surveys = &mut self.surveys;
        let interval = surveys.least_interval().max(surveyed.cost * REST);
        let began = surveys.last.unwrap_or(now);
        surveys.next = began + interval;
        let missed = surveyed.servers.iter().filter(|(_, survey)| survey.is_none());
        surveys.failed += missed.count() as u64;
        self.tell_workloads_of_pods();
        let mut clients = self.clients_by_server();
        self.remember_clients(&clients, now);
        let mut introductions = self.introductions_of_workloads();
        let observations = surveyed.servers.into_iter().map(|(server, survey)| Observation {
            clients: clients.remove(&server).unwrap_or_default(),
            introductions: introductions.remove(server.as_str()).unwrap_or_default(),
            server,
            survey,
        });
        self.workloads
            .observe(began, surveyed.cost, interval, observations.collect());
    }

    fn begin_survey(&mut self, now: Instant) {
        let plan = self.plan(now);
        let namespaces: BTreeSet<u64> = plan.namespaces.keys().copied().collect();
        let surveys = &mut self.surveys;
        let mut surveyor = surveys.surveyor.take().unwrap_or_else(surveyor);
        surveyor.prepare(&self.host, &namespaces);
        surveys.last = Some(now);
        surveys.next = now + surveys.least_interval();
        let spawned = thread::Builder::new()
            .name("survey".into())
            .spawn(move || plan.survey(surveyor));
        match spawned {
            Ok(thread) => surveys.running = Some(thread),
            Err(error) => {
                tracing::warn!(%error, "cannot start a thread to survey the connections; trying again");
            }
        }
    }

    fn plan(&mut self, now: Instant) -> Plan {
        let named = self.named_connections();
        let surveys = &self.surveys;
        let mut plan = Plan {
            servers: Vec::new(),
            namespaces: BTreeMap::new(),
            named,
            idle_after: Duration::from_secs(surveys.settings.idle_after_seconds.get() as u64),
            busy_within: surveys
                .last
                .map_or(surveys.least_interval(), |last| now.duration_since(last)),
        };
        for (label, server) in &self.servers {
            let Some(found) = &server.found else { continue };
            let place = plan.servers.len() as u32;
            plan.servers.push(label.clone());
            let listeners = found.listeners.iter().map(|listener| (listener.clone(), place));
            plan.namespaces.entry(found.netns).or_default().extend(listeners);
        }
        plan
    }

    /// The kernel's clients of each server.
    pub(super) fn clients_by_server(&self) -> ClientsByServer {
        let labels = self.labels_by_slot();
        let mut clients = ClientsByServer::new();
        for (key, counters) in self.kernel.clients() {
            if let Some(label) = labels.get(&key.slot) {
                clients
                    .entry(label.to_string())
                    .or_default()
                    .push(ClientSnapshot {
                        address: Some(address_from_words(key.address)),
                        connections: counters.open,
                        opened: counters.opened,
                    });
            }
        }
        clients
    }

    /// The addresses of the kernel's clients of all servers; of several servers several times.
    pub(super) fn client_addresses(&self) -> Vec<IpAddr> {
        let clients = self.kernel.clients();
        clients
            .into_iter()
            .map(|(key, _)| address_from_words(key.address))
            .collect()
    }

    /// Which server each slot belongs to.
    pub(super) fn labels_by_slot(&self) -> BTreeMap<u32, Arc<str>> {
        let slots = self.servers.iter().flat_map(|(label, server)| {
            let label: Arc<str> = label.as_str().into();
            server.slots().map(move |slot| (slot, Arc::clone(&label)))
        });
        slots.collect()
    }

    /// The kernel forgets these clients, and how many connections each had opened.
    pub(super) fn depart(&mut self, clients: &[(ClientKey, u64)]) {
        let departing: HashSet<ClientKey> = clients.iter().map(|(key, _)| *key).collect();
        let ended = self.settle_ended(|key| {
            departing.contains(&ClientKey {
                slot: key.slot,
                address: key.client,
            })
        });
        let labels = self.labels_by_slot();
        for (key, opened) in clients {
            if let Some(label) = labels.get(&key.slot) {
                let ended = ended.get(key).map_or(&[][..], Vec::as_slice);
                self.workloads
                    .depart(label, address_from_words(key.address), *opened, ended);
            }
        }
    }
}

impl Plan {
    /// Runs on the survey's thread, whose CPU time is the cost.
    fn survey(self, mut surveyor: Surveyor) -> (Surveyor, Surveyed) {
        let mut found: Vec<Option<ServerSurvey>> = self
            .servers
            .iter()
            .map(|_| Some(ServerSurvey::default()))
            .collect();
        // Over all servers, as the kernel's table of clients.
        let mut room = limits::CLIENTS;
        for (netns, sockets) in &self.namespaces {
            let mut ports: Vec<u16> = sockets.iter().map(|(listener, _)| listener.port).collect();
            ports.sort_unstable();
            ports.dedup();
            let result = surveyor.survey(*netns, &ports, &mut |connection| {
                let server = owner(sockets, connection.local, connection.port);
                let survey = server.and_then(|server| found.get_mut(server as usize)?.as_mut());
                if let Some(survey) = survey {
                    let rule = self.named.get(&connection.cookie).copied();
                    add(
                        survey,
                        &mut room,
                        (rule, connection.client),
                        self.tally(connection),
                    );
                }
            });
            if let Err(error) = result {
                tracing::warn!(%error, "cannot look at the connections of a network namespace; trying again");
                for (_, server) in sockets {
                    if let Some(survey) = found.get_mut(*server as usize) {
                        *survey = None;
                    }
                }
            }
        }
        let surveyed = Surveyed {
            servers: self.servers.into_iter().zip(found).collect(),
            cost: thread_time(),
        };
        (surveyor, surveyed)
    }

    fn tally(&self, connection: &SurveyedConnection) -> Tally {
        let quiet = Duration::from_millis(connection.quiet_milliseconds.into());
        Tally {
            connections: 1,
            idle: u64::from(!connection.queued && quiet >= self.idle_after),
            busy: u64::from(connection.queued || quiet < self.busy_within),
            memory_bytes: connection.memory_bytes,
        }
    }
}

fn surveyor() -> Surveyor {
    Surveyor::new(Path::new("/proc"))
}

/// Adds a connection to its client, by workload where its names have one, if there is room for another.
fn add(survey: &mut ServerSurvey, room: &mut usize, (rule, client): (Option<usize>, IpAddr), tally: Tally) {
    let known = match rule {
        Some(rule) => survey.named.get_mut(&(rule, client)),
        None => survey.addresses.get_mut(&client),
    };
    if let Some(sum) = known {
        sum.add(tally);
    } else if *room > 0 {
        *room -= 1;
        match rule {
            Some(rule) => survey.named.insert((rule, client), tally),
            None => survey.addresses.insert(client, tally),
        };
    } else {
        survey.beyond.add(tally);
    }
}

/// CPU time of the calling thread since it began.
pub(super) fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn plan() -> Plan {
        Plan {
            servers: Vec::new(),
            namespaces: BTreeMap::new(),
            named: HashMap::new(),
            idle_after: Duration::from_secs(60),
            busy_within: Duration::from_secs(10),
        }
    }

    fn connection(quiet_milliseconds: u32, queued: bool) -> SurveyedConnection {
        SurveyedConnection {
            cookie: 1,
            local: "10.0.0.1".parse().unwrap(),
            port: 6379,
            client: "10.0.0.2".parse().unwrap(),
            quiet_milliseconds,
            queued,
            memory_bytes: 7,
        }
    }

    #[test]
    fn a_connection_is_busy_by_recent_or_waiting_data_and_idle_by_long_silence_without() {
        for (quiet, queued, busy, idle) in [
            (0, false, 1, 0),
            (9_999, false, 1, 0),
            (10_000, false, 0, 0),
            (59_999, false, 0, 0),
            (60_000, false, 0, 1),
            (60_000, true, 1, 0),
        ] {
            let tally = plan().tally(&connection(quiet, queued));
            assert_eq!((tally.busy, tally.idle), (busy, idle), "{quiet} {queued}");
            assert_eq!((tally.connections, tally.memory_bytes), (1, 7));
        }
    }

    #[test]
    fn addresses_beyond_the_room_are_counted_together() {
        let (mut survey, mut room) = (ServerSurvey::default(), 2);
        for host in [1, 2, 3, 1, 4] {
            let tally = plan().tally(&connection(0, false));
            add(&mut survey, &mut room, (None, [10, 0, 0, host].into()), tally);
        }
        assert_eq!((survey.addresses.len(), survey.beyond.connections), (2, 2));
        assert_eq!(survey.total().connections, 5);
        // By name it is somebody else at the same address.
        room = 1;
        for rule in [7, 7, 8] {
            let tally = plan().tally(&connection(0, false));
            add(&mut survey, &mut room, (Some(rule), [10, 0, 0, 1].into()), tally);
        }
        assert_eq!(survey.named[&(7, [10, 0, 0, 1].into())].connections, 2);
        assert_eq!((survey.named.len(), survey.beyond.connections), (1, 3));
        assert_eq!(survey.total().connections, 8);
    }

    #[test]
    fn a_survey_that_a_reload_has_outrun_says_nothing_of_names() {
        for reloads in [false, true] {
            let mut surveys = Surveys::new(Settings::default().clients);
            let surveyed = || {
                let mut survey = ServerSurvey::default();
                let tally = plan().tally(&connection(0, false));
                add(&mut survey, &mut 1, (Some(7), [10, 0, 0, 1].into()), tally);
                let servers = vec![("server".to_owned(), Some(survey))];
                let cost = Duration::ZERO;
                (surveyor(), Surveyed { servers, cost })
            };
            surveys.running = Some(thread::spawn(surveyed));
            if reloads {
                surveys.change(Settings::default().clients);
            }
            let taken = loop {
                if let Some(taken) = surveys.take() {
                    break taken;
                }
                thread::yield_now();
            };
            let (_, survey) = &taken.servers[0];
            let survey = survey.as_ref().unwrap();
            assert_eq!(survey.named.is_empty(), reloads);
            assert_eq!(survey.total().connections, 1);
            assert!(!surveys.is_outrun, "the next one goes by the new rules");
        }
    }
}
