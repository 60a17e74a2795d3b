//! A storm: what detectors find, alerts tell and incidents record. Its JSON is what webhooks, incident files and the API show.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::tenants::{PrefixNames, is_special};

/// Milliseconds since the Unix epoch, on a clock that never steps back while the agent runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// What the system's clock says: for those that look at the agent from outside, or once.
    #[must_use]
    pub fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
    }

    /// Milliseconds from `earlier` to this moment; zero if it is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What a storm is. In the order in which a leading cause is chosen: the first of simultaneous ones leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The same clients close connections and open them again.
    ReconnectChurn,
    /// A large part of a server's usual clients opens anew.
    ColdReconnect,
    /// The server refuses clients because it has as many as it takes.
    MaxclientsRejection,
    /// Connections wait to be accepted, or are dropped because too many do.
    AcceptQueueSaturation,
    /// A workload sends more while replies stall.
    RetryAmplification,
    /// Bytes per second near what the link carries.
    BandwidthSaturation,
    /// Values much larger than usual.
    OversizedValues,
    /// One prefix takes the server.
    HotPrefix,
    /// Connections grow towards the limit.
    ConnectionGrowth,
    /// Many more error replies than usual.
    ErrorBurst,
}

impl Kind {
    /// Every kind, in the order of its declaration.
    pub const ALL: [Self; 10] = [
        Self::ReconnectChurn,
        Self::ColdReconnect,
        Self::MaxclientsRejection,
        Self::AcceptQueueSaturation,
        Self::RetryAmplification,
        Self::BandwidthSaturation,
        Self::OversizedValues,
        Self::HotPrefix,
        Self::ConnectionGrowth,
        Self::ErrorBurst,
    ];

    /// Label `kind`, and the name of its table in the configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ReconnectChurn => "reconnect_churn",
            Self::ColdReconnect => "cold_reconnect",
            Self::MaxclientsRejection => "maxclients_rejection",
            Self::AcceptQueueSaturation => "accept_queue_saturation",
            Self::RetryAmplification => "retry_amplification",
            Self::BandwidthSaturation => "bandwidth_saturation",
            Self::OversizedValues => "oversized_values",
            Self::HotPrefix => "hot_prefix",
            Self::ConnectionGrowth => "connection_growth",
            Self::ErrorBurst => "error_burst",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.label())
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing in the morning.
    Info,
    /// Clients notice, or will soon.
    Warning,
    /// Clients are refused, or the server does not keep up.
    Critical,
}

impl Severity {
    /// Label `severity`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One storm at one server, as far as it has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Storm {
    /// Unique on this host, over restarts of the agent too: `MOMENT-NUMBER`, the moment of the finding in milliseconds.
    pub id: String,
    /// Label `server`.
    pub server: String,
    /// The leading cause.
    pub kind: Kind,
    /// Every kind found while it lasted, the leading one included, in order.
    pub kinds: Vec<Kind>,
    /// The highest so far.
    pub severity: Severity,
    /// When it began, as far as the numbers show.
    pub onset: Moment,
    /// When it was found.
    pub found: Moment,
    /// When it was over; `None`: it goes on.
    pub ended: Option<Moment>,
    /// Somebody announced it (`stormglass expect-restart`).
    pub expected: bool,
    /// One sentence for people: what, how bad, who.
    pub summary: String,
    /// The evidence as numbers, the most telling first.
    pub evidence: Vec<Figure>,
    /// Who did it, by their share of the excess over what is usual, the largest first.
    pub culprits: Vec<Culprit>,
}

/// A number with its name and unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Figure {
    /// What it is, in snake case: `opens_per_second`.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Base unit, or the things counted: `connections`, `seconds`, `bytes`, `ratio`.
    pub unit: String,
}

/// Somebody with a part in a storm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Culprit {
    /// What kind of somebody.
    pub subject: Subject,
    /// Its name: label values of workload, user, tenant, prefix (a keyed hash with `keys.hash_prefixes`); `name version` of a library; an
    /// address.
    pub name: String,
    /// Share of the excess over the baseline, 0 to 1.
    pub share: f64,
    /// Distinct addresses; 0 where that makes no sense.
    pub instances: u64,
    /// Connections it holds now; 0 where that makes no sense.
    pub connections: u64,
    /// What it did, in the unit of the kind: opens, bytes, errors.
    pub amount: f64,
}

impl Culprit {
    /// Whether it is a prefix of clients' keys, and no special row.
    pub(super) fn is_prefix(&self) -> bool {
        self.subject == Subject::Prefix && !is_special(&self.name)
    }

    /// The same with the name under which it is shown.
    pub(super) fn shown_as(&self, names: &PrefixNames) -> Self {
        let mut shown = self.clone();
        if self.is_prefix() {
            shown.name = names.of(&self.name).into_owned();
        }
        shown
    }
}

/// What a culprit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A group of clients.
    Workload,
    /// An address.
    Client,
    /// An ACL user.
    User,
    /// A client library and its version.
    Library,
    /// A tenant.
    Tenant,
    /// A key prefix.
    Prefix,
}

impl Subject {
    /// In a sentence, and as JSON has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Client => "client",
            Self::User => "user",
            Self::Library => "library",
            Self::Tenant => "tenant",
            Self::Prefix => "prefix",
        }
    }
}
