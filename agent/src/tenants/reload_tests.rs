//! Rules that change while rows grow, move into `(other)`, and servers come and go.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use agent_common::abi::PrefixCounters;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::config::Settings;
use crate::snapshot::{PrefixSnapshot, ServerSnapshot, Snapshot};

/// Names of tenants to prefixes that are theirs; the limit of tenants first.
type File = (usize, &'static [(&'static str, &'static [&'static str])]);

const FILES: [File; 7] = [
    (1000, &[("a", &["p0", "p1"]), ("b", &["p*"]), ("c", &["(none)"])]),
    (1000, &[("b", &["p0"]), ("a", &["p2", "q*"])]),
    (1000, &[("d", &["(other)", "p1"]), ("c", &["*"])]),
    (1000, &[]),
    (1, &[("a", &["p0"]), ("e", &["p1"])]),
    (2, &[("e", &["p0", "(keyless)"])]),
    (3, &[("b", &["q*"]), ("a", &["p0"]), ("f", &["p3"])]),
];

/// The rules of each.
static FILE_RULES: LazyLock<Vec<Rules>> = LazyLock::new(|| FILES.map(rules).to_vec());

const SERVERS: usize = 2;

/// The cell of the bytes out.
const BYTES_OUT: usize = std::mem::offset_of!(PrefixCounters, bytes_out) / 8;

/// Tenants of connections; one that no file has.
const CLASSES: [Option<&str>; 4] = [None, Some("a"), Some("e"), Some("nobody")];

const PREFIXES: [&str; 6] = ["p0", "p1", "p2", "p3", "q0", "q1"];

fn rules((limit, tenants): File) -> Rules {
    let mut text = format!("[limits]\ntenants = {limit}\n");
    for (name, prefixes) in tenants {
        text.push_str(&format!(
            "[[tenant]]\nname = \"{name}\"\nowner = \"team-{name}\"\nprefixes = {prefixes:?}\n"
        ));
    }
    let settings = Settings::parse(Path::new("test.toml"), &text).expect("a good configuration");
    Rules::new(&settings).expect("compiles")
}

/// What happens to a host.
#[derive(Debug, Clone)]
enum Step {
    /// A row (special ones behind the prefixes) grows in one cell and in its bytes.
    Grow {
        server: usize,
        row: usize,
        class: usize,
        cell: usize,
        by: u64,
    },
    /// A prefix is no longer kept: its row goes to `(other)`.
    Fold {
        server: usize,
        prefix: usize,
        class: usize,
    },
    /// A server is not there, or is again.
    Toggle {
        server: usize,
    },
    /// A server is forgotten with all its counters.
    Forget {
        server: usize,
    },
    Scrape,
    Reload {
        file: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let rows = PREFIXES.len() + SPECIAL_ROWS.len();
    let cells = size_of::<PrefixCounters>() / 8;
    prop_oneof![
        12 => (0..SERVERS, 0..rows, 0..CLASSES.len(), 0..cells, 1..1000_u64)
            .prop_map(|(server, row, class, cell, by)| Step::Grow { server, row, class, cell, by }),
        2 => (0..SERVERS, 0..PREFIXES.len(), 0..CLASSES.len())
            .prop_map(|(server, prefix, class)| Step::Fold { server, prefix, class }),
        1 => (0..SERVERS).prop_map(|server| Step::Toggle { server }),
        1 => (0..SERVERS).prop_map(|server| Step::Forget { server }),
        6 => Just(Step::Scrape),
        3 => (0..FILES.len()).prop_map(|file| Step::Reload { file }),
    ]
}

/// The rows of a server as the daemon would add them up.
#[derive(Debug, Clone)]
struct Server {
    live: bool,
    rows: BTreeMap<(bool, &'static str, Option<&'static str>), PrefixCounters>,
}

impl Server {
    fn new() -> Self {
        let special = SPECIAL_ROWS
            .iter()
            .map(|name| ((true, *name, None), PrefixCounters::default()));
        Self {
            live: true,
            rows: special.collect(),
        }
    }

