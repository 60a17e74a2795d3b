//! The servers, and what happens at them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use aya::sys::{Stats, enable_stats};
use nix::unistd::Pid;
use stormglass_load::crowd::Crowd;
use stormglass_load::slow::Stopped;
use stormglass_tests::agent::Agent;
use stormglass_tests::resp::Connection;
use stormglass_tests::server::{Plan, Server};

/// Longer than the agent learns before it judges.
const LEARNING: Duration = Duration::from_secs(13);

/// How long everything goes on before the storm, and how long the storm does: longer than ten minutes of the rules.
const CALM: Duration = Duration::from_secs(8);
const STORM: Duration = Duration::from_secs(16);

/// How much more patient each wave of clients is than the one before.
const WAVE: Duration = Duration::from_millis(1_300);

/// How long things go on that have to hold for an hour: from the beginning on.
const HOUR: Duration = Duration::from_secs(64);

/// What is waited for when the storm is over, before panels are looked at.
const AFTER: Duration = Duration::from_secs(2);

/// A line of the configuration, and another one that only a restart brings into force.
pub(super) const PREFIXES: (&str, &str) = ("prefixes = 20", "prefixes = 21");

pub(super) fn config(dir: &Path, alertmanager: &str, nobody: u16) -> String {
    format!(
        "[clients]\nsurvey_seconds = 1\nidle_after_seconds = 2\n\n[limits]\n{}\n\n\
         # Network cards of virtual machines state no speed.\n\
         [storms.bandwidth_saturation]\nbytes_per_second = 125000000\n\n\
         [[workload]]\nname = \"cart-api\"\naddresses = [\"127.71.0.0/16\"]\n\n\
         [[workload]]\nname = \"batch\"\naddresses = [\"127.72.0.0/16\"]\n\n\
         [[tenant]]\nname = \"cart\"\nowner = \"team-cart\"\nprefixes = [\"cart\"]\n\n\
         [[tenant]]\nname = \"nightly\"\nclient_names = [\"nightly-*\"]\n\n\
         [alerts]\ndir = {dir:?}\nnode = \"host-1\"\n\n[alerts.alertmanager]\nurl = \"{alertmanager}\"\n\n\
         [[alerts.webhook]]\nname = \"away\"\nurl = \"http://127.0.0.1:{nobody}/\"\n\n\
         # What the API takes is a list of alerts: a webhook's message is refused by it.\n\
         [[alerts.webhook]]\nname = \"refuses\"\nurl = \"{alertmanager}/api/v2/alerts\"\n",
        PREFIXES.0
    )
}

/// Servers with their parts.
pub(super) struct Stage {
    /// Everything that a panel shows happens here.
    main: Server,
    /// Has the same storm as the first.
    second: Server,
    /// Takes forty clients.
    full: Server,
    /// Has a short accept queue before many clients, and some that make no sense.
    odd: Server,
    /// Restarts.
    restless: Server,
}

impl Stage {
    /// Starts them, and lets the agent learn what is usual.
    pub(super) fn set(agent: &Agent) -> Result<Self> {
        let server = |config: &str| -> Result<Server> {
            let server = Plan::valkey()?.config(config).start()?;
            agent.sees(&server.label())?;
            Ok(server)
        };
        Ok(Self {
            main: server("tcp-backlog 64\n")?,
            second: server("tcp-backlog 64\n")?,
            full: server("maxclients 40\n")?,
            odd: server("tcp-backlog 4\n")?,
            restless: server("")?,
        })
    }

    /// The server at which everything happens.
    pub(super) fn label(&self) -> String {
        self.main.label()
    }

    /// Plays all scenes, and calls `look` while everything can still be seen. The agent is given back.
    pub(super) fn play(self, agent: Agent, look: impl FnOnce(&Agent) -> Result<()>) -> Result<Agent> {
        // For the panels of what the kernel programs cost. The kernel stops counting when this is dropped, and when the test dies.
        let _statistics = enable_stats(Stats::RunTime)?;
        let over = AtomicBool::new(false);
        let began = Instant::now();
        let (main, second) = (self.main.address(), self.second.port());
        let (full, odd) = (self.full.address(), self.odd.address());
        let (main_id, second_id) = (self.main.id(), self.second.id());
        let mut restless = Some(self.restless);
        let outcome = thread::scope(|scope| -> Result<()> {
            let running = [
                scope.spawn(|| until(&over, |turn| chat(main, turn))),
                scope.spawn(|| until(&over, |turn| strangers(full, turn))),
                scope.spawn(|| until(&over, |turn| senseless(odd, turn))),
                scope.spawn(|| crowded(odd.port(), &over)),
            ];
            let played = (|| {
                let mut members = Crowd::new(full.port(), 71, 36);
                members.arrive(1)?;
                sleep(LEARNING.saturating_sub(began.elapsed()));
                for _ in 0..3 {
                    let server = restless.take().context("no server")?;
                    sleep(Duration::from_secs(2));
                    restless = Some(server.stop()?.start()?);
                }
                refused(full.port(), CALM)?;
                storm([(main.port(), main_id), (second, second_id)])?;
                sleep(AFTER);
                sleep(HOUR.saturating_sub(began.elapsed()));
                look(&agent)
            })();
            over.store(true, Ordering::Relaxed);
            for thread in running {
                thread.join().map_err(|_| anyhow!("a scene panicked"))??;
            }
            played
        });
        outcome.with_context(|| format!("the agent's log:\n{}", agent.log()))?;
        Ok(agent)
    }
}

