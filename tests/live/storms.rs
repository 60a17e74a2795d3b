//! Storms at real servers: every kind is found at its server, by its name, with whoever does it, and soon, and somebody is told; the
//! clients of a server beside them live their normal life, and nothing is said of it.
//!
//! One agent watches a server for each scene, so that what is usual is learned once for all. What is played can be chosen:
//!
//! | variable | what |
//! |---|---|
//! | `STORMGLASS_SCENES` | kinds, or `normal_life`, with commas between them; `KIND_elsewhere`, which has server and clients in network namespaces of their own; else all |
//! | `STORMGLASS_SEED` | sizes of the storms; 0, if it is not set: those that were reported |
//! | `STORMGLASS_LIFE_SECONDS` | how long normal life is, at least |
//! | `STORMGLASS_OUTCOMES` | file that gets a line of JSON for each scene, whatever came of it |

mod evidence;
mod outcome;
mod stage;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use procfs::process::{ProcState, Process as Procfs};
use stormglass_load::storms::CONFIG;
use stormglass_tests::process::Process;
use stormglass_tests::server::{Plan, Server};
use stormglass_tests::{lab, poll};

use self::stage::Stage;

/// The generator opens 2,000 connections before it stops the server.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// Shorter than the storm would keep the server stopped.
const OVER_WITHIN: Duration = Duration::from_secs(2);

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn every_kind_is_found_at_its_server_within_a_second_and_normal_life_is_silent() -> Result<()> {
    Stage::set(CONFIG)?.play()
}

/// Whoever ends the generator by Ctrl-C, or by SIGTERM, has a server that answers.
#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_storm_that_is_interrupted_lets_its_server_go_on() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let server = Plan::valkey()?.start()?;
        let mut command = Command::new(lab::load_generator()?);
        command
            .args(["storm", "reconnect_churn", "--before", "0", "--target"])
            .arg(server.address().to_string())
            .args(["--process", &server.id().to_string()]);
        let mut storm = Process::spawn("stormglass-load", &mut command)?;
        poll::until_true("the storm stops the server", STOPPED_WITHIN, || {
            is_stopped(&server)
        })?;
        storm.signal(signal)?;
        let status = storm.wait(OVER_WITHIN)?;
        ensure!(status.code() == Some(1), "{signal}: {status}");
        ensure!(!is_stopped(&server)?, "{signal} leaves the server stopped");
        server
            .connect()?
            .ask(&[b"PING"])
            .with_context(|| format!("after {signal}"))?;
    }
    Ok(())
}

fn is_stopped(server: &Server) -> Result<bool> {
    let state = Procfs::new(server.id().as_raw())?.stat()?.state()?;
    Ok(state == ProcState::Stopped)
}
