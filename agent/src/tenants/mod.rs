//! Who it is: maps prefixes to tenants by the rules of the configuration and adds up what their rows have grown by. Pure: no
//! clock, no I/O; the same snapshots and rules, in the same order, give the same rows in the same order.
#![forbid(unsafe_code)]

mod aggregate;
mod growth;
mod names;
#[cfg(test)]
mod reload_tests;
mod rules;

pub use aggregate::{TenantRow, Tenants};
pub use names::{bytes_of_name, printable, row_name};
pub use rules::{Rules, RulesError, TenantInfo, TenantRef};

/// Tenant of prefixes that no rule matches.
pub const UNASSIGNED: &str = "(unassigned)";

/// Tenant of the tenants beyond `limits.tenants`.
pub const OTHER: &str = "(other)";

/// Rows of the prefix metrics that are not prefixes. A rule may name them literally; globs do not match them.
pub const SPECIAL_ROWS: &[&str] = &["(none)", "(keyless)", "(pubsub)", "(replication)", "(other)"];
