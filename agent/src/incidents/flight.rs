//! The flight recorder: the last minutes of every server in bounded memory. A storm makes an incident of them, and of what follows.

use std::collections::BTreeMap;

use super::past::{self, Past, Second};
use super::record::{FORMAT, Record, Sample, TenantsAt, Told};
use crate::config::Incidents;
use crate::storms::{Detail, Moment, Observation, Storm, Traffic};

/// Ticks, and seconds of traffic, that are written together.
const TICKS_TOGETHER: usize = 10;
const SECONDS_TOGETHER: usize = 5;

/// Servers whose past is kept: 15 MiB, if all of them have many tenants and clients. Those beyond have incidents that begin with their
/// storm.
const SERVERS: usize = 100;

/// How often clients are recorded at most, in milliseconds.
const CLIENTS_MILLISECONDS: u64 = 1_000;

/// Something to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// Id of the incident: that of its storm.
    pub id: String,
    /// What is to be appended.
    pub records: Vec<Record>,
}

/// See the module.
#[derive(Debug)]
pub struct Flight {
    settings: Incidents,
    agent: &'static str,
    servers: BTreeMap<String, Server>,
}

#[derive(Debug, Default)]
struct Server {
    /// Whether its past is kept.
    keeps: bool,
    last: Option<Observation>,
    past: Past,
    incident: Option<Open>,
}

/// An incident that is being recorded.
#[derive(Debug)]
struct Open {
    id: String,
    unwritten: Vec<Sample>,
    unwritten_seconds: Vec<Second>,
    /// Until when, once the storm is over.
    until: Option<Moment>,
    /// When the clients were recorded.
    clients: Option<Moment>,
}

impl Flight {
    /// Has seen nothing yet. `agent`: its version.
    #[must_use]
    pub const fn new(settings: Incidents, agent: &'static str) -> Self {
        Self {
            settings,
            agent,
            servers: BTreeMap::new(),
        }
    }

    /// Other lengths from now on.
    pub fn configure(&mut self, settings: Incidents) {
        self.settings = settings;
    }

    /// Takes the counters of a server, every 100 ms.
    pub fn note(&mut self, label: &str, now: Moment, seen: &Observation) -> Option<Work> {
        if !self.servers.contains_key(label) {
            let server = Server {
                keeps: self.servers.len() < SERVERS,
                ..Server::default()
            };
            self.servers.insert(label.to_owned(), server);
        }
        let server = self.servers.get_mut(label)?;
        let before = server.last.replace(*seen)?;
        let sample = Sample::between(&before, seen, now);
        if server.keeps {
            server.past.tick(sample);
        }
        let kept = 1000 * self.settings.before_seconds.get() as u64;
        server.past.forget_before(Moment(now.0.saturating_sub(kept)));
        let open = server.incident.as_mut()?;
        open.unwritten.push(sample);
        if open.until.is_some_and(|until| now >= until) {
            return server.close(now);
        }
        (open.unwritten.len() >= TICKS_TOGETHER).then(|| Work {
            id: open.id.clone(),
            records: open.course().into_iter().collect(),
        })
    }

    /// Takes what the commands of a server came to, every second.
    pub fn traffic(&mut self, label: &str, now: Moment, counted: &Traffic) -> Option<Work> {
        let server = self.servers.get_mut(label)?;
        let second = Second::of(now, counted);
        if server.keeps {
            server.past.second(second.clone());
        }
        let open = server.incident.as_mut()?;
        open.unwritten_seconds.push(second);
        (open.unwritten_seconds.len() >= SECONDS_TOGETHER).then(|| Work {
            id: open.id.clone(),
            records: open.traffic().into_iter().collect(),
        })
    }

    /// Takes a storm of a server that began, went on or ended.
    pub fn storm(&mut self, now: Moment, storm: &Storm) -> Vec<Work> {
        if !self.settings.enabled {
            return Vec::new();
        }
        let server = self.servers.entry(storm.server.clone()).or_default();
        let mut works = Vec::new();
        let is_another = server.incident.as_ref().is_some_and(|open| open.id != storm.id);
        if is_another {
            works.extend(server.close(now));
        }
        let mut records = Vec::new();
        if server.incident.is_none() {
            records.push(Record::Head {
                format: FORMAT,
                agent: self.agent.to_owned(),
            });
            records.extend(server.past.records());
        }
        let open = server.incident.get_or_insert_with(|| Open {
            id: storm.id.clone(),
            unwritten: Vec::new(),
            unwritten_seconds: Vec::new(),
            until: None,
            clients: None,
        });
        records.extend(open.course());
        records.push(Record::Storm(Told {
            at: now,
            storm: storm.clone(),
        }));
        if storm.ended.is_some() {
            open.until = Some(Moment(now.0 + 1000 * self.settings.after_seconds.get() as u64));
        }
        works.push(Work {
            id: storm.id.clone(),
            records,
        });
        works
    }

    /// Takes who the clients of a server are, at a moment at which nothing is suspected.
    pub fn remember(&mut self, label: &str, now: Moment, detail: &Detail) -> Option<Work> {
        let server = self.servers.get_mut(label)?;
        if server.keeps {
            server.past.look(now, detail);
        }
        self.clients(label, now, detail)
    }

    /// Takes who the clients of a server are.
    pub fn clients(&mut self, label: &str, now: Moment, detail: &Detail) -> Option<Work> {
        let open = self.servers.get_mut(label)?.incident.as_mut()?;
        if open
            .clients
            .is_some_and(|last| now.since(last) < CLIENTS_MILLISECONDS)
        {
            return None;
        }
        open.clients = Some(now);
        Some(Work {
            id: open.id.clone(),
            records: vec![Record::Clients(past::clients(now, detail))],
        })
    }

    /// Takes what the tenants of a server have had.
    pub fn tenants(&mut self, label: &str, tenants: TenantsAt) -> Option<Work> {
        let open = self.servers.get(label)?.incident.as_ref()?;
        Some(Work {
            id: open.id.clone(),
            records: vec![Record::Tenants(tenants)],
        })
    }

    /// Whether an incident is being recorded.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.servers.values().any(|server| server.incident.is_some())
    }

    /// A server is gone; its incident ends.
    pub fn forget(&mut self, label: &str, now: Moment) -> Option<Work> {
        self.servers.remove(label)?.close(now)
    }
}

impl Server {
    fn close(&mut self, now: Moment) -> Option<Work> {
        let mut open = self.incident.take()?;
        let end = Record::End { at: now };
        Some(Work {
            records: [open.course(), open.traffic(), Some(end)]
                .into_iter()
                .flatten()
                .collect(),
            id: open.id,
        })
    }
}

impl Open {
    fn course(&mut self) -> Option<Record> {
        past::course(self.unwritten.drain(..))
    }

    fn traffic(&mut self) -> Option<Record> {
        past::traffic(self.unwritten_seconds.drain(..))
    }
}
