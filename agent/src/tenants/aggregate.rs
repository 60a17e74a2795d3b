//! Adds what the prefix rows of a server have grown by up to tenant rows.
//!
//! A row says what its prefix has had in all. Whose that was is decided once, when it is first seen here: rules that change
//! say where later traffic goes, and leave with each tenant what it had. So no tenant's counter goes back, and over any
//! number of reloads the tenants of a server add up to its prefixes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use agent_common::abi::PrefixCounters;

use super::disagreements::{Disagreement, Disagreements};
use super::growth::{Seen, subtract};
use super::{OTHER, PrefixNames, Rules, TenantInfo, TenantRef, UNASSIGNED, is_special, row_name};
use crate::snapshot::{PrefixSnapshot, ServerSnapshot, Snapshot};

/// One tenant at one server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantRow {
    /// Label `server`.
    pub server: String,
    /// Label `tenant`; a configured name, one that an earlier configuration had, `(other)` or `(unassigned)`.
    pub tenant: String,
    /// What it had.
    pub counters: PrefixCounters,
}

/// A prefix row of a [`Snapshot`], by its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixAt {
    /// Index of the server.
    pub server: usize,
    /// Index of the row among the server's prefixes.
    pub prefix: usize,
}

/// The rules, and what every tenant has had so far.
#[derive(Debug)]
pub struct Tenants {
    rules: Rules,
    /// Where tenants that have a row are, by name.
    places: HashMap<String, Place>,
    /// Tenants of earlier configurations that keep their rows, the longest gone first.
    left: Vec<TenantInfo>,
    servers: BTreeMap<String, Books>,
    /// How prefixes are shown; what is remembered of them here goes by their plain names.
    names: PrefixNames,
}

/// What is known of one server.
#[derive(Debug, Default)]
struct Books {
    sums: BTreeMap<Place, PrefixCounters>,
    /// The prefix rows of its last snapshot: as many as the kernel and the daemon hold, no more.
    rows: HashMap<RowName, Known>,
    disagreements: Disagreements,
}

/// What a row is known by: its name, and the tenant of its connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RowName {
    name: String,
    class: Option<Arc<str>>,
    /// Of `(other)`: whose prefixes are in it.
    tenant: Option<Arc<str>>,
}

/// Which row `(other)` has what a row has lost: of connections of a class, for prefixes of a tenant.
type OtherOf = (Option<Arc<str>>, Option<Arc<str>>);

impl RowName {
    fn new(row: &PrefixSnapshot) -> Self {
        Self {
            name: row_name(row).into_owned(),
            class: row.class.clone(),
            tenant: row.tenant.clone(),
        }
    }
}

#[derive(Debug)]
struct Known {
    owner: Owner,
    seen: Seen,
}

/// Whose a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    place: Place,
    /// The prefix decides, not the connections.
    by_prefix: bool,
    /// The tenant of its connections, where the prefix is another's.
    user: Option<Place>,
}

/// Whose something is, in the order in which rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// A configured tenant, by its place in the file.
    Rule(usize),
    /// One of [`Tenants::left`].
    Left(usize),
    Other,
    Unassigned,
}

