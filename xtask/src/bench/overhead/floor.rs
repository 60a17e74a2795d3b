//! `cargo xtask bench floor`: what no program gets below on this machine, at this hour. Programs that do one thing each of what the
//! meter cannot do without take the agent's place in turns, and the agent takes its turn among them.
//! docs/BENCHMARKS.md says how to read it.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::programs::cgroup_skb::CgroupSkbLink;
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType};
use clap::Args;
use serde::Serialize;

use super::super::statistics::Spread;
use super::bpf_stats::{self, Statistics};
use super::cells::{Cell, Verb};
use super::legs::Track;
use super::report::Host;
use super::stage::Stage;
use crate::build;
use crate::lab::{Lab, servers};
use crate::process::say;
use crate::rig::check_host;
use crate::rig::interrupt::Interrupt;
use crate::rig::server;

/// The load: a client that waits for each reply, so that every packet is one command or one reply.
const CELL: Cell = Cell {
    verb: Verb::Get,
    value_bytes: 16,
    pipeline: 1,
    connections: 50,
};

/// What `cargo xtask bench floor` can be told.
#[derive(Args)]
pub(in crate::bench) struct Options {
    /// Turns of each program
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of a turn, in seconds
    #[arg(long, default_value_t = 1.5, value_parser = super::seconds)]
    seconds: f64,
    /// Seed of the random order; printed, so that it can be repeated
    #[arg(long)]
    seed: Option<u64>,
}

/// Who takes a turn.
struct Entrant {
    does: &'static str,
    /// What is attached, by direction: a program of `agent-ebpf/src/floor.rs`. `None`: the agent.
    programs: Option<[&'static str; 2]>,
}

const ENTRANTS: [Entrant; 6] = [
    Entrant {
        does: "nothing",
        programs: Some(["floor_nothing"; 2]),
    },
    Entrant {
        does: "read the clock",
        programs: Some(["floor_clock"; 2]),
    },
    Entrant {
        does: "copy the bytes",
        programs: Some(["floor_request", "floor_reply"]),
    },
    Entrant {
        does: "find the connection",
        programs: Some(["floor_connection"; 2]),
    },
    Entrant {
        does: "what each packet needs",
        programs: Some(["floor_in", "floor_out"]),
    },
    Entrant {
        does: "the agent",
        programs: None,
    },
];

/// What is written to `floor.json`.
#[derive(Serialize)]
struct Report {
    host: Host,
    cell: String,
    rounds: u32,
    commands_per_turn: u64,
    seed: u64,
    programs: Vec<Line>,
}

/// Nanoseconds per packet.
#[derive(Serialize)]
struct Line {
    does: &'static str,
    ingress: Spread,
    egress: Spread,
}

/// Measures; leaves `target/bench/floor.json`.
pub(in crate::bench) fn run(lab: &Lab, options: &Options) -> Result<()> {
    check_host("bench floor")?;
    bpf_stats::check_off()?;
    servers::ensure_servers(lab)?;
    build::run(lab)?;
    let interrupt = Interrupt::new()?;
    interrupt.settle("benchmark", measure(lab, options, &interrupt))
}

fn measure(lab: &Lab, options: &Options, interrupt: &Interrupt) -> Result<()> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let mut order = fastrand::Rng::with_seed(seed);
    let stage = Stage::set(lab, interrupt)?;
    let load = stage.load(CELL);
    load.fill(interrupt)?;
    let commands = load.calibrate(Duration::from_secs_f64(options.seconds), interrupt)?;
    let track = Track {
        stage: &stage,
        load: &load,
        commands,
        interrupt,
    };
    let mut floor = Floor::load(&build::floor_object(lab), stage.cgroup())?;
    let mut turns: Vec<[Vec<f64>; 2]> = ENTRANTS.iter().map(|_| Default::default()).collect();
    for round in 1..=options.rounds {
        say(format!("round {round} of {}", options.rounds));
        let mut entrants: Vec<usize> = (0..ENTRANTS.len()).collect();
        order.shuffle(&mut entrants);
        for entrant in entrants {
            let costs = match ENTRANTS[entrant].programs {
                Some(programs) => floor.turn(programs, &track)?,
                None => track.kernel_costs()?.map(|cost| cost.packet_ns),
            };
            for (turns, cost) in turns[entrant].iter_mut().zip(costs) {
                turns.push(cost);
            }
        }
    }
    let report = Report {
        host: Host::read(lab, server::version(lab))?,
        cell: CELL.to_string(),
        rounds: options.rounds,
        commands_per_turn: commands,
        seed,
        programs: lines(turns)?,
    };
    println!("{}", table(&report).join("\n"));
    let path = super::super::folder(lab)?.join("floor.json");
    let text = serde_json::to_string_pretty(&report)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    say(format!("seed {seed}; figures in {}", path.display()));
    Ok(())
}

