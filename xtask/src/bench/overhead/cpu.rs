//! Time that CPUs were busy: the whole machine's and single processes'.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::unistd::{SysconfVar, sysconf};

/// A reading of the machine's idle time.
///
/// Idle time is what the kernel measures; busy time by kind (user, system, softirq) it only samples at its ticks unless it
/// is built otherwise. So what is not idle counts as busy: to 10 ms, whatever it was.
pub(super) struct Machine {
    at: Instant,
    /// Of all CPUs, lent to other virtual machines included, in seconds.
    idle: f64,
    cpus: usize,
}

impl Machine {
    /// The state of this moment.
    pub(super) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let at = Instant::now();
        let (ticks, cpus) = idle(&text).context("/proc/stat has no line `cpu` as expected")?;
        Ok(Self {
            at,
            idle: ticks as f64 / ticks_per_second()?,
            cpus,
        })
    }

    /// CPU seconds that were not idle since `before`.
    pub(super) fn busy_since(&self, before: &Self) -> f64 {
        (self.available_since(before) - (self.idle - before.idle)).max(0.0)
    }

    /// CPU seconds that there were since `before`, busy or not.
    pub(super) fn available_since(&self, before: &Self) -> f64 {
        (self.at - before.at).as_secs_f64() * self.cpus as f64
    }
}

/// CPU seconds of all threads of a process that runs, by the scheduler's own clock.
pub(super) fn of_process(process: u32) -> Result<f64> {
    let folder = format!("/proc/{process}/task");
    let mut nanoseconds = 0;
    for task in fs::read_dir(&folder).with_context(|| format!("process {process} has ended"))? {
        // A thread may end between the listing and here: what it used is then lost, which is little.
        if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
            nanoseconds += run_time(&text).context("the kernel keeps no run time in schedstat")?;
        }
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// CPU seconds of all children that have ended and were waited for.
pub(super) fn of_ended_children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot ask for the children's CPU time")?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(microseconds as f64 / 1e6)
}

fn ticks_per_second() -> Result<f64> {
    let ticks = sysconf(SysconfVar::CLK_TCK)?.context("this system has no clock tick")?;
    Ok(ticks as f64)
}

/// Ticks without work of ours (idle, waiting for a disk, stolen by the hypervisor), and the number of CPUs.
fn idle(stat: &str) -> Option<(u64, usize)> {
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = all
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    let idle = fields.get(3)? + fields.get(4)? + fields.get(7)?;
    let cpus = stat
        .lines()
        .filter(|line| {
            line.strip_prefix("cpu")
                .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        })
        .count();
    (cpus > 0).then_some((idle, cpus))
}

/// The first field of a schedstat file.
fn run_time(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    const STAT: &str = "cpu  100 1 20 3000 40 5 6 700 8 9\n\
        cpu0 50 1 10 1500 20 5 3 350 4 5\n\
        cpu1 50 0 10 1500 20 0 3 350 4 4\n\
        intr 77 1 2\n\
        ctxt 1\n";

    #[test]
    fn idle_waiting_and_stolen_ticks_are_no_work() {
        assert_eq!(idle(STAT), Some((3740, 2)));
    }

    #[test]
    fn a_page_without_cpus_is_refused() {
        assert_eq!(idle("intr 77\n"), None);
        assert_eq!(idle("cpu  1 2 3\n"), None);
    }

    #[test]
    fn run_time_is_the_first_field() {
        assert_eq!(run_time("9165574285 273972867 24206\n"), Some(9_165_574_285));
    }

    #[test]
    fn a_busy_process_uses_cpu_time() {
        let mut busy = Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 9000000 ]; do i=$((i+1)); done"])
            .spawn()
            .unwrap();
        let started = Instant::now();
        let mut used = 0.0;
        // However loaded the machine is, a hundredth of a second comes some time.
        while used < 0.01 && started.elapsed() < Duration::from_secs(30) {
            sleep(Duration::from_millis(5));
            used = of_process(busy.id()).unwrap();
        }
        busy.kill().unwrap();
        busy.wait().unwrap();
        assert!(used >= 0.01, "{used} s of CPU");
        assert!(of_process(busy.id()).is_err(), "it has ended");
    }
}
