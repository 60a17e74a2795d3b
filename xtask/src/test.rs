//! `cargo xtask test`.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::lab::{Lab, servers, tools};
use crate::process::Run as _;

/// What `cargo xtask test` can be told.
#[derive(Args)]
pub(crate) struct Options {}

/// Runs the tests of the default members, with the lab at hand.
pub(crate) fn run(lab: &Lab, _options: &Options) -> Result<()> {
    servers::ensure_servers(lab)?;
    tools::ensure_tools(lab)?;
    let mut command = Command::new("cargo");
    command
        .args(["test", "--target-dir"])
        .arg(lab.target())
        .current_dir(lab.workspace());
    lab.export(&mut command).run()
}