/// The programs, once for each direction: the kernel keeps one account of a program, wherever it is attached.
struct Floor {
    sides: [Side; 2],
    cgroup: File,
}

struct Side {
    programs: Ebpf,
    direction: CgroupSkbAttachType,
}

/// The kernel's account of a program.
struct Account {
    time: Duration,
    runs: u64,
}

impl Floor {
    fn load(object: &Path, cgroup: &Path) -> Result<Self> {
        let side = |direction| -> Result<Side> {
            let programs = Ebpf::load_file(object)
                .with_context(|| format!("cannot load the programs of {}", object.display()))?;
            Ok(Side { programs, direction })
        };
        Ok(Self {
            sides: [
                side(CgroupSkbAttachType::Ingress)?,
                side(CgroupSkbAttachType::Egress)?,
            ],
            cgroup: File::open(cgroup).with_context(|| format!("cannot open {}", cgroup.display()))?,
        })
    }

    /// Nanoseconds per packet, in and out, with these programs attached.
    fn turn(&mut self, names: [&str; 2], track: &Track<'_>) -> Result<[f64; 2]> {
        let [ingress, egress] = &mut self.sides;
        let _attached = [
            ingress.attach(names[0], &self.cgroup)?,
            egress.attach(names[1], &self.cgroup)?,
        ];
        track.warm_up()?;
        let statistics = Statistics::enable()?;
        let before = [ingress.account(names[0])?, egress.account(names[1])?];
        track.load.run(track.commands, track.interrupt)?;
        let after = [ingress.account(names[0])?, egress.account(names[1])?];
        drop(statistics);
        Ok([
            after[0].since(&before[0], names[0])?,
            after[1].since(&before[1], names[1])?,
        ])
    }
}

impl Side {
    /// Attaches a program, which is loaded the first time, until the link is dropped.
    fn attach(&mut self, name: &str, cgroup: &File) -> Result<CgroupSkbLink> {
        let direction = self.direction;
        let program = self.program(name)?;
        if program.fd().is_err() {
            program
                .load()
                .with_context(|| format!("the kernel refuses {name}"))?;
        }
        let link = program
            .attach(cgroup, direction, CgroupAttachMode::Single)
            .with_context(|| format!("cannot attach {name} to the server's cgroup"))?;
        Ok(program.take_link(link)?)
    }

    fn account(&mut self, name: &str) -> Result<Account> {
        let info = self.program(name)?.info()?;
        Ok(Account {
            time: info.run_time(),
            runs: info.run_count(),
        })
    }

    fn program(&mut self, name: &str) -> Result<&mut CgroupSkb> {
        let program = self.programs.program_mut(name);
        let program = program.with_context(|| format!("agent-ebpf/src/floor.rs has no {name}"))?;
        Ok(program.try_into()?)
    }
}

impl Account {
    /// Nanoseconds per run since `before`.
    fn since(&self, before: &Self, name: &str) -> Result<f64> {
        let runs = self.runs - before.runs;
        ensure!(runs != 0, "the kernel counted no run of {name}");
        Ok((self.time - before.time).as_nanos() as f64 / runs as f64)
    }
}

fn lines(turns: Vec<[Vec<f64>; 2]>) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (entrant, turns) in ENTRANTS.iter().zip(turns) {
        let [ingress, egress] = turns.map(Spread::of);
        lines.push(Line {
            does: entrant.does,
            ingress: ingress.context("nothing was measured")?,
            egress: egress.context("nothing was measured")?,
        });
    }
    Ok(lines)
}

/// The report for a terminal.
fn table(report: &Report) -> Vec<String> {
    let mut lines = vec![
        format!("{}: ns per packet, median of the turns (quartiles)", report.cell),
        format!("{:26}{:>20}{:>20}", "WHAT THE PROGRAM DOES", "IN", "OUT"),
    ];
    for line in &report.programs {
        lines.push(format!(
            "{:26}{:>20}{:>20}",
            line.does,
            line.ingress.rounded(),
            line.egress.rounded()
        ));
    }
    lines
}