    fn grow(&mut self, row: usize, cell: usize, by: u64) {
        self.grow_of(None, row, cell, by);
    }

    fn grow_of(&mut self, class: Option<&'static str>, row: usize, cell: usize, by: u64) {
        let key = match PREFIXES.get(row) {
            Some(prefix) => (false, *prefix, class),
            None => (true, SPECIAL_ROWS[row - PREFIXES.len()], class),
        };
        let counters = self.rows.entry(key).or_default();
        bytemuck::cast_slice_mut::<_, u64>(std::slice::from_mut(counters))[cell] += by;
        counters.bytes_in += by;
    }

    fn fold(&mut self, prefix: usize, class: Option<&'static str>) {
        if let Some(counters) = self.rows.remove(&(false, PREFIXES[prefix], class)) {
            self.rows.entry((true, OTHER, class)).or_default().add(&counters);
        }
    }

    fn snapshot(&self, number: usize) -> ServerSnapshot {
        let prefixes = self
            .rows
            .iter()
            .map(|((special, prefix, class), counters)| PrefixSnapshot {
                class: class.map(Into::into),
                tenant: None,
                prefix: (*prefix).into(),
                special: *special,
                counters: *counters,
            });
        ServerSnapshot {
            label: format!("s{number}"),
            prefixes: prefixes.collect(),
            ..ServerSnapshot::default()
        }
    }
}

fn snapshots(servers: &[Server], which: impl Fn(&Server) -> bool) -> Vec<ServerSnapshot> {
    let chosen = servers.iter().enumerate().filter(|(_, server)| which(server));
    chosen.map(|(number, server)| server.snapshot(number)).collect()
}

fn sum<'a>(rows: impl Iterator<Item = &'a PrefixCounters>) -> PrefixCounters {
    rows.fold(PrefixCounters::default(), |mut sum, row| {
        sum.add(row);
        sum
    })
}

type Shown = BTreeMap<(String, String), PrefixCounters>;

/// A scrape: what the tenants have at each live server is what its prefixes have, and each tenant can be looked up.
fn scrape(tenants: &mut Tenants, limit: usize, servers: &[Server]) -> Result<Shown, TestCaseError> {
    let snapshot = Snapshot {
        servers: snapshots(servers, |server| server.live),
        ..Snapshot::default()
    };
    let rows = tenants.aggregate(&snapshot);
    for server in &snapshot.servers {
        let of_tenants = rows.iter().filter(|row| row.server == server.label);
        prop_assert_eq!(
            sum(of_tenants.map(|row| &row.counters)),
            sum(server.prefixes.iter().map(|row| &row.counters))
        );
    }
    let infos = tenants.infos();
    prop_assert!(infos.len() <= limit + 2);
    for row in &rows {
        prop_assert!(
            infos.iter().any(|info| info.name == row.tenant),
            "{} has no info",
            row.tenant
        );
    }
    let count = rows.len();
    let shown: Shown = rows
        .into_iter()
        .map(|row| ((row.server, row.tenant), row.counters))
        .collect();
    prop_assert_eq!(shown.len(), count, "a tenant has two rows at a server");
    Ok(shown)
}

/// Nothing that was shown before is gone, or has become less.
fn assert_grown(before: &Shown, now: &Shown) -> Result<(), TestCaseError> {
    for (key, earlier) in before {
        let Some(later) = now.get(key) else {
            return Err(TestCaseError::fail(format!("the row of {key:?} has vanished")));
        };
        let cells = |counters| bytemuck::cast_slice::<PrefixCounters, u64>(std::slice::from_ref(counters));
        for (earlier, later) in cells(earlier).iter().zip(cells(later)) {
            prop_assert!(earlier <= later, "{key:?} went back");
        }
    }
    Ok(())
}

