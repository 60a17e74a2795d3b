//! Rows of a server by the names they are shown under, which are unique: Prometheus refuses the second of two equal series.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::snapshot::ServerSnapshot;
use crate::tenants::{OTHER, row_name};

/// What one prefix adds up to.
#[derive(Debug, Default)]
pub(crate) struct PrefixSum {
    pub(crate) commands: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// What one client adds up to.
#[derive(Debug, Default)]
pub(crate) struct ClientSum {
    pub(crate) connections: u64,
    pub(crate) opened: u64,
}

/// The server's prefix rows. Two prefixes whose escaped names are equal become one.
pub(crate) fn prefixes(server: &ServerSnapshot) -> BTreeMap<Cow<'_, str>, PrefixSum> {
    let mut rows: BTreeMap<_, PrefixSum> = BTreeMap::new();
    for row in &server.prefixes {
        let sum = rows.entry(row_name(row)).or_default();
        sum.commands += row.commands;
        sum.bytes_in += row.bytes_in;
        sum.bytes_out += row.bytes_out;
    }
    rows
}

/// The server's clients. A dual-stack listener knows the same one as 10.0.0.1 and as ::ffff:10.0.0.1: they become one.
pub(crate) fn clients(server: &ServerSnapshot) -> BTreeMap<Option<IpAddr>, ClientSum> {
    let mut rows: BTreeMap<_, ClientSum> = BTreeMap::new();
    for client in &server.clients {
        let sum = rows
            .entry(client.address.map(|address| address.to_canonical()))
            .or_default();
        sum.connections += client.connections;
        sum.opened += client.opened;
    }
    rows
}

/// Value of the label `client`.
pub(crate) fn client_name(address: Option<IpAddr>) -> Cow<'static, str> {
    address.map_or(Cow::Borrowed(OTHER), |address| Cow::Owned(address.to_string()))
}
