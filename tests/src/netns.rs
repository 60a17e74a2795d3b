//! Network namespaces for servers.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::process::read_output;

const WITHIN: Duration = Duration::from_secs(5);

static MADE: AtomicU32 = AtomicU32::new(0);

/// A network namespace with a loopback interface. Dropping it removes its name; it ends with its last process.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace. Needs root and `ip`.
    pub fn create() -> Result<Self> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let netns = Self {
            name: format!("stormglass-test-{}-{number}", std::process::id()),
        };
        ip(&["netns", "add", &netns.name])?;
        ip(&["-n", &netns.name, "link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// The file that stands for it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs `work` inside, on a thread of its own. Sockets made there stay there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(self.path()).with_context(|| format!("namespace {} is gone", self.name))?;
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                setns(file, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace; are we root?")?;
                work()
            });
            worker
                .join()
                .map_err(|_| anyhow!("the thread in the namespace panicked"))?
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "del", &self.name]) {
            eprintln!("namespace {} is left behind: {error:#}", self.name);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    read_output("ip", Command::new("ip").args(arguments), WITHIN)
        .map(|_| ())
        .with_context(|| format!("`ip {}`; the package iproute2 has it", arguments.join(" ")))
}
