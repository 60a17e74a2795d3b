//! Kernels from 6.1 on: the programs load, attach, count to the byte, and leave.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use stormglass_tests::agent::Agent;
use stormglass_tests::bpf::Loaded;
use stormglass_tests::exposition::Scrape;
use stormglass_tests::ledger::{Account, Opening};
use stormglass_tests::poll;
use stormglass_tests::resp::Reply;
use stormglass_tests::server::{Plan, Server};

use crate::books::{Books, Client, Command, sum};

/// Two tenants, one of them with two prefixes.
const TENANTS: &str = "[[tenant]]\nname = \"checkout\"\nprefixes = [\"cart\", \"pay\"]\n\n\
                       [[tenant]]\nname = \"login\"\nprefixes = [\"session\"]\n";

/// Longer than the silence that makes a restart point, also on a slow machine.
const QUIET: Duration = Duration::from_millis(20);

const KEYLESS: &str = "(keyless)";
const PUBSUB: &str = "(pubsub)";

/// One agent for all of it: loading the programs is what takes time in an emulated machine.
#[test]
#[ignore = "needs a virtual machine: cargo xtask test --vm"]
fn the_agent_counts_every_byte_and_connection_of_real_traffic_and_leaves_nothing_in_the_kernel() -> Result<()>
{
    let server = Plan::valkey()?.start()?;
    let mut early = Client::open(&server)?;
    early.ask("early", &[b"SET", b"early:1", b"value"])?;
    let before = Loaded::now()?;
    let agent = Agent::start_with(TENANTS)?;

    assert_connections(&agent.scrape()?, &server, (1, 0, 0));
    catches_up_with(&mut early, &agent, &server)?;
    counts_every_kind_of_traffic(&agent, &server)?;

    let loaded = Loaded::now()?.beyond(&before);
    ensure!(
        !loaded.programs.is_empty() && !loaded.attached.is_empty(),
        "nothing is loaded or attached while the agent works; the end of this test cannot see it"
    );
    let (_, finished) = agent.terminate()?;
    ensure!(finished.status.success(), "{finished:?}");
    // The kernel frees programs and maps a moment after their last user has gone.
    let gone = || Ok(Loaded::now()?.beyond(&before).is_empty());
    poll::until_true("nothing is left in the kernel", Duration::from_secs(10), gone)?;
    early.ask("early", &[b"GET", b"early:1"])?;
    Ok(())
}

/// A connection from before the agent: unattributed until its first exchange is over, then exact.
fn catches_up_with(early: &mut Client, agent: &Agent, server: &Server) -> Result<()> {
    let mut opening = Opening::at(agent, server)?;
    sleep(QUIET);
    early.ask("early", &[b"GET", b"early:1"])?;
    let account = opening.account(agent)?;
    account.assert_bytes_equal();
    for (_, reason) in account.counted.unattributed.keys() {
        assert_eq!(reason, "mid_stream");
    }
    assert!(
        account.counted.unattributed("in") > 0,
        "the exchange was not on trial: {account:?}"
    );

    let mut later = Opening::at(agent, server)?;
    for _ in 0..10 {
        sleep(QUIET);
        early.ask("early", &[b"GET", b"early:1"])?;
    }
    let account = later.account(agent)?;
    account.assert_all_attributed();
    assert_eq!(account.counted.commands("early"), 10);
    Ok(())
}

/// New connections: every row, every tenant and every gauge is exact.
fn counts_every_kind_of_traffic(agent: &Agent, server: &Server) -> Result<()> {
    let mut opening = Opening::at(agent, server)?;
    let earlier = agent.scrape()?;
    let mut clients = vec![];
    for converse in [plain, pipelined, transaction, resp3, errors] {
        let mut client = Client::open(server)?;
        converse(&mut client)?;
        clients.push(client);
    }
    clients.extend(published(server)?);
    let account = opening.account(agent)?;
    account.assert_all_attributed();
    account.assert_commands_equal();
    assert_rows(&account, &sum(&clients));

    let (open, opened, closed) = connections(&earlier, server);
    let new = clients.len() as u64;
    let scrape = agent.scrape()?;
    assert_tenants(&scrape, server, &sum(&clients));
    assert_connections(&scrape, server, (open + new, opened + new, closed));
    assert_eq!(open + new, opening.control().clients()?);
    drop(clients);
    let after = agent.scrape_until("the end of the connections", |scrape| {
        connections(scrape, server).0 == open
    })?;
    assert_connections(&after, server, (open, opened + new, closed + new));
    Ok(())
}

/// One command after the other, for both tenants and for nobody.
fn plain(client: &mut Client) -> Result<()> {
    let big = vec![b'v'; 300_000];
    for _ in 0..50 {
        client.ask("cart", &[b"SET", b"cart:1", b"value"])?;
        client.ask("cart", &[b"GET", b"cart:1"])?;
        client.ask("session", &[b"INCR", b"session:visits"])?;
    }
    client.ask("pay", &[b"SET", b"pay:big", &big])?;
    client.ask("pay", &[b"GET", b"pay:big"])?;
    client.ask("(none)", &[b"GET", b"nodelimiter"])?;
    client.ask(KEYLESS, &[b"PING"])?;
    Ok(())
}

