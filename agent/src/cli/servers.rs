//! `stormglass servers`.

use std::{path::Path, process::ExitCode};

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use stormglass::{
    config::Settings,
    http::Process,
    kernel::netns_cookie,
    valkey::{DiscoverySettings, FactReader, FoundServer, Host, ServerFacts, labels},
};

use super::{
    ServersArguments,
    agent::Agent,
    inventory,
    table::{show, show_json},
};

pub(super) fn run(arguments: &ServersArguments) -> Result<ExitCode> {
    let settings = arguments.config.load()?;
    let servers = match Agent::of(&settings)?.get("/api/v1/servers", &[]) {
        Ok(servers) => servers,
        Err(error) => {
            eprintln!("{error:#}\nlooking for servers instead");
            from_host(&settings)?
        }
    };
    if arguments.json {
        show_json(&servers)?;
    } else {
        show(&text(&servers, inventory::width())?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a look at the host finds.
fn from_host(settings: &Settings) -> Result<Value> {
    let mut host = Host::open("/proc", netns_cookie)?;
    let found = host.servers(&DiscoverySettings::from(&settings.discovery))?;
    let leaf = |server: &FoundServer| {
        Some(
            server
                .cgroup_of_process
                .as_ref()?
                .file_name()?
                .to_str()?
                .to_owned(),
        )
    };
    let labels = labels(&found, |_| None, leaf);
    let root = host.cgroups().root().to_owned();
    let mut reader = FactReader::new("/proc");
    let servers: Vec<Value> = labels
        .iter()
        .zip(&found)
        .map(|(label, server)| describe(label, server, &mut reader, &root))
        .collect::<Result<_>>()?;
    Ok(json!({ "servers": servers }))
}

fn describe(label: &str, server: &FoundServer, reader: &mut FactReader, cgroup_root: &Path) -> Result<Value> {
    let read = reader.read(server.pid, server.start_time, None);
    let facts = ServerFacts::new(server, &read.unwrap_or_default(), cgroup_root);
    let mut described = serde_json::to_value(Process::new(&facts))?;
    described["server"] = label.into();
    Ok(described)
}

fn text(answer: &Value, width: usize) -> Result<String> {
    let servers = answer
        .get("servers")
        .unwrap_or(answer)
        .as_array()
        .ok_or_else(|| anyhow!("the answer has no list of servers; is another version running?"))?;
    if servers.is_empty() {
        return Ok("no servers\n".into());
    }
    Ok(inventory::table(servers, width))
}
