//! What the agent may do, and when it gives that up. Capabilities belong to threads: each keeps what its work needs, and the
//! threads that talk to the network need none.
//!
//! | threads | keep, once the programs are loaded |
//! |---|---|
//! | `watch`, and what it starts: `survey`, `facts` | [`WATCHING`], of which [`ENTERING`] is only permitted |
//! | `netns`, which lives for one question | [`WATCHING`] |
//! | HTTP, `alerts`, `incidents`, `config`, `kubernetes` | nothing |
//!
//! Threads share their memory, so this is no wall against code that an attacker runs inside the agent. It is one against being
//! talked into something: a path, a file, a socket that only root could open.
#![forbid(unsafe_code)]

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};

/// What loading the programs takes.
pub const LOADING: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::NET_ADMIN);

/// What watching takes: attaching to the cgroups of servers that come, entering their network namespaces, and telling which
/// process of which user a socket belongs to.
pub const WATCHING: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(ENTERING)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// What entering a network namespace takes.
pub const ENTERING: CapabilitySet = CapabilitySet::SYS_ADMIN;

/// No program that this thread or a later one starts can have more rights than it: not by set-user-ID, not by being root.
///
/// # Errors
///
/// The kernel's; there is no known reason for one.
pub fn seal() -> io::Result<()> {
    Ok(set_no_new_privs(true)?)
}

/// Leaves this thread, and those that it starts, with [`WATCHING`] or what it had of it.
///
/// # Errors
///
/// The kernel's; there is no known reason for one.
pub fn keep_watching() -> io::Result<()> {
    let had = capabilities(None)?;
    let kept = had.permitted & WATCHING;
    keep(kept, kept.difference(ENTERING))
}

/// Makes [`ENTERING`] effective for this thread, if it has it at all.
///
/// # Errors
///
/// The kernel's; there is no known reason for one.
pub fn raise_entering() -> io::Result<()> {
    let had = capabilities(None)?;
    keep(had.permitted, had.effective | (had.permitted & ENTERING))
}

/// Leaves this thread, and those that it starts, without any capability.
///
/// # Errors
///
/// The kernel's; there is no known reason for one.
pub fn give_up() -> io::Result<()> {
    keep(CapabilitySet::empty(), CapabilitySet::empty())
}

/// Work for a thread that needs no capability: it gives up all first.
pub fn without<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    move || {
        if let Err(error) = give_up() {
            tracing::error!(%error, "a thread cannot give up its capabilities");
        }
        work()
    }
}

fn keep(permitted: CapabilitySet, effective: CapabilitySet) -> io::Result<()> {
    let sets = CapabilitySets {
        effective,
        permitted,
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, sets)?)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// On a thread of its own: what is given up stays given up.
    fn on_a_thread(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> CapabilitySets {
        let thread = thread::spawn(|| {
            work()?;
            Ok::<_, io::Error>(capabilities(None)?)
        });
        thread.join().expect("no panic").expect("sets")
    }

    #[test]
    fn a_thread_that_watches_can_enter_only_after_raising_it() {
        let had = capabilities(None).expect("sets").permitted;
        let watching = on_a_thread(keep_watching);
        assert_eq!(watching.permitted, had & WATCHING);
        assert!(!watching.effective.intersects(ENTERING));
        let entering = on_a_thread(|| keep_watching().and_then(|()| raise_entering()));
        assert_eq!(entering.effective, had & WATCHING);
    }

    #[test]
    fn a_thread_without_privileges_has_none_and_cannot_raise_them() {
        let sets = on_a_thread(|| without(raise_entering)());
        assert!(sets.permitted.is_empty() && sets.effective.is_empty());
    }

    #[test]
    fn one_thread_giving_up_leaves_the_others_what_they_have() {
        let before = capabilities(None).expect("sets");
        on_a_thread(give_up);
        assert_eq!(capabilities(None).expect("sets"), before);
    }
}
