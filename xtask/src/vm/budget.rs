//! The verifier budget: how many instructions the verifier looks at, per kernel and program, against a record.
//!
//! The limit is a million, and a program that reaches it does not load. It is reached long before anybody notices,
//! since a small change of the source can double the paths: growth fails a test while it can still be explained.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::lab::Lab;

/// How much a program may grow over its record.
const GROWTH_PERCENT: u64 = 5;

const HEAD: &str = "\
# Instructions that the verifier looked at, by kernel and program; its limit is 1,000,000.
# Written by `cargo xtask test --vm --record`. Growth of more than 5 % over these numbers fails `cargo xtask test --vm`;
# who lets them grow re-records them in the same commit and says why.
";

/// Programs and their instructions.
pub(super) type Counts = BTreeMap<String, u64>;

/// The record.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    #[serde(default)]
    kernel: BTreeMap<String, Recorded>,
}

/// The record of one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    /// Its exact release and version.
    release: String,
    programs: Counts,
}

/// A kernel's numbers beside its record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    kernel: String,
    /// By program: recorded, now.
    rows: BTreeMap<String, (Option<u64>, Option<u64>)>,
    /// Recorded and present release, where they differ.
    pub(super) moved: Option<(String, String)>,
}

impl Budget {
    /// Reads the checked-in file; without one nothing is recorded.
    pub(super) fn load(lab: &Lab) -> Result<Self> {
        let path = path(lab);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is no verifier budget", path.display()))
    }

    /// Replaces the numbers of one kernel.
    pub(super) fn record(&mut self, kernel: &str, release: &str, programs: Counts) {
        let recorded = Recorded {
            release: release.to_owned(),
            programs,
        };
        self.kernel.insert(kernel.to_owned(), recorded);
    }

