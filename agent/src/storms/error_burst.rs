//! `error_burst`: many more error replies than usual. Redirections of a cluster and scripts that have to be loaded again are none:
//! they belong to a failover or a deploy. Whoever asks ten times as much may have ten times as many.

use std::collections::BTreeMap;

use super::excess::{Amount, Excess};
use super::finding::{Finding, Measure, TrafficDetector, figure, ratio};
use super::storm::{Kind, Severity};
use super::traffic::{Measured, Second, TrafficRow};

/// Share of the commands that fail from which on it is critical.
const CRITICAL_SHARE: f64 = 0.5;

#[derive(Debug, Default)]
pub(super) struct ErrorBurst {
    faults: Excess,
    words: BTreeMap<&'static str, u64>,
}

impl TrafficDetector for ErrorBurst {
    fn kind(&self) -> Kind {
        Kind::ErrorBurst
    }

    fn judge(&mut self, second: &Second<'_>) -> Option<Finding> {
        let settings = &second.settings.error_burst;
        let (traffic, usual) = (second.traffic, second.usual);
        let share = settings.share_percent.get() as f64 / 100.0 * usual.commands.mean();
        let commands = traffic.sum(|row| row.commands) as f64;
        let grown = ratio(commands, usual.commands.mean() * traffic.seconds()).max(1.0);
        let of = Amount {
            amount: traffic.sum(TrafficRow::fault_count) as f64,
            allowed: (usual.faults.allowed() * grown).max(usual.faults_allowed(second.now)),
            threshold: share.max(settings.errors.get() as f64),
            measured: Measured::Faults,
        };
        if self.faults.is_idle() {
            self.words.clear();
        }
        if !self.faults.add(second, of, usual.is_warm()) {
            return None;
        }
        for (word, count) in traffic.rows.iter().flat_map(TrafficRow::faults) {
            *self.words.entry(word).or_default() += count;
        }
        let failing = ratio(of.amount, commands);
        let mut evidence = vec![
            figure("errors", self.faults.amount(), "errors"),
            figure("errors_per_second", self.faults.per_second(), "errors"),
            figure("errors_per_command", failing, "ratio"),
            figure("usual_errors_per_second", usual.faults.mean(), "errors"),
        ];
        let mut words: Vec<_> = self.words.iter().collect();
        words.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (word, count) in words.into_iter().take(3) {
            let name = format!("errors_{}", word.to_lowercase());
            evidence.push(figure(&name, *count as f64, "errors"));
        }
        Some(Finding {
            kind: Kind::ErrorBurst,
            severity: if failing >= CRITICAL_SHARE {
                Severity::Critical
            } else {
                Severity::Warning
            },
            onset: self.faults.onset(),
            seen: second.now,
            evidence,
            noun: "errors",
            amount: self.faults.amount(),
            measure: Measure::Traffic(self.faults.culprits()),
        })
    }

    fn is_suspicious(&self) -> bool {
        self.faults.is_suspected()
    }
}
