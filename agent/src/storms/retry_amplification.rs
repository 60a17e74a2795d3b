//! `retry_amplification`: clients send more while the server answers less. Each time-out brings the same command again, and what
//! was asked before still has to be worked off.
//!
//! Commands that stay without an answer, in a cumulative sum over what is usual; only seconds count in which there are `RISE` times as
//! many commands as usual. A peak of traffic that is answered is none, and clients that wait for a server that has stopped send
//! less, not more.

use super::excess::{Amount, Excess};
use super::finding::{Finding, Measure, TrafficDetector, figure, ratio};
use super::storm::{Kind, Severity};
use super::traffic::{Measured, Second};

/// Commands over the usual number from which on there is amplification.
const RISE: f64 = 1.3;

/// Amplification that is critical.
const CRITICAL_RISE: f64 = 2.0;

#[derive(Debug, Default)]
pub(super) struct RetryAmplification {
    unanswered: Excess,
}

impl TrafficDetector for RetryAmplification {
    fn kind(&self) -> Kind {
        Kind::RetryAmplification
    }

    fn judge(&mut self, second: &Second<'_>) -> Option<Finding> {
        let settings = &second.settings.retry_amplification;
        let (traffic, usual) = (second.traffic, second.usual);
        let seconds = traffic.seconds();
        let commands = traffic.sum(|row| row.commands) as f64;
        let answered = traffic.sum(|row| row.answered) as f64;
        let rises = commands >= RISE * usual.commands.mean() * seconds;
        // What is answered a second later is taken off again: of many in flight some are always on their way.
        let unanswered = commands - answered;
        let unanswered = if rises { unanswered } else { unanswered.min(0.0) };
        let share = settings.share_percent.get() as f64 / 100.0 * usual.commands.mean();
        let of = Amount {
            amount: unanswered,
            allowed: usual.unanswered.allowed(),
            threshold: share.max(settings.commands.get() as f64),
            measured: Measured::Commands,
        };
        if !self.unanswered.add(second, of, usual.is_warm()) {
            return None;
        }
        let amplification = ratio(commands / seconds, usual.commands.mean());
        Some(Finding {
            kind: Kind::RetryAmplification,
            severity: if amplification >= CRITICAL_RISE {
                Severity::Critical
            } else {
                Severity::Warning
            },
            onset: self.unanswered.onset(),
            seen: second.now,
            evidence: vec![
                figure("commands_per_second", commands / seconds, "commands"),
                figure("usual_commands_per_second", usual.commands.mean(), "commands"),
                figure("amplification", amplification, "ratio"),
                figure("answered_per_second", answered / seconds, "commands"),
                figure("unanswered", self.unanswered.amount(), "commands"),
                figure("usual_latency", usual.latency, "seconds"),
            ],
            noun: "unanswered commands",
            amount: self.unanswered.amount(),
            measure: Measure::Traffic(self.unanswered.culprits()),
        })
    }

    fn is_suspicious(&self) -> bool {
        self.unanswered.is_suspected()
    }
}
