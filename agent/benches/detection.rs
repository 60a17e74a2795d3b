//! How soon and how rightly storms are found, and how seldom something is found in normal life, on simulated servers at full
//! resolution; beside the z-score of INFO on the same runs. `cargo xtask bench detection` runs this, gives a Prometheus what its
//! exporter would have shown, and draws what all of them say.

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
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
// The simulator is written as a part of the agent.
use stormglass::{config, storms, tenants};

use baseline::Exporter;
use life::Life;
use scenarios::Scenario;
use simulator::World;
use storms::{Event, Storm};

/// Days of a month, and milliseconds of a day.
const DAYS: u64 = 30;
const DAY: u64 = 86_400_000;

/// How long the other ways may take, if a storm's own time is not longer: a Prometheus scrapes every 15 s.
const OTHERS_WITHIN: u64 = 60_000;

/// Peace after a storm, in which it has to end.
const AFTER: u64 = 60_000;

/// After an alarm of the z-score the next one is another one.
const SEPARATE: u64 = 60_000;

/// `detection FILE SEEDS MONTHS`: writes its figures to the file, and what was scraped beside it, as `FILE.openmetrics`. Cargo
/// adds `--bench`.
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
    let mut scraped = Scraped::default();
    let figures = json!({
        "storms": all_storms(seeds, &mut scraped),
        "life": all_months(months, &mut scraped),
    });
    let file = Path::new(file);
    let written = std::fs::write(file, format!("{figures:#}\n"))
        .and_then(|()| std::fs::write(file.with_extension("openmetrics"), scraped.text()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write {}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}

/// What a Prometheus would have scraped, by the labels of the run.
#[derive(Default)]
struct Scraped(Vec<(String, Exporter)>);

impl Scraped {
    fn add(&mut self, labels: String, exporter: Option<Exporter>) {
        self.0.extend(exporter.map(|exporter| (labels, exporter)));
    }

    /// As OpenMetrics, with the names that exporters give them.
    fn text(&self) -> String {
        let mut text = String::new();
        let mut family = |name: &str, value: fn(&(u64, f64, u64)) -> f64| {
            // Nothing fails that is written to a string.
            let _ = writeln!(text, "# TYPE {name} gauge");
            for (labels, exporter) in &self.0 {
                for scrape in &exporter.scrapes {
                    let (seconds, value) = (scrape.0 as f64 / 1e3, value(scrape));
                    let _ = writeln!(text, "{name}{{{labels}}} {value} {seconds:.3}");
                }
            }
        };
        family("redis_connected_clients", |scrape| scrape.1);
        family("redis_config_maxclients", |scrape| scrape.2 as f64);
        text + "# EOF\n"
    }
}

fn all_storms(seeds: u64, scraped: &mut Scraped) -> Vec<Value> {
    let mut of_kind = |scenario: &Scenario| {
        let runs: Vec<Run> = (0..seeds).map(|seed| run(scenario, seed)).collect();
        let count = |of: fn(&Run) -> bool| runs.iter().filter(|run| of(run)).count();
        let delays = |of: fn(&Run) -> Option<u64>| runs.iter().filter_map(of).collect::<Vec<_>>();
        let kind = scenario.kind.label();
        let figures = json!({
            "kind": kind,
            "runs": runs.len(),
            "onsets_ms": runs.iter().map(|run| run.onset).collect::<Vec<_>>(),
            "within_ms": scenario.within,
            "others_within_ms": scenario.within.max(OTHERS_WITHIN),
            "delays_ms": delays(|run| run.delay),
            "missed": count(|run| run.delay.is_none()),
            "wrong_kind": count(|run| run.delay.is_some() && !run.kind_is_right),
            "wrong_culprit": count(|run| run.delay.is_some() && !run.culprit_is_right),
            "more_than_one": count(|run| run.storms > 1),
            "called_otherwise_at_first": count(|run| run.misheard),
            "zscore_delays_ms": delays(|run| run.zscore),
            "zscore_missed": count(|run| run.zscore.is_none()),
        });
        for (seed, run) in runs.into_iter().enumerate() {
            scraped.add(format!("kind=\"{kind}\",run=\"{seed}\""), run.exporter);
        }
        figures
    };
    scenarios::ALL.iter().map(&mut of_kind).collect()
}

/// What came of one storm.
struct Run {
    onset: u64,
    delay: Option<u64>,
    kind_is_right: bool,
    culprit_is_right: bool,
    storms: usize,
    misheard: bool,
    zscore: Option<u64>,
    exporter: Option<Exporter>,
}

fn run(scenario: &Scenario, seed: u64) -> Run {
    let (mut world, cast) = scenarios::usual(seed);
    world.score = Some(Box::default());
    world.exporter = Some(exporter(seed));
    // The z-score learns for its five minutes.
    scenarios::live(&mut world, &cast, 300_000);
    let onset = (scenario.play)(&mut world, &cast);
    scenarios::live(&mut world, &cast, AFTER);
    let in_time = |at: u64, within: u64| (at >= onset && at - onset <= within).then(|| at - onset);
    let (kind, culprit) = (scenario.kind, scenario.culprit);
    let (heard, misheard) = (world.heard(kind, culprit), world.misheard(kind, culprit));
    let storms = world.storms();
    let storm = storms
        .iter()
        .find(|storm| in_time(storm.found.0, scenario.within).is_some());
    let alarms = world.score.map(|score| score.alarms).unwrap_or_default();
    Run {
        onset,
        exporter: world.exporter,
        // Of what is called by its name only in the end, or never, it counts when it was called something.
        delay: storm.and_then(|storm| in_time(heard.unwrap_or(storm.found).0, scenario.within)),
        kind_is_right: storm.is_some_and(|storm| storm.kind == kind),
        culprit_is_right: storm.is_some_and(|storm| leads(storm, culprit)),
        storms: storms.len(),
        misheard,
        zscore: alarms
            .into_iter()
            .find_map(|at| in_time(at, scenario.within.max(OTHERS_WITHIN))),
    }
}

/// Scraped at any second of the interval, as chance has it.
fn exporter(seed: u64) -> Exporter {
    Exporter::new(seed * 7 % (Exporter::INTERVAL / 1_000))
}

fn leads(storm: &Storm, name: &str) -> bool {
    storm.culprits.first().is_some_and(|culprit| culprit.name == name)
}

/// Months of normal life, as many at a time as there are processors.
fn all_months(months: u64, scraped: &mut Scraped) -> Value {
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
    let mut lived: Vec<Month> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().ok())
            .flatten()
            .collect()
    });
    for month in &mut lived {
        scraped.add(format!("month=\"{}\"", month.seed), month.exporter.take());
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let alarms = || lived.iter().flat_map(|month| &month.false_alarms);
    for storm in alarms() {
        *kinds.entry(storm.kind.label()).or_default() += 1;
    }
    json!({
        "node_months": lived.len(),
        "begins_ms": simulator::BEGINNING,
        "ends_ms": simulator::BEGINNING + DAYS * DAY,
        "seeds": format!("0 to {}", months.saturating_sub(1)),
        "ticks": lived.len() as u64 * DAYS * DAY / 100,
        "false_alarms": kinds.values().sum::<usize>(),
        "false_alarms_by_kind": kinds,
        "false_alarms_themselves": alarms().collect::<Vec<_>>(),
        "zscore_false_alarms": lived.iter().map(|month| month.zscore).sum::<usize>(),
        "engine_ns_per_tick": nanoseconds_per_tick(),
        "seconds": began.elapsed().as_secs_f64(),
    })
}

struct Month {
    seed: u64,
    exporter: Option<Exporter>,
    false_alarms: Vec<Storm>,
    zscore: usize,
}

fn month(seed: u64) -> Month {
    let mut world = World::new(1_000 + seed);
    let mut life = Life::begin(&mut world);
    world.score = Some(Box::default());
    world.exporter = Some(exporter(seed));
    while world.elapsed() < DAYS * DAY {
        life.tick(&mut world);
    }
    let storms = world.events.iter().filter_map(|event| match event {
        Event::Ended(storm) => Some(storm.clone()),
        Event::Started(_) | Event::Changed(_) => None,
    });
    let alarms = world.score.take().map(|score| score.alarms).unwrap_or_default();
    let separate = alarms
        .windows(2)
        .filter(|pair| pair[1] - pair[0] > SEPARATE)
        .count();
    Month {
        seed,
        exporter: world.exporter,
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
