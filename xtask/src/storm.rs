//! `cargo xtask storm KIND`: a storm at a real server, and what Stormglass says of it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use stormglass_load::storms::{CONFIG, Kind, Size};
use tempfile::TempDir;

use crate::build;
use crate::lab::{Lab, servers};
use crate::process::{Run as _, say};
use crate::rig::agent::{Agent, Finding};
use crate::rig::cgroup::Tree;
use crate::rig::check_host;
use crate::rig::interrupt::Interrupt;
use crate::rig::ports;
use crate::rig::server::Server;
use crate::rig::storm::{Course, Plan, Storm};

/// Port that the server is given, if it is free: below the range that clients' own ports come from.
const FIRST_PORT: u16 = 7201;

/// How long a storm may go on, be found, and be over.
const OVER_WITHIN: Duration = Duration::from_secs(120);

/// Of a server with a fleet of a given size: more clients than any may have.
const ROOM: &str = "maxclients 19900\n";

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What `cargo xtask storm` can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// What it is
    kind: Kind,
    /// The same seed draws the same sizes; 0: those of the case that was reported
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    size: Size,
    /// Normal life before it, in seconds; the agent learns for ten
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(11..=86_400))]
    before: u64,
    /// A server of your own, on a loopback address, instead of one that is started for it; nothing is watched then
    #[arg(long, value_name = "ADDRESS:PORT")]
    target: Option<SocketAddrV4>,
    /// Its process, for storms that stop it
    #[arg(long, value_name = "PID", requires = "target")]
    process: Option<u32>,
    /// Network namespace of the clients, /run/netns/NAME: the server may have any address then, and N.71.0.0/16 and N.72.0.0/16 have to be
    /// local ones there, if the server's begins with N
    #[arg(long, value_name = "FILE", requires = "target")]
    netns: Option<PathBuf>,
}

/// Plays it. An error if it is not found, or taken for another kind, or somebody else is blamed.
pub(crate) fn run(lab: &Lab, options: &Options) -> Result<()> {
    if let Some(target) = options.target {
        build::load(lab)?;
        // Somebody's own agent may watch it.
        return options.plan(target, options.process).command(lab).run();
    }
    check_host("storm")?;
    servers::ensure_valkey(lab)?;
    build::run(lab)?;
    build::load(lab)?;
    let interrupt = Interrupt::new()?;
    interrupt.settle("storm", watched(lab, options, &interrupt))
}

impl Options {
    fn plan(&self, server: SocketAddrV4, process: Option<u32>) -> Plan {
        Plan {
            kind: self.kind,
            server: server.into(),
            process,
            seed: self.seed,
            before: Duration::from_secs(self.before),
            netns: self.netns.clone(),
            size: self.size,
        }
    }
}

/// Server, agent and storm. The fields are in the order in which they end.
struct Stage {
    storm: Storm,
    agent: Agent,
    server: Server,
    _cgroups: Tree,
    _folder: TempDir,
}

fn watched(lab: &Lab, options: &Options, interrupt: &Interrupt) -> Result<()> {
    let kind = options.kind;
    let mut stage = set(lab, options, interrupt)?;
    say(format!(
        "{kind} at {} after {} s of normal life",
        stage.server.label(),
        options.before,
        kind = kind.name(),
    ));
    let (course, finding) = watch(&mut stage, options, interrupt)?;
    println!("{}", lines(&course, &finding).join("\n"));
    print!("{}", stage.agent.incident(lab, &finding.id)?);
    ensure!(
        finding.kind == kind.name(),
        "it was taken for {}, and is {}",
        finding.kind,
        kind.name()
    );
    ensure!(
        finding.culprit() == kind.culprit(),
        "{} is blamed, and it was {}",
        finding.culprit(),
        kind.culprit()
    );
    Ok(())
}

fn set(lab: &Lab, options: &Options, interrupt: &Interrupt) -> Result<Stage> {
    let folder = tempfile::Builder::new()
        .prefix("stormglass-storm-")
        .tempdir()
        .context("cannot create a temporary folder")?;
    let cgroups = Tree::create("stormglass-storm")?;
    let mut config = options.kind.server().to_owned();
    if options.size.is_given() {
        config.push_str(ROOM);
    }
    let port = ports::free_from(FIRST_PORT)?;
    let server = Server::start_with(lab, &cgroups, folder.path(), port, &config)?;
    let agent = Agent::start(lab, folder.path(), &[port], CONFIG, &[server.label()], interrupt)?;
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let plan = options.plan(address, Some(server.process()));
    Ok(Stage {
        storm: Storm::start(lab, folder.path(), &plan)?,
        agent,
        server,
        _cgroups: cgroups,
        _folder: folder,
    })
}

/// Waits until it is over, and says when it is found.
fn watch(stage: &mut Stage, options: &Options, interrupt: &Interrupt) -> Result<(Course, Finding)> {
    let (began, label) = (Instant::now(), stage.server.label());
    let mut told = false;
    loop {
        interrupt.sleep(LOOK_EVERY)?;
        stage.storm.check()?;
        stage.agent.check()?;
        stage.server.check()?;
        let findings = stage.agent.storms(&label)?;
        if let Some(finding) = findings.first()
            && !told
        {
            println!("\n {}: {}\n", finding.severity, finding.summary);
            told = true;
        }
        let course = stage.storm.course()?;
        if let (Some(course), [finding]) = (&course, &*findings)
            && finding.ended.is_some()
        {
            return Ok((course.clone(), finding.clone()));
        }
        if began.elapsed() > Duration::from_secs(options.before) + OVER_WITHIN {
            bail!("it is not over, or was not found, or is more than one: {findings:#?}");
        }
    }
}

fn lines(course: &Course, finding: &Finding) -> Vec<String> {
    vec![
        format!(
            " found {} its onset; it lasted {:.1} s",
            finding.delay(course),
            (course.over_ms - course.onset_ms) as f64 / 1e3
        ),
        String::new(),
    ]
}
