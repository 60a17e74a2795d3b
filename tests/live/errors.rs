//! Error replies by their first word, beside the server's own count of them (`INFO errorstats`).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use stormglass_tests::agent::Agent;
use stormglass_tests::exposition::whole;
use stormglass_tests::ledger::Opening;
use stormglass_tests::poll;
use stormglass_tests::ports;
use stormglass_tests::resp::{Connection, Reply, frame};
use stormglass_tests::server::{Control, Plan, Server};

/// What a script of ours sends, and no Valkey.
const OWN_WORD: &str = "MYOWN";

/// Errors by word.
type Words = BTreeMap<String, u64>;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn every_error_that_the_server_counts_has_its_word() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with("[[tenant]]\nname = \"checkout\"\nprefixes = [\"cart\"]\n")?;
    let mut opening = Opening::at(&agent, &server)?;
    let before = told(opening.control())?;

    let mut connection = server.connect()?;
    connection.ask(&[b"RPUSH", b"cart:list", b"1"])?;
    of_keys(&mut connection)?;
    of_scripts(&mut connection)?;
    of_transactions(&mut connection)?;
    of_access(&server, &mut connection)?;
    of_state(&mut connection)?;
    connection.ask(&[b"HELLO", b"3"])?;
    refused(&mut connection, "WRONGTYPE", &[b"GET", b"cart:list"])?;
    in_a_pipeline(&mut connection)?;

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    let told = since(told(opening.control())?, &before);
    let counted = counted(&agent, &server, &[])?;
    assert_eq!(counted, told, "by the agent, by the server");
    ensure!(told.len() >= 15, "only {told:?}");

    // 4 alone, 1 from a script, 50 in the pipeline: their key is the tenant's. 1 in the reply to EXEC, which has no key.
    let labels = [("tenant", "checkout"), ("error", "WRONGTYPE")];
    let of_tenant = self::counted(&agent, &server, &labels)?;
    assert_eq!((of_tenant["WRONGTYPE"], told["WRONGTYPE"]), (55, 56));
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn redirections_of_a_cluster_are_counted_by_word() -> Result<()> {
    let ((server, _), (other, bus)) = (cluster_node()?, cluster_node()?);
    let agent = Agent::start()?;
    agent.sees(&other.label())?;
    let mut opening = Opening::at(&agent, &server)?;
    let before = told(opening.control())?;

    let mut connection = server.connect()?;
    // `cart` has slot 15997, `index` slot 1731, `user` slot 5474.
    refused(&mut connection, "CLUSTERDOWN", &[b"GET", b"{cart}:1"])?;
    connection.ask(&[b"CLUSTER", b"ADDSLOTSRANGE", b"8000", b"16383"])?;
    let mut there = other.connect()?;
    there.ask(&[b"CLUSTER", b"ADDSLOTSRANGE", b"0", b"7999"])?;
    let (port, bus) = (other.port().to_string(), bus.to_string());
    connection.ask(&[b"CLUSTER", b"MEET", b"127.0.0.1", port.as_bytes(), bus.as_bytes()])?;
    let mut tries = 0;
    poll::until_true("a redirection", Duration::from_secs(20), || {
        tries += 1;
        let reply = connection.call(&[b"GET", b"{index}:1"])?;
        Ok(matches!(reply, Reply::Error(error) if error.starts_with("MOVED ")))
    })?;
    refused(&mut connection, "MOVED", &[b"SET", b"{user}:1", b"x"])?;
    refused(
        &mut connection,
        "CROSSSLOT",
        &[b"MGET", b"{cart}:1", b"{index}:1"],
    )?;
    connection.ask(&[b"SET", b"{cart}:1", b"x"])?;
    let id = there.ask(&[b"CLUSTER", b"MYID"])?.text()?;
    connection.ask(&[b"CLUSTER", b"SETSLOT", b"15997", b"MIGRATING", id.as_bytes()])?;
    refused(&mut connection, "ASK", &[b"GET", b"{cart}:2"])?;
    refused(&mut connection, "TRYAGAIN", &[b"MGET", b"{cart}:1", b"{cart}:2"])?;

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    let told = since(told(opening.control())?, &before);
    assert_eq!(
        counted(&agent, &server, &[])?,
        told,
        "by the agent, by the server"
    );
    assert_eq!(told["MOVED"] + told["CLUSTERDOWN"], tries + 2, "{told:?}");
    for word in ["MOVED", "CROSSSLOT", "ASK", "TRYAGAIN", "CLUSTERDOWN"] {
        ensure!(told.contains_key(word), "no {word} in {told:?}");
    }
    // Cut inside the hash tag.
    assert_eq!(account.counted.commands("cart"), 5);
    Ok(())
}

