//! Metrics: what there is ([`table`]), where its samples come from (`families`), and the two text formats of a scrape.
#![forbid(unsafe_code)]

mod builder;
pub(crate) mod distributions;
mod families;
mod openmetrics;
mod process;
pub(crate) mod rows;
pub mod table;

#[cfg(test)]
mod tests;

pub use self::process::ProcessUsage;
use crate::alerts::AlertsStatus;
use crate::config::ConfigStatus;
use crate::incidents::ArchiveStatus;
use crate::kubernetes;
use crate::snapshot::Snapshot;
use crate::storms::{Kind, Storm};
use crate::tenants::{Disagreement, PrefixAt, TenantInfo, TenantRow, Tenants};
use crate::workloads::{Owners, WorkloadReport};

/// Version of this agent.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commit it was built from: the environment variable `STORMGLASS_COMMIT` of the build, else `unknown`.
pub const COMMIT: &str = match option_env!("STORMGLASS_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// What one scrape, or one page of the API, shows.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What the kernel counted.
    pub snapshot: Snapshot,
    /// The prefix rows added up per server and tenant.
    pub tenants: Vec<TenantRow>,
    /// Every tenant that can have a row.
    pub tenant_infos: Vec<TenantInfo>,
    /// Workloads, and what is known of their connections.
    pub workloads: WorkloadReport,
    /// Storms, and how many there were.
    pub storms: StormReport,
    /// Who was told of them.
    pub alerts: AlertsStatus,
    /// What was recorded of them.
    pub incidents: ArchiveStatus,
    /// What has become of the configuration file.
    pub config: ConfigStatus,
    /// Prefixes of one tenant that connections of another used.
    pub disagreements: Vec<Disagreement>,
    /// How the watch of pods is.
    pub kubernetes: kubernetes::Status,
    /// The pods of clients, by address.
    pub pods: Owners,
    /// The prefix rows that no rule matches.
    pub unassigned: Vec<PrefixAt>,
    /// Whether prefixes are shown as keyed hashes: in the snapshot they are.
    pub prefixes_hashed: bool,
    /// Bytes per second that the link of the servers carries in one direction, if that is known.
    pub link: Option<u64>,
    /// What the agent itself costs.
    pub process: Option<ProcessUsage>,
}

impl Report {
    /// Adds what the rules make of the snapshot. Nothing is said of the configuration file yet.
    ///
    /// Whoever has the report does not see plain prefixes if they are to be hashed: the rules have gone by them, and nobody else needs
    /// them.
    pub fn new(mut snapshot: Snapshot, tenants: &mut Tenants) -> Self {
        let rows = tenants.aggregate(&snapshot);
        let unassigned = tenants.unassigned(&snapshot);
        let disagreements = tenants.disagreements(&snapshot);
        tenants.prefix_names().give_to(&mut snapshot);
        Self {
            disagreements,
            snapshot,
            unassigned,
            prefixes_hashed: tenants.prefix_names().are_hashed(),
            tenants: rows,
            tenant_infos: tenants.infos(),
            workloads: WorkloadReport::default(),
            storms: StormReport::default(),
            alerts: AlertsStatus::default(),
            incidents: ArchiveStatus::default(),
            config: ConfigStatus::default(),
            kubernetes: kubernetes::Status::default(),
            pods: Owners::default(),
            link: None,
            process: None,
        }
    }
}

/// What the detectors have found.
#[derive(Debug, Clone, Default)]
pub struct StormReport {
    /// Storms that go on, by server.
    pub active: Vec<Storm>,
    /// Storms that are over, the latest first.
    pub over: Vec<Storm>,
    /// How many storms of each kind every server has had.
    pub counts: Vec<(String, Kind, u64)>,
}

impl StormReport {
    /// Whether a server is watched, or was when it had a storm.
    #[must_use]
    pub fn knows(&self, server: &str) -> bool {
        let storms = self.active.iter().chain(&self.over);
        let with_storms = storms.map(|storm| &*storm.server);
        let watched = self.counts.iter().map(|(known, _, _)| &**known);
        watched.chain(with_storms).any(|known| known == server)
    }

    /// Whether a storm of this kind goes on at a server.
    #[must_use]
    pub fn is_active(&self, server: &str, kind: Kind) -> bool {
        let mut storms = self.active.iter().filter(|storm| storm.server == server);
        storms.any(|storm| storm.kinds.contains(&kind))
    }
}

/// How a scrape is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0 text.
    OpenMetrics,
}

impl Format {
    /// Value of the header `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format that a header `Accept` prefers: OpenMetrics if it is named and text is not preferred to it.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let weight = |media: &str| {
            let offers = accept.split(',').map(|offer| offer.split(';').map(str::trim));
            let weights = offers.filter_map(|mut offer| {
                let named = offer.next()?.eq_ignore_ascii_case(media);
                let weight = offer.find_map(|parameter| parameter.strip_prefix("q=")?.parse().ok());
                named.then_some(weight.unwrap_or(1.0))
            });
            weights.fold(0.0_f64, f64::max)
        };
        let open_metrics = weight("application/openmetrics-text");
        if open_metrics > 0.0 && open_metrics >= weight("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}

/// Writes all metrics.
///
/// # Errors
///
/// A sample that the text format cannot express; the table's tests rule it out.
pub fn render(report: &Report, format: Format) -> prometheus::Result<Vec<u8>> {
    let mut text = Vec::new();
    for (metric, fill) in families::ALL {
        let mut family = builder::Family::new(metric, format, &mut text);
        fill(report, &mut family);
        family.finish()?;
    }
    if format == Format::OpenMetrics {
        text.extend_from_slice(b"# EOF\n");
    }
    Ok(text)
}
