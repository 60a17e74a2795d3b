//! What is recorded. The JSON of these types is what files hold and what the API and `export` show.

use serde::{Deserialize, Serialize};

use crate::storms::{Moment, Observation, Storm};

/// Form of the records; raised when an older reader could not understand a newer file. Of form 1 there was no traffic.
pub(super) const FORMAT: u32 = 2;

/// A piece of an incident, in the order in which it was recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The first one.
    Head {
        /// Form of the records.
        format: u32,
        /// Version of the agent.
        agent: String,
    },
    /// The storm, each time that something was told of it.
    Storm(Told),
    /// The server, every 100 ms.
    Course(Course),
    /// What its commands came to, every second.
    Traffic(Traffic),
    /// Its clients.
    Clients(Clients),
    /// Its tenants.
    Tenants(TenantsAt),
    /// The last one.
    End {
        /// When.
        at: Moment,
    },
}

/// The storm as it was at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Told {
    /// When.
    pub at: Moment,
    /// As it was then.
    pub storm: Storm,
}

/// One server in one tick of about 100 ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// End of the tick.
    pub at: Moment,
    /// Connections at its end.
    pub connections: u32,
    /// Opened in it.
    pub opened: u32,
    /// Closed in it.
    pub closed: u32,
    /// Of those, with a command that waited for its reply.
    pub closed_waiting: u32,
    /// Refused in it by maxclients.
    pub rejected: u32,
    /// Connections that waited to be accepted at its end.
    pub queue_length: u32,
    /// Dropped in it because too many waited.
    pub queue_drops: u32,
}

impl Sample {
    /// What happened between two looks. Counters that went back, because the server is another one, count from zero.
    pub(super) fn between(before: &Observation, now: &Observation, at: Moment) -> Self {
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let since = |before: u64, now: u64| number(now.checked_sub(before).unwrap_or(now));
        Self {
            at,
            connections: number(now.connections),
            opened: since(before.opened_total, now.opened_total),
            closed: since(before.closed_total, now.closed_total),
            closed_waiting: since(before.closed_waiting_total, now.closed_waiting_total),
            rejected: since(before.rejected_total, now.rejected_total),
            queue_length: number(now.queue_length),
            queue_drops: since(before.queue_drops_total, now.queue_drops_total),
        }
    }
}

/// Samples, column by column: all have the same length.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Course {
    /// Ends of the ticks, in milliseconds since 1970 began.
    pub at: Vec<Moment>,
    /// Connections.
    pub connections: Vec<u32>,
    /// Connections opened in the tick.
    pub opened: Vec<u32>,
    /// Connections closed in the tick.
    pub closed: Vec<u32>,
    /// Of those, with a command that waited for its reply.
    pub closed_waiting: Vec<u32>,
    /// Clients refused in the tick by maxclients.
    pub rejected: Vec<u32>,
    /// Connections that waited to be accepted.
    pub queue_length: Vec<u32>,
    /// Connections dropped in the tick because too many waited.
    pub queue_drops: Vec<u32>,
}

impl Course {
    /// Puts samples behind those that are there.
    pub(super) fn extend(&mut self, samples: impl IntoIterator<Item = Sample>) {
        for sample in samples {
            self.at.push(sample.at);
            self.connections.push(sample.connections);
            self.opened.push(sample.opened);
            self.closed.push(sample.closed);
            self.closed_waiting.push(sample.closed_waiting);
            self.rejected.push(sample.rejected);
            self.queue_length.push(sample.queue_length);
            self.queue_drops.push(sample.queue_drops);
        }
    }

    /// The samples; as many as the shortest column has.
    pub fn samples(&self) -> impl Iterator<Item = Sample> {
        let columns = [
            &self.connections,
            &self.opened,
            &self.closed,
            &self.closed_waiting,
            &self.rejected,
            &self.queue_length,
            &self.queue_drops,
        ];
        let length = columns.iter().map(|column| column.len()).min().unwrap_or(0);
        (0..length.min(self.at.len())).map(move |row| {
            let [
                connections,
                opened,
                closed,
                closed_waiting,
                rejected,
                queue_length,
                queue_drops,
            ] = columns.map(|column| column[row]);
            Sample {
                at: self.at[row],
                connections,
                opened,
                closed,
                closed_waiting,
                rejected,
                queue_length,
                queue_drops,
            }
        })
    }
}

/// Seconds of commands, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// One after the other.
    pub seconds: Vec<TrafficAt>,
}

/// What the commands of the server came to in about a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TrafficAt {
    /// Its end.
    pub at: Moment,
    /// How long it was.
    pub milliseconds: u64,
    /// Commands received in it.
    pub commands: u64,
    /// Commands answered in it whose duration is known.
    pub answered: u64,
    /// How long those took on average, in microseconds.
    pub latency_microseconds: u64,
    /// Payload bytes from all its clients, attributed or not.
    pub bytes_in: u64,
    /// The same to them.
    pub bytes_out: u64,
    /// Error replies.
    pub errors: u64,
    /// What tenants had in it: the eight with the largest share of its bytes or of its commands. Whoever has no tenant is
    /// `(unassigned)`.
    pub tenants: Vec<TenantAt>,
}

/// Who the clients of the server were at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Clients {
    /// When.
    pub at: Moment,
    /// By workload, those with the most opens first; the largest 20.
    pub workloads: Vec<WorkloadAt>,
    /// By address, those with the most opens first; the largest 50.
    pub clients: Vec<ClientAt>,
}

/// A workload at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkloadAt {
    /// Its name; empty for addresses that no rule has.
    pub workload: String,
    /// Addresses.
    pub instances: u64,
    /// Connections that they held.
    pub connections: u64,
    /// Connections that they have opened since the agent watches.
    pub opened: u64,
}

/// An address at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClientAt {
    /// The address.
    pub address: String,
    /// Its workload; empty if no rule has it.
    pub workload: String,
    /// Its library and version; empty if unknown.
    pub library: String,
    /// Its user; empty if unknown.
    pub user: String,
    /// Connections that it held.
    pub connections: u64,
    /// Connections that it has opened since the agent watches.
    pub opened: u64,
}

/// What tenants have had since the agent watches, up to a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TenantsAt {
    /// When.
    pub at: Moment,
    /// Each tenant of the server.
    pub tenants: Vec<TenantAt>,
}

/// What a tenant had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TenantAt {
    /// Its name.
    pub tenant: String,
    /// Commands.
    pub commands: u64,
    /// Bytes of them.
    pub bytes_in: u64,
    /// Bytes of their replies.
    pub bytes_out: u64,
    /// Error replies.
    pub errors: u64,
}
