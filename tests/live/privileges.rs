//! What the agent still may do once it has loaded its programs, thread by thread.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use stormglass_tests::agent::Agent;
use stormglass_tests::ledger::Account;
use stormglass_tests::netns::Netns;
use stormglass_tests::poll;
use stormglass_tests::server::Plan;
use stormglass_tests::threads::{Thread, threads};

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
        let threads = threads(agent.id())?;
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
