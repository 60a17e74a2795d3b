//! `maxclients_rejection`: the server refuses clients because it has as many as it takes. A few refusals over what is usual are
//! a storm: each of them is a client that cannot work.

use super::course::{Onset, sum};
use super::finding::{Detector, Finding, Measure, Scene, figure};
use super::storm::{Kind, Severity};
use super::usual::Cusum;

/// Refusals end when there were none for so long; clients try again every few seconds.
const QUIET_MILLISECONDS: u64 = 10_000;

#[derive(Debug, Default)]
pub(super) struct MaxclientsRejection {
    rejections: Cusum,
    on: Option<Onset>,
}

impl Detector for MaxclientsRejection {
    fn kind(&self) -> Kind {
        Kind::MaxclientsRejection
    }

    fn note(&mut self, scene: &Scene<'_>) -> bool {
        let least = scene.settings.maxclients_rejection.rejections.get() as f64;
        let allowed = scene.course.usual.rejections.allowed();
        let piled = self
            .rejections
            .add(scene.tick, scene.tick.rejected as f64, allowed, 4.0 * least);
        self.on.is_some() || piled > 0.0
    }

    fn judge(&mut self, scene: &Scene<'_>) -> Option<Finding> {
        let least = scene.settings.maxclients_rejection.rejections.get() as f64;
        let onset = match self.on {
            Some(onset) if sum(scene.course.back(QUIET_MILLISECONDS), |tick| tick.rejected) > 0 => onset,
            Some(_) => {
                *self = Self::default();
                return None;
            }
            None if self.rejections.sum() >= least => self.rejections.onset(scene.tick),
            None => return None,
        };
        self.on = Some(onset);
        let rejected = onset.grown(scene.tick, |seen| seen.rejected_total) as f64;
        let opened = onset.grown(scene.tick, |seen| seen.opened_total) as f64;
        let mut evidence = vec![
            figure("rejections", rejected, "connections"),
            figure("connections", scene.tick.connections as f64, "connections"),
        ];
        if let Some(limit) = scene.tick.clients_limit {
            evidence.push(figure("clients_limit", limit as f64, "clients"));
        }
        evidence.push(figure("opens", opened, "connections"));
        Some(Finding {
            kind: Kind::MaxclientsRejection,
            severity: Severity::Critical,
            onset: onset.at,
            seen: scene.last(QUIET_MILLISECONDS, |tick| tick.rejected > 0),
            evidence,
            noun: "refused connections",
            amount: rejected,
            measure: Measure::Opens,
        })
    }
}
