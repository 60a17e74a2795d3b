//! Processes that get no CPU.

use std::hint::spin_loop;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::process::read_output;

/// Threads that spin beside a starved process. One alone leaves it 3 milliseconds of each second, with which a server still answers hundreds of
/// commands, since it reads many at a time.
const HOGS: usize = 8;

/// A process that has one CPU, which [`HOGS`] threads of ours keep busy: it gets what is left, a third of a millisecond of each second (its
/// weight is 3 beside 1024 of each thread, `WEIGHT_IDLEPRIO` and `sched_prio_to_weight` of the kernel). Dropping this gives it back what it
/// had.
pub struct Starved {
    process: Pid,
    before: CpuSet,
    over: Arc<AtomicBool>,
    hogs: Vec<JoinHandle<Result<()>>>,
}

impl Starved {
    /// Starves it. Needs root and `chrt`.
    pub fn starve(process: Pid) -> Result<Self> {
        let before = sched_getaffinity(process).context("cannot tell which CPUs the process has")?;
        let mut one = CpuSet::new();
        let first = (0..CpuSet::count()).find(|&cpu| before.is_set(cpu).unwrap_or(false));
        one.set(first.context("the process has no CPU")?)?;
        let over = Arc::new(AtomicBool::new(false));
        let hog = |_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                sched_setaffinity(Pid::from_raw(0), &one)?;
                while !over.load(Ordering::Relaxed) {
                    spin_loop();
                }
                Ok(())
            })
        };
        let hogs = (0..HOGS).map(hog).collect();
        let starved = Self {
            process,
            before,
            over,
            hogs,
        };
        sched_setaffinity(process, &one)?;
        starved.schedule("--idle")?;
        Ok(starved)
    }

    fn schedule(&self, class: &str) -> Result<()> {
        let process = self.process.to_string();
        let mut command = Command::new("chrt");
        command.args([class, "--pid", "0", &process]);
        read_output("chrt", &mut command, Duration::from_secs(5)).map(|_| ())
    }

    /// Gives it back what it had.
    pub fn feed(mut self) -> Result<()> {
        self.give_back()
    }

    fn give_back(&mut self) -> Result<()> {
        if self.hogs.is_empty() {
            return Ok(());
        }
        self.over.store(true, Ordering::Relaxed);
        let hogs = std::mem::take(&mut self.hogs);
        self.schedule("--other")?;
        sched_setaffinity(self.process, &self.before)?;
        for hog in hogs {
            hog.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        if let Err(error) = self.give_back() {
            eprintln!("process {} stays starved: {error:#}", self.process);
        }
    }
}
