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
pub(crate) fn client_name(address: Option<IpAddr>) -> String {
    let mut name = String::new();
    write_client_name(address, &mut name);
    name
}

/// The same into the place of what `name` holds. A scrape names a hundred thousand clients: IPv4 without the machinery of `fmt`.
pub(crate) fn write_client_name(address: Option<IpAddr>, name: &mut String) {
    name.clear();
    match address {
        None => name.push_str(OTHER),
        Some(IpAddr::V4(address)) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    name.push('.');
                }
                name.push_str(itoa::Buffer::new().format(octet));
            }
        }
        Some(IpAddr::V6(address)) => name.push_str(&address.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_named_as_its_address_is_written() {
        let mut name = "what was there before, and longer than any address".to_owned();
        for address in [
            "0.0.0.0",
            "1.20.255.100",
            "255.255.255.255",
            "::",
            "::ffff:10.0.0.1",
            "2001:db8::17",
        ] {
            let address: IpAddr = address.parse().expect("an address");
            write_client_name(Some(address), &mut name);
            assert_eq!(name, address.to_string());
        }
        assert_eq!(client_name(None), OTHER);
    }
}
