//! `cargo xtask test --vm`: the tests of `tests/vm` in virtual machines with Debian's kernels, and the verifier budget.

mod archive;
mod budget;
mod guest;
mod machine;
mod report;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use self::budget::{Budget, Comparison};
use self::guest::{Guest, Programs};
use self::machine::Remains;
use self::report::Report;
use crate::build;
use crate::lab::machines::{self, Kernel, Series};
use crate::lab::{Lab, servers, tools};
use crate::process::{Run as _, say};

const PACKAGE: &str = "stormglass-vm-tests";

/// Machines at the same time. Each has two processors; more than this on two of the host's only makes all of them slow.
const AT_ONCE: usize = 2;

/// How much of the kernel's own words a failure shows.
const CONSOLE_LINES: usize = 60;

/// What a machine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The programs load, attach and count.
    Supported,
    /// They are refused.
    TooOld,
    /// Systemd is the first process, and starts the unit that is shipped.
    Installed,
}

impl Role {
    /// The module of its tests.
    const fn module(self) -> &'static str {
        match self {
            Self::Supported => "supported::",
            Self::TooOld => "too_old::",
            Self::Installed => "installed::",
        }
    }
}

/// A machine to run: a kernel and the tests for it.
struct Plan {
    series: &'static Series,
    role: Role,
    kernel: Kernel,
    tests: Vec<String>,
}

/// What became of it.
struct Outcome<'a> {
    plan: &'a Plan,
    report: Report,
    remains: Remains,
}

