//! How soon and how rightly storms are found, and how seldom something is found in normal life, on simulated servers at full
//! resolution; beside the z-score of INFO on the same runs. `cargo xtask bench detection` runs this and draws what it says.

#[path = "../src/storms/tests/baseline.rs"]
mod baseline;
#[path = "../src/storms/tests/life.rs"]
mod life;
#[path = "../src/storms/tests/scenarios.rs"]
mod scenarios;
#[path = "../src/storms/tests/simulator.rs"]
#[expect(dead_code, reason = "tests need more of it")]
mod simulator;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
// The simulator is written as a part of the agent.
use stormglass::{config, storms};

use life::Life;
use scenarios::Scenario;
use simulator::World;
use storms::{Event, Storm};

/// Days of a month, and milliseconds of a day.
const DAYS: u64 = 30;
const DAY: u64 = 86_400_000;

/// Peace after a storm, in which it has to end.
const AFTER: u64 = 60_000;

/// After an alarm of the z-score the next one is another one.
const SEPARATE: u64 = 60_000;

/// `detection FILE SEEDS MONTHS`: writes its figures to the file. Cargo adds `--bench`.
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let [file, seeds, months] = &arguments[..] else {
        eprintln!("detection FILE SEEDS MONTHS; cargo xtask bench detection runs it");
        return ExitCode::FAILURE;
    };
    let (Ok(seeds), Ok(months)) = (seeds.parse(), months.parse()) else {
        eprintln!("SEEDS and MONTHS are numbers");
        return ExitCode::FAILURE;
    };
    let figures = json!({ "storms": all_storms(seeds), "life": all_months(months) });
    match std::fs::write(file, format!("{figures:#}\n")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write {file}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn all_storms(seeds: u64) -> Vec<Value> {
    let of_kind = |scenario: &Scenario| {
        let runs: Vec<Run> = (0..seeds).map(|seed| run(scenario, seed)).collect();
        let count = |of: fn(&Run) -> bool| runs.iter().filter(|run| of(run)).count();
        let delays = |of: fn(&Run) -> Option<u64>| runs.iter().filter_map(of).collect::<Vec<_>>();
        json!({
            "kind": scenario.kind.label(),
            "runs": runs.len(),
            "delays_ms": delays(|run| run.delay),
            "missed": count(|run| run.delay.is_none()),
            "wrong_kind": count(|run| run.delay.is_some() && !run.kind_is_right),
            "wrong_culprit": count(|run| run.delay.is_some() && !run.culprit_is_right),
            "more_than_one": count(|run| run.storms > 1),
            "zscore_delays_ms": delays(|run| run.zscore),
            "zscore_missed": count(|run| run.zscore.is_none()),
        })
    };
    scenarios::ALL.iter().map(of_kind).collect()
}

/// What came of one storm.
struct Run {
    delay: Option<u64>,
    kind_is_right: bool,
    culprit_is_right: bool,
    storms: usize,
    zscore: Option<u64>,
}

fn run(scenario: &Scenario, seed: u64) -> Run {
    let (mut world, cast) = scenarios::usual(seed);
    world.score = Some(Box::default());
    // The z-score learns for its five minutes.
    scenarios::live(&mut world, &cast, 300_000);
    let onset = (scenario.play)(&mut world, &cast);
    scenarios::live(&mut world, &cast, AFTER);
    let in_time = |at: u64| (at >= onset && at - onset <= scenario.within).then(|| at - onset);
    let storms = world.storms();
    let storm = storms.iter().find(|storm| in_time(storm.found.0).is_some());
    let alarms = world.score.map(|score| score.alarms).unwrap_or_default();
    Run {
        delay: storm.and_then(|storm| in_time(storm.found.0)),
        kind_is_right: storm.is_some_and(|storm| storm.kind == scenario.kind),
        culprit_is_right: storm.is_some_and(|storm| leads(storm, scenario.culprit)),
        storms: storms.len(),
        zscore: alarms.into_iter().find_map(in_time),
    }
}

fn leads(storm: &Storm, name: &str) -> bool {
    storm.culprits.first().is_some_and(|culprit| culprit.name == name)
}

/// Months of normal life, as many at a time as there are processors.
fn all_months(months: u64) -> Value {
    let (next, began) = (AtomicU64::new(0), Instant::now());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut done = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= months {
                return done;
            }
            done.push(month(seed));
        }
    };
    let lived: Vec<Month> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().ok())
            .flatten()
            .collect()
    });
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for kind in lived.iter().flat_map(|month| &month.false_alarms) {
        *kinds.entry(kind).or_default() += 1;
    }
    json!({
        "node_months": lived.len(),
        "seeds": format!("0 to {}", months.saturating_sub(1)),
        "ticks": lived.len() as u64 * DAYS * DAY / 100,
        "false_alarms": kinds.values().sum::<usize>(),
        "false_alarms_by_kind": kinds,
        "zscore_false_alarms": lived.iter().map(|month| month.zscore).sum::<usize>(),
        "engine_ns_per_tick": nanoseconds_per_tick(),
        "seconds": began.elapsed().as_secs_f64(),
    })
}

struct Month {
    false_alarms: Vec<&'static str>,
    zscore: usize,
}

fn month(seed: u64) -> Month {
    let mut world = World::new(1_000 + seed);
    world.look_every = 60_000;
    let mut life = Life::begin(&mut world);
    world.score = Some(Box::default());
    while world.elapsed() < DAYS * DAY {
        life.tick(&mut world);
    }
    let storms = world.events.iter().filter_map(|event| match event {
        Event::Ended(storm) => Some(storm.kind.label()),
        Event::Started(_) | Event::Changed(_) => None,
    });
    let alarms = world.score.take().map(|score| score.alarms).unwrap_or_default();
    let separate = alarms
        .windows(2)
        .filter(|pair| pair[1] - pair[0] > SEPARATE)
        .count();
    Month {
        false_alarms: storms.collect(),
        zscore: separate + usize::from(!alarms.is_empty()),
    }
}

/// What the detectors of one server take for a tick of 100 ms, its share of a second's traffic included.
fn nanoseconds_per_tick() -> f64 {
    const TICKS: u32 = 200_000;
    let (mut world, _) = scenarios::usual(1);
    let began = Instant::now();
    for _ in 0..TICKS {
        world.tick();
    }
    began.elapsed().as_nanos() as f64 / f64::from(TICKS)
}
