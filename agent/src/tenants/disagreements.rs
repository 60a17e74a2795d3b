//! Prefixes that a tenant has and another's connections use: a finding, since nobody may know of it.

use std::collections::BTreeMap;

use agent_common::abi::PrefixCounters;

use super::OTHER;

/// Pairs of tenants that are kept apart per server; further ones are one pair. A host where more teams use each other's
/// prefixes has another problem.
const PAIRS: usize = 1024;

/// What connections of one tenant moved below prefixes of another at one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// Label `server`.
    pub server: String,
    /// Whose the prefixes are, and the bytes.
    pub tenant: String,
    /// Whose the connections are.
    pub connection_tenant: String,
    /// Commands.
    pub commands: u64,
    /// Bytes of commands.
    pub bytes_in: u64,
    /// Bytes of replies.
    pub bytes_out: u64,
}

/// Those of one server. By names: a reload may take tenants away, what has been is not undone.
#[derive(Debug, Default)]
pub(super) struct Disagreements(BTreeMap<(String, String), [u64; 3]>);

impl Disagreements {
    /// Adds what a row has grown by.
    pub(super) fn add(&mut self, tenant: &str, connection_tenant: &str, grown: &PrefixCounters) {
        let further = [grown.commands(), grown.bytes_in, grown.bytes_out];
        if further == [0; 3] {
            return;
        }
        let mut pair = (tenant.to_owned(), connection_tenant.to_owned());
        if self.0.len() >= PAIRS && !self.0.contains_key(&pair) {
            pair = (OTHER.into(), OTHER.into());
        }
        let sums = self.0.entry(pair).or_default();
        for (sum, further) in sums.iter_mut().zip(further) {
            *sum += further;
        }
    }

    /// In the order of names.
    pub(super) fn rows(&self, server: &str) -> impl Iterator<Item = Disagreement> {
        self.0.iter().map(
            |((tenant, connection_tenant), [commands, bytes_in, bytes_out])| Disagreement {
                server: server.to_owned(),
                tenant: tenant.clone(),
                connection_tenant: connection_tenant.clone(),
                commands: *commands,
                bytes_in: *bytes_in,
                bytes_out: *bytes_out,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::counters;

    #[test]
    fn pairs_beyond_the_limit_are_one_and_nothing_is_no_pair() {
        let mut disagreements = Disagreements::default();
        disagreements.add("a", "b", &PrefixCounters::default());
        assert_eq!(disagreements.rows("s").count(), 0);
        for number in 0..PAIRS + 5 {
            disagreements.add("a", &number.to_string(), &counters(1, 10, 100));
        }
        disagreements.add("a", "3", &counters(1, 10, 100));
        let rows: Vec<_> = disagreements.rows("s").collect();
        assert_eq!(rows.len(), PAIRS + 1);
        assert_eq!(
            (&*rows[0].tenant, rows[0].commands, rows[0].bytes_out),
            (OTHER, 5, 500)
        );
        let three = rows.iter().find(|row| row.connection_tenant == "3");
        assert_eq!(three.map(|row| row.commands), Some(2));
    }
}
