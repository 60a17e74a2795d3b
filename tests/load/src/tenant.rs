//! `stormglass-load tenant`: one tenant's normal life, and at its end a report of what went over its sockets.

use std::io::{Write as _, stdout};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::fleet::{self, Fleet, Life};
use crate::ledger::Ledger;
use crate::traffic::Mix;

/// What a tenant is like.
#[derive(Args)]
pub(crate) struct Options {
    /// Name of the tenant; its connections call themselves NAME-INSTANCE
    #[arg(long)]
    name: String,
    /// Server to talk to; give it several times for several servers
    #[arg(long = "target", required = true, value_name = "ADDRESS:PORT")]
    targets: Vec<SocketAddr>,
    /// First part of the keys, without the colon; give it several times for several prefixes
    #[arg(long = "prefix", required = true)]
    prefixes: Vec<String>,
    /// Service instances, each with a source address of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_000))]
    instances: u32,
    /// Connections that each instance holds to each server
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Source address of the first instance; the next ones follow it
    #[arg(long, default_value = "127.0.0.1")]
    source: Ipv4Addr,
    /// Commands per second, all instances and servers together
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Size of every value, in bytes
    #[arg(long, default_value_t = 512)]
    value_bytes: usize,
    /// Different keys per prefix
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Share of commands that read (GET, MGET), in percent; the others write (SET, INCR, EXPIRE)
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100))]
    reads: u8,
    /// Longest pipeline, in commands; a quarter of all writes to a socket are pipelines
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pipeline: u32,
    /// Mean life of an instance, in seconds, after which it opens all its connections anew; 0: it lives on
    #[arg(long, default_value_t = 0)]
    instance_seconds: u64,
    /// Speak RESP3 instead of RESP2
    #[arg(long)]
    resp3: bool,
    /// When to end, in seconds; SIGTERM and SIGINT end it earlier. Commands under way are finished in any case
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// The same seed sends the same commands
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Lives the tenant's life, then prints the report as one line of JSON on standard output.
pub(crate) fn run(options: &Options) -> Result<()> {
    let fleet = Arc::new(options.fleet()?);
    let ledger = Arc::new(Ledger::new(&options.targets));
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let end = end_of_life(Duration::from_secs(options.seconds))?;
        fleet::run(fleet, Arc::clone(&ledger), end).await;
        anyhow::Ok(())
    })?;
    let report = ledger.report(&options.name);
    if let Some(error) = ledger.first_error() {
        if report.commands() == 0 {
            bail!("no command got through: {error}");
        }
        eprintln!("{} errors; the first: {error}", report.errors());
    }
    let mut line = serde_json::to_string(&report)?;
    line.push('\n');
    stdout()
        .write_all(line.as_bytes())
        .context("cannot write the report")
}

impl Options {
    fn fleet(&self) -> Result<Fleet> {
        let last = u32::from(self.source).checked_add(self.instances - 1);
        if !self.source.is_loopback() || !last.is_some_and(|last| Ipv4Addr::from(last).is_loopback()) {
            bail!(
                "--source {}: {} instances need loopback addresses (127.0.0.0/8)",
                self.source,
                self.instances
            );
        }
        Ok(Fleet {
            name: self.name.clone(),
            targets: self.targets.clone(),
            first_source: self.source,
            instances: self.instances,
            connections: self.connections,
            commands_per_second: self.rate,
            life: match self.instance_seconds {
                0 => Life::Endless,
                seconds => Life::Mean(Duration::from_secs(seconds)),
            },
            resp3: self.resp3,
            mix: Mix {
                prefixes: self.prefixes.clone(),
                keys: self.keys,
                value_bytes: self.value_bytes,
                read_percent: self.reads,
                longest_pipeline: self.pipeline,
            },
            seed: self.seed,
        })
    }
}

/// Is done when the time is over or a signal asks for the end. The handlers are in place when this returns.
fn end_of_life(time: Duration) -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    Ok(async move {
        tokio::select! {
            () = sleep(time) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
