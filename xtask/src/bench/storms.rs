//! `cargo xtask bench storms`: storms of every kind at real servers, with sizes drawn from seeds, and normal life. The live test of storms
//! plays them; here what came of many runs becomes a table and a picture.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Deserialize;
use stormglass_load::storms::Kind;

use super::delays::{quantile, seconds};
use super::picture::{Picture, Row, Way};
use crate::lab::Lab;
use crate::process::say;
use crate::test::{self, Scenes};

const NORMAL_LIFE: &str = "normal_life";

/// What `cargo xtask bench storms` can be told.
#[derive(Args)]
pub(super) struct Options {
    /// Storms of each kind, each with a seed of its own; a run of all kinds takes a minute and a half
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    runs: u32,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this kind; may be given several times
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<Kind>,
    /// Minutes of normal life afterwards
    #[arg(long, default_value_t = 30)]
    life: u64,
}

/// What came of a scene: a line that the live test has written.
#[derive(Deserialize)]
struct Outcome {
    scene: String,
    seed: u64,
    course: Option<Course>,
    storms: Vec<Storm>,
    told_ms: Option<u64>,
    named_ms: Option<u64>,
    first_called: Option<String>,
    failure: Option<String>,
}

#[derive(Deserialize)]
struct Course {
    onset_ms: u64,
}

#[derive(Deserialize)]
struct Storm {
    kind: String,
    culprit: Option<String>,
    found_ms: u64,
    summary: String,
}

/// What came of all storms of one kind.
struct OfKind {
    kind: Kind,
    runs: u32,
    found_ms: Vec<u32>,
    told_ms: Vec<u32>,
    named_ms: Vec<u32>,
    missed: u32,
    wrong_kind: u32,
    wrong_culprit: u32,
    more_than_one: u32,
    /// Told at first as another kind, or of somebody else.
    otherwise_at_first: u32,
    failed: u32,
}

/// Within how many milliseconds of the onset somebody is told, at p99. Two kinds take longer by their definition: `hot_prefix` needs two whole
/// seconds in which the others suffer, `connection_growth` eight steps of two seconds of which seven grow.
const fn promise(kind: Kind) -> u32 {
    match kind {
        Kind::ReconnectChurn | Kind::ColdReconnect | Kind::AcceptQueueSaturation => 1_000,
        Kind::HotPrefix => 3_000,
        Kind::ConnectionGrowth => 16_000,
        _ => 2_000,
    }
}

/// Plays them, prints the table, leaves JSON and picture beside each other. An error if anything did not come out as it has to.
pub(super) fn run(lab: &Lab, options: &Options) -> Result<()> {
    let folder = super::folder(lab)?;
    let (json, svg) = (folder.join("storms.jsonl"), folder.join("storms.svg"));
    if json.exists() {
        fs::remove_file(&json).with_context(|| format!("cannot remove {}", json.display()))?;
    }
    test::prepare_live(lab)?;
    let kinds = match &*options.kinds {
        [] => Kind::all(),
        some => some,
    };
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    for run in 0..options.runs {
        let scenes = Scenes {
            names: &names.join(","),
            seed: options.seed + u64::from(run),
            life_seconds: 0,
            outcomes: &json,
        };
        let passed = if test::storms(lab, &scenes) {
            "passed"
        } else {
            "FAILED"
        };
        say(format!(
            "run {} of {}, seed {}: {passed}",
            run + 1,
            options.runs,
            scenes.seed
        ));
    }
    if options.life > 0 {
        say(format!("normal life, {} minutes", options.life));
        let scenes = Scenes {
            names: NORMAL_LIFE,
            seed: options.seed,
            life_seconds: 60 * options.life,
            outcomes: &json,
        };
        test::storms(lab, &scenes);
    }
    let outcomes = read(&json)?;
    let all: Vec<OfKind> = kinds.iter().map(|kind| OfKind::new(*kind, &outcomes)).collect();
    println!("{}", table(&all, &outcomes, options).join("\n"));
    draw(&all, options.runs, &svg)?;
    say(format!("wrote {} and {}", json.display(), svg.display()));
    let failed = outcomes
        .iter()
        .filter(|outcome| outcome.failure.is_some())
        .count();
    ensure!(failed == 0, "{failed} scenes did not come out as they have to");
    let late = all.iter().filter(|of| of.is_late());
    let late: Vec<_> = late.map(|of| of.kind.name()).collect();
    ensure!(late.is_empty(), "later than promised: {}", late.join(", "));
    Ok(())
}

fn read(path: &Path) -> Result<Vec<Outcome>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read {}; did the live test begin at all?", path.display()))?;
    let lines = text.lines().map(serde_json::from_str);
    lines
        .collect::<Result<_, _>>()
        .context("an outcome is not understood")
}

