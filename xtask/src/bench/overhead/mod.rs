//! `cargo xtask bench overhead`: what the agent costs, in pairs of neighbouring legs without and with it, in random order.
//! MONITOR, a capture of the server's port, and nothing go through the same as comparisons. docs/BENCHMARKS.md says how to read it.

mod bpf_stats;
mod cells;
mod cpu;
pub(super) mod floor;
mod legs;
mod load;
mod plot;
mod report;
mod stage;
mod subjects;
mod table;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use fastrand::Rng;

use self::cells::Cell;
use self::legs::{Figures, Track};
use self::report::{Alone, Comparison, Findings, Host, Kernel, Pair, Report, Settings};
use self::stage::Stage;
use self::subjects::Subject;
use crate::build;
use crate::lab::{Lab, servers, tools};
use crate::process::say;
use crate::rig::check_host;
use crate::rig::interrupt::Interrupt;
use crate::rig::server;

/// Legs with the kernel's statistics on, per cell: they agree within a few per cent.
const KERNEL_LEGS: u32 = 3;

/// What `cargo xtask bench overhead` can be told.
#[derive(Args)]
pub(super) struct Options {
    /// Pairs of legs per cell; comparisons get half as many
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// Length of a leg, in seconds
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// All 36 cells, and the comparisons in each
    #[arg(long)]
    full: bool,
    /// Only cells whose name (such as get/16B/P1/c50) contains this; may be given several times
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Without the comparisons: MONITOR, capture, nothing
    #[arg(long)]
    agent_only: bool,
    /// Seed of the random order; printed, so that it can be repeated
    #[arg(long)]
    seed: Option<u64>,
}

/// Measures the chosen cells; leaves `target/bench/overhead.json` and `.svg`.
pub(super) fn run(lab: &Lab, options: &Options) -> Result<()> {
    let cells = cells::chosen(options.full, &options.only)?;
    check_host("bench overhead")?;
    bpf_stats::check_off()?;
    servers::ensure_servers(lab)?;
    tools::ensure_tcpdump(lab)?;
    build::run(lab)?;
    let interrupt = Interrupt::new()?;
    let outcome = Run::new(lab, options, &interrupt).and_then(|run| run.all(&cells));
    interrupt.settle("benchmark", outcome)
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("not a number from 0.1 to 600".to_owned()),
    }
}

/// A run of the benchmark.
struct Run<'a> {
    lab: &'a Lab,
    options: &'a Options,
    interrupt: &'a Interrupt,
    seed: u64,
    json: PathBuf,
    svg: PathBuf,
}

impl<'a> Run<'a> {
    fn new(lab: &'a Lab, options: &'a Options, interrupt: &'a Interrupt) -> Result<Self> {
        let folder = super::folder(lab)?;
        Ok(Self {
            lab,
            options,
            interrupt,
            seed: options.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000)),
            json: folder.join("overhead.json"),
            svg: folder.join("overhead.svg"),
        })
    }

    /// Cell by cell. The files are written after each, so that a run that is broken off leaves what it has.
    fn all(&self, cells: &[Cell]) -> Result<()> {
        let mut report = Report {
            host: Host::read(self.lab, server::version(self.lab))?,
            settings: Settings {
                pairs: self.options.pairs,
                seconds_per_leg: self.options.seconds,
                seed: self.seed,
            },
            cells: Vec::new(),
        };
        let started = Instant::now();
        let mut rng = Rng::with_seed(self.seed);
        for (index, cell) in cells.iter().enumerate() {
            say(format!(
                "{cell}, cell {} of {}{}",
                index + 1,
                cells.len(),
                left(started, index, cells.len())
            ));
            report.cells.push(self.cell(*cell, &mut rng)?);
            report.write(&self.json)?;
            plot::draw(&report, &self.svg)?;
        }
        println!("{}", table::lines(&report).join("\n"));
        say(format!(
            "{:.0} s; figures in {}, plot in {}",
            started.elapsed().as_secs_f64(),
            self.json.display(),
            self.svg.display()
        ));
        Ok(())
    }

    fn cell(&self, cell: Cell, rng: &mut Rng) -> Result<Findings> {
        let stage = Stage::set(self.lab, self.interrupt)?;
        let load = stage.load(cell);
        load.fill(self.interrupt)?;
        let length = Duration::from_secs_f64(self.options.seconds);
        let track = Track {
            stage: &stage,
            load: &load,
            commands: load.calibrate(length, self.interrupt)?,
            interrupt: self.interrupt,
        };
        let mut pairs = Vec::new();
        for (subject, on_first) in self.plan(cell, rng) {
            pairs.push((subject, pair(&track, subject, on_first)?));
        }
        let kernel_legs = (0..KERNEL_LEGS.min(self.options.pairs))
            .map(|_| track.kernel_costs())
            .collect::<Result<Vec<_>>>()?;
        let alone: Vec<Figures> = pairs.iter().map(|(_, pair)| pair.off).collect();
        Ok(Findings {
            name: cell.to_string(),
            cell,
            commands_per_leg: track.commands,
            alone: Alone::of(&alone)?,
            subjects: comparisons(pairs)?,
            kernel: Kernel::of(&kernel_legs)?,
        })
    }

    /// The pairs of a cell in random order, and whether the leg with the subject comes first.
    fn plan(&self, cell: Cell, rng: &mut Rng) -> Vec<(Subject, bool)> {
        let mut plan = Vec::new();
        for subject in Subject::ALL {
            let pairs = match subject {
                Subject::Agent => self.options.pairs,
                _ if self.options.agent_only || !(self.options.full || cell.is_compared()) => 0,
                _ => self.options.pairs.div_ceil(2),
            };
            // As many of either order, to one: a drift within pairs cancels out.
            let offset = rng.u32(0..2);
            plan.extend((0..pairs).map(|pair| (subject, (pair + offset).is_multiple_of(2))));
        }
        rng.shuffle(&mut plan);
        plan
    }
}

fn pair(track: &Track<'_>, subject: Subject, on_came_first: bool) -> Result<Pair> {
    let (off, on) = if on_came_first {
        let on = track.with(subject)?;
        (track.alone()?, on)
    } else {
        let off = track.alone()?;
        (off, track.with(subject)?)
    };
    Ok(Pair {
        off,
        on: on.figures,
        on_came_first,
        saw: on.saw,
    })
}

/// The pairs by subject.
fn comparisons(pairs: Vec<(Subject, Pair)>) -> Result<Vec<Comparison>> {
    let mut rest = pairs;
    let mut comparisons = Vec::new();
    for subject in Subject::ALL {
        let (own, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(other, _)| *other == subject);
        rest = others;
        if !own.is_empty() {
            let pairs = own.into_iter().map(|(_, pair)| pair).collect();
            comparisons.push(Comparison::of(subject, pairs)?);
        }
    }
    Ok(comparisons)
}

/// `; 5 min to go`, from the second cell on.
fn left(started: Instant, done: usize, cells: usize) -> String {
    if done == 0 {
        return String::new();
    }
    let minutes = started.elapsed().as_secs_f64() / done as f64 * (cells - done) as f64 / 60.0;
    format!("; {minutes:.0} min to go")
}
