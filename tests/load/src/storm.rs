//! `stormglass-load storm KIND` and `stormglass-load life`: a line of JSON on standard output for each thing that happens.

use std::io::{Write as _, stdout};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use stormglass_load::place::{Namespace, Place};
use stormglass_load::storms::{Kind, Life, Size, Storm, now_ms};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

/// How a storm is played.
#[derive(Args)]
pub(crate) struct StormOptions {
    /// What it is
    kind: Kind,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    size: Size,
    /// Normal life before it, in seconds; an agent that is new to a server learns for ten
    #[arg(long, default_value_t = 15)]
    before: u64,
    /// Normal life after it, in seconds
    #[arg(long, default_value_t = 5)]
    after: u64,
}

/// How normal life is played.
#[derive(Args)]
pub(crate) struct LifeOptions {
    #[command(flatten)]
    target: Target,
    /// Another server, which becomes a replica of the first now and then, and loses what it holds
    #[arg(long, value_name = "ADDRESS:PORT")]
    replica: Option<SocketAddrV4>,
    /// How long, in seconds; whatever belongs to it happens once at least, which takes three minutes or more
    #[arg(long, default_value_t = 300)]
    seconds: u64,
}

#[derive(Args)]
struct Target {
    /// Server, on a loopback address, unless --netns is given
    #[arg(long = "target", value_name = "ADDRESS:PORT")]
    server: SocketAddrV4,
    /// Network namespace of the clients (/run/netns/NAME), which come from N.71.0.0/16 and N.72.0.0/16, if the server's address begins
    /// with N; both have to be addresses of that namespace, `ip route add local N.71.0.0/16 dev lo`
    #[arg(long, value_name = "FILE")]
    netns: Option<PathBuf>,
    /// The server's process, for storms that stop it
    #[arg(long, value_name = "PID")]
    process: Option<i32>,
    /// The same seed draws the same sizes; 0: those of the case that was reported
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Target {
    fn place(&self) -> Result<Place> {
        ensure!(
            self.server.ip().is_loopback() || self.netns.is_some(),
            "{} is not a loopback address: storms are for servers of one's own, here or in network namespaces",
            self.server
        );
        Ok(Place {
            address: self.server,
            process: self.process.map(Pid::from_raw),
            namespace: self.netns.as_deref().map(Namespace::open).transpose()?,
        })
    }
}

/// Plays a storm with the life before and after it.
pub(crate) fn storm(options: &StormOptions) -> Result<()> {
    let place = options.target.place()?;
    end_in_order(place.process)?;
    let mut storm = Storm::sized(options.kind, place, options.target.seed, options.size)?;
    say(&json!({"event": "arrived", "at_ms": now_ms(), "kind": options.kind}))?;
    storm.live(Duration::from_secs(options.before))?;
    let course = storm.break_out()?;
    say(&json!({"event": "over", "at_ms": now_ms(), "course": course}))?;
    storm.live(Duration::from_secs(options.after))
}

/// Plays normal life.
pub(crate) fn life(options: &LifeOptions) -> Result<()> {
    let place = options.target.place()?;
    let mut life = Life::begin(place, options.replica, options.target.seed)?;
    say(&json!({"event": "arrived", "at_ms": now_ms()}))?;
    for event in life.go_on(Duration::from_secs(options.seconds))? {
        say(&json!({"event": "happened", "at_ms": event.at_ms, "what": event.what}))?;
    }
    Ok(())
}

/// A server that is stopped goes on when SIGTERM or SIGINT ends the storm.
fn end_in_order(server: Option<Pid>) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    drop(entered);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        if let Some(server) = server {
            // It fails if the server has ended.
            _ = kill(server, Signal::SIGCONT);
        }
        std::process::exit(1);
    });
    Ok(())
}

fn say(line: &Value) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("cannot print what happened")
}
