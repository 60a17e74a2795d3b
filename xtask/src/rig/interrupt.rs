//! Ctrl-C and its kin: noticed between two steps, so that what was started is ended first.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::process::say;

/// How soon a signal is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The signals that ask for the end.
pub(crate) struct Interrupt {
    /// The last one that came; 0: none.
    signal: Arc<AtomicUsize>,
}

/// The error that unwinds to the end.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl Interrupt {
    /// From now on SIGINT, SIGTERM and SIGHUP are only noted.
    pub(crate) fn new() -> Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGINT, SIGTERM, SIGHUP] {
            flag::register_usize(number, Arc::clone(&signal), number as usize)
                .context("cannot handle signals")?;
        }
        Ok(Self { signal })
    }

    /// Sleeps; an error if a signal came before the end of it.
    pub(crate) fn sleep(&self, time: Duration) -> Result<(), Interrupted> {
        let end = Instant::now() + time;
        loop {
            if self.signal.load(Ordering::Relaxed) != 0 {
                return Err(Interrupted);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(LOOK_EVERY));
        }
    }

    /// What came of `work`, which has ended, and with it everything that it started: if a signal ended it, this process may end by
    /// that, too.
    pub(crate) fn settle(&self, work: &str, outcome: Result<()>) -> Result<()> {
        match outcome {
            Err(error) if error.is::<Interrupted>() => {
                say(format!(
                    "interrupted; everything that the {work} started has ended"
                ));
                self.obey()
            }
            other => other,
        }
    }

    /// Ends this process as the signal would have, so that the shell knows.
    fn obey(&self) -> Result<()> {
        let signal = self.signal.load(Ordering::Relaxed);
        low_level::emulate_default_handler(signal as i32).context("cannot end by the signal")
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("interrupted")
    }
}

impl Error for Interrupted {}
