//! Waiting for something with a deadline.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(10);

/// Tries until `attempt` returns something. An error of `attempt` ends the wait; the deadline is an error that names
/// `what`.
pub fn until<T>(what: &str, within: Duration, attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    at(PAUSE, what, within, attempt)
}

/// The same without a pause: for what lasts a moment only.
pub fn closely<T>(what: &str, within: Duration, attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    at(Duration::ZERO, what, within, attempt)
}

fn at<T>(
    pause: Duration,
    what: &str,
    within: Duration,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        if started.elapsed() > within {
            bail!("{what}: not within {within:?}");
        }
        sleep(pause);
    }
}

/// Waits until `condition` holds.
pub fn until_true(what: &str, within: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, within, || Ok(condition()?.then_some(())))
}
