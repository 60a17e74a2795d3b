//! `bandwidth_saturation`: bytes per second near what the link carries, or near a configured limit.
//!
//! Bytes of the busier direction in a cumulative sum over `percent` of the limit: at the limit itself a storm within a second, just
//! above the allowance after many. Nothing has to be learned: the limit is a fact.

use std::collections::VecDeque;

use super::excess::{Amount, Excess};
use super::finding::{Finding, Measure, TrafficDetector, figure, ratio};
use super::storm::{Kind, Severity};
use super::traffic::{Measured, Second};

/// So much beyond the allowance is a storm, in seconds at the limit.
const THRESHOLD: f64 = 0.1;

/// Share of the limit that is critical.
const CRITICAL_SHARE: f64 = 0.95;

/// Seconds over which the trend is taken.
const TREND: usize = 10;

#[derive(Debug, Default)]
pub(super) struct BandwidthSaturation {
    bytes: Excess,
    /// Bytes per second of the last seconds.
    rates: VecDeque<f64>,
}

impl BandwidthSaturation {
    /// By how much the rate grows each second.
    fn trend(&self) -> f64 {
        match (self.rates.front(), self.rates.back()) {
            (Some(first), Some(last)) if self.rates.len() > 1 => {
                (last - first) / (self.rates.len() - 1) as f64
            }
            _ => 0.0,
        }
    }
}

impl TrafficDetector for BandwidthSaturation {
    fn kind(&self) -> Kind {
        Kind::BandwidthSaturation
    }

    fn judge(&mut self, second: &Second<'_>) -> Option<Finding> {
        let settings = &second.settings.bandwidth_saturation;
        let traffic = second.traffic;
        let limit = match settings.bytes_per_second.get() {
            0 => traffic.link? as f64,
            configured => configured as f64,
        };
        let busier = traffic.bytes_in.max(traffic.bytes_out) as f64;
        let rate = busier / traffic.seconds();
        self.rates.push_back(rate);
        if self.rates.len() > TREND {
            self.rates.pop_front();
        }
        let of = Amount {
            amount: busier,
            allowed: settings.percent.get() as f64 / 100.0 * limit,
            threshold: THRESHOLD * limit,
            measured: Measured::Bytes,
        };
        if !self.bytes.add(second, of, true) {
            return None;
        }
        let mut evidence = vec![
            figure("bytes_per_second", rate, "bytes"),
            figure("share_of_limit", rate / limit, "ratio"),
            figure("limit_bytes_per_second", limit, "bytes"),
            figure(
                "bytes_in_per_second",
                traffic.bytes_in as f64 / traffic.seconds(),
                "bytes",
            ),
            figure(
                "bytes_out_per_second",
                traffic.bytes_out as f64 / traffic.seconds(),
                "bytes",
            ),
            figure(
                "bytes_per_command",
                ratio(
                    (traffic.bytes_in + traffic.bytes_out) as f64,
                    traffic.sum(|row| row.commands) as f64,
                ),
                "bytes",
            ),
        ];
        let trend = self.trend();
        if trend > 0.0 && rate < limit {
            evidence.push(figure("time_left", (limit - rate) / trend, "seconds"));
        }
        Some(Finding {
            kind: Kind::BandwidthSaturation,
            severity: if rate >= CRITICAL_SHARE * limit {
                Severity::Critical
            } else {
                Severity::Warning
            },
            onset: self.bytes.onset(),
            seen: second.now,
            evidence,
            noun: "bytes",
            amount: self.bytes.amount(),
            measure: Measure::Traffic(self.bytes.culprits()),
        })
    }

    fn is_suspicious(&self) -> bool {
        self.bytes.is_suspected()
    }
}
