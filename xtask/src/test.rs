//! `cargo xtask test`: the host's tests, then the live ones as root, then those in virtual machines.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use nix::unistd::Uid;

use crate::lab::{Lab, servers, tools};
use crate::process::{Run as _, say};
use crate::{build, demo, vm};

/// What `cargo xtask test` can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// Run the host's tests alone: they need no root, no servers and no kernel programs
    #[arg(long, conflicts_with_all = ["live", "vm"])]
    host: bool,
    /// Run the live tests alone
    #[arg(long, conflicts_with = "vm")]
    live: bool,
    /// Run the tests in virtual machines alone: Debian's kernels from 5.10 to the newest, and the verifier budget
    #[arg(long)]
    vm: bool,
    /// Make this run's numbers of the verifier the record, tests/vm/verifier-budget.toml
    #[arg(long, requires = "vm")]
    record: bool,
    /// Run only the tests whose names contain this; in virtual machines they begin with the kernel: 6.12::supported::...
    filter: Option<String>,
}

/// Runs the tests, and says what is left out.
pub(crate) fn run(lab: &Lab, options: &Options) -> Result<()> {
    let started = Instant::now();
    let all = !(options.host || options.live || options.vm);
    if all || options.live {
        check_root()?;
        build::for_tests(lab)?;
    }
    if all || options.host {
        host_tests(lab, options)?;
    } else {
        say("host tests: skipped");
    }
    if all || options.live {
        live_tests(lab, options)?;
    } else {
        say("live tests: skipped");
    }
    if all || options.vm {
        vm::run(lab, options.filter.as_deref(), options.record)?;
    } else {
        say("virtual machines: skipped");
    }
    say(format!(
        "tests passed in {:.0} s",
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Every test of the default members that is not marked as live.
fn host_tests(lab: &Lab, options: &Options) -> Result<()> {
    say("host tests");
    build::cargo(lab, "test").args(&options.filter).run()
}

fn check_root() -> Result<()> {
    if !Uid::effective().is_root() {
        bail!(
            "the live tests load kernel programs and need root: run this as root, or the host's tests alone with --host"
        );
    }
    Ok(())
}

/// The tests that are marked as live: real kernel, real servers. One after the other, since they share both.
fn live_tests(lab: &Lab, options: &Options) -> Result<()> {
    servers::ensure_servers(lab)?;
    let lacking = tools::ensure_tools(lab)?;
    say("live tests");
    let mut command = build::cargo(lab, "test");
    lab.export(&mut command)
        // Of all packages: the agent has some of its own, which load the programs that are embedded in the test binary.
        .args(["--lib", "--test", "live"])
        .args(["--", "--ignored", "--test-threads=1"])
        .args(lacking.iter().flat_map(|language| ["--skip", language.tests]))
        .args(&options.filter)
        .run()?;
    for language in lacking {
        say(format!(
            "live tests {}...: SKIPPED, there is no {} on this machine",
            language.tests, language.what
        ));
    }
    demo_test(lab, options)
}

/// What of the storms' live test is played.
pub(crate) struct Scenes<'a> {
    /// Kinds, or `normal_life`, with commas between them.
    pub(crate) names: &'a str,
    pub(crate) seed: u64,
    /// How long normal life is, at least.
    pub(crate) life_seconds: u64,
    /// Gets a line of JSON for each scene.
    pub(crate) outcomes: &'a Path,
}

/// Plays the live test of storms, quietly; whether it passed.
pub(crate) fn storms(lab: &Lab, scenes: &Scenes<'_>) -> bool {
    let mut command = build::cargo(lab, "test");
    lab.export(&mut command)
        .args(["--test", "live"])
        .args(["--", "--ignored", "every_kind_is_found"])
        .env("STORMGLASS_SCENES", scenes.names)
        .env("STORMGLASS_SEED", scenes.seed.to_string())
        .env("STORMGLASS_LIFE_SECONDS", scenes.life_seconds.to_string())
        .env("STORMGLASS_OUTCOMES", scenes.outcomes)
        .succeeds()
}

/// Brings what live tests need, and builds them.
pub(crate) fn prepare_live(lab: &Lab) -> Result<()> {
    check_root()?;
    servers::ensure_servers(lab)?;
    tools::ensure_tools(lab)?;
    build::for_tests(lab).map(|_| ())
}

/// Plays the live test of the dashboards, and lets it write what their panels were answered into `file`.
pub(crate) fn answers_of_panels(lab: &Lab, file: &Path) -> Result<()> {
    servers::ensure_servers(lab)?;
    tools::ensure_tools(lab)?;
    build::for_tests(lab)?;
    let mut command = build::cargo(lab, "test");
    lab.export(&mut command)
        .args(["--test", "live"])
        .args(["--", "--ignored", "every_panel_has_an_answer"])
        .env("STORMGLASS_ANSWERS", file)
        .run()
}

/// The demo is a test, too, by the name `demo`: its tenants count their own bytes.
fn demo_test(lab: &Lab, options: &Options) -> Result<()> {
    let wanted = |filter: &String| "demo".contains(filter.as_str());
    if options.filter.as_ref().is_some_and(|filter| !wanted(filter)) {
        return Ok(());
    }
    say("the demo, as a test");
    demo::test(lab)
}
