//! When a connection may send again, so that it keeps its rate whatever the length of its pipelines.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

/// How far a connection may fall behind before it gives the rest up: a stall is not followed by a flood.
const MOST_BEHIND: Duration = Duration::from_secs(1);

/// The rate of one connection.
pub(crate) struct Pace {
    per_command: Duration,
    next: Instant,
}

impl Pace {
    /// A command every `seconds_per_command`, the first at a random moment within the first such time.
    pub(crate) fn new(seconds_per_command: f64, rng: &mut Rng) -> Self {
        let per_command = Duration::from_secs_f64(seconds_per_command);
        Self {
            per_command,
            next: Instant::now() + per_command.mul_f64(rng.f64()),
        }
    }

    /// When the next command is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Accounts for `commands` that are sent `now`.
    pub(crate) fn spend(&mut self, commands: u32, now: Instant) {
        let oldest = now.checked_sub(MOST_BEHIND).unwrap_or(now);
        self.next = self.next.max(oldest) + self.per_command * commands;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_waits_for_as_long_as_its_commands_would_have() {
        let mut pace = Pace::new(0.01, &mut Rng::with_seed(1));
        let first = pace.next();
        pace.spend(1, first);
        assert_eq!(pace.next(), first + Duration::from_millis(10));
        pace.spend(16, first);
        assert_eq!(pace.next(), first + Duration::from_millis(170));
    }

    #[test]
    fn after_a_stall_at_most_a_second_is_caught_up() {
        let mut pace = Pace::new(0.01, &mut Rng::with_seed(1));
        let late = pace.next() + Duration::from_secs(60);
        pace.spend(1, late);
        assert_eq!(pace.next(), late - Duration::from_millis(990));
    }
}