fn of_keys(connection: &mut Connection) -> Result<()> {
    refused(connection, "WRONGTYPE", &[b"GET", b"cart:list"])?;
    refused(connection, "WRONGTYPE", &[b"HGET", b"cart:list", b"field"])?;
    refused(connection, "ERR", &[b"GET"])?;
    refused(connection, "ERR", &[b"NO-SUCH-COMMAND", b"cart:list"])?;
    connection.send_bytes(b"get cart:list\r\n")?;
    ensure!(matches!(connection.receive()?, Reply::Error(_)));
    refused(connection, "BUSYKEY", &[b"RESTORE", b"cart:list", b"0", b"x"])?;
    let group: &[&[u8]] = &[b"XGROUP", b"CREATE", b"cart:stream", b"group", b"$", b"MKSTREAM"];
    connection.ask(group)?;
    refused(connection, "BUSYGROUP", group)?;
    let read: &[&[u8]] = &[
        b"XREADGROUP",
        b"GROUP",
        b"none",
        b"me",
        b"STREAMS",
        b"cart:stream",
        b">",
    ];
    refused(connection, "NOGROUP", read)
}

fn of_scripts(connection: &mut Connection) -> Result<()> {
    refused(
        connection,
        "NOSCRIPT",
        &[b"EVALSHA", &[b'0'; 40], b"1", b"cart:1"],
    )?;
    let own = format!("return server.error_reply('{OWN_WORD} is not in the list')");
    refused(connection, OWN_WORD, &[b"EVAL", own.as_bytes(), b"0"])?;
    let call = b"return server.call('GET', KEYS[1])";
    refused(connection, "WRONGTYPE", &[b"EVAL", call, b"1", b"cart:list"])?;
    refused(connection, "NOTBUSY", &[b"SCRIPT", b"KILL"])
}

fn of_transactions(connection: &mut Connection) -> Result<()> {
    connection.ask(&[b"MULTI"])?;
    refused(connection, "ERR", &[b"NO-SUCH-COMMAND"])?;
    refused(connection, "EXECABORT", &[b"EXEC"])?;
    refused(connection, "ERR", &[b"EXEC"])?;
    connection.ask(&[b"MULTI"])?;
    connection.ask(&[b"LLEN", b"cart:list"])?;
    connection.ask(&[b"INCR", b"cart:list"])?;
    let reply = connection.ask(&[b"EXEC"])?;
    ensure!(
        matches!(&reply, Reply::Array(Some(replies)) if matches!(replies[..], [Reply::Integer(1), Reply::Error(_)])),
        "{reply:?}"
    );
    Ok(())
}

fn of_access(server: &Server, connection: &mut Connection) -> Result<()> {
    refused(connection, "WRONGPASS", &[b"AUTH", b"nobody", b"wrong"])?;
    refused(connection, "NOPROTO", &[b"HELLO", b"9"])?;
    connection.ask(&[
        b"ACL", b"SETUSER", b"reader", b"on", b">word", b"~cart:*", b"+get",
    ])?;
    let mut reader = server.connect()?;
    reader.ask(&[b"AUTH", b"reader", b"word"])?;
    refused(&mut reader, "NOPERM", &[b"SET", b"cart:1", b"x"])?;
    refused(&mut reader, "NOPERM", &[b"GET", b"else:1"])?;
    connection.ask(&[b"CONFIG", b"SET", b"requirepass", b"word"])?;
    refused(&mut server.connect()?, "NOAUTH", &[b"GET", b"cart:1"])?;
    connection
        .ask(&[b"CONFIG", b"SET", b"requirepass", b""])
        .map(|_| ())
}