impl Tenants {
    /// Starts with nothing counted.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            places: places(&rules, &[]),
            rules,
            left: Vec::new(),
            servers: BTreeMap::new(),
            names: PrefixNames::default(),
        }
    }

    /// Other names for prefixes from now on, in what is shown.
    pub fn show_prefixes_as(&mut self, names: PrefixNames) {
        self.names = names;
    }

    /// How prefixes are shown.
    #[must_use]
    pub const fn prefix_names(&self) -> &PrefixNames {
        &self.names
    }

    /// Takes up what has been counted since the last time, and returns a row per server of the snapshot and tenant that has,
    /// or had, prefix rows there: in the order of the servers, then of the file, then tenants that left it, then `(other)`,
    /// then `(unassigned)`. At most `limits.tenants` + 2 rows per server.
    pub fn aggregate(&mut self, snapshot: &Snapshot) -> Vec<TenantRow> {
        let mut rows = Vec::new();
        for server in &snapshot.servers {
            self.take_up(server);
            rows.extend(self.rows_of(&server.label));
        }
        rows
    }

    /// The rows that no rule matches now, special ones included, in the order of the snapshot, which has been taken up.
    #[must_use]
    pub fn unassigned(&self, snapshot: &Snapshot) -> Vec<PrefixAt> {
        let mut places = Vec::new();
        for (server, of) in snapshot.servers.iter().enumerate() {
            let Some(books) = self.servers.get(&of.label) else {
                continue;
            };
            for (prefix, row) in of.prefixes.iter().enumerate() {
                let known = books.rows.get(&RowName::new(row));
                if known.is_some_and(|known| known.owner.place == Place::Unassigned) {
                    places.push(PrefixAt { server, prefix });
                }
            }
        }
        places
    }

    /// Goes on with other rules. `counted` is everything counted up to now, at every server that may be seen again: it stays
    /// with the tenant that the rules so far give it to.
    ///
    /// Tenants that the new rules do not have keep their rows while `limits.tenants` leaves room; those longest gone are
    /// folded into `(other)` first.
    pub fn reload(&mut self, counted: &[ServerSnapshot], rules: Rules) {
        for server in counted {
            self.take_up(server);
        }
        let left = self.leaving(&rules);
        let places = places(&rules, &left);
        let mut servers = std::mem::take(&mut self.servers);
        for books in servers.values_mut() {
            for (place, counters) in std::mem::take(&mut books.sums) {
                let place = match place {
                    Place::Rule(_) | Place::Left(_) => {
                        places.get(self.name(place)).copied().unwrap_or(Place::Other)
                    }
                    Place::Other | Place::Unassigned => place,
                };
                books.sums.entry(place).or_default().add(&counters);
            }
            for (row, known) in &mut books.rows {
                known.owner = owner(&rules, &places, row);
            }
        }
        *self = Self {
            rules,
            places,
            left,
            servers,
            names: std::mem::take(&mut self.names),
        };
    }

    /// Bytes and commands of prefixes that one tenant has and connections of another used, by server and both tenants.
    #[must_use]
    pub fn disagreements(&self, snapshot: &Snapshot) -> Vec<Disagreement> {
        let servers = snapshot.servers.iter().filter_map(|server| {
            let books = self.servers.get(&server.label)?;
            Some(books.disagreements.rows(&server.label))
        });
        servers.flatten().collect()
    }

    /// Forgets the servers that are not to be kept: should one come back, its counters begin at zero.
    pub fn retain_servers(&mut self, keep: impl Fn(&str) -> bool) {
        self.servers.retain(|label, _| keep(label));
    }

    /// The tenant whose rule matches a prefix, given as its row's name.
    #[must_use]
    pub fn tenant_of_prefix(&self, name: &str) -> Option<&str> {
        self.rules.tenant_named(name)
    }

    /// Every tenant that can have a row, in the order of the rows, so that a join on owners loses no row. At most
    /// `limits.tenants` + 2.
    #[must_use]
    pub fn infos(&self) -> Vec<TenantInfo> {
        let special = [OTHER, UNASSIGNED].map(|name| TenantInfo {
            name: name.into(),
            ..TenantInfo::default()
        });
        let named = self.rules.configured().iter().chain(&self.left).cloned();
        named.chain(special).collect()
    }

    fn rows_of(&self, server: &str) -> impl Iterator<Item = TenantRow> {
        let sums = self.servers.get(server).into_iter().flat_map(|books| &books.sums);
        sums.map(|(place, counters)| TenantRow {
            server: server.to_owned(),
            tenant: self.name(*place).to_owned(),
            counters: *counters,
        })
    }

    /// Adds what the rows have grown by to their tenants. What rows have lost has gone to the row `(other)`, where the
    /// daemon puts prefixes that it keeps no longer: it is not new there.
    fn take_up(&mut self, server: &ServerSnapshot) {
        let books = self.servers.entry(server.label.clone()).or_default();
        let mut before = std::mem::take(&mut books.rows);
        let mut lost: HashMap<OtherOf, PrefixCounters> = HashMap::new();
        let mut others = Vec::new();
        let name_of = |place| name_of(&self.rules, &self.left, place);
        let other_of = |name: &RowName, owner: Owner| -> OtherOf {
            let tenant = owner.by_prefix.then(|| name_of(owner.place).into());
            (name.class.clone(), tenant)
        };
        for row in &server.prefixes {
            let name = RowName::new(row);
            let (name, mut known) = before.remove_entry(&name).unwrap_or_else(|| {
                let owner = owner(&self.rules, &self.places, &name);
                let seen = Seen::default();
                (name, Known { owner, seen })
            });
            let owner = known.owner;
            let mut less = PrefixCounters::default();
            let grown = known.seen.update(&row.counters, &mut less);
            if less != PrefixCounters::default() {
                lost.entry(other_of(&name, owner)).or_default().add(&less);
            }
            if row.special && row.prefix == OTHER {
                others.push(((name.class.clone(), name.tenant.clone()), owner, grown));
            } else {
                books.add(owner, &grown, name_of);
            }
            books.rows.insert(name, known);
        }
        for (name, mut vanished) in before {
            let lost = lost.entry(other_of(&name, vanished.owner)).or_default();
            vanished.seen.update(&PrefixCounters::default(), lost);
        }
        // What those of tenants have no room for goes to that of the class, and then to that of nobody.
        others.sort_by_key(|((class, tenant), ..)| (tenant.is_none(), class.is_none()));
        for (of, owner, mut grown) in others {
            let mut gone = lost.remove(&of).unwrap_or_default();
            if of.1.is_none() {
                let further = lost.extract_if(|(class, _), _| of.0.is_none() || *class == of.0);
                further.for_each(|(_, further)| gone.add(&further));
            }
            let before = grown;
            subtract(&mut grown, &gone);
            subtract(&mut gone, &before);
            books.add(owner, &grown, name_of);
            lost.insert(of, gone);
        }
    }

    /// The tenants with rows that other rules do not have, as many of those last gone as there is room for.
    fn leaving(&self, rules: &Rules) -> Vec<TenantInfo> {
        let places = places(rules, &[]);
        let sums = self.servers.values().flat_map(|books| books.sums.keys());
        let with_rows: BTreeSet<&str> = sums.map(|place| self.name(*place)).collect();
        let mut left: Vec<TenantInfo> = self
            .left
            .iter()
            .chain(self.rules.configured())
            .filter(|info| !places.contains_key(&info.name) && with_rows.contains(&*info.name))
            .cloned()
            .collect();
        let room = rules.limit().saturating_sub(rules.configured().len());
        left.drain(..left.len().saturating_sub(room));
        left
    }

    fn name(&self, place: Place) -> &str {
        name_of(&self.rules, &self.left, place)
    }
}

