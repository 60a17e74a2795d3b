//! Prefixes as hashes, on every page.

use std::path::Path;

use super::*;
use crate::config::Settings;
use crate::snapshot::{Snapshot, counters};
use crate::tenants::{PrefixNames, Rules, Tenants};

/// A tenant's, by an exact prefix and by a glob, and nobody's.
const PLAIN: [&str; 3] = ["secretcart", "secretpay-eu", "secretelse"];

const RULES: &str = r#"
    [[tenant]]
    name = "checkout"
    prefixes = ["secretcart", "secretpay-*"]
"#;

const PAGES: [&str; 9] = [
    "/",
    "/metrics",
    "/api/v1/servers",
    "/api/v1/tenants?prefixes=4096",
    "/api/v1/clients",
    "/api/v1/workloads",
    "/api/v1/storms",
    "/api/v1/config",
    "/incidents",
];

fn snapshot(bytes: u64) -> Snapshot {
    let row = |prefix: &str, special| PrefixSnapshot {
        prefix: prefix.into(),
        special,
        counters: counters(1, bytes, 10 * bytes),
        ..PrefixSnapshot::default()
    };
    let mut prefixes: Vec<_> = PLAIN.iter().map(|prefix| row(prefix, false)).collect();
    prefixes.push(row("(none)", true));
    Snapshot {
        servers: vec![ServerSnapshot {
            label: "a:1".into(),
            facts: facts(),
            prefixes,
            ..ServerSnapshot::default()
        }],
        ..Snapshot::default()
    }
}

fn rules() -> Rules {
    let settings = Settings::parse(Path::new("test.toml"), RULES).expect("a good configuration");
    Rules::new(&settings).expect("compiles")
}

fn tenants() -> Tenants {
    Tenants::new(rules())
}

fn names() -> PrefixNames {
    PrefixNames::hashed(b"0123456789abcdef")
}

#[test]
fn no_page_has_a_plain_prefix_and_the_rules_go_by_it_all_the_same() {
    let mut tenants = tenants();
    tenants.show_prefixes_as(names());
    let server = Running::start(Report::new(snapshot(100), &mut tenants));
    for page in PAGES {
        let text = server.get(page);
        assert!(text.starts_with("HTTP/1.1 200"), "{page}: {text}");
        for plain in PLAIN {
            assert!(!text.contains(plain), "{page} has {plain}: {text}");
        }
    }
    let metrics = server.get("/metrics");
    for plain in PLAIN {
        let hash = names().of(plain).into_owned();
        let sample = format!(
            "stormglass_prefix_bytes_total{{server=\"a:1\",prefix=\"{hash}\",direction=\"in\"}} 100\n"
        );
        assert!(metrics.contains(&sample), "{sample}: {metrics}");
    }
    assert!(metrics.contains("prefix=\"(none)\""), "{metrics}");
    let listed = json(&server.get("/api/v1/tenants"));
    let [checkout, _, unassigned] = listed["tenants"].as_array().expect("a list").as_slice() else {
        panic!("{listed}");
    };
    assert_eq!(checkout["bytes_in"], 200);
    let unassigned = &unassigned["unassigned"];
    assert_eq!(
        (&unassigned["hashed"], &unassigned["count"]),
        (&true.into(), &2.into())
    );
    let named: Vec<_> = unassigned["prefixes"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| row["prefix"].as_str().expect("a text").to_owned())
        .collect();
    assert!(
        named.contains(&names().of("secretelse").into_owned()),
        "{named:?}"
    );
    let page = server.get("/");
    assert!(page.contains("stormglass hash-prefix") && !page.contains("--suggest"));
}

#[test]
fn a_switch_renames_rows_and_no_counter_of_a_tenant_goes_back() {
    let mut tenants = tenants();
    let mut had = 0;
    for (names, bytes) in [
        (PrefixNames::default(), 100),
        (names(), 150),
        (PrefixNames::hashed(b"fedcba9876543210"), 150),
        (PrefixNames::default(), 220),
    ] {
        tenants.show_prefixes_as(names.clone());
        // Other rules change no names.
        tenants.reload(&snapshot(bytes).servers, rules());
        let report = Report::new(snapshot(bytes), &mut tenants);
        assert_eq!(report.prefixes_hashed, names.are_hashed());
        let row = |tenant: &str| {
            let mut rows = report.tenants.iter().filter(|row| row.tenant == tenant);
            rows.next().map_or(0, |row| row.counters.bytes_in)
        };
        assert_eq!((row("checkout"), row("(unassigned)")), (2 * bytes, 2 * bytes));
        assert!(row("checkout") >= had);
        had = row("checkout");
        let shown = &report.snapshot.servers[0].prefixes;
        let shown: Vec<_> = shown.iter().map(|row| &*row.prefix).collect();
        let expected: Vec<_> = PLAIN.iter().map(|plain| names.of(plain)).collect();
        assert_eq!(shown[..3], expected[..], "in their order");
        assert_eq!(report.unassigned.len(), 2);
    }
}
