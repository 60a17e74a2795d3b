//! What the threads of a process may do, and threads that stand still.

use std::collections::BTreeMap;
use std::fs;
use std::marker::PhantomData;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::libc::{SYS_recvfrom, SYS_recvmsg, SYS_sendmsg, SYS_sendto, c_long};
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::poll;

/// A thread, as /proc tells of it.
#[derive(Debug)]
pub struct Thread {
    /// Capabilities that it has or may raise.
    pub permitted: u64,
    /// Capabilities that it has.
    pub effective: u64,
    /// 1: nothing that it starts can have more.
    pub no_new_privileges: u64,
}

/// By name; of several with the same name, any.
pub fn threads(process: Pid) -> Result<BTreeMap<String, Thread>> {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{process}/task"))? {
        // One that has just ended has no status.
        let Ok(status) = fs::read_to_string(entry?.path().join("status")) else {
            continue;
        };
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            value
                .map(str::trim)
                .with_context(|| format!("no {name} in {status}"))
        };
        let thread = Thread {
            permitted: u64::from_str_radix(field("CapPrm:")?, 16)?,
            effective: u64::from_str_radix(field("CapEff:")?, 16)?,
            no_new_privileges: field("NoNewPrivs:")?.parse()?,
        };
        threads.insert(field("Name:")?.to_owned(), thread);
    }
    Ok(threads)
}

/// One thread that stands still while the others of its process go on, until this is dropped. It stands where it speaks to a socket: there
/// it holds nothing that the others wait for, such as the allocator's lock.
pub struct Held {
    thread: Pid,
    /// The kernel takes orders about a held thread from whoever holds it, a thread likewise.
    _here: PhantomData<*const ()>,
}

impl Held {
    /// Holds the next thread of this name that the process has and that speaks to a socket, however short its life is.
    pub fn hold(process: Pid, name: &str, within: Duration) -> Result<Self> {
        let tasks = format!("/proc/{process}/task");
        poll::closely(&format!("a thread called {name}"), within, || {
            for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
                let task = task?;
                // It may have ended since.
                let Ok(comm) = fs::read_to_string(task.path().join("comm")) else {
                    continue;
                };
                if comm.trim_end() != name {
                    continue;
                }
                let thread = Pid::from_raw(task.file_name().to_string_lossy().parse()?);
                match seize(thread) {
                    Ok(()) => {
                        return Ok(Some(Self {
                            thread,
                            _here: PhantomData,
                        }));
                    }
                    Err(Errno::ESRCH | Errno::ECHILD) => {}
                    Err(error) => return Err(error).with_context(|| format!("cannot hold thread {thread}")),
                }
            }
            Ok(None)
        })
    }

    /// Lets it go on.
    pub fn release(self) -> Result<()> {
        let released = ptrace::detach(self.thread, None);
        std::mem::forget(self);
        released.context("the thread is not there any more")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It is gone if its process has been killed.
        _ = ptrace::detach(self.thread, None);
    }
}

/// What is said to a socket, and heard from it.
const SPEAKS: [c_long; 4] = [SYS_sendto, SYS_sendmsg, SYS_recvfrom, SYS_recvmsg];

/// Stops a thread, and lets it go on from one system call to the next until it speaks to a socket.
fn seize(thread: Pid) -> nix::Result<()> {
    ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD)?;
    ptrace::interrupt(thread)?;
    loop {
        match waitpid(thread, Some(WaitPidFlag::__WALL))? {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Err(Errno::ESRCH),
            WaitStatus::PtraceSyscall(_) => {
                let call = ptrace::getregs(thread)?.orig_rax.cast_signed();
                if SPEAKS.contains(&call) {
                    return Ok(());
                }
            }
            _ => {}
        }
        ptrace::syscall(thread, None)?;
    }
}
