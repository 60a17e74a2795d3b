//! `retry_amplification`: clients send more while the server answers less. Each time-out brings the same command again, and what
//! was asked before still has to be worked off.
//!
//! Commands that stay without an answer, in a cumulative sum over what is usual; only seconds count in which there are `RISE` times as
//! many commands as usual, of all together or of a tenant that has its part of the server: the others may wait meanwhile and send less. A peak
//! of traffic that is answered is none, and clients that wait for a server that has stopped send less, not more. On each of its
//! connections a client may wait once: in the first two seconds as many commands are none. Those that close the connection on
//! which they waited, and ask again on another one, are `reconnect_churn`: what waited there is taken off.

use std::collections::HashMap;
use std::sync::Arc;

use super::excess::{Amount, Excess};
use super::finding::{Finding, Measure, TrafficDetector, figure, ratio};
use super::storm::{Kind, Severity};
use super::traffic::{Measured, Second};

/// Commands over the usual number from which on there is amplification.
const RISE: f64 = 1.3;

/// Share of the usual commands from which on a tenant's are looked at by themselves: those of a smaller one, or of one that has just come, say
/// nothing of a server that does not answer.
const PART: f64 = 0.05;

/// Standard deviations of what is counted by which they have to exceed what is usual.
const DEVIATIONS: f64 = 4.0;

/// Amplification that is critical.
const CRITICAL_RISE: f64 = 2.0;

/// How many times as many commands as usual there are: of all together, or of the tenant of which they have risen the most.
struct Risen(f64);

impl Risen {
    /// `None` if they have not.
    fn of(second: &Second<'_>) -> Option<Self> {
        let usual = second.usual.commands.mean() * second.traffic.seconds();
        let commands = second.traffic.sum(|row| row.commands) as f64;
        let all = ratio(commands, usual);
        let tenants = Self::by_tenant(second).into_values();
        let tenants = tenants.filter(|(commands, of)| {
            *of >= PART * usual && commands - of >= DEVIATIONS * of.sqrt() && *commands >= RISE * of
        });
        let most = tenants
            .map(|(commands, of)| ratio(commands, of))
            .fold(all, f64::max);
        (most >= RISE).then_some(Self(most))
    }

    /// Commands in this second and in a usual one. Whoever has no tenant is the prefix.
    fn by_tenant(second: &Second<'_>) -> HashMap<Arc<str>, (f64, f64)> {
        let mut tenants: HashMap<_, (f64, f64)> = HashMap::new();
        for row in &second.traffic.rows {
            let of = Arc::clone(row.tenant.as_ref().unwrap_or(&row.prefix));
            let (commands, usual) = tenants.entry(of).or_default();
            *commands += row.commands as f64;
            *usual += second.usual.of_row(row, Measured::Commands) * second.traffic.seconds();
        }
        tenants
    }
}

/// How long all that a pool has may ask once, and wait.
const ONCE_MILLISECONDS: u64 = 2_000;

#[derive(Debug, Default)]
pub(super) struct RetryAmplification {
    unanswered: Excess,
}

impl RetryAmplification {
    fn begins(&self, second: &Second<'_>) -> bool {
        self.unanswered.is_idle() || second.now.since(self.unanswered.onset()) <= ONCE_MILLISECONDS
    }
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
        // What is answered or given up a second later is taken off again: of many in flight some are always on their way.
        let unanswered = commands - answered - second.given_up as f64;
        // Who has risen matters only where something stays unanswered.
        let risen = (unanswered > 0.0).then(|| Risen::of(second)).flatten();
        let unanswered = if risen.is_some() {
            unanswered
        } else {
            unanswered.min(0.0)
        };
        let share = settings.share_percent.get() as f64 / 100.0 * usual.commands.mean();
        let threshold = share.max(settings.commands.get() as f64);
        let of = Amount {
            amount: unanswered,
            allowed: usual.unanswered.allowed(),
            threshold: if self.begins(second) {
                threshold.max(second.connections as f64)
            } else {
                threshold
            },
            measured: Measured::Commands,
        };
        if !self.unanswered.add(second, of, usual.is_warm()) {
            return None;
        }
        let amplification = risen.map_or_else(
            || ratio(commands / seconds, usual.commands.mean()),
            |risen| risen.0,
        );
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