/// Leaves out the rows that a reload has folded into `(other)`, for which there has to be a reason.
fn drop_folded(shown: &mut Shown, infos: &[TenantInfo], limit: usize) -> Result<(), TestCaseError> {
    let before = shown.len();
    shown.retain(|(_, tenant), _| infos.iter().any(|info| info.name == *tenant));
    prop_assert!(
        shown.len() == before || infos.len() == limit + 2,
        "a row was folded though there was room"
    );
    Ok(())
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut servers = vec![Server::new(); SERVERS];
    let mut tenants = Tenants::new(FILE_RULES[0].clone());
    let mut limit = FILES[0].0;
    let mut shown = Shown::new();
    for step in steps {
        match *step {
            Step::Grow {
                server,
                row,
                class,
                cell,
                by,
            } => servers[server].grow_of(CLASSES[class], row, cell, by),
            Step::Fold {
                server,
                prefix,
                class,
            } => servers[server].fold(prefix, CLASSES[class]),
            Step::Toggle { server } => servers[server].live = !servers[server].live,
            Step::Forget { server } => {
                servers[server] = Server::new();
                let label = format!("s{server}");
                tenants.retain_servers(|known| known != label);
                shown.retain(|(known, _), _| *known != label);
            }
            Step::Reload { file } => {
                tenants.reload(&snapshots(&servers, |_| true), FILE_RULES[file].clone());
                limit = FILES[file].0;
                drop_folded(&mut shown, &tenants.infos(), limit)?;
            }
            Step::Scrape => {
                let now = scrape(&mut tenants, limit, &servers)?;
                shown.retain(|(label, _), _| {
                    let number = label[1..].parse::<usize>().expect("a number");
                    servers[number].live
                });
                assert_grown(&shown, &now)?;
                shown = now;
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn over_any_changes_of_the_rules_tenants_add_up_to_prefixes_and_none_goes_back(
        steps in vec(step(), 1..80)
    ) {
        run(&steps)?;
    }
}

fn bytes(tenants: &mut Tenants, server: &Server) -> Vec<(String, u64)> {
    let snapshot = Snapshot {
        servers: vec![server.snapshot(0)],
        ..Snapshot::default()
    };
    let rows = tenants.aggregate(&snapshot).into_iter();
    let rows = rows.map(|row| (row.tenant, row.counters.bytes_in));
    rows.filter(|(_, bytes)| *bytes != 0).collect()
}

fn named(rows: &[(&str, u64)]) -> Vec<(String, u64)> {
    rows.iter()
        .map(|(name, bytes)| ((*name).to_owned(), *bytes))
        .collect()
}

#[test]
fn what_was_counted_stays_with_its_tenant_and_what_comes_later_goes_by_the_new_rules() {
    let mut server = Server::new();
    let mut tenants = Tenants::new(rules((9, &[("old", &["p0"]), ("same", &["p1"])])));
    server.grow(0, BYTES_OUT, 10);
    server.grow(1, BYTES_OUT, 1);
    assert_eq!(bytes(&mut tenants, &server), named(&[("old", 10), ("same", 1)]));
    // Counted before the reload, not scraped yet.
    server.grow(0, BYTES_OUT, 100);
    tenants.reload(
        &[server.snapshot(0)],
        rules((9, &[("same", &["p1"]), ("new", &["p0"])])),
    );
    server.grow(0, BYTES_OUT, 1000);
    server.grow(1, BYTES_OUT, 2);
    assert_eq!(
        bytes(&mut tenants, &server),
        named(&[("same", 3), ("new", 1000), ("old", 110)])
    );
    // It returns, and goes on where it was.
    tenants.reload(&[server.snapshot(0)], rules((9, &[("old", &["p0"])])));
    server.grow(0, BYTES_OUT, 5);
    assert_eq!(
        bytes(&mut tenants, &server),
        named(&[("old", 115), ("same", 3), ("new", 1000)])
    );
}

#[test]
fn what_connections_of_a_tenant_had_stays_with_it_when_the_rules_change() {
    let mut server = Server::new();
    let mut tenants = Tenants::new(rules((9, &[("a", &["p0"]), ("e", &[])])));
    server.grow_of(Some("e"), 1, BYTES_OUT, 10);
    assert_eq!(bytes(&mut tenants, &server), named(&[("e", 10)]));
    tenants.reload(&[server.snapshot(0)], rules((9, &[("a", &["p0", "p1"])])));
    // Replies to commands from before the reload.
    server.grow_of(Some("e"), 2, BYTES_OUT, 1);
    // The prefix is another's now.
    server.grow_of(Some("e"), 1, BYTES_OUT, 5);
    assert_eq!(bytes(&mut tenants, &server), named(&[("a", 5), ("e", 11)]));
}

#[test]
fn a_tenant_that_left_the_file_keeps_its_owner() {
    let mut server = Server::new();
    let mut tenants = Tenants::new(rules(FILES[1]));
    server.grow(0, BYTES_OUT, 1);
    tenants.reload(&[server.snapshot(0)], rules(FILES[3]));
    let infos = tenants.infos();
    let shown: Vec<_> = infos.iter().map(|info| (&*info.name, &*info.owner)).collect();
    assert_eq!(
        shown,
        [("b", "team-b"), (OTHER, ""), (UNASSIGNED, "")],
        "a had nothing"
    );
}

#[test]
fn the_tenants_longest_gone_are_folded_into_other_where_the_limit_leaves_no_room() {
    let mut server = Server::new();
    let mut tenants = Tenants::new(rules((2, &[("one", &["p0"])])));
    server.grow(0, BYTES_OUT, 1);
    tenants.reload(&[server.snapshot(0)], rules((2, &[("two", &["p0"])])));
    server.grow(0, BYTES_OUT, 2);
    assert_eq!(bytes(&mut tenants, &server), named(&[("two", 2), ("one", 1)]));
    tenants.reload(&[server.snapshot(0)], rules((2, &[("three", &["p0"])])));
    server.grow(0, BYTES_OUT, 4);
    assert_eq!(
        bytes(&mut tenants, &server),
        named(&[("three", 4), ("two", 2), (OTHER, 1)])
    );
}

#[test]
fn a_server_that_is_not_there_at_a_reload_keeps_what_its_tenants_had() {
    let mut server = Server::new();
    let mut tenants = Tenants::new(rules(FILES[1]));
    server.grow(0, BYTES_OUT, 3);
    // Never scraped, stopped when the rules change.
    tenants.reload(&[server.snapshot(0)], rules(FILES[0]));
    server.grow(0, BYTES_OUT, 1);
    assert_eq!(bytes(&mut tenants, &server), named(&[("a", 1), ("b", 3)]));
    tenants.retain_servers(|label| label != "s0");
    assert_eq!(bytes(&mut tenants, &server), named(&[("a", 4)]), "forgotten");
}

#[test]
fn a_prefix_that_goes_to_other_counts_no_second_time() {
    let mut server = Server::new();
    let mut tenants = Tenants::new(rules(FILES[0]));
    server.grow(0, BYTES_OUT, 3);
    assert_eq!(bytes(&mut tenants, &server), named(&[("a", 3)]));
    server.fold(0, None);
    assert_eq!(bytes(&mut tenants, &server), named(&[("a", 3)]));
    let other = SPECIAL_ROWS
        .iter()
        .position(|row| *row == OTHER)
        .expect("a special row");
    server.grow(PREFIXES.len() + other, BYTES_OUT, 1);
    server.grow(0, BYTES_OUT, 2);
    assert_eq!(bytes(&mut tenants, &server), named(&[("a", 5), (UNASSIGNED, 1)]));
}
