//! Who it is: maps prefixes to tenants by the rules of the configuration and adds up what their rows have grown by. Pure: no
//! clock, no I/O; the same snapshots and rules, in the same order, give the same rows in the same order.
#![forbid(unsafe_code)]

mod aggregate;
mod classes;
mod disagreements;
mod growth;
mod names;
mod prefix_table;
#[cfg(test)]
mod reload_tests;
mod rules;
mod shown;
mod suggest;

pub use aggregate::{PrefixAt, TenantRow, Tenants};
pub use classes::{ClassTables, Classes, TooManyTenants};
pub use disagreements::Disagreement;
pub use names::{bytes_of_name, client_text, printable, row_name};
pub use prefix_table::PrefixTable;
pub use rules::{Rules, RulesError, TenantInfo, TenantRef};
pub use shown::PrefixNames;
pub use suggest::{Candidate, SUGGESTED_TENANTS, Suggestion, Traffic, suggest, to_toml};

/// Tenant of prefixes that no rule matches.
pub const UNASSIGNED: &str = "(unassigned)";

/// Tenant of the tenants beyond `limits.tenants`.
pub const OTHER: &str = "(other)";

/// Rows of the prefix metrics that are not prefixes. A rule may name them literally; globs do not match them.
pub const SPECIAL_ROWS: &[&str] = &["(none)", "(keyless)", "(pubsub)", "(replication)", "(other)"];

/// Whether a row of this name is none of a prefix: ordinary ones are never in parentheses, see [`row_name`].
#[must_use]
pub fn is_special(row_name: &str) -> bool {
    row_name.starts_with('(') && row_name.ends_with(')')
}
