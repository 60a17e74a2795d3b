//! Rows of a server by the names they are shown under, which are unique: Prometheus refuses the second of two equal series.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use agent_common::abi::{ErrorWord, PrefixCounters};

use super::Report;
use crate::snapshot::ServerSnapshot;
use crate::tenants::{OTHER, TenantRow, row_name};

/// What one prefix adds up to.
#[derive(Debug, Default)]
pub(crate) struct PrefixSum {
    pub(crate) commands: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// The server's prefix rows. Two prefixes whose escaped names are equal become one.
pub(crate) fn prefixes(server: &ServerSnapshot) -> BTreeMap<Cow<'_, str>, PrefixSum> {
    let mut rows: BTreeMap<_, PrefixSum> = BTreeMap::new();
    for row in &server.prefixes {
        let sum = rows.entry(row_name(row)).or_default();
        sum.commands += row.counters.commands();
        sum.bytes_in += row.counters.bytes_in;
        sum.bytes_out += row.counters.bytes_out;
    }
    rows
}

/// The rows of each tenant that has some, by its name, in the order of the servers.
pub(crate) fn by_tenant(report: &Report) -> BTreeMap<&str, Vec<&TenantRow>> {
    let mut rows: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for row in &report.tenants {
        rows.entry(&row.tenant).or_default().push(row);
    }
    rows
}

/// The errors that occurred, by word.
pub(crate) fn errors(counters: &PrefixCounters) -> impl Iterator<Item = (ErrorWord, u64)> {
    let words = ErrorWord::ALL.iter().copied().zip(counters.errors);
    words.filter(|(_, count)| *count != 0)
}

/// Value of the label `client`.
pub(crate) fn client_name(address: Option<IpAddr>) -> Cow<'static, str> {
    address.map_or(Cow::Borrowed(OTHER), |address| Cow::Owned(address.to_string()))
}
