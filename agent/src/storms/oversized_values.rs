//! `oversized_values`: values much larger than this server usually has. Each holds the server's one thread, and everybody behind
//! it, for as long as it takes to copy.
//!
//! Commands and replies of `bytes` and more in a cumulative sum over what is usual; a storm if they are `values` and at least
//! `share_percent` of all bytes since the onset. Replica links do not count.

use super::excess::{Amount, Excess};
use super::finding::{Finding, Measure, TrafficDetector, figure, ratio};
use super::storm::{Kind, Severity};
use super::traffic::{Measured, Second};

/// Share of all bytes from which on it is critical.
const CRITICAL_SHARE: f64 = 0.8;

#[derive(Debug, Default)]
pub(super) struct OversizedValues {
    values: Excess,
    bytes: f64,
    all: f64,
}

impl TrafficDetector for OversizedValues {
    fn kind(&self) -> Kind {
        Kind::OversizedValues
    }

    fn judge(&mut self, second: &Second<'_>) -> Option<Finding> {
        let settings = &second.settings.oversized_values;
        let (traffic, usual) = (second.traffic, second.usual);
        let large = settings.bytes.get() as u64;
        let (mut count, mut bytes) = (0, 0.0);
        for row in &traffic.rows {
            let of_row = row.large(large);
            (count, bytes) = (count + of_row.0, bytes + of_row.1);
        }
        if self.values.is_idle() {
            (self.bytes, self.all) = (0.0, 0.0);
        }
        if count > 0 {
            self.bytes += bytes;
            self.all += (traffic.bytes_in + traffic.bytes_out) as f64;
        }
        let share = ratio(self.bytes, self.all).min(1.0);
        let of = Amount {
            amount: count as f64,
            allowed: usual.large_allowed(second.now),
            threshold: settings.values.get() as f64,
            measured: Measured::Large(large),
        };
        let much = share * 100.0 >= settings.share_percent.get() as f64;
        if !self.values.add(second, of, usual.is_warm() && much) {
            return None;
        }
        Some(Finding {
            kind: Kind::OversizedValues,
            severity: if share >= CRITICAL_SHARE {
                Severity::Critical
            } else {
                Severity::Warning
            },
            onset: self.values.onset(),
            seen: second.now,
            evidence: vec![
                figure("values", self.values.amount(), "values"),
                figure("bytes_of_values", self.bytes, "bytes"),
                figure(
                    "bytes_per_value",
                    ratio(self.bytes, self.values.amount()),
                    "bytes",
                ),
                figure("share_of_bytes", share, "ratio"),
                figure("usual_values_per_second", usual.large.mean(), "values"),
            ],
            noun: "bytes in large values",
            amount: self.bytes,
            measure: Measure::Traffic(self.values.culprits()),
        })
    }

    fn is_suspicious(&self) -> bool {
        self.values.is_suspected()
    }
}
