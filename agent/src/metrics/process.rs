//! What the agent itself costs: its process, under the names that every exporter of Prometheus uses.
//!
//! The `prometheus` crate has a collector for it, which counts CPU time in whole seconds and brings an older `procfs`.

use procfs::process::Process;

/// The agent's process at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessUsage {
    /// CPU time of all its threads so far, in user and in kernel mode. What the kernel programs take is not in it: they run on
    /// the time of whoever sends.
    pub cpu_seconds: f64,
    /// Memory that it holds.
    pub resident_bytes: u64,
    /// When it started, since 1970 began; not known where /proc shows processes only.
    pub started_seconds: Option<f64>,
    /// File descriptors that it has open.
    pub open_fds: Option<u64>,
}

impl ProcessUsage {
    /// As it is now, from one small file and one stat. `None` where there is no /proc.
    #[must_use]
    pub fn now() -> Option<Self> {
        let process = Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        // The crate reads it once, and remembers.
        let booted = procfs::boot_time_secs().ok();
        Some(Self {
            cpu_seconds: seconds(stat.utime + stat.stime),
            resident_bytes: stat.rss * procfs::page_size(),
            started_seconds: booted.map(|booted| booted as f64 + seconds(stat.starttime)),
            open_fds: process.fd_count().ok().map(|count| count as u64),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::hint::black_box;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    use super::*;

    fn now() -> ProcessUsage {
        ProcessUsage::now().expect("a process of its own")
    }

    #[test]
    fn cpu_time_is_in_seconds_and_that_of_a_thread_is_in_it() {
        let (before, began) = (now().cpu_seconds, Instant::now());
        let busy = std::thread::spawn(move || {
            while now().cpu_seconds - before < 0.05 && began.elapsed() < Duration::from_secs(30) {}
        });
        busy.join().expect("a thread that ends");
        let used = now().cpu_seconds - before;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let there_was = (began.elapsed().as_secs_f64() + 0.1) * cores as f64;
        assert!(used >= 0.05 && used <= there_was, "{used} s of {there_was} s");
    }

    #[test]
    fn memory_and_open_files_are_those_of_this_process() {
        let before = now();
        let _files: Vec<_> = (0..8)
            .map(|_| File::open("/proc/self/stat").expect("opened"))
            .collect();
        let memory = black_box(vec![1_u8; 64 << 20]);
        let after = now();
        assert!(after.resident_bytes >= 60 << 20, "{}", after.resident_bytes);
        assert!(
            after.open_fds >= Some(8),
            "{:?}, before {:?}",
            after.open_fds,
            before.open_fds
        );
        drop(memory);
    }

    #[test]
    fn it_started_a_while_ago_and_not_at_boot() {
        let now_seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_secs_f64();
        let started = now().started_seconds.expect("known");
        assert!(
            (now_seconds - 3_600.0..now_seconds + 2.0).contains(&started),
            "{started} at {now_seconds}"
        );
    }
}