/// Hundreds of commands in one write, in runs of one prefix.
fn pipelined(client: &mut Client) -> Result<()> {
    let value = vec![b'v'; 1_500];
    let set: &[&[u8]] = &[b"SET", b"cart:2", &value];
    let get: &[&[u8]] = &[b"GET", b"cart:2"];
    let login: &[&[u8]] = &[b"HSET", b"session:2", b"field", b"value"];
    let mut commands: Vec<Command<'_>> = vec![];
    for _ in 0..5 {
        commands.extend([("cart", set); 20]);
        commands.extend([("session", login); 30]);
        commands.extend([("cart", get); 10]);
    }
    client.pipeline(&commands)?;
    for (prefix, _) in commands {
        client.receive(prefix)?;
    }
    Ok(())
}

fn transaction(client: &mut Client) -> Result<()> {
    client.ask(KEYLESS, &[b"MULTI"])?;
    client.ask("cart", &[b"SET", b"cart:3", b"value"])?;
    client.ask("session", &[b"INCR", b"session:visits"])?;
    client.ask(KEYLESS, &[b"EXEC"])?;
    Ok(())
}

/// Maps, sets, doubles and nulls.
fn resp3(client: &mut Client) -> Result<()> {
    client.ask(KEYLESS, &[b"HELLO", b"3"])?;
    client.ask("session", &[b"HSET", b"session:4", b"a", b"1", b"b", b"2"])?;
    client.ask("session", &[b"HGETALL", b"session:4"])?;
    client.ask("cart", &[b"SADD", b"cart:set", b"x", b"y"])?;
    client.ask("cart", &[b"SMEMBERS", b"cart:set"])?;
    client.ask("cart", &[b"ZADD", b"cart:sorted", b"1.5", b"x"])?;
    client.ask("cart", &[b"ZRANGE", b"cart:sorted", b"0", b"-1", b"WITHSCORES"])?;
    client.ask("pay", &[b"GET", b"pay:missing"])?;
    Ok(())
}

fn errors(client: &mut Client) -> Result<()> {
    client.ask("pay", &[b"SET", b"pay:text", b"no number"])?;
    let reply = client.call("pay", &[b"INCR", b"pay:text"])?;
    assert!(matches!(reply, Reply::Error(_)), "{reply:?}");
    Ok(())
}

/// A subscriber of each protocol and a publisher; the one of RESP3 goes on working between two messages.
fn published(server: &Server) -> Result<[Client; 3]> {
    let mut old = Client::open(server)?;
    let mut new = Client::open(server)?;
    let mut publisher = Client::open(server)?;
    new.ask(KEYLESS, &[b"HELLO", b"3"])?;
    for subscriber in [&mut old, &mut new] {
        subscriber.ask(PUBSUB, &[b"SUBSCRIBE", b"news"])?;
    }
    for _ in 0..10 {
        publisher.ask(PUBSUB, &[b"PUBLISH", b"news", b"something has happened"])?;
        old.receive(PUBSUB)?;
        new.receive(PUBSUB)?;
        new.ask("session", &[b"GET", b"session:visits"])?;
    }
    Ok([old, new, publisher])
}

/// Insists on every row to the byte. Questions for the server's counters are keyless, so of that row only the sum of all
/// rows tells, which is tested by itself.
fn assert_rows(account: &Account, books: &Books) {
    for (prefix, row) in books.iter().filter(|(prefix, _)| **prefix != KEYLESS) {
        assert_eq!(
            account.counted.prefixes.get(*prefix),
            Some(row),
            "prefix {prefix}"
        );
    }
    for (prefix, row) in &account.counted.prefixes {
        let silent = row.bytes_in + row.bytes_out + row.commands == 0;
        assert!(
            silent || books.contains_key(prefix.as_str()),
            "nobody used the prefix {prefix:?}: {row:?}"
        );
    }
}

/// Insists on the tenants of [`TENANTS`] since the server started.
fn assert_tenants(scrape: &Scrape, server: &Server, books: &Books) {
    for (tenant, prefixes) in [("checkout", &["cart", "pay"][..]), ("login", &["session"])] {
        let rows = || prefixes.iter().filter_map(|prefix| books.get(prefix));
        let bytes = |direction| {
            let labels = [
                ("server", &*server.label()),
                ("tenant", tenant),
                ("direction", direction),
            ];
            scrape.count("stormglass_tenant_bytes_total", &labels)
        };
        assert_eq!(
            bytes("in"),
            rows().map(|row| row.bytes_in).sum::<u64>(),
            "{tenant}"
        );
        assert_eq!(
            bytes("out"),
            rows().map(|row| row.bytes_out).sum::<u64>(),
            "{tenant}"
        );
    }
}

/// Insists on the connections that are open, were opened and were closed.
fn assert_connections(scrape: &Scrape, server: &Server, expected: (u64, u64, u64)) {
    assert_eq!(
        connections(scrape, server),
        expected,
        "connections open, opened, closed"
    );
}

fn connections(scrape: &Scrape, server: &Server) -> (u64, u64, u64) {
    let label = server.label();
    let count = |name| scrape.count(name, &[("server", &label)]);
    (
        count("stormglass_connections"),
        count("stormglass_connections_opened_total"),
        count("stormglass_connections_closed_total"),
    )
}
