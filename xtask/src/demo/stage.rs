//! Everything that runs during the demo. Dropping it ends it in order and leaves nothing behind.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use stormglass_load::storms::{Kind, Size};
use tempfile::TempDir;

use super::load::{self, Load, Report, TENANTS};
use crate::lab::Lab;
use crate::rig::agent::{Agent, Finding};
use crate::rig::cgroup::Tree;
use crate::rig::interrupt::Interrupt;
use crate::rig::ports;
use crate::rig::scrape::Scrape;
use crate::rig::server::{self, Server, Totals};
use crate::rig::storm::{Course, Plan, Storm};

/// Ports that the servers are given, if they are free: below the range that clients' own ports come from.
const FIRST_PORT: u16 = 7001;

/// The workload whose fleet brings the storm.
const WORKLOAD: &str = "\n[[workload]]\nname = \"cart-api\"\naddresses = [\"127.71.0.0/16\"]\n";

/// Servers, agent and load. The fields are in the order in which they end.
pub(crate) struct Stage<'a> {
    loads: Vec<Load>,
    storm: Option<Storm>,
    agent: Agent,
    servers: Vec<Server>,
    /// Where the storm breaks out: what is sent to a server that is stopped does not all arrive, so that it is none of the others.
    stormy: Option<Server>,
    labels: Vec<String>,
    version: String,
    _cgroups: Tree,
    folder: TempDir,
    lab: &'a Lab,
}

impl<'a> Stage<'a> {
    /// Starts two servers, a third one if there is to be a `storm`, and the agent, and waits until it watches them. No byte has been
    /// sent to a server by then.
    pub(crate) fn set(lab: &'a Lab, storm: bool, interrupt: &Interrupt) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("stormglass-demo-")
            .tempdir()
            .context("cannot create a temporary folder")?;
        let cgroups = Tree::create("stormglass-demo")?;
        let first = ports::free_from(FIRST_PORT)?;
        let mut ports = vec![first, ports::free_from(first + 1)?];
        if storm {
            ports.push(ports::free_from(ports[1] + 1)?);
        }
        let mut servers = ports
            .iter()
            .map(|&port| Server::start(lab, &cgroups, folder.path(), port))
            .collect::<Result<Vec<_>>>()?;
        let labels: Vec<String> = servers.iter().map(Server::label).collect();
        let tables = load::tenant_tables() + WORKLOAD;
        let agent = Agent::start(lab, folder.path(), &ports, &tables, &labels, interrupt);
        // A server that could not start is why the agent did not find it.
        servers.iter_mut().try_for_each(Server::check)?;
        let stormy = if storm { servers.pop() } else { None };
        Ok(Self {
            loads: Vec::new(),
            storm: None,
            agent: agent?,
            labels: servers.iter().map(Server::label).collect(),
            servers,
            stormy,
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

    /// Lets a fleet arrive that reconnects in churn after so much normal life, if there is to be a storm.
    pub(crate) fn start_storm(&mut self, before: Duration) -> Result<()> {
        let Some(server) = &self.stormy else { return Ok(()) };
        let plan = Plan {
            kind: Kind::ReconnectChurn,
            server: server.address(),
            process: Some(server.process()),
            seed: 0,
            before,
            netns: None,
            size: Size::default(),
        };
        self.storm = Some(Storm::start(self.lab, self.folder.path(), &plan)?);
        Ok(())
    }

    /// The label of the server where the storm breaks out, if there is to be one.
    pub(crate) fn stormy(&self) -> Option<String> {
        self.stormy.as_ref().map(Server::label)
    }

    /// The storm as the agent tells of it, if it has been found.
    pub(crate) fn finding(&self) -> Result<Option<Finding>> {
        let Some(server) = &self.stormy else {
            return Ok(None);
        };
        Ok(self.agent.storms(&server.label())?.into_iter().next())
    }

    /// The storm as it went, if it is over.
    pub(crate) fn course(&self) -> Result<Option<Course>> {
        self.storm.as_ref().map_or(Ok(None), Storm::course)
    }

    /// The course of an incident, drawn for a terminal.
    pub(crate) fn incident(&self, id: &str) -> Result<String> {
        self.agent.incident(self.lab, id)
    }

    /// Ends the tenants and returns what they say they sent.
    pub(crate) fn end_load(&mut self) -> Result<Vec<Report>> {
        self.loads.drain(..).map(Load::end).collect()
    }

    /// An error that says what ended, if anything did.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.agent.check()?;
        self.servers.iter_mut().try_for_each(Server::check)?;
        self.stormy.iter_mut().try_for_each(Server::check)?;
        self.storm.iter_mut().try_for_each(Storm::check)?;
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
