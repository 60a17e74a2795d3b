//! Connections that are met in mid-stream at moments that look like restart points and are none.

use anyhow::Result;
use stormglass_tests::agent::Agent;
use stormglass_tests::ledger::Opening;
use stormglass_tests::resp::frame;
use stormglass_tests::server::Plan;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_value_that_looks_like_commands_is_not_taken_for_them_after_an_answer_to_an_earlier_command() -> Result<()>
{
    let server = Plan::valkey()?.start()?;
    let inner = frame(&[b"SET", b"forged:1", b"value"]);
    let value = [&inner[..], &inner[..]].concat();
    let outer = frame(&[b"SET", b"real:1", &value]);
    let head = outer.len() - value.len() - 2;
    let mut connection = server.connect()?;
    connection.send(&[b"BLPOP", b"real:list", b"0"])?;
    connection.send_bytes(&outer[..head])?;
    server.control()?.traffic()?;

    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;
    server.connect()?.ask(&[b"LPUSH", b"real:list", b"x"])?;
    // The server has spoken last, and yet this is the inside of a value.
    connection.receive()?;
    connection.send_bytes(&outer[head..])?;
    connection.receive()?;
    let account = opening.account(&agent)?;
    account.assert_bytes_equal();
    assert_eq!(account.counted.commands("forged"), 0, "{account:?}");
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn the_reply_to_a_command_from_before_the_agent_is_not_counted_for_a_later_one() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let mut connection = server.connect()?;
    for list in [&b"old:1"[..], b"old:2"] {
        connection.send(&[b"BLPOP", list, b"0"])?;
    }
    server.control()?.traffic()?;

    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;
    server.connect()?.ask(&[b"LPUSH", b"old:1", b"x"])?;
    connection.receive()?;
    // The server has spoken last, but still owes a reply.
    connection.send(&[b"SET", b"new:1", b"value"])?;
    server.connect()?.ask(&[b"LPUSH", b"old:2", &[b'x'; 5_000]])?;
    connection.receive()?;
    connection.receive()?;
    for _ in 0..3 {
        connection.ask(&[b"SET", b"new:1", b"value"])?;
    }
    let account = opening.account(&agent)?;
    account.assert_bytes_equal();
    let new = account.counted.prefixes.get("new").copied().unwrap_or_default();
    assert!(new.bytes_out <= 4 * 5, "{account:?}");
    Ok(())
}
