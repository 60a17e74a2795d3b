//! Secrets in segments that come before the one they follow: the agent keeps a copy of them for a while.

use std::net::{SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt::Linger};
use stormglass_tests::poll;
use stormglass_tests::resp::Connection;
use stormglass_tests::secrets::Secrets;
use stormglass_tests::server::Plan;
use stormglass_tests::wire::{self, Wire};

use super::search::Watched;
use super::speech::{LENGTH, say, written};

/// Bytes of the segment that is lost, and of the one behind it.
const LOST: usize = 500;
const EARLY: usize = 1_000;

/// Lengths of packets that are lost: the first of them, with its headers of some 52 bytes, and not the second.
const LOST_LENGTHS: RangeInclusive<u16> = 501..=1_000;

/// Commands in both.
const COMMANDS: usize = 5;

/// How long a copy is kept whose connection has ended, with room.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn nothing_is_left_of_segments_that_came_early_once_they_are_read_or_given_up() -> Result<()> {
    let wire = Wire::create()?;
    let server = Plan::valkey()?
        .netns(&wire.server)
        .bind(&["127.0.0.1", &wire::SERVER.to_string()])
        .start()?;
    let watched = Watched::start("")?;
    watched.agent.sees(&server.label())?;
    let address = (wire::SERVER, server.port()).into();
    let mut secrets = Secrets::default();

    let mut patient = Connection::over(wire.client.inside(|| dial(address))?)?;
    let stream = wire.client.inside(|| dial(address))?;
    // With an end that is no farewell: nobody repeats what was lost.
    setsockopt(
        &stream,
        Linger,
        &nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        },
    )?;
    let mut abandoned = Connection::over(stream)?;
    for connection in [&mut patient, &mut abandoned] {
        say(connection, &["PING"])?;
    }
    wire.router.lose(&LOST_LENGTHS)?;
    let mut expected = Vec::new();
    for (connection, who) in [(&mut patient, "patient"), (&mut abandoned, "abandoned")] {
        expected.extend(early(connection, &mut secrets, who)?);
    }
    // Because something must be found here, the search works. Each segment is in one place or two.
    poll::until_true("secrets in parked segments", Duration::from_secs(1), || {
        let finds = watched.parking()?.find(&secrets);
        Ok(expected
            .iter()
            .all(|secret| finds.iter().any(|find| find.trace.secret == *secret)))
    })?;

    drop(abandoned);
    wire.router.lose_no_more()?;
    for _ in 0..COMMANDS {
        patient.receive()?;
    }
    let finds = watched.parking()?.find(&secrets);
    let left = finds.iter().find(|find| find.trace.secret.starts_with("patient"));
    ensure!(left.is_none(), "{left:?}");
    let label = server.label();
    let holes = [("server", &*label), ("direction", "in"), ("reason", "hole")];
    let lost = watched
        .agent
        .scrape()?
        .count("stormglass_unattributed_bytes_total", &holes);
    ensure!(lost == 0, "it was not read but given up: {lost} bytes");

    poll::until_true("the end of the parking", FORGOTTEN_WITHIN, || {
        Ok(watched.agent.parked()? == 0)
    })?;
    watched.look(&[server.id()])?.assert_nothing(&secrets);
    watched.end(&secrets)
}

/// Sends a segment that is lost and one behind it, full of secrets. Returns what they are.
fn early(connection: &mut Connection, secrets: &mut Secrets, who: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut secret = |what: &str| {
        names.push(format!("{who} {what}"));
        secrets.make(&format!("{who} {what}"), LENGTH)
    };
    let lost = padded(&[], &secret("lost value"), LOST);
    let early = [
        written(&["AUTH", "alice", &secret("password")]),
        written(&["SET", "cart:1", &secret("value")]),
        written(&["GET", &format!("cart:{}", secret("key"))]),
    ];
    let early = padded(&early.concat(), &secret("long value"), EARLY);
    connection.send_bytes(&lost)?;
    connection.send_bytes(&early)?;
    // What was lost is nowhere.
    Ok(names.split_off(1))
}

/// Commands, and one more that makes `length` bytes of them.
fn padded(commands: &[u8], value: &str, length: usize) -> Vec<u8> {
    let command = |bytes: usize| {
        let value = value.repeat(bytes / value.len() + 1);
        written(&["SET", "cart:2", &value[..bytes]])
    };
    let head = commands.len() + command(100).len() - 100;
    [commands, &command(length - head)].concat()
}

fn dial(address: SocketAddr) -> Result<TcpStream> {
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).context("cannot connect")
}