impl OfKind {
    fn new(kind: Kind, outcomes: &[Outcome]) -> Self {
        let mut all = Self {
            kind,
            runs: 0,
            found_ms: Vec::new(),
            told_ms: Vec::new(),
            named_ms: Vec::new(),
            missed: 0,
            wrong_kind: 0,
            wrong_culprit: 0,
            more_than_one: 0,
            otherwise_at_first: 0,
            failed: 0,
        };
        let of_kind = outcomes.iter().filter(|outcome| outcome.scene == kind.name());
        of_kind.for_each(|outcome| all.add(outcome));
        all
    }

    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.failed += u32::from(outcome.failure.is_some());
        self.more_than_one += u32::from(outcome.storms.len() > 1);
        self.otherwise_at_first += u32::from(outcome.first_called.is_some());
        let Some(storm) = outcome.storms.first() else {
            self.missed += 1;
            return;
        };
        self.wrong_kind += u32::from(storm.kind != self.kind.name());
        self.wrong_culprit += u32::from(storm.culprit.as_deref() != Some(self.kind.culprit()));
        if let Some(course) = &outcome.course {
            let since =
                |moment: u64| u32::try_from(moment.saturating_sub(course.onset_ms)).unwrap_or(u32::MAX);
            self.found_ms.push(since(storm.found_ms));
            self.told_ms.extend(outcome.told_ms.map(since));
            self.named_ms.extend(outcome.named_ms.map(since));
        }
    }

    fn is_late(&self) -> bool {
        quantile(&self.told_ms, 0.99) > Some(promise(self.kind))
    }
}

/// The figures as a Markdown table, what did not come out as it has to, and what was said of normal life.
fn table(all: &[OfKind], outcomes: &[Outcome], options: &Options) -> Vec<String> {
    let mut lines = vec![
        "| kind | storms | found p50 | most | told p50 | p99 | most | promised p99 | culprit told p50 | most | missed | wrong kind | wrong culprit | more than one | called otherwise at first | otherwise wrong |"
            .to_owned(),
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|".to_owned(),
    ];
    for of in all {
        let found = |share| seconds(quantile(&of.found_ms, share), 2);
        let told = |share| seconds(quantile(&of.told_ms, share), 2);
        let otherwise = of
            .failed
            .saturating_sub(of.missed + of.wrong_kind + of.wrong_culprit + of.more_than_one);
        lines.push(format!(
            "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {otherwise} |",
            of.kind.name(),
            of.runs,
            found(0.5),
            found(1.0),
            told(0.5),
            told(0.99),
            told(1.0),
            seconds(Some(promise(of.kind)), 0),
            seconds(quantile(&of.named_ms, 0.5), 2),
            seconds(quantile(&of.named_ms, 1.0), 2),
            of.missed,
            of.wrong_kind,
            of.wrong_culprit,
            of.more_than_one,
            of.otherwise_at_first,
        ));
    }
    for outcome in outcomes {
        if let Some(called) = &outcome.first_called {
            lines.push(format!(
                "\n{}, seed {}: told at first as {called}",
                outcome.scene, outcome.seed
            ));
        }
        if let Some(failure) = &outcome.failure {
            let first = failure.lines().next().unwrap_or_default();
            let said = outcome.storms.first().map_or("", |storm| &storm.summary);
            lines.push(format!(
                "\n{}, seed {}: {first} {said}",
                outcome.scene, outcome.seed
            ));
        }
        if outcome.scene == NORMAL_LIFE {
            lines.push(format!(
                "\nNormal life, {} minutes: {} false alarms.",
                options.life,
                outcome.storms.len()
            ));
        }
    }
    lines
}

fn draw(all: &[OfKind], runs: u32, path: &Path) -> Result<()> {
    let rows = all.iter().map(|of| Row {
        kind: of.kind.name().to_owned(),
        runs: of.runs,
        delays_ms: vec![of.found_ms.clone(), of.told_ms.clone()],
    });
    let way = |name| Way {
        name,
        note: String::new(),
    };
    let picture = Picture {
        title: "From the onset of a storm at a real server",
        storms: &format!("{runs} storms of each kind"),
        ways: &[way("to the finding"), way("to the alert, received over HTTP")],
        rows: &rows.collect::<Vec<_>>(),
    };
    picture.draw(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_late_or_taken_for_another_counts() {
        let outcome = |storms: &str, told: &str| {
            let line = format!(
                r#"{{"scene":"error_burst","seed":1,"course":{{"onset_ms":1000}},"storms":{storms},"told_ms":{told},"named_ms":null,"first_called":null,"failure":null}}"#
            );
            serde_json::from_str::<Outcome>(&line).expect("an outcome")
        };
        let storm = |kind: &str, culprit: &str| {
            format!(r#"{{"kind":"{kind}","culprit":{culprit},"found_ms":1300,"summary":""}}"#)
        };
        let right = storm("error_burst", "\"search\"");
        let outcomes = [
            outcome(&format!("[{right}]"), "1350"),
            outcome("[]", "null"),
            outcome(&format!("[{right},{right}]"), "1400"),
            outcome(&format!("[{}]", storm("hot_prefix", "null")), "1500"),
        ];
        let of = OfKind::new(Kind::ErrorBurst, &outcomes);
        assert_eq!((of.runs, of.missed, of.more_than_one), (4, 1, 1));
        assert_eq!((of.wrong_kind, of.wrong_culprit), (1, 1));
        assert_eq!(of.found_ms, [300; 3]);
        assert_eq!(of.told_ms, [350, 400, 500]);
        assert_eq!(OfKind::new(Kind::HotPrefix, &outcomes).runs, 0);
        assert!(!of.is_late());
        let late = outcome(&format!("[{right}]"), "3001");
        assert!(OfKind::new(Kind::ErrorBurst, &[late]).is_late());
    }
}
