//! The commands beside `run`, and what `run` refuses.

use anyhow::Result;
use serde_json::Value;
use stormglass_tests::agent::{Agent, ConfigFile, command};
use stormglass_tests::server::Plan;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_bad_file_is_refused_with_the_line_by_check_config_and_by_run() -> Result<()> {
    let bad = ConfigFile::new("[http]\nlisten = \"127.0.0.1:0\"\n\n[keys]\ndelimeters = \":\"\n")?;
    let place = format!("{}:5:", bad.path().display());
    for name in ["check-config", "run"] {
        let finished = command(&[name], Some(&bad))?;
        assert!(!finished.status.success(), "{name} takes it");
        assert!(
            finished.stderr.contains(&place),
            "{name} does not name {place}: {}",
            finished.stderr
        );
        assert!(
            finished.stderr.contains("delimiters"),
            "{name} does not say what was meant: {}",
            finished.stderr
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_good_file_is_accepted_and_a_missing_one_is_not() -> Result<()> {
    let good = ConfigFile::new("[keys]\ndelimiters = \":/\"\n")?;
    assert!(command(&["check-config"], Some(&good))?.status.success());
    let missing = ConfigFile::new("")?;
    std::fs::remove_file(missing.path())?;
    assert!(!command(&["check-config"], Some(&missing))?.status.success());
    assert!(!command(&["run"], Some(&missing))?.status.success());
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn an_address_that_is_taken_ends_run_and_is_named() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let config = ConfigFile::new(&format!("[http]\nlisten = \"{address}\"\n"))?;
    let finished = command(&["run"], Some(&config))?;
    assert!(!finished.status.success());
    assert!(finished.stderr.contains(&address), "{}", finished.stderr);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn servers_lists_what_runs_here_for_people_and_for_programs() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let config = ConfigFile::new("")?;
    let people = command(&["servers"], Some(&config))?;
    assert!(people.status.success(), "{people:?}");
    assert!(people.stdout.contains(&server.label()), "{}", people.stdout);
    let programs = command(&["servers", "--json"], Some(&config))?;
    assert!(programs.status.success(), "{programs:?}");
    let _: Value = serde_json::from_str(&programs.stdout)?;
    assert!(programs.stdout.contains(&server.label()), "{}", programs.stdout);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn doctor_finds_a_host_fit_on_which_the_agent_runs() -> Result<()> {
    let agent = Agent::start()?;
    let doctor = command(&["doctor"], None)?;
    assert!(doctor.status.success(), "{doctor:?}");
    drop(agent);
    Ok(())
}
