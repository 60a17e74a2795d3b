//! `stormglass servers`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use stormglass::{
    config::Settings,
    kernel::netns_cookie,
    valkey::{DiscoverySettings, FoundServer, Host, labels},
};

use super::ServersArguments;

/// How long the running agent may take.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn run(arguments: &ServersArguments) -> Result<ExitCode> {
    let settings = arguments.config.load()?;
    let (servers, live) = match from_agent(settings.http.listen) {
        Ok(servers) => (servers, true),
        Err(error) => {
            eprintln!(
                "no running agent at {} ({error:#}); looking for servers instead",
                settings.http.listen
            );
            (from_host(&settings)?, false)
        }
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&servers)?);
    } else {
        print_table(&servers, live)?;
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
    let servers: Vec<Value> = labels
        .iter()
        .zip(&found)
        .map(|(label, server)| describe(label, server))
        .collect();
    Ok(json!({ "servers": servers }))
}

fn describe(label: &str, server: &FoundServer) -> Value {
    let listeners: Vec<String> = server
        .listeners
        .iter()
        .map(|listener| SocketAddr::new(listener.address, listener.port).to_string())
        .collect();
    json!({ "server": label, "pid": server.pid, "listeners": listeners })
}

fn print_table(answer: &Value, live: bool) -> Result<()> {
    let servers = answer
        .get("servers")
        .unwrap_or(answer)
        .as_array()
        .ok_or_else(|| anyhow!("the answer has no list of servers; is another version running?"))?;
    if servers.is_empty() {
        println!("no servers");
        return Ok(());
    }
    let columns: &[&str] = if live {
        &[
            "server",
            "connections",
            "opened",
            "closed",
            "bytes_in",
            "bytes_out",
        ]
    } else {
        &["server", "pid", "listeners"]
    };
    let rows: Vec<Vec<String>> = servers
        .iter()
        .map(|server| columns.iter().map(|column| cell(server.get(column))).collect())
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            rows.iter()
                .map(|row| row[index].len())
                .chain([column.len()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let line: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}", width = *width))
            .collect();
        println!("{}", line.join("  ").trim_end());
    };
    print(&mut columns.iter().copied());
    for row in &rows {
        print(&mut row.iter().map(String::as_str));
    }
    Ok(())
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| cell(Some(item)))
            .collect::<Vec<_>>()
            .join(","),
        Some(other) => other.to_string(),
    }
}
