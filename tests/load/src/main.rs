//! `stormglass-load`: load on Valkey servers over real sockets, from source addresses of its own, through a real client
//! library. It counts what it sends and receives, so that others' counts can be held against it. And storms of every kind.
#![forbid(unsafe_code)]

mod connection;
mod fleet;
mod ledger;
mod pace;
mod storm;
mod tenant;
mod traffic;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load on Valkey servers over real sockets, from source addresses of its own.
#[derive(Parser)]
#[command(name = "stormglass-load", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The normal life of one tenant: instances with connection pools that read and write keys of known size
    Tenant(tenant::Options),
    /// A storm of any kind at one server, with normal life before and after it
    Storm(storm::StormOptions),
    /// Normal life at one server: days and nights, deploys, autoscaling, batches, backups, a replica
    Life(storm::LifeOptions),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Tenant(options) => tenant::run(&options),
        Command::Storm(options) => storm::storm(&options),
        Command::Life(options) => storm::life(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
