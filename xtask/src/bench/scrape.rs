//! `cargo xtask bench scrape`: how long a scrape takes when a flood has filled every table of the agent, as an HTTP client sees
//! it. docs/BENCHMARKS.md says how to read it.

mod flood;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::time::ClockId;
use nix::unistd::Pid;

use super::statistics::{Spread, percentile};
use crate::build;
use crate::lab::{Lab, servers};
use crate::process::say;
use crate::rig::agent::Agent;
use crate::rig::cgroup::Tree;
use crate::rig::check_host;
use crate::rig::interrupt::Interrupt;
use crate::rig::ports;
use crate::rig::server::Server;

/// What is asked for.
const MOST_MILLISECONDS: f64 = 250.0;

/// Port that the server is given, if it is free.
const FIRST_PORT: u16 = 7101;

/// Clients of a full table: a few may have gone meanwhile.
const LEAST_CLIENTS: usize = 65_000;

/// After the flood, until the agent has looked at everything once.
const SETTLE: Duration = Duration::from_secs(5);

/// Between two scrapes. No part of a second: scrapes meet what the agent does every second, or not, by chance.
const PAUSE: Duration = Duration::from_millis(370);

/// What `cargo xtask bench scrape` can be told.
#[derive(Args)]
pub(super) struct Options {
    /// Measured scrapes of each agent
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    scrapes: u32,
    /// An agent that is there, instead of building that of this workspace
    #[arg(long, value_name = "PROGRAM")]
    agent: Option<PathBuf>,
    /// Another agent, such as one from before a change: it watches the same flood and is scraped in turns
    #[arg(long, value_name = "PROGRAM")]
    beside: Option<PathBuf>,
}

/// Measures, and fails if the median is above what is asked for.
pub(super) fn run(lab: &Lab, options: &Options) -> Result<()> {
    check_host("bench scrape")?;
    servers::ensure_servers(lab)?;
    if options.agent.is_none() {
        build::run(lab)?;
    }
    let interrupt = Interrupt::new()?;
    interrupt.settle("benchmark", measure(lab, options, &interrupt))
}

fn measure(lab: &Lab, options: &Options, interrupt: &Interrupt) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("stormglass-bench-")
        .tempdir()
        .context("cannot create a temporary folder")?;
    let cgroups = Tree::create("stormglass-bench")?;
    let port = ports::free_from(FIRST_PORT)?;
    let server = Server::start_with(lab, &cgroups, folder.path(), port, flood::SERVER)?;
    let agent = options.agent.clone().unwrap_or_else(|| lab.agent());
    let programs = [Some(agent), options.beside.clone()];
    let mut subjects = Vec::new();
    for (number, program) in programs.into_iter().flatten().enumerate() {
        let folder = folder.path().join(number.to_string());
        fs::create_dir(&folder)?;
        let label = [server.label()];
        let agent = Agent::start_program(&program, &folder, &[port], flood::TENANT, &label, interrupt)?;
        subjects.push(Subject::new(["this", "beside"][number], agent));
    }
    say("the flood");
    flood::run(server.address())?;
    interrupt.sleep(SETTLE)?;
    say(format!("{} scrapes of each agent", options.scrapes));
    for subject in &mut subjects {
        subject.scrape().context("the scrape that does not count")?;
        subject.scrapes.clear();
    }
    for round in 0..options.scrapes {
        for at in 0..subjects.len() {
            interrupt.sleep(PAUSE)?;
            // Each is the first in half of the rounds.
            let at = (at + round as usize) % subjects.len();
            subjects[at].scrape()?;
        }
    }
    println!("{}", table(&subjects)?.join("\n"));
    let median = subjects[0].spread(|scrape| scrape.milliseconds)?.median;
    ensure!(
        median <= MOST_MILLISECONDS,
        "the median is {median:.0} ms; asked for are {MOST_MILLISECONDS} at most"
    );
    Ok(())
}

/// An agent and what was measured of it.
struct Subject {
    name: &'static str,
    agent: Agent,
    scrapes: Vec<Scraped>,
}

/// One scrape.
struct Scraped {
    /// From the request to the last byte, as the client sees it.
    milliseconds: f64,
    /// CPU time of the agent meanwhile, with whatever it does beside, threads that have ended included.
    cpu_milliseconds: f64,
    lines: usize,
    bytes: usize,
}

impl Subject {
    fn new(name: &'static str, agent: Agent) -> Self {
        Self {
            name,
            agent,
            scrapes: Vec::new(),
        }
    }

    fn scrape(&mut self) -> Result<()> {
        self.agent.check()?;
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.agent.process().cast_signed()))?;
        let cpu = || clock.now().map(Duration::from);
        let (started, before) = (Instant::now(), cpu()?);
        let page = self.agent.page()?;
        let (took, after) = (started.elapsed(), cpu()?);
        let lines = || {
            page.split(|byte| *byte == b'\n')
                .filter(|line| !line.starts_with(b"#"))
        };
        let clients = lines().filter(|line| line.starts_with(b"stormglass_client_connections{"));
        ensure!(
            clients.count() >= LEAST_CLIENTS,
            "the flood has not filled the table of clients"
        );
        self.scrapes.push(Scraped {
            milliseconds: took.as_secs_f64() * 1e3,
            cpu_milliseconds: (after - before).as_secs_f64() * 1e3,
            lines: lines().count() - 1,
            bytes: page.len(),
        });
        Ok(())
    }

    fn spread(&self, value: fn(&Scraped) -> f64) -> Result<Spread> {
        Spread::of(self.scrapes.iter().map(value)).context("nothing was measured")
    }
}

/// The report for a terminal.
fn table(subjects: &[Subject]) -> Result<Vec<String>> {
    let mut lines = vec![format!(
        "{:8}{:>8}{:>12}{:>22}{:>8}{:>22}{:>10}",
        "AGENT", "LINES", "BYTES", "MS (QUARTILES)", "P99", "CPU MS (QUARTILES)", "RESIDENT"
    )];
    for subject in subjects {
        let last = subject.scrapes.last().context("nothing was measured")?;
        let p99 = percentile(subject.scrapes.iter().map(|scrape| scrape.milliseconds), 0.99);
        lines.push(format!(
            "{:8}{:>8}{:>12}{:>22}{:>8.0}{:>22}{:>6} MiB",
            subject.name,
            last.lines,
            last.bytes,
            subject.spread(|scrape| scrape.milliseconds)?.rounded(),
            p99.unwrap_or_default(),
            subject.spread(|scrape| scrape.cpu_milliseconds)?.rounded(),
            resident(subject.agent.process())? >> 20,
        ));
    }
    Ok(lines)
}

/// Resident memory of a process in bytes.
fn resident(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let kilobytes = status.lines().find_map(|line| {
        let value = line.strip_prefix("VmRSS:")?.strip_suffix("kB")?;
        value.trim().parse::<u64>().ok()
    });
    Ok(kilobytes.context("no VmRSS")? << 10)
}
