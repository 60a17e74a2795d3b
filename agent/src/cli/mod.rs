//! Commands and their flags.

mod agent;
mod clients;
mod connections;
mod doctor;
mod expect_restart;
mod hash_prefix;
mod incidents;
mod inventory;
mod libraries;
mod list;
mod run;
mod servers;
mod storms;
mod table;
mod tenants;
mod top;
mod workloads;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use stormglass::config::{ConfigError, Settings};

/// eBPF node agent for hosts that run Valkey or Redis: connections, bytes per key prefix, storms.
#[derive(Debug, Parser)]
#[command(name = "stormglass", version = VERSION, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the servers of this host until SIGTERM or SIGINT.
    Run(RunArguments),
    /// Check a configuration file and print what it comes to.
    CheckConfig(ConfigArguments),
    /// Say whether this host can run the agent, and what to do about what is missing.
    Doctor,
    /// List the servers of this host, from the running agent or, without one, by looking.
    Servers(ServersArguments),
    /// List the tenants and their traffic, from the running agent; suggest rules for prefixes that have none.
    Tenants(tenants::TenantsArguments),
    /// List the clients and their connections, from the running agent.
    Clients(clients::ClientsArguments),
    /// List every open connection and who is at its other end, from the running agent.
    Connections(connections::ConnectionsArguments),
    /// List the client libraries and versions that connections are made with, from the running agent.
    Libraries(libraries::LibrariesArguments),
    /// List how workloads use their connections, from the running agent; advise on pools; say what a restart would bring.
    Workloads(workloads::WorkloadsArguments),
    /// List the storms that go on and those that are over, from the running agent: what, how bad, who.
    Storms(storms::StormsArguments),
    /// List, draw and export what was recorded of storms, from the running agent or from a folder.
    Incidents(incidents::IncidentsArguments),
    /// Watch servers, tenants, clients and storms in the terminal, from the running agent; without one, from the kernel.
    Top(top::TopArguments),
    /// Print the hashes under which prefixes are shown with `keys.hash_prefixes`: `hash  name`, a line for each.
    HashPrefix(hash_prefix::HashPrefixArguments),
    /// Announce a restart to the running agent: storms that it brings are marked as expected, and receivers of alerts are not
    /// told.
    ExpectRestart(expect_restart::ExpectRestartArguments),
}

#[derive(Debug, Args)]
struct ConfigArguments {
    /// Configuration file [default: /etc/stormglass/stormglass.toml if it exists, else built-in defaults]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// What to log; RUST_LOG overrides it.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// How to log.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// JSON objects, one a line.
    Json,
}

#[derive(Debug, Args)]
struct ServersArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Version and commit.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("STORMGLASS_COMMIT"), ")");

/// Runs the command that the arguments name.
pub(crate) fn run() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::CheckConfig(arguments) => check_config(&arguments),
        Command::Doctor => Ok(doctor::run()),
        Command::Servers(arguments) => servers::run(&arguments),
        Command::Tenants(arguments) => tenants::run(&arguments),
        Command::Clients(arguments) => clients::run(&arguments),
        Command::Connections(arguments) => connections::run(&arguments),
        Command::Libraries(arguments) => libraries::run(&arguments),
        Command::Workloads(arguments) => workloads::run(&arguments),
        Command::Storms(arguments) => storms::run(&arguments),
        Command::Incidents(arguments) => incidents::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::HashPrefix(arguments) => hash_prefix::run(&arguments),
        Command::ExpectRestart(arguments) => expect_restart::run(&arguments),
    }
}

impl ConfigArguments {
    fn load(&self) -> Result<Settings> {
        Ok(Settings::load(self.config.as_deref())?)
    }
}

/// What is wrong with the key of hashed prefixes, if one is named. Only a warning: the agent that it is for may run elsewhere, or as
/// another user.
fn key_fault(settings: &mut Settings) -> Option<ConfigError> {
    let wanted = settings.keys.hash_prefixes && settings.hash_key_file.is_some();
    wanted.then(|| settings.hashed_names().err()).flatten()
}

fn check_config(arguments: &ConfigArguments) -> Result<ExitCode> {
    let mut settings = arguments.load()?;
    if let Some(fault) = key_fault(&mut settings) {
        println!("warning: {fault}");
    }
    for warning in &settings.warnings {
        println!("warning: {warning}");
    }
    let (processes, ports) = (settings.discovery.processes.join(", "), &settings.discovery.ports);
    println!(
        "fine: watches {processes}, ports {ports:?}; {} tenants; listens on {}",
        settings.tenants.len(),
        settings.http.listen
    );
    Ok(ExitCode::SUCCESS)
}
