//! Who it is: maps prefixes to tenants by the rules of the configuration and adds their rows up. Pure: no clock, no I/O;
//! the same snapshot gives the same rows in the same order.
#![forbid(unsafe_code)]

mod aggregate;
mod names;
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
