//! `stormglass servers`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use stormglass::{
    config::Settings,
    http::Process,
    kernel::netns_cookie,
    valkey::{DiscoverySettings, FactReader, FoundServer, Host, ServerFacts, labels},
};

use super::{ServersArguments, inventory};

/// How long the running agent may take.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn run(arguments: &ServersArguments) -> Result<ExitCode> {
    let settings = arguments.config.load()?;
    let servers = match from_agent(settings.http.listen) {
        Ok(servers) => servers,
        Err(error) => {
            eprintln!(
                "no running agent at {} ({error:#}); looking for servers instead",
                settings.http.listen
            );
            from_host(&settings)?
        }
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&servers)?);
    } else {
        print!("{}", text(&servers, inventory::width())?);
    }
    Ok(ExitCode::SUCCESS)
}

/// What the running agent knows.
fn from_agent(listen: SocketAddr) -> Result<Value> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .build()
        .into();
    let url = format!("http://{}/api/v1/servers", reachable(listen));
    let body = agent.get(&url).call()?.body_mut().read_to_string()?;
    serde_json::from_str(&body).context("its answer is not JSON; is it another program?")
}

/// An address that listens everywhere is reached by loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
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
    let labels = labels(&found, leaf);
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
