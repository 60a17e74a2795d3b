//! How clients use connections: workloads by the rules of the configuration, and what their connections come to. Pure: no
//! clock, no I/O; time, counters and surveys come in, rows go out.
//!
//! | file | what it knows |
//! |---|---|
//! | `rules` | which workload an address belongs to |
//! | `survey` | what one look at every connection found, by server and address |
//! | `history` | what is remembered of a workload between surveys |
//! | `groups` | addresses added up to workloads |
//! | `book` | all of it over time: observations in, a report out |
//! | `report` | the rows, advice on pools, what a restart would bring |
#![forbid(unsafe_code)]

mod book;
mod groups;
mod history;
mod report;
mod rules;
mod survey;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_names;

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use crate::kubernetes::Pod;

pub use book::{Ended, Observation, Workloads};
pub use history::{Busy, ENOUGH_SURVEYS};
pub use report::{
    Kind, PerInstance, PoolAdvice, Range, Restart, ServerWorkloads, SurveyStatus, WorkloadReport, WorkloadRow,
};
pub use rules::Rules;
pub use survey::{ServerSurvey, Tally};

/// The pods of client addresses, as far as they are known.
pub type Owners = HashMap<IpAddr, Arc<Pod>>;

/// Row of clients that no rule has.
pub const UNASSIGNED: &str = crate::tenants::UNASSIGNED;

/// Row of workloads beyond `limits.workloads`, and of connections whose address the kernel did not keep.
pub const OTHER: &str = crate::tenants::OTHER;