/// Calls a scene's part again and again. While its server is stopped it may fail: then it begins anew.
fn until(over: &AtomicBool, mut scene: impl FnMut(&dyn Fn() -> bool) -> Result<()>) -> Result<()> {
    let goes_on = || !over.load(Ordering::Relaxed);
    while goes_on() {
        if scene(&goes_on).is_err() {
            sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

/// Two hundred commands a second: reads that hit and that miss, values of several sizes, every fifth an error; beside the
/// tenant's, which has a row of its own supply, more prefixes than there is room for.
fn chat(server: SocketAddr, goes_on: &dyn Fn() -> bool) -> Result<()> {
    let mut connection = Connection::open(server)?;
    connection.ask(&[b"CLIENT", b"SETINFO", b"LIB-NAME", b"stage"])?;
    connection.ask(&[b"CLIENT", b"SETINFO", b"LIB-VER", b"1.0"])?;
    connection.ask(&[b"SET", b"cart:1", &[b'x'; 700]])?;
    for number in 0..24 {
        connection.ask(&[b"SET", format!("p{number}:1").as_bytes(), b"one"])?;
    }
    while goes_on() {
        for _ in 0..3 {
            connection.ask(&[b"GET", b"cart:1"])?;
        }
        connection.ask(&[b"GET", b"cart:none"])?;
        connection.call(&[b"LPUSH", b"cart:1", b"x"])?;
        sleep(Duration::from_millis(25));
    }
    Ok(())
}

/// A nightly job that reads another tenant's keys.
fn strangers(server: SocketAddr, goes_on: &dyn Fn() -> bool) -> Result<()> {
    let mut connection = Connection::open(server)?;
    connection.ask(&[b"CLIENT", b"SETNAME", b"nightly-1"])?;
    while goes_on() {
        connection.ask(&[b"GET", b"cart:1"])?;
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Probes that open, say PING and close, and somebody who does not speak the protocol.
fn senseless(server: SocketAddr, goes_on: &dyn Fn() -> bool) -> Result<()> {
    let nonsense = [b"*1\r\n$-9\r\n".as_slice(), &[b'x'; 4_000]].concat();
    while goes_on() {
        for _ in 0..3 {
            Connection::open(server)?.ask(&[b"PING"])?;
        }
        let mut stream = TcpStream::connect(server)?;
        stream.write_all(&nonsense)?;
        // The server says why and closes; what it says does not matter.
        _ = stream.read(&mut [0; 512]);
        sleep(Duration::from_millis(150));
    }
    Ok(())
}

/// Many clients of a server that lets few of them wait.
fn crowded(port: u16, over: &AtomicBool) -> Result<()> {
    let mut crowd = Crowd::new(port, 72, 150);
    crowd.arrive(1)?;
    while !over.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Clients that come to a full server again and again.
fn refused(port: u16, how_long: Duration) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < how_long {
        let mut more = Crowd::new(port, 72, 10);
        more.open(1)?;
        sleep(Duration::from_millis(400));
        more.leave();
    }
    Ok(())
}

/// Servers that stop under clients that time out and come again, until their accept queues overflow.
fn storm(servers: [(u16, Pid); 2]) -> Result<()> {
    // Some are less patient than others: they give up in waves, for as long as the alert has to hold.
    let waves = |(port, _): (u16, Pid)| (1..=6).map(move |wave| (Crowd::new(port, 71, 20), WAVE * wave));
    let mut crowds: Vec<_> = servers.into_iter().flat_map(waves).collect();
    for (crowd, _) in &mut crowds {
        crowd.arrive(1)?;
        crowd.ask();
    }
    sleep(Duration::from_secs(1));
    for (crowd, _) in &mut crowds {
        crowd.listen();
    }
    let [one, other] = servers.map(|(_, id)| Stopped::stop(id));
    let _stopped = (one?, other?);
    let began = Instant::now();
    while began.elapsed() < STORM {
        for (crowd, patience) in &mut crowds {
            crowd.ask();
            crowd.give_up(*patience)?;
        }
        sleep(Duration::from_millis(100));
    }
    Ok(())
}
