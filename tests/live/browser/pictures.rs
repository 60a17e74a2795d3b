//! Pictures of the pages: two servers, three workloads, and one of the servers stops under its clients.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::unistd::Pid;
use stormglass_load::crowd::Crowd;
use stormglass_load::slow::Stopped;
use stormglass_tests::agent::Agent;
use stormglass_tests::resp::Connection;
use stormglass_tests::server::Plan;

const CONFIG: &str = "
[clients]
survey_seconds = 1

[incidents]
before_seconds = 20
after_seconds = 12

[[workload]]
name = \"cart-api\"
addresses = [\"127.71.0.0/16\"]

[[workload]]
name = \"search-api\"
addresses = [\"127.72.0.0/16\"]

[[workload]]
name = \"nightly-batch\"
addresses = [\"127.73.0.0/16\"]

[[tenant]]
name = \"checkout\"
owner = \"team-checkout\"
prefixes = [\"cart\", \"pay\"]

[[tenant]]
name = \"search\"
owner = \"team-search\"
prefixes = [\"search\", \"idx\"]
";

/// Longer than the agent learns before it judges.
const LEARNING: Duration = Duration::from_secs(16);

const WITHIN: Duration = Duration::from_secs(150);

/// How long the server is stopped, and how long its clients wait for it.
const STOPPED: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_millis(800);

/// Keys, sizes of their values, and who names himself how: library, version.
const TRAFFIC: [(&str, usize, &str, &str); 5] = [
    ("cart:1", 900, "go-redis", "9.17.3"),
    ("pay:1", 300, "valkey-py", "6.2.0"),
    ("search:1", 6_000, "ioredis", "6.0.0"),
    ("idx:1", 60, "lettuce", "6.8.1"),
    ("session:1", 40, "go-redis", "8.11.5"),
];

/// Takes them into `folder`. The agent of the test has to be gone.
pub(super) fn take(folder: &OsStr) -> Result<()> {
    let (calm, stormy) = (Plan::valkey()?.start()?, Plan::valkey()?.start()?);
    let (here, there) = (calm.port(), stormy.port());
    let agent = Agent::start_with(CONFIG)?;
    agent.sees(&calm.label())?;
    agent.sees(&stormy.label())?;
    let done = &AtomicBool::new(false);
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        for (index, (key, size, library, version)) in TRAFFIC.into_iter().enumerate() {
            let mut connection = if index % 2 == 0 {
                calm.connect()?
            } else {
                stormy.connect()?
            };
            connection.ask(&[b"CLIENT", b"SETINFO", b"LIB-NAME", library.as_bytes()])?;
            connection.ask(&[b"CLIENT", b"SETINFO", b"LIB-VER", version.as_bytes()])?;
            scope.spawn(move || traffic(connection, key, size, done));
        }
        scope.spawn(move || live(there, &[(71, 150, 8), (72, 20, 4)], stop, done));
        scope.spawn(move || live(here, &[(72, 40, 5), (73, 6, 2)], &AtomicBool::new(false), done));
        let taken = pose(&agent, folder, stormy.id(), stop);
        done.store(true, Ordering::Relaxed);
        taken
    })
}

/// The storm, when the reader is ready for it.
fn pose(agent: &Agent, folder: &OsStr, server: Pid, stop: &AtomicBool) -> Result<()> {
    thread::sleep(LEARNING);
    let mut reader = super::read(agent, include_str!("pictures.js"), folder)?;
    super::wait_for(&mut reader, "ready for the storm")?;
    let stopped = Stopped::stop(server)?;
    stop.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let seen = super::wait_for(&mut reader, "ready for the calm");
    thread::sleep(STOPPED.saturating_sub(began.elapsed()));
    drop(stopped);
    stop.store(false, Ordering::Relaxed);
    seen?;
    let finished = reader.finish(WITHIN)?;
    ensure!(finished.status.success(), "{}", finished.stderr);
    Ok(())
}

/// Crowds by network, instances and connections of each, who give up on a server that is stopped.
fn live(port: u16, crowds: &[(u8, u16, usize)], stop: &AtomicBool, done: &AtomicBool) -> Result<()> {
    let mut all = Vec::new();
    for (network, instances, each) in crowds {
        let mut crowd = Crowd::new(port, *network, *instances);
        crowd.arrive(*each)?;
        all.push(crowd);
    }
    while !done.load(Ordering::Relaxed) {
        for crowd in &mut all {
            crowd.ask();
        }
        thread::sleep(Duration::from_millis(100));
        for crowd in &mut all {
            crowd.listen();
            if stop.load(Ordering::Relaxed) {
                crowd.give_up(PATIENCE)?;
            }
        }
    }
    Ok(())
}

fn traffic(mut connection: Connection, key: &str, size: usize, done: &AtomicBool) -> Result<()> {
    let value = vec![b'v'; size];
    while !done.load(Ordering::Relaxed) {
        for _ in 0..20 {
            connection.ask(&[b"SET", key.as_bytes(), &value])?;
            connection.ask(&[b"GET", key.as_bytes()])?;
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
