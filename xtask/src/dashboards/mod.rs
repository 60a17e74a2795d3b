//! `cargo xtask dashboards`: written, checked, looked at.

mod check;
mod render;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use stormglass_dashboards::shipped;

use crate::lab::Lab;
use crate::process::say;

/// What `cargo xtask dashboards` can be told.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write dashboards/grafana/*.json from dashboards/src
    Generate,
    /// Hold the dashboards to Grafana's published types, and run promtool on the rules and their tests
    Check,
    /// Draw every panel, from a real Prometheus' answers during real storms, into docs/dashboards (root)
    Render {
        /// Answers of an earlier run, as STORMGLASS_ANSWERS=FILE lets the live test write them
        #[arg(long)]
        answers: Option<PathBuf>,
    },
}

/// Does it.
pub(crate) fn run(lab: &Lab, options: &Options) -> Result<()> {
    match &options.command {
        Command::Generate => {
            shipped::write()?;
            say("written: dashboards/grafana");
            Ok(())
        }
        Command::Check => check::run(lab),
        Command::Render { answers } => render::run(lab, answers.as_deref()),
    }
}