/// Errors that are not the command's fault.
fn of_state(connection: &mut Connection) -> Result<()> {
    connection.ask(&[b"CONFIG", b"SET", b"maxmemory", b"1"])?;
    refused(connection, "OOM", &[b"SET", b"cart:1", b"x"])?;
    connection.ask(&[b"CONFIG", b"SET", b"maxmemory", b"0"])?;
    // Nobody listens on port 1.
    connection.ask(&[b"REPLICAOF", b"127.0.0.1", b"1"])?;
    refused(connection, "READONLY", &[b"SET", b"cart:1", b"x"])?;
    connection.ask(&[b"CONFIG", b"SET", b"replica-serve-stale-data", b"no"])?;
    refused(connection, "MASTERDOWN", &[b"GET", b"cart:1"])?;
    connection.ask(&[b"REPLICAOF", b"NO", b"ONE"])?;
    connection.ask(&[b"CONFIG", b"SET", b"min-replicas-to-write", b"1"])?;
    refused(connection, "NOREPLICAS", &[b"SET", b"cart:1", b"x"])?;
    connection
        .ask(&[b"CONFIG", b"SET", b"min-replicas-to-write", b"0"])
        .map(|_| ())
}

/// A hundred commands at once, every other of which fails.
fn in_a_pipeline(connection: &mut Connection) -> Result<()> {
    let pair = [
        frame(&[b"GET", b"cart:list"]),
        frame(&[b"GET", b"cart:stream:none"]),
    ]
    .concat();
    connection.send_bytes(&pair.repeat(50))?;
    for _ in 0..50 {
        ensure!(matches!(connection.receive()?, Reply::Error(_)));
        ensure!(connection.receive()? == Reply::Null);
    }
    Ok(())
}

/// Sends a command and insists that it is refused with this word.
fn refused(connection: &mut Connection, word: &str, command: &[&[u8]]) -> Result<()> {
    let reply = connection.call(command)?;
    let text = format!("{word} ");
    ensure!(
        matches!(&reply, Reply::Error(error) if error.starts_with(&text)),
        "instead of {word} the server answered {reply:?}"
    );
    Ok(())
}

/// A node, and the port of its bus.
fn cluster_node() -> Result<(Server, u16)> {
    let plan = Plan::valkey()?;
    // By default 10,000 above its own port, where a client's port may be in the way. Behind its own in any case: the lowest port
    // is in the server's label.
    let bus = ports::free_port()?;
    let node = plan
        .config(&format!(
            "cluster-enabled yes\ncluster-port {bus}\ncluster-require-full-coverage no\ncluster-allow-replica-migration no\n"
        ))
        .start()?;
    Ok((node, bus))
}

/// Errors since the server started, as it tells them, under the agent's words.
fn told(control: &mut Control) -> Result<Words> {
    let info = control.info("errorstats")?;
    let mut words = Words::new();
    for line in info.lines().filter_map(|line| line.strip_prefix("errorstat_")) {
        let (word, count) = line
            .split_once(":count=")
            .with_context(|| format!("cannot read {line:?}"))?;
        let word = if word == OWN_WORD { "other" } else { word };
        *words.entry(word.to_owned()).or_default() += count.trim().parse::<u64>()?;
    }
    Ok(words)
}

fn since(mut now: Words, before: &Words) -> Words {
    for (word, count) in &mut now {
        *count -= before.get(word).copied().unwrap_or_default();
    }
    now.retain(|_, count| *count != 0);
    now
}

/// Errors of the series that have these labels, as the agent counts them.
fn counted(agent: &Agent, server: &Server, labels: &[(&str, &str)]) -> Result<Words> {
    let label = server.label();
    let labels = [labels, &[("server", &*label)]].concat();
    let scrape = agent.scrape()?;
    let mut words = Words::new();
    for (labels, count) in scrape.series("stormglass_tenant_errors_total", &labels) {
        *words.entry(labels["error"].clone()).or_default() += whole(count);
    }
    Ok(words)
}
