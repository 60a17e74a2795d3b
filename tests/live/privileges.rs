//! What the agent still may do once it has loaded its programs, thread by thread.

use std::collections::BTreeMap;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use stormglass_tests::agent::Agent;
use stormglass_tests::ledger::Account;
use stormglass_tests::netns::Netns;
use stormglass_tests::poll;
use stormglass_tests::server::Plan;

/// CAP_DAC_READ_SEARCH, CAP_NET_ADMIN, CAP_SYS_PTRACE.
const WATCHING: u64 = 1 << 2 | 1 << 12 | 1 << 19;
/// CAP_PERFMON, CAP_BPF.
const LOADING: u64 = 1 << 38 | 1 << 39;
/// CAP_SYS_ADMIN.
const ENTERING: u64 = 1 << 21;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn the_watching_thread_keeps_what_it_needs_and_every_other_thread_has_no_capability() -> Result<()> {
    let agent = Agent::start()?;
    let threads = poll::until("every thread at work", Duration::from_secs(10), || {
        let threads = threads(&agent)?;
        let names = ["stormglass", "alerts", "incidents", "config", "watch"];
        let is_settled = |thread: &Thread| thread.no_new_privileges == 1 && thread.permitted & LOADING == 0;
        let all = names
            .iter()
            .all(|name| threads.get(*name).is_some_and(is_settled));
        Ok(all.then_some(threads))
    })?;
    for (name, thread) in &threads {
        assert_eq!(thread.no_new_privileges, 1, "{name}");
        match name.as_str() {
            // Those that `watch` starts, too.
            "watch" | "survey" | "facts" => {
                assert_eq!(thread.permitted, WATCHING | ENTERING, "{name}");
                assert_eq!(thread.effective, WATCHING, "{name}");
            }
            // Lives for a question, and is entering.
            "netns" => assert_eq!(thread.permitted, WATCHING | ENTERING),
            _ => assert_eq!((thread.permitted, thread.effective), (0, 0), "{name}"),
        }
    }

    let contained = Plan::valkey()?.contained(&Rc::new(Netns::create()?))?.start()?;
    contained.connect()?.ask(&[b"SET", b"later:1", b"value"])?;
    Account::from_the_start(&agent, &contained)?.assert_all_attributed();
    Ok(())
}

#[derive(Debug)]
struct Thread {
    permitted: u64,
    effective: u64,
    no_new_privileges: u64,
}

/// By name; of several with the same name, any.
fn threads(agent: &Agent) -> Result<BTreeMap<String, Thread>> {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{}/task", agent.id()))? {
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
