//! `cargo xtask`: set-up, build, test and demo, one file per command.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod clippy;
mod dashboards;
mod demo;
mod deny;
mod deploy;
mod fuzz;
mod gen_commands;
mod lab;
mod process;
mod rig;
mod server;
mod setup;
mod storm;
mod test;
mod text;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::lab::Lab;

/// Set-up, build, test and demo of Stormglass. Each command first brings what it needs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring this machine to where everything builds and every test runs (below target/lab only)
    Setup,
    /// Build the kernel programs and the daemon that embeds them: target/release/stormglass
    Build,
    /// Write the RESP meter's command table from a real server's metadata
    GenCommands,
    /// Run clippy on every crate, the kernel programs included, with warnings denied
    Clippy,
    /// Check licences, bans and sources of all dependencies
    Deny,
    /// Chart, manifests and package
    #[command(subcommand)]
    Deploy(deploy::Deploy),
    /// Run the tests
    Test(test::Options),
    /// Fuzz the RESP meter
    Fuzz(fuzz::Options),
    /// Measure what Stormglass costs
    Bench(bench::Options),
    /// Write, check and draw the Grafana dashboards
    Dashboards(dashboards::Options),
    /// Show Stormglass at work on real servers and real load
    Demo(demo::Options),
    /// Let a storm break out at a real server, and see what Stormglass says of it
    Storm(storm::Options),
}

fn main() -> ExitCode {
    let lab = Lab::new();
    let result = match Arguments::parse().command {
        Command::Setup => setup::run(&lab),
        Command::Build => build::run(&lab),
        Command::GenCommands => gen_commands::run(&lab),
        Command::Clippy => clippy::run(&lab),
        Command::Deny => deny::run(&lab),
        Command::Deploy(command) => deploy::run(&lab, &command),
        Command::Test(options) => test::run(&lab, &options),
        Command::Fuzz(options) => fuzz::run(&lab, &options),
        Command::Bench(options) => bench::run(&lab, &options),
        Command::Dashboards(options) => dashboards::run(&lab, &options),
        Command::Demo(options) => demo::run(&lab, &options),
        Command::Storm(options) => storm::run(&lab, &options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
