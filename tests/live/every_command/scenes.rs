//! What takes two connections, or ends one, or ends the server.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use stormglass_tests::agent::Agent;
use stormglass_tests::resp::Reply;
use stormglass_tests::server::Server;

use super::manner::Manner;
use super::session::{Line, Session, number_of};

/// How long a server may take for what it does by itself: it blocks, forks, notices.
const SOON: Duration = Duration::from_secs(5);

/// A pause in what the server sends that must be its end.
const QUIET: Duration = Duration::from_millis(200);

/// A scene that leaves the server as it was.
type Scene = fn(&mut Session<'_>) -> Result<()>;

/// All of them.
pub(super) const SCENES: [Scene; 10] = [
    blocked_clients_are_woken,
    messages_come_unasked,
    all_channels_are_left_but_not_the_patterns,
    invalidations_come_unasked,
    a_monitor_watches,
    clients_are_killed,
    endless_scripts_are_killed,
    reset_ends_every_mode,
    replies_are_switched_off,
    transactions_hold_blocking_commands,
];

/// Commands that wait, and are woken by another connection or by its word.
fn blocked_clients_are_woken(session: &mut Session<'_>) -> Result<()> {
    let mut waiter = session.connect()?;
    let mut waker = session.connect()?;
    let number = number_of(&mut waiter)?;
    let unblock = format!("CLIENT UNBLOCK {number}");
    let wakers = [
        ("BLPOP woken-1:k woken-1o:k 0", "RPUSH woken-1:k x"),
        ("BRPOP woken-2:k woken-2o:k 0", "RPUSH woken-2o:k x"),
        ("BLMOVE woken-3:k woken-3o:k LEFT LEFT 0", "RPUSH woken-3:k x"),
        ("BRPOPLPUSH woken-4:k woken-4o:k 0", "RPUSH woken-4:k x"),
        ("BLMPOP 0 2 woken-5:k woken-5o:k LEFT", "RPUSH woken-5o:k x"),
        ("BZPOPMIN woken-6:k woken-6o:k 0", "ZADD woken-6o:k 1 x"),
        ("BZPOPMAX woken-7:k woken-7o:k 0", "ZADD woken-7:k 1 x"),
        ("BZMPOP 0 2 woken-8:k woken-8o:k MAX", "ZADD woken-8o:k 1 x"),
        (
            "XREAD BLOCK 0 STREAMS woken-9:k woken-9o:k $ $",
            "XADD woken-9o:k * a 1",
        ),
        ("BLPOP woken-10:k 0", &unblock),
    ];
    for (waits, wakes) in wakers {
        let row = first_prefix(waits);
        waiter.send(&words(waits), &row)?;
        let list = format!("CLIENT LIST ID {number}");
        wait_until(&mut waker, &list, |list| list.contains("flags=b"))?;
        waker.ask(wakes, &first_prefix(wakes))?;
        waiter.receive(&row)?;
    }
    Ok(())
}

/// Messages to subscribers are channel traffic, and what a subscriber does besides is not.
fn messages_come_unasked(session: &mut Session<'_>) -> Result<()> {
    let mut listener = session.connect()?;
    let mut speaker = session.connect()?;
    for command in ["SUBSCRIBE heard:1", "PSUBSCRIBE heard:*", "SSUBSCRIBE shard:1"] {
        listener.ask(command, "(pubsub)")?;
    }
    for _ in 0..3 {
        speaker.ask("PUBLISH heard:1 said:1", "(pubsub)")?;
        speaker.ask("SPUBLISH shard:1 said:1", "(pubsub)")?;
        for _ in 0..3 {
            listener.receive("(pubsub)")?;
        }
        listener.ask("PING", "(keyless)")?;
    }
    for command in [
        "UNSUBSCRIBE heard:1",
        "PUNSUBSCRIBE heard:*",
        "SUNSUBSCRIBE shard:1",
    ] {
        listener.ask(command, "(pubsub)")?;
    }
    listener.ask("GET silence:1", "silence").map(|_| ())
}

/// UNSUBSCRIBE without channels leaves the patterns alone; what comes next has its own confirmation.
fn all_channels_are_left_but_not_the_patterns(session: &mut Session<'_>) -> Result<()> {
    for next in ["PUNSUBSCRIBE", "SUBSCRIBE left:2"] {
        let mut line = session.connect()?;
        for command in ["SUBSCRIBE left:1", "PSUBSCRIBE left:*", "UNSUBSCRIBE", next] {
            line.ask(command, "(pubsub)")?;
        }
        line.ask("PING", "(keyless)")?;
    }
    Ok(())
}

/// Client-side caching: what the server says of changed keys is channel traffic, whoever changed them.
fn invalidations_come_unasked(session: &mut Session<'_>) -> Result<()> {
    let mut reader = session.connect()?;
    let mut writer = session.connect()?;
    let mut listener = session.connect()?;
    let pushed = session.manner == Manner::Resp3;
    if pushed {
        reader.ask("CLIENT TRACKING ON", "(keyless)")?;
    } else {
        let number = number_of(&mut listener)?;
        listener.ask("SUBSCRIBE __redis__:invalidate", "(pubsub)")?;
        reader.ask(&format!("CLIENT TRACKING ON REDIRECT {number}"), "(keyless)")?;
    }
    for value in ["1", "2", "3"] {
        reader.ask("GET cached:1", "cached")?;
        writer.ask(&format!("SET cached:1 {value}"), "cached")?;
        let hears = if pushed { &mut reader } else { &mut listener };
        hears.receive("(pubsub)")?;
    }
    reader.ask("CLIENT TRACKING OFF", "(keyless)").map(|_| ())
}

/// The lines of a monitor have no key, whatever they speak of.
fn a_monitor_watches(session: &mut Session<'_>) -> Result<()> {
    let mut worker = session.connect()?;
    let mut monitor = session.connect()?;
    monitor.ask("MONITOR", "(keyless)")?;
    for number in 0..10 {
        worker.ask(&format!("SET watched:{number} value"), "watched")?;
        monitor.receive("(keyless)")?;
    }
    monitor.ask("QUIT", "(keyless)").map(|_| ())
}

/// One client ends another.
fn clients_are_killed(session: &mut Session<'_>) -> Result<()> {
    let mut killer = session.connect()?;
    for (waits, flags) in [("BLPOP victim:1 0", "flags=b"), ("GET victim:1", "flags=N")] {
        let mut victim = session.connect()?;
        let number = number_of(&mut victim)?;
        victim.send(&words(waits), "victim")?;
        if flags == "flags=N" {
            victim.receive("victim")?;
        }
        let list = format!("CLIENT LIST ID {number}");
        wait_until(&mut killer, &list, |list| list.contains(flags))?;
        killer.ask(&format!("CLIENT KILL ID {number}"), "(keyless)")?;
        victim.drain("victim", QUIET)?;
    }
    Ok(())
}

/// A script and a function that never end, until somebody says so.
fn endless_scripts_are_killed(session: &mut Session<'_>) -> Result<()> {
    let mut killer = session.connect()?;
    killer.ask("CONFIG SET busy-reply-threshold 1", "(keyless)")?;
    let library = "#!lua name=endless\nserver.register_function('endless', function() while true do end end)";
    let load = ["FUNCTION", "LOAD", library].map(|word| word.as_bytes().to_vec());
    killer.send(&load, "(keyless)")?;
    ensure!(
        !matches!(killer.receive("(keyless)")?, Reply::Error(_)),
        "no library"
    );

    let script = ["EVAL", "while true do end", "1", "endless-1:k"];
    let function = ["FCALL", "endless", "2", "endless-2:k", "endless-2o:k"];
    for (call, row, kill) in [
        (&script[..], "endless-1", "SCRIPT KILL"),
        (&function[..], "endless-2", "FUNCTION KILL"),
    ] {
        let mut victim = session.connect()?;
        let call: Vec<_> = call.iter().map(|word| word.as_bytes().to_vec()).collect();
        victim.send(&call, row)?;
        wait_until(&mut killer, "DBSIZE", |answer| answer.starts_with("BUSY"))?;
        killer.ask(kill, "(keyless)")?;
        ensure!(
            matches!(victim.receive(row)?, Reply::Error(_)),
            "it has ended by itself"
        );
    }
    killer.ask("CONFIG SET busy-reply-threshold 5000", "(keyless)")?;
    killer.ask("FUNCTION DELETE endless", "(keyless)").map(|_| ())
}

/// Asks for something without a key until the answer is as it must become.
fn wait_until(line: &mut Line, question: &str, condition: impl Fn(&str) -> bool) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < SOON {
        line.send(&words(question), "(keyless)")?;
        let answer = match line.receive("(keyless)")? {
            Reply::Error(error) => error,
            Reply::Integer(number) => number.to_string(),
            reply => reply.text()?,
        };
        if condition(&answer) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("{question}: not as it must be within {SOON:?}")
}

/// After RESET a connection is new again, whatever it was.
fn reset_ends_every_mode(session: &mut Session<'_>) -> Result<()> {
    let mut line = session.connect()?;
    line.ask("SUBSCRIBE again:1", "(pubsub)")?;
    line.ask("RESET", "(keyless)")?;
    line.ask("MONITOR", "(keyless)")?;
    line.ask("RESET", "(keyless)")?;
    line.ask("SET again:1 value", "again")?;
    line.ask("QUIT", "(keyless)").map(|_| ())
}

/// Replies that are switched off: commands count, and have no reply.
fn replies_are_switched_off(session: &mut Session<'_>) -> Result<()> {
    let mut line = session.connect()?;
    line.send(&words("CLIENT REPLY OFF"), "(keyless)")?;
    for _ in 0..10 {
        line.send(&words("SET silent:1 value"), "silent")?;
        line.send(&words("PING"), "(keyless)")?;
    }
    line.ask("CLIENT REPLY ON", "(keyless)")?;
    line.ask("SET loud:1 value", "loud")?;
    line.send(&words("CLIENT REPLY SKIP"), "(keyless)")?;
    line.send(&words("SET silent:1 value"), "silent")?;
    line.ask("SET loud:1 value", "loud").map(|_| ())
}

/// In a transaction nothing blocks: the reply is there at once, and belongs to EXEC.
fn transactions_hold_blocking_commands(session: &mut Session<'_>) -> Result<()> {
    let mut line = session.connect()?;
    line.ask("MULTI", "(keyless)")?;
    line.ask("BLPOP queued:1 0", "queued")?;
    line.ask("XREAD BLOCK 0 STREAMS queued:2 $", "queued")?;
    line.ask("EXEC", "(keyless)").map(|_| ())
}

/// Both ways of becoming a replica: what comes from there on is the link's.
pub(super) fn replicas_join(session: &mut Session<'_>) -> Result<()> {
    let mut control = session.connect()?;
    control.ask("CONFIG SET repl-diskless-sync-delay 0", "(keyless)")?;
    control.ask("CONFIG SET repl-ping-replica-period 3600", "(keyless)")?;
    for command in ["SYNC", "PSYNC ? -1"] {
        let mut replica = session.connect()?;
        replica.ask("REPLCONF capa psync2", "(replication)")?;
        replica.send(&words(command), "(replication)")?;
        wait_until(&mut control, "INFO replication", |info| {
            info.contains("state=online")
        })?;
        replica.drain("(replication)", QUIET)?;
        control.ask("SET streamed:1 value", "streamed")?;
        ensure!(
            replica.drain("(replication)", QUIET)? > 30,
            "{command}: nothing is replicated"
        );
        session.settle()?;
        drop(replica);
        wait_until(&mut control, "INFO replication", |info| {
            info.contains("connected_slaves:0")
        })?;
    }
    Ok(())
}

/// The server's own figures begin at zero again; the agent's do not.
pub(super) fn figures_are_reset(session: &mut Session<'_>) -> Result<()> {
    session
        .connect()?
        .ask("CONFIG RESETSTAT", "(keyless)")
        .map(|_| ())
}

/// The last command of all. What it cost is in the figures of the server that follows it.
pub(super) fn the_server_ends(session: &mut Session<'_>, agent: &Agent, server: Server) -> Result<()> {
    let mut line = session.connect()?;
    line.send(&words("SHUTDOWN NOSAVE NOW FORCE"), "(keyless)")?;
    line.drain("(keyless)", SOON)?;
    let plan = server.stop()?;
    agent.forgets(session.label())?;
    let _successor = plan.start()?;
    agent.sees(session.label())?;
    session.settle()
}

fn words(command: &str) -> Vec<Vec<u8>> {
    command.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// The prefix of the first word with a colon.
fn first_prefix(command: &str) -> String {
    let keyed = command.split(' ').find_map(|word| word.split_once(':'));
    keyed.map_or_else(|| "(keyless)".into(), |(prefix, _)| prefix.to_owned())
}
