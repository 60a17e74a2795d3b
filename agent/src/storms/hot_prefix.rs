//! `hot_prefix`: one prefix takes the server, and the others wait for it.
//!
//! Every second the prefix with the largest excess over its own usual number of commands is looked at. It counts if it has at least
//! `share_percent` of all commands, `RISE` times as many as usual of it, and the others suffer: their commands take twice as long as is
//! usual at this server, and half a millisecond more. Its excess is added up; `commands` of it in a second and a half are a storm, if they
//! suffer for two seconds in a row: a server that stalls for a moment while a batch runs is none. If the prefix has hurt nobody for some
//! seconds, the others have to suffer for four: they suffer from something else, more likely. A server that has always served one prefix
//! has no excess, and a batch that hurts nobody is none. Nor is anything at a server that has next to no CPU time: what is slow there is
//! the host.

use super::excess::{Amount, Excess};
use super::finding::{Finding, Measure, TrafficDetector, figure, ratio};
use super::storm::{Kind, Severity};
use super::traffic::{Measured, Second, TrafficRow};

/// Others suffer from so many times their usual latency on, and so many seconds more.
const SLOWER: f64 = 2.0;
const SLOWER_SECONDS: f64 = 0.000_5;

/// A server is taken by nobody while it has less of a CPU than this.
const BUSY: f64 = 0.25;

/// So many seconds in a row; and so many after it has hurt nobody for `HARMLESS` seconds.
const SECONDS: u32 = 2;
const SECONDS_IF_HARMLESS: u32 = 4;
const HARMLESS: u32 = 2;

/// A prefix is taking something if it has so many times its usual commands.
const RISE: f64 = 1.3;

/// Harmless seconds that are remembered; each one without that many commands takes one away.
const REMEMBERED: u32 = 60;

/// Fewer commands of others in a second say nothing of their latency.
const OTHERS: u64 = 10;

/// Share of the commands, and times as slow, from which on it is critical.
const CRITICAL_SHARE: f64 = 0.8;
const CRITICAL_SLOWER: f64 = 5.0;

#[derive(Debug, Default)]
pub(super) struct HotPrefix {
    commands: Excess,
    /// Seconds in a row in which others suffered.
    suffered: u32,
    /// Seconds before in which nobody suffered from a prefix that had `commands` beyond what is usual.
    harmless: u32,
}

/// One prefix against the others, in one second.
struct Contest {
    excess: f64,
    /// Times its usual commands.
    rise: f64,
    share: f64,
    bytes_share: f64,
    /// Latency of the others, in seconds.
    latency: f64,
}

impl Contest {
    /// The prefix with the largest excess; `None` if too little is known of the others.
    fn of(second: &Second<'_>) -> Option<Self> {
        let traffic = second.traffic;
        let usual = |row: &TrafficRow| second.usual.of_row(row, Measured::Commands) * traffic.seconds();
        let excess = |row: &TrafficRow| row.commands as f64 - usual(row);
        let hot = traffic
            .rows
            .iter()
            .max_by(|left, right| excess(left).total_cmp(&excess(right)))?;
        let others = || traffic.rows.iter().filter(|row| row.prefix != hot.prefix);
        let answered: u64 = others().map(|row| row.answered).sum();
        if answered < OTHERS {
            return None;
        }
        let waited: f64 = others().map(|row| row.seconds).sum();
        let all = traffic.sum(|row| row.commands);
        let usual = usual(hot);
        Some(Self {
            excess: excess(hot).max(0.0),
            rise: if usual > 0.0 {
                hot.commands as f64 / usual
            } else {
                f64::INFINITY
            },
            share: ratio(hot.commands as f64, all as f64),
            bytes_share: ratio(hot.bytes() as f64, traffic.sum(TrafficRow::bytes) as f64),
            latency: waited / answered as f64,
        })
    }
}

impl TrafficDetector for HotPrefix {
    fn kind(&self) -> Kind {
        Kind::HotPrefix
    }

    fn judge(&mut self, second: &Second<'_>) -> Option<Finding> {
        let settings = &second.settings.hot_prefix;
        let usual = second.usual.latency;
        let contest = Contest::of(second);
        let is_busy = second.traffic.busy.is_none_or(|busy| busy >= BUSY);
        let hot = contest.as_ref().filter(|contest| {
            is_busy
                && contest.rise >= RISE
                && contest.share * 100.0 >= settings.share_percent.get() as f64
                && contest.latency >= SLOWER * usual
                && contest.latency >= usual + SLOWER_SECONDS
        });
        if hot.is_some() {
            self.suffered += 1;
        } else {
            self.suffered = 0;
            let asks_more = |contest: &Contest| contest.excess >= settings.commands.get() as f64;
            self.harmless = if contest.as_ref().is_some_and(asks_more) {
                (self.harmless + 1).min(REMEMBERED)
            } else {
                self.harmless.saturating_sub(1)
            };
        }
        let seconds = if self.harmless >= HARMLESS {
            SECONDS_IF_HARMLESS
        } else {
            SECONDS
        };
        let may_begin = second.usual.is_warm() && self.suffered >= seconds;
        let of = Amount {
            amount: hot.map_or(0.0, |hot| hot.excess),
            allowed: 0.0,
            threshold: 1.5 * settings.commands.get() as f64,
            measured: Measured::Commands,
        };
        if !self.commands.add(second, of, may_begin) {
            return None;
        }
        let (share, bytes_share, latency) =
            contest.map_or((0.0, 0.0, 0.0), |now| (now.share, now.bytes_share, now.latency));
        let slower = ratio(latency, usual);
        Some(Finding {
            kind: Kind::HotPrefix,
            severity: if share >= CRITICAL_SHARE && slower >= CRITICAL_SLOWER {
                Severity::Critical
            } else {
                Severity::Warning
            },
            onset: self.commands.onset(),
            seen: second.now,
            evidence: [
                figure(
                    "commands_beyond_usual_per_second",
                    self.commands.per_second(),
                    "commands",
                ),
                figure("share_of_commands", share, "ratio"),
                figure("share_of_bytes", bytes_share, "ratio"),
                figure("latency_of_others", latency, "seconds"),
                figure("usual_latency", usual, "seconds"),
                figure("others_slower", slower, "ratio"),
            ]
            .into_iter()
            .chain(second.traffic.busy.map(|busy| figure("busy", busy, "ratio")))
            .collect(),
            noun: "commands beyond what is usual",
            amount: self.commands.amount(),
            measure: Measure::Traffic(self.commands.culprits()),
        })
    }

    fn is_suspicious(&self) -> bool {
        self.commands.is_suspected()
    }
}