/// Runs the tests whose full names, such as `6.12::supported::counts_are_exact`, contain `filter`: a machine for each
/// kernel that is left. With `record` the verifier's numbers become the record.
pub(crate) fn run(lab: &Lab, filter: Option<&str>, record: bool) -> Result<()> {
    let started = Instant::now();
    let object = build::for_tests(lab)?;
    servers::ensure_valkey(lab)?;
    tools::ensure_bpftool(lab)?;
    machines::ensure_machines(lab)?;
    let programs = programs(lab, object)?;
    let plans = plans(lab, &tests_in(&programs.tests)?, filter.unwrap_or_default())?;
    if plans.is_empty() {
        say("virtual machines: no test fits the filter");
        return Ok(());
    }
    let guest = Guest::new(lab, &programs)?;
    say(format!(
        "virtual machines to boot: {}, {AT_ONCE} at a time",
        plans.len()
    ));
    let outcomes = run_all(lab, &guest, &plans)?;
    let failed: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.fault().is_some())
        .collect();
    for outcome in &failed {
        outcome.show();
    }
    let within_budget = judge(lab, &outcomes, record)?;
    if !failed.is_empty() {
        let names: Vec<_> = failed.iter().map(|outcome| outcome.plan.series.name).collect();
        bail!(
            "{} of {} virtual machines failed, see above: {}",
            names.len(),
            outcomes.len(),
            names.join(", ")
        );
    }
    if !within_budget {
        bail!(
            "the verifier budget is exceeded, see `!` above: find out why the programs grew; if they must, \
             `cargo xtask test --vm --record` records the new numbers"
        );
    }
    say(format!(
        "virtual machines done in {:.0} s",
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Finds what runs in the guests among what has been built.
fn programs(lab: &Lab, object: PathBuf) -> Result<Programs> {
    let messages = build::cargo(lab, "build")
        .args(["--bins", "--tests", "--quiet", "--message-format=json"])
        .read()?;
    let built: Vec<Value> = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let program = |name: &str| {
        let mut paths = built
            .iter()
            .filter(|message| message["target"]["name"] == name)
            .filter_map(|message| message["executable"].as_str());
        let path = paths.next().map(PathBuf::from);
        path.with_context(|| format!("cargo built no {name} of {PACKAGE}"))
    };
    Ok(Programs {
        tests: program("vm")?,
        verify: program("verify")?,
        object,
    })
}

/// Names of its tests.
fn tests_in(program: &Path) -> Result<Vec<String>> {
    let list = Command::new(program)
        .args(["--list", "--ignored", "--format=terse"])
        .read()?;
    let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

/// A plan for each kernel with tests that fit the filter, with its kernel in place. The slowest come first, so that no
/// processor idles at the end: each verifier takes longer than the last one.
fn plans(lab: &Lab, tests: &[String], filter: &str) -> Result<Vec<Plan>> {
    let supported = machines::SUPPORTED
        .iter()
        .rev()
        .map(|series| (series, Role::Supported));
    let others = [
        (&machines::SUPPORTED[0], Role::Installed),
        (&machines::TOO_OLD, Role::TooOld),
    ];
    let mut plans = Vec::new();
    for (series, role) in supported.chain(others) {
        let tests = chosen(tests, series.name, role, filter);
        if !tests.is_empty() {
            plans.push(Plan {
                series,
                role,
                kernel: machines::ensure_kernel(lab, series)?,
                tests,
            });
        }
    }
    Ok(plans)
}

/// Names of the tests for a kernel and a role that fit the filter.
fn chosen(tests: &[String], kernel: &str, role: Role, filter: &str) -> Vec<String> {
    let fits =
        |name: &&String| name.starts_with(role.module()) && format!("{kernel}::{name}").contains(filter);
    tests.iter().filter(fits).cloned().collect()
}

/// Runs all machines, [`AT_ONCE`] at a time, and says how each did.
fn run_all<'a>(lab: &Lab, guest: &Guest, plans: &'a [Plan]) -> Result<Vec<Outcome<'a>>> {
    let waiting = Mutex::new(plans.iter());
    let worker = || -> Result<Vec<Outcome<'a>>> {
        let mut outcomes = Vec::new();
        loop {
            let next = waiting.lock().ok().and_then(|mut plans| plans.next());
            let Some(plan) = next else {
                return Ok(outcomes);
            };
            let outcome = run_one(lab, guest, plan)?;
            say(outcome.line());
            outcomes.push(outcome);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        let mut outcomes = Vec::new();
        for worker in workers {
            match worker.join() {
                Ok(done) => outcomes.extend(done?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(outcomes)
    })
}

fn run_one<'a>(lab: &Lab, guest: &Guest, plan: &'a Plan) -> Result<Outcome<'a>> {
    let initramfs = guest.initramfs(&plan.kernel, plan.role, &plan.tests)?;
    let remains = machine::boot(lab, &plan.kernel.image(), &initramfs)?;
    Ok(Outcome {
        plan,
        report: Report::read(&remains.report),
        remains,
    })
}

/// Compares the verifier's numbers with the record, or makes them the record. False if the budget is exceeded.
fn judge(lab: &Lab, outcomes: &[Outcome<'_>], record: bool) -> Result<bool> {
    let mut budget = Budget::load(lab)?;
    let mut verified: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.report.verifier_status.is_some())
        .collect();
    verified.sort_by_key(|outcome| outcome.plan.series.name);
    let comparisons: Vec<Comparison> = verified
        .iter()
        .map(|outcome| {
            let report = &outcome.report;
            budget.compare(outcome.plan.series.name, &report.kernel, &report.verified())
        })
        .collect();
    if comparisons.is_empty() {
        return Ok(true);
    }
    eprint!("{}", budget::table(&comparisons));
    if record {
        // The numbers of a kernel that refuses a program are not whole.
        for outcome in verified
            .iter()
            .filter(|outcome| outcome.report.verifier_status == Some(0))
        {
            let report = &outcome.report;
            budget.record(outcome.plan.series.name, &report.kernel, report.verified());
        }
        say(format!("recorded in {}", budget.save(lab)?.display()));
        return Ok(true);
    }
    let moved = comparisons
        .iter()
        .filter_map(|comparison| comparison.moved.as_ref());
    for (recorded, now) in moved {
        say(format!("warning: the record is from {recorded}, this is {now}"));
    }
    if comparisons.iter().any(Comparison::is_generous) {
        say("the programs shrank: `cargo xtask test --vm --record` keeps them small");
    }
    Ok(comparisons.iter().all(Comparison::holds))
}

impl Outcome<'_> {
    fn fault(&self) -> Option<String> {
        self.report
            .fault(&self.remains, self.plan.role == Role::Supported)
    }

    fn line(&self) -> String {
        let release = self.report.kernel.split(' ').next().unwrap_or_default();
        let seconds = self.remains.took.as_secs_f64();
        let verdict = self.fault().map_or_else(
            || format!("tests passed: {}", self.plan.tests.len()),
            |fault| format!("FAILED: {fault}"),
        );
        let memory = self.report.memory.map_or_else(String::new, |bytes| {
            format!(", verifying took up to {} MiB", bytes >> 20)
        });
        let systemd = match self.plan.role {
            Role::Installed => ", systemd",
            Role::Supported | Role::TooOld => "",
        };
        format!(
            "linux {} ({release}){systemd}: {verdict}, {seconds:.1} s{memory}",
            self.plan.series.name
        )
    }

    /// Everything that it said.
    fn show(&self) {
        let console: Vec<_> = self.remains.console.lines().collect();
        let console = &console[console.len().saturating_sub(CONSOLE_LINES)..];
        eprintln!(
            "--- linux {}: the guest said\n{}--- linux {}: the last lines of its kernel\n{}",
            self.plan.series.name,
            self.remains.report,
            self.plan.series.name,
            console.join("\n")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_chooses_kernels_and_tests() {
        let tests = [
            "supported::a_b".to_owned(),
            "supported::c".to_owned(),
            "too_old::d".to_owned(),
            "installed::e".to_owned(),
        ];
        let chosen = |kernel, role, filter| chosen(&tests, kernel, role, filter);
        let supported = Role::Supported;
        assert_eq!(chosen("6.1", supported, ""), ["supported::a_b", "supported::c"]);
        assert_eq!(chosen("6.1", supported, "a_b"), ["supported::a_b"]);
        assert_eq!(chosen("6.12", supported, "6.1::"), [""; 0]);
        assert_eq!(chosen("6.1", supported, "6.1::supported::c"), ["supported::c"]);
        assert_eq!(chosen("6.1", Role::Installed, "6.1::"), ["installed::e"]);
        assert_eq!(chosen("5.10", Role::TooOld, ""), ["too_old::d"]);
    }
}