fn name_of<'a>(rules: &'a Rules, left: &'a [TenantInfo], place: Place) -> &'a str {
    let info = match place {
        Place::Rule(rule) => rules.configured().get(rule),
        Place::Left(index) => left.get(index),
        Place::Other => None,
        Place::Unassigned => return UNASSIGNED,
    };
    info.map_or(OTHER, |info| &info.name)
}

impl Books {
    /// Adds what a row has grown by.
    fn add<'a>(&mut self, owner: Owner, grown: &PrefixCounters, name_of: impl Fn(Place) -> &'a str) {
        self.sums.entry(owner.place).or_default().add(grown);
        if let Some(user) = owner.user {
            self.disagreements.add(name_of(owner.place), name_of(user), grown);
        }
    }
}

/// Whose a row is: the prefix decides, then the connections. Special rows are nobody's prefix, even where a rule names them,
/// unless a tenant's prefixes were put there.
fn owner(rules: &Rules, places: &HashMap<String, Place>, row: &RowName) -> Owner {
    let place_of = |name: &Arc<str>| places.get(&**name).copied().unwrap_or(Place::Other);
    let class = row.class.as_ref().map(place_of);
    let prefix = match &row.tenant {
        Some(tenant) => place_of(tenant),
        None => rules.tenant_of(&row.name).into(),
    };
    if prefix == Place::Unassigned {
        return Owner {
            place: class.unwrap_or(Place::Unassigned),
            by_prefix: false,
            user: None,
        };
    }
    let is_prefix = row.tenant.is_some() || !is_special(&row.name);
    Owner {
        place: prefix,
        by_prefix: true,
        user: class.filter(|user| is_prefix && *user != prefix),
    }
}

