//! A server in a cgroup of its own, for one cell. Dropping it leaves nothing behind.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::cells::Cell;
use super::load::Load;
use crate::lab::Lab;
use crate::rig::agent::Agent;
use crate::rig::cgroup::Tree;
use crate::rig::interrupt::Interrupt;
use crate::rig::ports;
use crate::rig::server::Server;

/// Port that the server is given, if it is free: below the range that clients' own ports come from.
const FIRST_PORT: u16 = 7101;

/// How long the server may take to answer.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The fields are in the order in which they end.
pub(super) struct Stage<'a> {
    server: Server,
    _cgroups: Tree,
    folder: TempDir,
    lab: &'a Lab,
}

impl<'a> Stage<'a> {
    /// Starts the server and waits until it answers.
    pub(super) fn set(lab: &'a Lab, interrupt: &Interrupt) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("stormglass-bench-")
            .tempdir()
            .context("cannot create a temporary folder")?;
        let cgroups = Tree::create("stormglass-bench")?;
        let mut server = Server::start(lab, &cgroups, folder.path(), ports::free_from(FIRST_PORT)?)?;
        wait_for(&mut server, interrupt)?;
        Ok(Self {
            server,
            _cgroups: cgroups,
            folder,
            lab,
        })
    }

    /// The load of a cell on this server.
    pub(super) fn load(&self, cell: Cell) -> Load<'_> {
        Load {
            lab: self.lab,
            folder: self.folder(),
            port: self.address().port(),
            cell,
        }
    }

    /// Starts the agent and waits until it watches the server.
    pub(super) fn agent(&self, interrupt: &Interrupt) -> Result<Agent> {
        let ports = [self.address().port()];
        let labels = [self.server.label()];
        Agent::start(self.lab, self.folder(), &ports, "", &labels, interrupt)
    }

    pub(super) fn lab(&self) -> &Lab {
        self.lab
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The server's cgroup.
    pub(super) fn cgroup(&self) -> &Path {
        self.server.cgroup()
    }

    /// Number of the server's process.
    pub(super) fn server_process(&self) -> u32 {
        self.server.process()
    }
}

fn wait_for(server: &mut Server, interrupt: &Interrupt) -> Result<()> {
    let started = Instant::now();
    while server.totals().is_err() {
        server.check()?;
        if started.elapsed() > READY_WITHIN {
            bail!("{} does not answer", server.label());
        }
        interrupt.sleep(Duration::from_millis(20))?;
    }
    Ok(())
}
