//! Storms as JSON.

use serde::Serialize;

use super::views::ClientsQuery;
use crate::metrics::StormReport;
use crate::storms::Storm;

/// `/api/v1/storms`: those that go on, then those that are over.
pub(super) fn storms(report: &StormReport, query: &ClientsQuery) -> serde_json::Result<Vec<u8>> {
    let wanted = |storm: &&Storm| query.wants(&storm.server);
    serde_json::to_vec(&Storms {
        active: report.active.iter().filter(wanted).collect(),
        ended: report.over.iter().filter(wanted).collect(),
    })
}

/// The storms.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Storms<'a> {
    /// Those that go on, by server.
    active: Vec<&'a Storm>,
    /// Those that are over, the latest first; the last hundred since the agent started.
    ended: Vec<&'a Storm>,
}
