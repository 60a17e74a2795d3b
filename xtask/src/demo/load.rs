//! The three tenants: who they are, the processes that play them, and what these say they sent.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::lab::Lab;
use crate::rig::child::Child;
use crate::text;

/// Longest life of a load: it ends by itself should nobody end it.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The demo's tenants.
pub(crate) const TENANTS: [Tenant; 3] = [
    Tenant {
        name: "checkout",
        owner: "team-checkout",
        prefixes: &["cart", "pay"],
        first_source: Ipv4Addr::new(127, 0, 11, 1),
        instances: 4,
        connections: 2,
        servers: &[0, 1],
        rate: 1200,
        value_bytes: 512,
        read_percent: 70,
        instance_seconds: 12,
        resp3: false,
    },
    Tenant {
        name: "search",
        owner: "team-discovery",
        prefixes: &["idx"],
        first_source: Ipv4Addr::new(127, 0, 12, 1),
        instances: 2,
        connections: 4,
        servers: &[0],
        rate: 600,
        value_bytes: 8192,
        read_percent: 90,
        instance_seconds: 0,
        resp3: true,
    },
    Tenant {
        name: "session",
        owner: "team-identity",
        prefixes: &["session"],
        first_source: Ipv4Addr::new(127, 0, 13, 1),
        instances: 6,
        connections: 5,
        servers: &[1],
        rate: 1500,
        value_bytes: 128,
        read_percent: 50,
        instance_seconds: 8,
        resp3: false,
    },
];

/// What a tenant is like.
pub(crate) struct Tenant {
    pub(crate) name: &'static str,
    pub(crate) owner: &'static str,
    pub(crate) prefixes: &'static [&'static str],
    first_source: Ipv4Addr,
    instances: u32,
    /// Per instance and server.
    connections: u32,
    /// Numbers of the servers it uses.
    servers: &'static [usize],
    /// Commands per second.
    rate: u32,
    value_bytes: usize,
    read_percent: u8,
    /// Mean life of an instance; 0: endless.
    instance_seconds: u32,
    resp3: bool,
}

/// A tenant's running load. Dropping it ends it.
pub(crate) struct Load {
    child: Child,
}

/// What a tenant's load says of its own sockets.
#[derive(Deserialize)]
pub(crate) struct Report {
    pub(crate) tenant: String,
    targets: Vec<TargetReport>,
}

#[derive(Deserialize)]
struct TargetReport {
    errors: u64,
    commands: u64,
    sent_bytes: u64,
    received_bytes: u64,
}

impl Tenant {
    /// One line for people, at most 80 columns.
    pub(crate) fn describe(&self) -> String {
        let prefixes: Vec<String> = self.prefixes.iter().map(|prefix| format!("{prefix}:*")).collect();
        format!(
            "   {:<9} {:<14} {} instances x {} connections, {}/s, values of {} B",
            self.name,
            prefixes.join(" "),
            self.instances,
            self.connections as usize * self.servers.len(),
            text::number(self.rate.into()),
            text::number(self.value_bytes as u64),
        )
    }

    /// Starts its load on the servers it uses, for at most `length`.
    pub(crate) fn start(
        &self,
        lab: &Lab,
        folder: &Path,
        servers: &[SocketAddr],
        length: Duration,
    ) -> Result<Load> {
        let mut command = Command::new(lab.load());
        command.args(["tenant", "--name", self.name]);
        for &server in self.servers {
            let address = servers
                .get(server)
                .context("a tenant wants a server that is not there")?;
            command.args(["--target", &address.to_string()]);
        }
        for prefix in self.prefixes {
            command.args(["--prefix", prefix]);
        }
        let options = [
            ("--source", self.first_source.to_string()),
            ("--instances", self.instances.to_string()),
            ("--connections", self.connections.to_string()),
            ("--rate", self.rate.to_string()),
            ("--value-bytes", self.value_bytes.to_string()),
            ("--reads", self.read_percent.to_string()),
            ("--keys", "300".to_owned()),
            ("--instance-seconds", self.instance_seconds.to_string()),
            ("--seconds", length.as_secs().to_string()),
        ];
        for (option, value) in options {
            command.arg(option).arg(value);
        }
        if self.resp3 {
            command.arg("--resp3");
        }
        Ok(Load {
            child: Child::start(&format!("load-{}", self.name), &mut command, folder)?,
        })
    }
}

/// The tenants as the agent's configuration has them.
pub(crate) fn tenant_tables() -> String {
    let table = |tenant: &Tenant| {
        format!(
            "\n[[tenant]]\nname = \"{}\"\nowner = \"{}\"\nprefixes = {:?}\n",
            tenant.name, tenant.owner, tenant.prefixes
        )
    };
    TENANTS.iter().map(table).collect()
}

impl Load {
    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.child.check()
    }

    /// Ends it: every command that was sent gets its reply first.
    pub(crate) fn end(mut self) -> Result<Report> {
        self.child.end()?;
        let output = self.child.output()?;
        let report: Report = serde_json::from_str(&output)
            .with_context(|| format!("the load's report cannot be read: {output:?}"))?;
        let errors: u64 = report.targets.iter().map(|target| target.errors).sum();
        if errors > 0 {
            bail!("{errors} connections of tenant {} failed", report.tenant);
        }
        Ok(report)
    }
}

impl Report {
    pub(crate) fn commands(&self) -> u64 {
        self.targets.iter().map(|target| target.commands).sum()
    }

    /// Bytes of the tenant's commands on its keys.
    pub(crate) fn sent(&self) -> u64 {
        self.targets.iter().map(|target| target.sent_bytes).sum()
    }

    /// Bytes of the replies to them.
    pub(crate) fn received(&self) -> u64 {
        self.targets.iter().map(|target| target.received_bytes).sum()
    }
}
