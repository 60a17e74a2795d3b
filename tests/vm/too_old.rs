//! Linux 5.10: refused, with a reason, before anything is loaded.

use anyhow::Result;
use stormglass_tests::agent::{ConfigFile, command};
use stormglass_tests::bpf::Loaded;
use stormglass_tests::process::Finished;
use stormglass_tests::server::Plan;

/// What a person needs to know.
const NEEDED: &str = "needs Linux 6.1 or later";

#[test]
#[ignore = "needs a machine with Linux 5.10: cargo xtask test --vm"]
fn doctor_refuses_the_kernel_and_names_the_one_that_is_needed() -> Result<()> {
    let finished = command(&["doctor"], None)?;
    assert_refused(&finished, &finished.stdout);
    Ok(())
}

#[test]
#[ignore = "needs a machine with Linux 5.10: cargo xtask test --vm"]
fn run_refuses_the_kernel_and_leaves_nothing_behind() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let before = Loaded::now()?;
    let finished = command(&["run"], Some(&ConfigFile::new("")?))?;
    assert_refused(&finished, &finished.stderr);
    assert!(Loaded::now()?.beyond(&before).is_empty());
    server.connect()?.ask(&[b"PING"])?;
    Ok(())
}

fn assert_refused(finished: &Finished, words: &str) {
    assert!(!finished.status.success(), "{finished:?}");
    assert!(words.contains("Linux 5.10"), "the kernel is not named: {words}");
    assert!(words.contains(NEEDED), "{NEEDED:?} is not said: {words}");
}
