//! `cargo xtask test`.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::lab::Lab;
use crate::process::Run as _;

/// What `cargo xtask test` can be told.
#[derive(Args)]
pub(crate) struct Options {}

/// Runs the host tests of the default members.
pub(crate) fn run(lab: &Lab, _options: &Options) -> Result<()> {
    Command::new("cargo")
        .arg("test")
        .current_dir(lab.workspace())
        .run()
}