    /// Writes the file and returns its path.
    pub(super) fn save(&self, lab: &Lab) -> Result<PathBuf> {
        let path = path(lab);
        fs::write(&path, self.text()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Sets a kernel's numbers beside its record.
    pub(super) fn compare(&self, kernel: &str, release: &str, counts: &Counts) -> Comparison {
        let recorded = self.kernel.get(kernel);
        let programs = recorded.map(|recorded| &recorded.programs);
        let names: BTreeSet<_> = programs
            .into_iter()
            .flat_map(Counts::keys)
            .chain(counts.keys())
            .collect();
        let row = |name: &String| {
            (
                programs.and_then(|all| all.get(name)).copied(),
                counts.get(name).copied(),
            )
        };
        Comparison {
            kernel: kernel.to_owned(),
            rows: names.into_iter().map(|name| (name.clone(), row(name))).collect(),
            moved: recorded
                .filter(|recorded| recorded.release != release)
                .map(|recorded| (recorded.release.clone(), release.to_owned())),
        }
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        for (kernel, recorded) in &self.kernel {
            text += &format!(
                "\n[kernel.{kernel:?}]\nrelease = {:?}\n[kernel.{kernel:?}.programs]\n",
                recorded.release
            );
            for (program, count) in &recorded.programs {
                text += &format!("{program} = {count}\n");
            }
        }
        text
    }
}

impl Comparison {
    /// Whether every program is recorded and none has grown too much.
    pub(super) fn holds(&self) -> bool {
        !self.rows.is_empty() && !self.rows.values().any(|(recorded, now)| exceeds(*recorded, *now))
    }

    /// Whether a program needs so much less than its record that the record hides growth.
    pub(super) fn is_generous(&self) -> bool {
        self.rows.values().any(|row| match row {
            (Some(recorded), Some(now)) => now * 100 < recorded * (100 - GROWTH_PERCENT),
            _ => false,
        })
    }
}

/// All comparisons as a table for people; `!` marks what exceeds the budget.
pub(super) fn table(comparisons: &[Comparison]) -> String {
    let mut text = format!(
        "  {:<8} {:<12} {:>9} {:>9} {:>9}\n",
        "kernel", "program", "recorded", "now", "growth"
    );
    for comparison in comparisons {
        for (program, (recorded, now)) in &comparison.rows {
            let mark = if exceeds(*recorded, *now) { '!' } else { ' ' };
            let number = |count: &Option<u64>| count.map_or("none".to_owned(), |count| count.to_string());
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{mark} {:<8} {program:<12} {:>9} {:>9} {:>9}",
                comparison.kernel,
                number(recorded),
                number(now),
                growth(*recorded, *now)
            );
        }
    }
    text
}

/// A program that is gone or not recorded exceeds, too: the record would say nothing about it.
fn exceeds(recorded: Option<u64>, now: Option<u64>) -> bool {
    match (recorded, now) {
        (Some(recorded), Some(now)) => now * 100 > recorded * (100 + GROWTH_PERCENT),
        _ => true,
    }
}

fn growth(recorded: Option<u64>, now: Option<u64>) -> String {
    match (recorded, now) {
        (Some(recorded), Some(now)) if recorded > 0 => {
            format!("{:+.1} %", (now as f64 / recorded as f64 - 1.0) * 100.0)
        }
        _ => "-".into(),
    }
}

fn path(lab: &Lab) -> PathBuf {
    lab.workspace().join(Path::new("tests/vm/verifier-budget.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        pairs
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    fn recorded() -> Budget {
        let mut budget = Budget::default();
        budget.record("6.1", "6.1.0-1", counts(&[("sg_a", 1000), ("sg_b", 20)]));
        budget
    }

    #[test]
    fn five_percent_more_are_allowed_and_a_little_more_than_that_is_not() {
        let budget = recorded();
        let now = |a, b| budget.compare("6.1", "6.1.0-1", &counts(&[("sg_a", a), ("sg_b", b)]));
        assert!(now(1000, 20).holds());
        assert!(now(1050, 21).holds());
        assert!(!now(1051, 20).holds());
        assert!(!now(1000, 22).holds());
        let table = table(&[now(1100, 20)]);
        assert!(
            table.contains("! 6.1      sg_a              1000      1100   +10.0 %"),
            "{table}"
        );
        assert!(
            table.contains("  6.1      sg_b                20        20    +0.0 %"),
            "{table}"
        );
    }

    #[test]
    fn what_shrinks_holds_and_is_said() {
        let now = recorded().compare("6.1", "6.1.0-1", &counts(&[("sg_a", 900), ("sg_b", 20)]));
        assert!(now.holds() && now.is_generous());
        let now = recorded().compare("6.1", "6.1.0-1", &counts(&[("sg_a", 960), ("sg_b", 20)]));
        assert!(now.holds() && !now.is_generous());
    }

    #[test]
    fn a_program_or_a_kernel_without_a_record_does_not_hold() {
        let budget = recorded();
        let more = counts(&[("sg_a", 1000), ("sg_b", 20), ("sg_c", 1)]);
        assert!(!budget.compare("6.1", "6.1.0-1", &more).holds());
        assert!(
            !budget
                .compare("6.1", "6.1.0-1", &counts(&[("sg_a", 1000)]))
                .holds()
        );
        assert!(
            !budget
                .compare("6.12", "6.12.1", &counts(&[("sg_a", 1000)]))
                .holds()
        );
        assert!(!budget.compare("6.1", "6.1.0-1", &Counts::new()).holds());
        assert!(
            !Budget::default()
                .compare("6.1", "6.1.0-1", &Counts::new())
                .holds()
        );
    }

    #[test]
    fn another_point_release_is_compared_all_the_same() {
        let same = counts(&[("sg_a", 1000), ("sg_b", 20)]);
        let now = recorded().compare("6.1", "6.1.0-2", &same);
        assert!(now.holds());
        assert_eq!(now.moved, Some(("6.1.0-1".into(), "6.1.0-2".into())));
    }

    #[test]
    fn what_is_written_is_read_again() -> Result<()> {
        let budget = recorded();
        assert_eq!(toml::from_str::<Budget>(&budget.text())?, budget);
        Ok(())
    }
}
