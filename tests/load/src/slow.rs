//! What makes a server slow.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that does nothing until this is dropped.
pub struct Stopped(Pid);

impl Stopped {
    /// Stops it.
    pub fn stop(process: Pid) -> Result<Self> {
        kill(process, Signal::SIGSTOP).with_context(|| format!("cannot stop process {process}"))?;
        Ok(Self(process))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It fails if the process has ended.
        _ = kill(self.0, Signal::SIGCONT);
    }
}

/// A script that keeps the server busy for so long, as a command on the wire. It measures the server's CPU time: the clock does not move in
/// a script.
#[must_use]
pub fn busy(how_long: Duration) -> Vec<u8> {
    let mut script = redis::cmd("EVAL");
    script
        .arg("local over = os.clock() + tonumber(ARGV[1]) while os.clock() < over do end return 1")
        .arg(0)
        .arg(how_long.as_secs_f64());
    script.get_packed_command()
}
