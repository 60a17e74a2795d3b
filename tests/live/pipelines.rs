//! Pipelines that change between rows, reads and writes with every command, deeper than the queue in a connection's state.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use stormglass_tests::agent::Agent;
use stormglass_tests::exposition::{Scrape, whole};
use stormglass_tests::ledger::Opening;
use stormglass_tests::resp::{Connection, Reply, frame};
use stormglass_tests::server::{Plan, Traffic};

const PREFIXES: [&str; 3] = ["cart", "stock", "user"];

/// Commands of a pipeline.
const COMMANDS: usize = 200;

/// What one prefix must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Expected {
    traffic: Traffic,
    hits: u64,
    misses: u64,
    durations: u64,
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn deep_pipelines_of_several_prefixes_have_every_reply_in_its_row() -> Result<()> {
    let tenants: String = PREFIXES
        .map(|prefix| format!("[[tenant]]\nname = \"{prefix}\"\nprefixes = [\"{prefix}\"]\n"))
        .concat();
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with(&tenants)?;
    let mut opening = Opening::at(&agent, &server)?;

    let mut expected: BTreeMap<&str, Expected> = BTreeMap::new();
    for protocol in [b"2", b"3"] {
        let mut connection = server.connect()?;
        connection.ask(&[b"HELLO", protocol])?;
        for round in 0..4 {
            pipeline(&mut connection, round, &mut expected)?;
            // One by one in between: the spill is left, and entered again.
            for number in 0..round {
                pipeline_of(&mut connection, number..number + 1, 1, &mut expected)?;
            }
        }
    }

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    let scrape = agent.scrape()?;
    let label = server.label();
    for prefix in PREFIXES {
        let counted = Expected {
            traffic: account.counted.prefixes[prefix],
            hits: reads(&scrape, &label, prefix, "hit"),
            misses: reads(&scrape, &label, prefix, "miss"),
            durations: scrape.count(
                "stormglass_tenant_request_duration_seconds_count",
                &[("server", &label), ("tenant", prefix)],
            ),
        };
        assert_eq!(counted, expected[prefix], "{prefix}");
    }
    assert_eq!(account.counted.prefixes["(other)"], Traffic::default());
    for (labels, value) in scrape.series("stormglass_dropped_total", &[]) {
        assert_eq!(whole(value), 0, "{labels:?}");
    }
    Ok(())
}

/// A pipeline in one piece.
fn pipeline(
    connection: &mut Connection,
    round: usize,
    expected: &mut BTreeMap<&'static str, Expected>,
) -> Result<()> {
    pipeline_of(connection, 0..COMMANDS, round, expected)
}

/// Sends these commands of a pipeline at once, and adds what they and their replies must come to.
fn pipeline_of(
    connection: &mut Connection,
    numbers: std::ops::Range<usize>,
    round: usize,
    expected: &mut BTreeMap<&'static str, Expected>,
) -> Result<()> {
    let mut bytes = Vec::new();
    for number in numbers.clone() {
        let command = command(number, round);
        let of_prefix = expected.entry(PREFIXES[number % 3]).or_default();
        of_prefix.traffic.commands += 1;
        of_prefix.traffic.bytes_in += command.len() as u64;
        of_prefix.durations += 1;
        bytes.extend(command);
    }
    connection.send_bytes(&bytes)?;
    for number in numbers {
        let before = connection.received();
        let reply = connection.receive()?;
        let of_prefix = expected.entry(PREFIXES[number % 3]).or_default();
        of_prefix.traffic.bytes_out += connection.received() - before;
        if number % 2 == 0 {
            match reply {
                Reply::Bulk(None) | Reply::Null => of_prefix.misses += 1,
                Reply::Bulk(Some(_)) => of_prefix.hits += 1,
                other => anyhow::bail!("GET {number} was answered by {other:?}"),
            }
        } else {
            ensure!(reply == Reply::Simple("OK".to_owned()), "SET {number}: {reply:?}");
        }
    }
    Ok(())
}

/// Reads and writes in turn, of three prefixes in turn; a read finds what an earlier round wrote.
fn command(number: usize, round: usize) -> Vec<u8> {
    let prefix = PREFIXES[number % 3];
    if number.is_multiple_of(2) {
        frame(&[b"GET", format!("{prefix}:{}", number + 3).as_bytes()])
    } else {
        let value = "v".repeat(number * (round + 1));
        frame(&[b"SET", format!("{prefix}:{number}").as_bytes(), value.as_bytes()])
    }
}

/// Values that reads of a tenant found, or did not find.
fn reads(scrape: &Scrape, server: &str, tenant: &str, result: &str) -> u64 {
    let labels = [("server", server), ("tenant", tenant), ("result", result)];
    scrape.count("stormglass_tenant_reads_total", &labels)
}
