//! From a key to its row: hash tags, declared prefixes, keys of any bytes and of any length.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use stormglass_tests::agent::{self, Agent, ConfigFile};
use stormglass_tests::exposition::Scrape;
use stormglass_tests::lab;
use stormglass_tests::ledger::{Account, Opening};
use stormglass_tests::process::Process;
use stormglass_tests::resp::{Connection, frame};
use stormglass_tests::server::Plan;

const DECLARED: &str = r#"
[[tenant]]
name = "europe"
prefixes = ["cart-eu-*"]

[[tenant]]
name = "checkout"
prefixes = ["cart-*", "*-eu", "car"]

[[tenant]]
name = "binary"
prefixes = ['\xfe\x0a*']
"#;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_key_that_begins_with_a_hash_tag_is_cut_inside_it_unless_that_is_off() -> Result<()> {
    let keys: &[(&[u8], &str, &str)] = &[
        (b"{cart}:1", "cart", "{cart}"),
        (b"{cart}", "cart", "(none)"),
        (b"{cart:17}.items", "cart", "{cart"),
        (b"{cart-17}.items:x", "cart-17", "{cart-17}.items"),
        (b"{}:1", "{}", "{}"),
        (b"{open:1", "{open", "{open"),
        (b"x{cart}:1", "x{cart}", "x{cart}"),
        (b"{a}{b}:1", "a", "{a}{b}"),
    ];
    for (config, on) in [("", true), ("[keys]\nhash_tags = false\n", false)] {
        let rows = keys
            .iter()
            .map(|(key, tagged, plain)| (*key, if on { *tagged } else { *plain }));
        assert_rows(config, &rows.collect::<Vec<_>>())?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_key_without_delimiter_is_in_the_row_of_the_longest_declared_prefix() -> Result<()> {
    let long = [b"cart-".as_slice(), &[b'x'; 200]].concat();
    let far = [b"cart-eu-".as_slice(), &[b'x'; 40], b":1"].concat();
    assert_rows(
        DECLARED,
        &[
            (b"cart-17", "cart-"),
            (b"cart-", "cart-"),
            (b"cart-eu-17", "cart-eu-"),
            (b"cart-eu", "cart-"),
            (&long, "cart-"),
            // The delimiter is beyond the longest prefix: as if it had none.
            (&far, "cart-eu-"),
            (b"\xfe\n17", "\\xfe\\x0a"),
            // A delimiter cuts, whatever is declared.
            (b"cart-eu:17", "cart-eu"),
            (b"cart-17:1", "cart-17"),
            // Not declared.
            (b"cart", "(none)"),
            (b"car-17", "(none)"),
            (b"", "(none)"),
            (b"17-eu", "(none)"),
        ],
    )
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn the_first_rule_that_matches_has_the_row_of_a_declared_prefix() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with(DECLARED)?;
    agent.sees(&server.label())?;
    let mut connection = server.connect()?;
    for (times, key) in [
        (1, "cart-eu-17"),
        (2, "cart-17"),
        (4, "cart-eu:17"),
        (8, "cart-us-1"),
        (16, "car"),
        (32, "car:1"),
        (64, "\u{0}"),
    ] {
        for _ in 0..times {
            connection.ask(&[b"SET", key.as_bytes(), b"x"])?;
        }
    }
    connection.ask(&[b"SET", b"\xfe\n17", b"x"])?;
    let scrape = agent.scrape()?;
    let label = server.label();
    let commands = |tenant| {
        let labels = [("server", &*label), ("tenant", tenant)];
        scrape.count("stormglass_tenant_commands_total", &labels)
    };
    assert_eq!(commands("europe"), 1);
    assert_eq!(commands("checkout"), 2 + 4 + 8 + 32);
    assert_eq!(commands("binary"), 1);
    assert_eq!(commands("(unassigned)"), 16 + 64);
    assert_eq!(
        scrape.value("stormglass_map_entries", &[("map", "SG_DECLARED")]),
        Some(3.0)
    );
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn check_config_refuses_declared_prefixes_that_the_kernel_cannot_hold() -> Result<()> {
    let many: String = (0..=4096).map(|number| format!("\"p{number}-*\",")).collect();
    let long = format!("\"{}*\"", "x".repeat(33));
    for (prefixes, words) in [
        (many, "`p4096-*` is one more than the 4096 different prefixes"),
        (long, "33 bytes in front of the `*`"),
    ] {
        let config = ConfigFile::new(&format!("[[tenant]]\nname = \"a\"\nprefixes = [{prefixes}]\n"))?;
        let finished = agent::command(&["check-config"], Some(&config))?;
        ensure!(
            !finished.status.success() && finished.stderr.contains(words),
            "{finished:?}"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn long_keys_and_keys_that_segments_cut_are_in_their_rows() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with(DECLARED)?;
    let mut opening = Opening::at(&agent, &server)?;
    let mut connection = server.connect()?;
    for head in ["long:", "cart-", "{tag}:"] {
        let key = [head.as_bytes(), &[b'k'; 100 << 10]].concat();
        connection.ask(&[b"SET", &key, b"x"])?;
        connection.ask(&[b"GET", &key])?;
    }
    for key in ["split:key", "cart-eu-key", "{tag}:key"] {
        let command = frame(&[b"SET", key.as_bytes(), b"x"]);
        for cut in 1..command.len() {
            connection.send_bytes(&command[..cut])?;
            std::thread::sleep(Duration::from_millis(1));
            connection.send_bytes(&command[cut..])?;
            connection.receive()?;
        }
    }
    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    let cuts = |key: &str| frame(&[b"SET", key.as_bytes(), b"x"]).len() as u64 - 1;
    for (row, commands) in [
        ("long", 2),
        ("cart-", 2),
        ("split", cuts("split:key")),
        ("cart-eu-", cuts("cart-eu-key")),
        ("tag", 2 + cuts("{tag}:key")),
    ] {
        assert_eq!(account.counted.commands(row), commands, "{row}: {account:#?}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_prefix_of_any_bytes_is_a_valid_label_in_both_formats() -> Result<()> {
    let rows: &[(&[u8], &str)] = &[
        (b"\xff\xfe:1", r"\xff\xfe"),
        (b"a\x00b:1", r"a\x00b"),
        (b"say \"hi\":1", "say \"hi\""),
        (b"two\nlines:1", r"two\x0alines"),
        (b"back\\slash:1", r"back\x5cslash"),
        (b"\\x41:1", r"\x5cx41"),
        ("käse\u{2603}:1".as_bytes(), "käse\u{2603}"),
        (b"k\xc3:1", r"k\xc3"),
        (b"(none):1", r"\x28none)"),
        (b"} 1 # {le=\"1:1", "} 1 # {le=\"1"),
    ];
    // Braces alone are themselves, in a rule.
    let rules = rows
        .iter()
        .map(|(_, row)| row.replace('{', "[{]").replace('}', "[}]"));
    let rules = rules.collect::<Vec<_>>().join("', '");
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with(&format!(
        "[[tenant]]\nname = \"binary\"\nprefixes = ['{rules}']\n"
    ))?;
    let mut opening = Opening::at(&agent, &server)?;
    let mut connection = server.connect()?;
    send_all(&mut connection, rows)?;
    assert_all(&opening.account(&agent)?, rows);

    let text = agent.metrics()?;
    let (_, open_metrics) = agent.get_as("/metrics", "application/openmetrics-text; version=1.0.0")?;
    ensure!(open_metrics.ends_with("\n# EOF\n"));
    let labels = [&text, &open_metrics].map(|page| -> Result<BTreeSet<String>> {
        let scrape = Scrape::parse(page)?;
        let label = server.label();
        let tenant = [("server", &*label), ("tenant", "binary")];
        assert_eq!(
            scrape.count("stormglass_tenant_commands_total", &tenant),
            (1..=rows.len() as u64).sum::<u64>(),
            "every name can be written as a rule"
        );
        let series = scrape.series("stormglass_prefix_commands_total", &tenant[..1]);
        Ok(series.map(|(labels, _)| labels["prefix"].clone()).collect())
    });
    let [text_labels, open_metrics_labels] = labels;
    assert_eq!(text_labels?, open_metrics_labels?);
    assert_promtool_is_content(&text)
}

/// Sends each key to a server of its own, and insists that its commands are in the row beside it, and nowhere else.
fn assert_rows(config: &str, rows: &[(&[u8], &str)]) -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with(config)?;
    let mut opening = Opening::at(&agent, &server)?;
    send_all(&mut server.connect()?, rows)?;
    assert_all(&opening.account(&agent)?, rows);
    Ok(())
}

/// The first key once, the second twice, and so on: a command in a wrong row is seen. In one pipeline each.
fn send_all(connection: &mut Connection, rows: &[(&[u8], &str)]) -> Result<()> {
    for (times, (key, _)) in (1..).zip(rows) {
        connection.send_bytes(&frame(&[b"SET", key, b"x"]).repeat(times))?;
        for _ in 0..times {
            connection.receive()?;
        }
    }
    Ok(())
}

fn assert_all(account: &Account, rows: &[(&[u8], &str)]) {
    account.assert_all_attributed();
    for (_, row) in rows {
        let sent = (1..).zip(rows).filter(|(_, (_, other))| other == row);
        let commands: u64 = sent.map(|(times, _)| times).sum();
        assert_eq!(account.counted.commands(row), commands, "{row}: {account:#?}");
    }
}

fn assert_promtool_is_content(page: &str) -> Result<()> {
    let mut command = Command::new(lab::promtool()?);
    let promtool =
        Process::spawn_with_input("promtool", command.args(["check", "metrics"]), page.as_bytes())?;
    let finished = promtool.finish(Duration::from_secs(20))?;
    ensure!(
        finished.status.success() && finished.stdout.is_empty() && finished.stderr.is_empty(),
        "{finished:?}"
    );
    Ok(())
}
