//! Values that reads found and did not find, beside the server's own count of them.

use anyhow::{Context as _, Result};
use stormglass_tests::agent::Agent;
use stormglass_tests::ledger::Opening;
use stormglass_tests::resp::{Connection, frame};
use stormglass_tests::server::{Control, Plan};

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn hits_and_misses_are_those_of_the_server_and_each_belongs_to_its_tenant() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with(
        "[[tenant]]\nname = \"checkout\"\nprefixes = [\"cart\"]\n[[tenant]]\nname = \"search\"\nprefixes = [\"index\"]\n",
    )?;
    let mut opening = Opening::at(&agent, &server)?;
    let before = told(opening.control())?;

    let mut connection = server.connect()?;
    for protocol in [b"2", b"3"] {
        connection.ask(&[b"HELLO", protocol])?;
        // Of each tenant: GET finds 30 of 40, MGET 2 of 3 twenty times.
        for prefix in ["cart", "index"] {
            reads(&mut connection, prefix)?;
        }
        // In one segment: a run of misses, then a run of hits, of one tenant.
        let missing = frame(&[b"GET", b"cart:none"]).repeat(50);
        let present = frame(&[b"GET", b"cart:0"]).repeat(70);
        connection.send_bytes(&[missing, present].concat())?;
        for _ in 0..120 {
            connection.receive()?;
        }
    }
    // Larger than a segment.
    connection.ask(&[b"SET", b"cart:large", &vec![b'x'; 300_000]])?;
    connection.ask(&[b"MGET", b"cart:large", b"cart:none", b"cart:large"])?;
    // What is no such read counts as neither.
    connection.ask(&[b"DEL", b"cart:large", b"cart:none"])?;

    opening.account(&agent)?.assert_all_attributed();
    let after = told(opening.control())?;
    let told = (after.0 - before.0, after.1 - before.1);
    let label = server.label();
    let scrape = agent.scrape()?;
    let of_tenant = |tenant| {
        let count = |result| {
            let labels = [("server", &*label), ("tenant", tenant), ("result", result)];
            scrape.count("stormglass_tenant_reads_total", &labels)
        };
        (count("hit"), count("miss"))
    };
    let (checkout, search) = (of_tenant("checkout"), of_tenant("search"));
    assert_eq!(search, (2 * 70, 2 * 30));
    assert_eq!(checkout, (2 * (70 + 70) + 2, 2 * (30 + 50) + 1));
    assert_eq!((checkout.0 + search.0, checkout.1 + search.1), told);
    assert_eq!(of_tenant("(unassigned)"), (0, 0));
    Ok(())
}

fn reads(connection: &mut Connection, prefix: &str) -> Result<()> {
    let key = |number: usize| format!("{prefix}:{number}");
    for number in 0..30 {
        connection.ask(&[b"SET", key(number).as_bytes(), b"value"])?;
    }
    for number in 0..40 {
        connection.ask(&[b"GET", key(number).as_bytes()])?;
    }
    for number in 0..20 {
        let keys = [key(number), key(1_000), key(number + 1)];
        connection.ask(&[
            b"MGET",
            keys[0].as_bytes(),
            keys[1].as_bytes(),
            keys[2].as_bytes(),
        ])?;
    }
    Ok(())
}

/// Hits and misses since the server started.
fn told(control: &mut Control) -> Result<(u64, u64)> {
    let info = control.info("stats")?;
    let field = |name: &str| -> Result<u64> {
        let value = info.lines().find_map(|line| line.strip_prefix(name));
        Ok(value
            .with_context(|| format!("INFO has no {name}"))?
            .trim()
            .parse()?)
    };
    Ok((field("keyspace_hits:")?, field("keyspace_misses:")?))
}
