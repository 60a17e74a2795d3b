//! Network namespaces for servers.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
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

    /// Runs `ip` inside.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments.split(' '));
        ip(&all)
    }

    /// A pair of interfaces: `near` here, `far` in the other namespace, both up.
    pub fn link(&self, near: &str, other: &Self, far: &str) -> Result<()> {
        let peer = &other.name;
        self.ip(&format!("link add {near} type veth peer name {far} netns {peer}"))?;
        self.ip(&format!("link set {near} up"))?;
        other.ip(&format!("link set {far} up"))
    }

    /// A command that runs `program` inside.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut flag = OsString::from("--net=");
        flag.push(self.path());
        let mut command = Command::new("nsenter");
        command.arg(flag).arg(program);
        command
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
