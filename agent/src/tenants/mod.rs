//! Who it is: maps prefixes to tenants by the rules of the configuration and adds their rows up. Pure: no clock, no I/O;
//! the same snapshot gives the same rows in the same order.
#![forbid(unsafe_code)]

mod aggregate;
mod rules;

use std::borrow::Cow;

pub use aggregate::{TenantRow, Tenants};
pub use rules::{Rules, RulesError, TenantInfo, TenantRef};

use crate::snapshot::PrefixSnapshot;

/// Tenant of prefixes that no rule matches.
pub const UNASSIGNED: &str = "(unassigned)";

/// Tenant of the tenants beyond `limits.tenants`.
pub const OTHER: &str = "(other)";

/// Rows of the prefix metrics that are not prefixes. A rule may name them literally; globs do not match them.
pub const SPECIAL_ROWS: &[&str] = &["(none)", "(keyless)", "(pubsub)", "(replication)", "(other)"];

/// The row's name as a label value. A client that sends the key `(other):x` must not end up in our row `(other)`: the
/// parenthesis of an ordinary prefix in parentheses is written `\x28`.
#[must_use]
pub fn row_name(row: &PrefixSnapshot) -> Cow<'_, str> {
    match row.prefix.strip_prefix('(') {
        Some(rest) if !row.special && rest.ends_with(')') => Cow::Owned(format!("\\x28{rest}")),
        _ => Cow::Borrowed(&row.prefix),
    }
}
