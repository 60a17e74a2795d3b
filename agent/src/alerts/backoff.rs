//! How long to wait before the next attempt.

use std::time::Duration;

/// Wait after the first failure, before jitter.
const FIRST: Duration = Duration::from_millis(500);

/// Longest wait: a receiver that is back is told within half a minute.
const LONGEST: Duration = Duration::from_secs(30);

/// Failures in a row at one receiver.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Another failure. Returns the wait: twice as long each time, of which `random` (0 to 1) takes up to a half away, so that the
    /// agents of a fleet do not come back together; not less than the receiver asked for, if that is bearable.
    pub(super) fn failed(&mut self, random: f64, asked: Option<Duration>) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0);
        wait.max(asked.unwrap_or_default().min(LONGEST))
    }

    /// It went well.
    pub(super) const fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.failed(0.0, None).as_millis()).collect();
        assert_eq!(
            waits,
            [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]
        );
        backoff.succeeded();
        assert_eq!(backoff.failed(0.0, None).as_millis(), 500);
    }

    #[test]
    fn chance_takes_up_to_half_of_a_wait_and_the_receiver_may_ask_for_more() {
        let failed = |random, asked| Backoff::default().failed(random, asked);
        assert_eq!(failed(1.0, None).as_millis(), 250);
        assert_eq!(failed(0.5, None).as_millis(), 375);
        assert_eq!(failed(0.0, Some(Duration::from_secs(7))).as_secs(), 7);
        assert_eq!(failed(0.0, Some(Duration::from_secs(3600))), LONGEST);
    }
}