/// Where tenants that have a row are, by name.
fn places(rules: &Rules, left: &[TenantInfo]) -> HashMap<String, Place> {
    let configured = rules.configured().iter().enumerate();
    let configured = configured.map(|(rule, info)| (info.name.clone(), Place::Rule(rule)));
    let left = left.iter().enumerate();
    let left = left.map(|(index, info)| (info.name.clone(), Place::Left(index)));
    configured.chain(left).collect()
}

impl From<TenantRef> for Place {
    fn from(tenant: TenantRef) -> Self {
        match tenant {
            TenantRef::Rule(rule) => Self::Rule(rule),
            TenantRef::Other => Self::Other,
            TenantRef::Unassigned => Self::Unassigned,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use agent_common::limits;

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
            class: None,
            tenant: None,
            counters: counters(commands, commands * 10, commands * 100),
        }
    }

    fn of_class(class: &str, row: PrefixSnapshot) -> PrefixSnapshot {
        PrefixSnapshot {
            class: Some(class.into()),
            ..row
        }
    }

    fn of_tenant(tenant: &str, row: PrefixSnapshot) -> PrefixSnapshot {
        PrefixSnapshot {
            tenant: Some(tenant.into()),
            ..row
        }
    }

    fn special(row: PrefixSnapshot) -> PrefixSnapshot {
        PrefixSnapshot { special: true, ..row }
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
    fn rows_that_no_rule_matches_are_named_by_their_places() {
        let snapshot = Snapshot {
            servers: vec![
                server("one:1", vec![prefix("b", 1), prefix("x", 5)]),
                server("two:2", vec![prefix("y", 7), prefix("c", 7)]),
            ],
            ..Snapshot::default()
        };
        let mut tenants = tenants(TWO);
        tenants.aggregate(&snapshot);
        let places = tenants.unassigned(&snapshot);
        let at = |server, prefix| PrefixAt { server, prefix };
        assert_eq!(places, [at(0, 1), at(1, 0)]);
        tenants.reload(
            &snapshot.servers,
            self::tenants("[[tenant]]\nname = \"all\"\nprefixes = [\"x\", \"b\", \"c\"]").rules,
        );
        tenants.aggregate(&snapshot);
        assert_eq!(tenants.unassigned(&snapshot), [at(1, 0)], "by the rules of now");
    }

    #[test]
    fn the_prefix_decides_then_the_connection_and_where_they_differ_is_counted() {
        let at_server = |more: u64| Snapshot {
            servers: vec![server(
                "s",
                vec![
                    prefix("a", 1),
                    of_class("zoo", prefix("a", 2 + more)),
                    of_class("abc", prefix("b", 4)),
                    of_class("zoo", prefix("x", 8)),
                    of_class("zoo", special(prefix("(keyless)", 16))),
                    special(prefix("(keyless)", 32)),
                ],
            )],
            ..Snapshot::default()
        };
        let mut tenants = tenants(TWO);
        assert_eq!(
            rows(&tenants.aggregate(&at_server(0))),
            [
                ("s", "zoo", 24, 240, 2_400),
                ("s", "abc", 7, 70, 700),
                ("s", "(unassigned)", 32, 320, 3_200)
            ]
        );
        tenants.aggregate(&at_server(3));
        let disagreement = Disagreement {
            server: "s".into(),
            tenant: "abc".into(),
            connection_tenant: "zoo".into(),
            commands: 5,
            bytes_in: 50,
            bytes_out: 500,
        };
        assert_eq!(tenants.disagreements(&at_server(3)), [disagreement]);
    }

    #[test]
    fn a_special_row_that_a_rule_names_is_no_disagreement() {
        let snapshot = Snapshot {
            servers: vec![server("s", vec![of_class("b", special(prefix("(keyless)", 1)))])],
            ..Snapshot::default()
        };
        let mut tenants = tenants(
            "[[tenant]]\nname = \"a\"\nprefixes = [\"(keyless)\"]\n[[tenant]]\nname = \"b\"\nusers = [\"b\"]",
        );
        assert_eq!(rows(&tenants.aggregate(&snapshot)), [("s", "a", 1, 10, 100)]);
        assert_eq!(tenants.disagreements(&snapshot), []);
    }

    #[test]
    fn a_prefix_of_a_class_that_goes_to_other_counts_no_second_time() {
        let at_server = |rows| Snapshot {
            servers: vec![server("s", rows)],
            ..Snapshot::default()
        };
        let mut tenants = tenants(TWO);
        tenants.aggregate(&at_server(vec![of_class("zoo", prefix("x", 8)), prefix("x", 1)]));
        let folded = at_server(vec![
            special(prefix(OTHER, 1)),
            of_class("zoo", special(prefix(OTHER, 9))),
        ]);
        assert_eq!(
            rows(&tenants.aggregate(&folded)),
            [("s", "zoo", 9, 90, 900), ("s", "(unassigned)", 1, 10, 100)]
        );
        // Beyond what can be kept, that of the class goes as well.
        let folded = at_server(vec![special(prefix(OTHER, 10))]);
        assert_eq!(
            rows(&tenants.aggregate(&folded)),
            [("s", "zoo", 9, 90, 900), ("s", "(unassigned)", 1, 10, 100)]
        );
    }

    #[test]
    fn prefixes_of_a_tenant_that_have_no_row_left_are_the_tenants_and_retired_ones_count_no_second_time() {
        let at_server = |rows| Snapshot {
            servers: vec![server("s", rows)],
            ..Snapshot::default()
        };
        let mut tenants = tenants(TWO);
        tenants.aggregate(&at_server(vec![
            prefix("z1", 1),
            of_class("abc", prefix("z1", 2)),
            prefix("x", 4),
            special(prefix(OTHER, 8)),
        ]));
        // All three retired; and more of each has come.
        let rest = at_server(vec![
            special(prefix(OTHER, 8 + 4 + 100)),
            of_tenant("zoo", special(prefix(OTHER, 1 + 16))),
            of_class("abc", of_tenant("zoo", special(prefix(OTHER, 2 + 32)))),
        ]);
        assert_eq!(
            rows(&tenants.aggregate(&rest)),
            [
                ("s", "zoo", 3 + 16 + 32, 510, 5_100),
                ("s", "(unassigned)", 12 + 100, 1_120, 11_200)
            ]
        );
        let disagreements = tenants.disagreements(&rest);
        assert_eq!(disagreements.len(), 1);
        assert_eq!(
            (&*disagreements[0].connection_tenant, disagreements[0].commands),
            ("abc", 34)
        );
        assert_eq!(tenants.unassigned(&rest), [PrefixAt { server: 0, prefix: 0 }]);
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
    fn what_is_remembered_stays_bounded_while_prefixes_come_and_go() {
        let mut tenants = tenants(TWO);
        for round in 0..10 {
            let prefixes = (0..4000).map(|n| prefix(&format!("{round}-{n}"), 1)).collect();
            let snapshot = Snapshot {
                servers: vec![server("s", prefixes)],
                ..Snapshot::default()
            };
            assert_eq!(tenants.aggregate(&snapshot).len(), 1);
            assert_eq!(tenants.servers["s"].rows.len(), 4000);
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
