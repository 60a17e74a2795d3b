//! Adds the prefix rows of a snapshot up to tenant rows.

use std::collections::{BTreeMap, HashMap};

use agent_common::abi::PrefixCounters;
use agent_common::limits;

use super::{Rules, TenantInfo, TenantRef, row_name};
use crate::snapshot::{PrefixSnapshot, ServerSnapshot, Snapshot};

/// How many prefixes the cache remembers: all that the kernel can hold, special rows aside. A host that sees others
/// (servers came and went) starts over.
const CACHED_PREFIXES: usize = 2 * limits::PREFIXES;

/// One tenant at one server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantRow {
    /// Label `server`.
    pub server: String,
    /// Label `tenant`; a configured name, `(other)` or `(unassigned)`.
    pub tenant: String,
    /// The sums of its prefixes.
    pub counters: PrefixCounters,
}

/// The rules, and which tenant each prefix seen so far belongs to.
#[derive(Debug)]
pub struct Tenants {
    rules: Rules,
    cache: HashMap<String, TenantRef>,
}

impl Tenants {
    /// Starts with an empty cache.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            cache: HashMap::new(),
        }
    }

    /// One row per server and tenant that has prefix rows there, in the order of the servers, then of the file, then
    /// `(other)`, then `(unassigned)`. At most `limits.tenants` + 2 rows per server.
    pub fn aggregate(&mut self, snapshot: &Snapshot) -> Vec<TenantRow> {
        snapshot
            .servers
            .iter()
            .flat_map(|server| self.server_rows(server))
            .collect()
    }

    /// Every tenant that can have a row.
    #[must_use]
    pub fn infos(&self) -> Vec<TenantInfo> {
        self.rules.infos()
    }

    fn server_rows(&mut self, server: &ServerSnapshot) -> Vec<TenantRow> {
        let mut sums: BTreeMap<TenantRef, PrefixCounters> = BTreeMap::new();
        for prefix in &server.prefixes {
            sums.entry(self.tenant_of(prefix))
                .or_default()
                .add(&prefix.counters);
        }
        let named = sums.into_iter().map(|(tenant, counters)| TenantRow {
            server: server.label.clone(),
            tenant: self.rules.name(tenant).into(),
            counters,
        });
        named.collect()
    }

    fn tenant_of(&mut self, row: &PrefixSnapshot) -> TenantRef {
        let name = row_name(row);
        if let Some(tenant) = self.cache.get(name.as_ref()) {
            return *tenant;
        }
        let tenant = self.rules.tenant_of(&name);
        if self.cache.len() >= CACHED_PREFIXES {
            self.cache.clear();
        }
        self.cache.insert(name.into_owned(), tenant);
        tenant
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Settings;
    use crate::snapshot::counters;

    fn tenants(text: &str) -> Tenants {
        let settings = Settings::parse(Path::new("test.toml"), text).expect("a good configuration");
        Tenants::new(Rules::new(&settings).expect("compiles"))
    }

    fn prefix(prefix: &str, commands: u64) -> PrefixSnapshot {
        PrefixSnapshot {
            prefix: prefix.into(),
            special: false,
            counters: counters(commands, commands * 10, commands * 100),
        }
    }

    fn server(label: &str, prefixes: Vec<PrefixSnapshot>) -> ServerSnapshot {
        ServerSnapshot {
            label: label.into(),
            prefixes,
            ..ServerSnapshot::default()
        }
    }

    fn rows(rows: &[TenantRow]) -> Vec<(&str, &str, u64, u64, u64)> {
        rows.iter()
            .map(|row| {
                (
                    &*row.server,
                    &*row.tenant,
                    row.counters.commands(),
                    row.counters.bytes_in,
                    row.counters.bytes_out,
                )
            })
            .collect()
    }

    const TWO: &str = r#"
        [[tenant]]
        name = "zoo"
        prefixes = ["z*"]
        [[tenant]]
        name = "abc"
        prefixes = ["a", "b", "c"]
    "#;

    #[test]
    fn rows_of_a_tenant_add_up_per_server_in_file_order() {
        let snapshot = Snapshot {
            servers: vec![
                server(
                    "one:1",
                    vec![prefix("b", 1), prefix("x", 5), prefix("a", 2), prefix("z9", 3)],
                ),
                server("two:2", vec![prefix("c", 7)]),
            ],
            ..Snapshot::default()
        };
        assert_eq!(
            rows(&tenants(TWO).aggregate(&snapshot)),
            [
                ("one:1", "zoo", 3, 30, 300),
                ("one:1", "abc", 3, 30, 300),
                ("one:1", "(unassigned)", 5, 50, 500),
                ("two:2", "abc", 7, 70, 700),
            ]
        );
    }

    #[test]
    fn every_byte_of_the_prefix_rows_is_in_some_tenant_row() {
        let prefixes: Vec<_> = (0..limits::PREFIXES as u64)
            .map(|n| prefix(&format!("p{n}"), n))
            .collect();
        let commands: u64 = prefixes.iter().map(|row| row.counters.commands()).sum();
        let snapshot = Snapshot {
            servers: vec![server("s", prefixes)],
            ..Snapshot::default()
        };
        let mut tenants = tenants("[[tenant]]\nname = \"odd\"\nprefixes = [\"p*[13579]\"]");
        for _ in 0..3 {
            let rows = tenants.aggregate(&snapshot);
            let sum: u64 = rows.iter().map(|row| row.counters.commands()).sum();
            assert_eq!(sum, commands);
        }
    }

    #[test]
    fn the_cache_stays_bounded_while_prefixes_come_and_go() {
        let mut tenants = tenants(TWO);
        for round in 0..10 {
            let prefixes = (0..4000).map(|n| prefix(&format!("{round}-{n}"), 1)).collect();
            let snapshot = Snapshot {
                servers: vec![server("s", prefixes)],
                ..Snapshot::default()
            };
            assert_eq!(tenants.aggregate(&snapshot).len(), 1);
            assert!(tenants.cache.len() <= CACHED_PREFIXES);
        }
    }

    #[test]
    fn a_client_that_names_its_keys_like_a_special_row_does_not_become_one() {
        let ours = PrefixSnapshot {
            special: true,
            ..prefix("(none)", 1)
        };
        let snapshot = Snapshot {
            servers: vec![server("s", vec![ours, prefix("(none)", 2)])],
            ..Snapshot::default()
        };
        let mut tenants = tenants("[[tenant]]\nname = \"keyless\"\nprefixes = [\"(none)\"]");
        assert_eq!(
            rows(&tenants.aggregate(&snapshot)),
            [("s", "keyless", 1, 10, 100), ("s", "(unassigned)", 2, 20, 200)]
        );
    }
}
