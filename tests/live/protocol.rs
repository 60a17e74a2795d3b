//! Parts of the protocol in which replies do not simply follow commands. Every byte stays accounted for; what cannot be
//! attributed says why.

use std::time::Duration;

use anyhow::{Result, ensure};
use stormglass_tests::agent::Agent;
use stormglass_tests::ledger::{Account, Opening};
use stormglass_tests::poll;
use stormglass_tests::resp::{Connection, Reply};
use stormglass_tests::server::{Plan, Server};

/// Lets `work` talk on a connection of its own, and returns both counts of it.
fn account_of(work: impl FnOnce(&mut Connection, &Server) -> Result<()>) -> Result<Account> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;
    let mut connection = server.connect()?;
    work(&mut connection, &server)?;
    opening.account(&agent)
}

/// The reasons that were given for unattributed bytes.
fn reasons(account: &Account) -> Vec<&str> {
    let mut reasons: Vec<_> = account
        .counted
        .unattributed
        .keys()
        .map(|(_, reason)| reason.as_str())
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons
}

/// Ordinary commands under the prefix `after`.
fn go_on(connection: &mut Connection) -> Result<()> {
    for _ in 0..10 {
        connection.ask(&[b"SET", b"after:1", b"value"])?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_connection_that_leaves_subscribed_mode_stays_in_step() -> Result<()> {
    let account = account_of(|connection, server| {
        connection.ask(&[b"SUBSCRIBE", b"a", b"b"])?;
        connection.receive()?;
        server.connect()?.ask(&[b"PUBLISH", b"a", b"hello"])?;
        connection.receive()?;
        connection.ask(&[b"UNSUBSCRIBE"])?;
        connection.receive()?;
        go_on(connection)
    })?;
    account.assert_bytes_equal();
    assert!(reasons(&account).is_empty(), "{account:?}");
    assert!(account.counted.commands("after") >= 8, "{account:?}");
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn replies_that_are_switched_off_cost_at_most_what_is_called_client_reply() -> Result<()> {
    let account = account_of(|connection, _| {
        connection.send(&[b"CLIENT", b"REPLY", b"OFF"])?;
        for _ in 0..10 {
            connection.send(&[b"SET", b"silent:1", b"value"])?;
        }
        connection.ask(&[b"CLIENT", b"REPLY", b"ON"])?;
        connection.send(&[b"CLIENT", b"REPLY", b"SKIP"])?;
        connection.send(&[b"SET", b"silent:1", b"value"])?;
        go_on(connection)
    })?;
    account.assert_bytes_equal();
    assert!(
        reasons(&account).iter().all(|reason| *reason == "client_reply"),
        "{account:?}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn blocking_commands_transactions_and_errors_are_attributed() -> Result<()> {
    let account = account_of(|connection, server| {
        connection.send(&[b"BLPOP", b"block:list", b"0"])?;
        connection.send(&[b"SET", b"queued:1", b"value"])?;
        server.connect()?.ask(&[b"LPUSH", b"push:list", b"x"])?;
        server.connect()?.ask(&[b"LPUSH", b"block:list", b"x"])?;
        connection.receive()?;
        connection.receive()?;
        connection.ask(&[b"MULTI"])?;
        connection.ask(&[b"LRANGE", b"multi:list", b"0", b"-1"])?;
        connection.ask(&[b"HGETALL", b"multi:hash"])?;
        connection.ask(&[b"EXEC"])?;
        for refused in [
            &[b"NOSUCH".as_slice(), b"error:1"][..],
            &[b"GET", b"error:1", b"too many"],
        ] {
            let reply = connection.call(refused)?;
            ensure!(matches!(reply, Reply::Error(_)), "{reply:?}");
        }
        go_on(connection)?;
        connection.ask(&[b"RESET"])?;
        go_on(connection)
    })?;
    account.assert_all_attributed();
    for (prefix, commands) in [("block", 2), ("queued", 1), ("multi", 2), ("after", 20)] {
        assert_eq!(account.counted.commands(prefix), commands, "{prefix}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn what_is_cut_off_or_no_protocol_at_all_is_unattributed_to_the_byte() -> Result<()> {
    let account = account_of(|connection, server| {
        go_on(connection)?;
        let mut cut = server.connect()?;
        cut.send_bytes(b"*3\r\n$3\r\nSET\r\n$5\r\ncut:1\r\n$100\r\nonly this")?;
        drop(cut);
        let mut odd = server.connect()?;
        odd.send_bytes(b"*1\r\n$-5\r\n")?;
        odd.receive()?;
        // The server has read the cut one too once it has closed it.
        let mut control = server.control()?;
        poll::until_true("the broken ones are closed", Duration::from_secs(5), || {
            Ok(control.clients()? == 3)
        })
    })?;
    account.assert_bytes_equal();
    assert!(account.counted.unattributed("in") > 0, "{account:?}");
    assert!(
        reasons(&account)
            .iter()
            .all(|reason| ["incomplete", "protocol_error"].contains(reason)),
        "{account:?}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_monitor_is_accounted_for() -> Result<()> {
    let account = account_of(|connection, server| {
        let mut monitor = server.connect()?;
        monitor.ask(&[b"MONITOR"])?;
        go_on(connection)?;
        for _ in 0..10 {
            monitor.receive()?;
        }
        // It would hear of the INFO that closes the interval, after the server has made its figures.
        monitor.ask(&[b"QUIT"]).map(|_| ())
    })?;
    account.assert_bytes_equal();
    assert_eq!(account.counted.commands("after"), 10);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_replica_is_counted_at_its_primary_alone() -> Result<()> {
    let primary = Plan::valkey()?.start()?;
    let replica = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    let mut at_primary = Opening::at(&agent, &primary)?;
    let mut at_replica = Opening::at(&agent, &replica)?;

    let mut writer = primary.connect()?;
    for number in 0..1_000 {
        let key = format!("copied:{number}");
        writer.ask(&[b"SET", key.as_bytes(), &[b'x'; 200]])?;
    }
    let port = primary.port().to_string();
    replica
        .connect()?
        .ask(&[b"REPLICAOF", b"127.0.0.1", port.as_bytes()])?;
    let control = at_replica.control();
    poll::until_true("the replica is in step", Duration::from_secs(20), || {
        Ok(control.info("replication")?.contains("master_link_status:up"))
    })?;
    // Valkey does not count all that it sends while a replica joins, so out is compared from there on.
    let joined = at_primary.account(&agent)?;
    assert_eq!(joined.total().0, joined.server.bytes_in, "{joined:?}");
    assert!(
        joined.counted.prefixes["(replication)"].bytes_out > 10_000,
        "{joined:?}"
    );
    let mut at_primary = Opening::at(&agent, &primary)?;
    for _ in 0..1_000 {
        writer.ask(&[b"INCR", b"streamed:counter"])?;
    }
    // The replica speaks up once a second, maybe between the two counts: equal at some moment is equal.
    let account = poll::until("equal counts at the primary", Duration::from_secs(5), || {
        let account = at_primary.account(&agent)?;
        let server = (account.server.bytes_in, account.server.bytes_out);
        Ok((account.total() == server).then_some(account))
    })?;
    assert!(
        account.counted.prefixes["(replication)"].bytes_out > 30_000,
        "{account:?}"
    );
    assert_eq!(account.counted.commands("streamed"), 1_000);

    // What comes over the link is no client's: the server has it in its sum, and names it.
    let account = at_replica.account(&agent)?;
    let from_primary = at_replica.control().bytes_from_primary()?;
    assert!(from_primary > 10_000, "only {from_primary} bytes came");
    assert_eq!(
        account.total().0,
        account.server.bytes_in - from_primary,
        "{account:?}"
    );
    assert!(!account.counted.prefixes.contains_key("streamed"), "{account:?}");
    Ok(())
}
