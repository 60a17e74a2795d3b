//! Everything that runs during the demo. Dropping it ends it in order and leaves nothing behind.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::load::{self, Load, Report, TENANTS};
use crate::lab::Lab;
use crate::rig::agent::Agent;
use crate::rig::cgroup::Tree;
use crate::rig::interrupt::Interrupt;
use crate::rig::ports;
use crate::rig::scrape::Scrape;
use crate::rig::server::{self, Server, Totals};

/// Ports that the servers are given, if they are free: below the range that clients' own ports come from.
const FIRST_PORT: u16 = 7001;

/// Servers, agent and load. The fields are in the order in which they end.
pub(crate) struct Stage<'a> {
    loads: Vec<Load>,
    agent: Agent,
    servers: Vec<Server>,
    labels: Vec<String>,
    version: String,
    _cgroups: Tree,
    folder: TempDir,
    lab: &'a Lab,
}

impl<'a> Stage<'a> {
    /// Starts two servers and the agent, and waits until it watches both. No byte has been sent to a server by then.
    pub(crate) fn set(lab: &'a Lab, interrupt: &Interrupt) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("stormglass-demo-")
            .tempdir()
            .context("cannot create a temporary folder")?;
        let cgroups = Tree::create("stormglass-demo")?;
        let first = ports::free_from(FIRST_PORT)?;
        let ports = [first, ports::free_from(first + 1)?];
        let servers = ports
            .iter()
            .map(|&port| Server::start(lab, &cgroups, folder.path(), port))
            .collect::<Result<Vec<_>>>()?;
        let labels: Vec<String> = servers.iter().map(Server::label).collect();
        let tenants = load::tenant_tables();
        let agent = Agent::start(lab, folder.path(), &ports, &tenants, &labels, interrupt);
        let mut servers = servers;
        // A server that could not start is why the agent did not find it.
        servers.iter_mut().try_for_each(Server::check)?;
        Ok(Self {
            loads: Vec::new(),
            agent: agent?,
            servers,
            labels,
            version: server::version(lab),
            _cgroups: cgroups,
            folder,
            lab,
        })
    }

    /// Starts the tenants, for at least `length`.
    pub(crate) fn start_load(&mut self, length: Duration) -> Result<()> {
        let addresses: Vec<SocketAddr> = self.servers.iter().map(Server::address).collect();
        // Ended from outside once the show is over; its own end is far enough not to come before that.
        let length = length * 2 + Duration::from_secs(60);
        for tenant in &TENANTS {
            let load = tenant.start(self.lab, self.folder.path(), &addresses, length)?;
            self.loads.push(load);
        }
        Ok(())
    }

    /// Ends the tenants and returns what they say they sent.
    pub(crate) fn end_load(&mut self) -> Result<Vec<Report>> {
        self.loads.drain(..).map(Load::end).collect()
    }

    /// An error that says what ended, if anything did.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.agent.check()?;
        self.servers.iter_mut().try_for_each(Server::check)?;
        self.loads.iter_mut().try_for_each(Load::check)
    }

    /// What the agent says at this moment.
    pub(crate) fn scrape(&mut self) -> Result<Scrape> {
        self.agent.scrape()
    }

    /// What the servers themselves count, under their labels.
    pub(crate) fn server_totals(&self) -> Result<Vec<(String, Totals)>> {
        self.servers
            .iter()
            .map(|server| Ok((server.label(), server.totals()?)))
            .collect()
    }

    /// The servers' labels.
    pub(crate) fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Name and version of the servers.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Where the agent serves.
    pub(crate) fn url(&self) -> &str {
        self.agent.url()
    }

    /// The agent's configuration file.
    pub(crate) fn config(&self) -> &Path {
        self.agent.config()
    }
}
