//! A storm that the load generator plays at a server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;
use stormglass_load::storms::{Kind, Size};

use super::child::Child;
use crate::lab::Lab;

/// Longer than anybody watches: it is ended from outside.
const AFTER: Duration = Duration::from_secs(24 * 3600);

/// What is played, and where.
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) server: SocketAddr,
    /// The server's process, if it may be stopped.
    pub(crate) process: Option<u32>,
    pub(crate) seed: u64,
    /// Normal life before it.
    pub(crate) before: Duration,
    /// Where its clients are, if not here.
    pub(crate) netns: Option<PathBuf>,
    /// Of the fleet that reconnects, if it is not to be drawn.
    pub(crate) size: Size,
}

impl Plan {
    /// What plays it.
    pub(crate) fn command(&self, lab: &Lab) -> Command {
        let mut command = Command::new(lab.load());
        command.args(["storm", self.kind.name()]);
        command.args(["--target", &self.server.to_string()]);
        command.args(["--seed", &self.seed.to_string()]);
        command.args(["--before", &self.before.as_secs().to_string()]);
        if let Some(process) = self.process {
            command.args(["--process", &process.to_string()]);
        }
        let size = [
            ("--instances", self.size.instances),
            ("--connections", self.size.connections),
        ];
        for (name, number) in size {
            command.args(number.map(|number| format!("{name}={number}")));
        }
        if let Some(netns) = &self.netns {
            command.arg("--netns").arg(netns);
        }
        command
    }
}

/// A running one, with the life before and after it. Dropping it ends it.
pub(crate) struct Storm {
    child: Child,
}

/// How it went, in milliseconds since 1970 began.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Course {
    pub(crate) onset_ms: u64,
    pub(crate) over_ms: u64,
}

impl Storm {
    /// Lets whoever is at the server on any day arrive.
    pub(crate) fn start(lab: &Lab, folder: &Path, plan: &Plan) -> Result<Self> {
        let mut command = plan.command(lab);
        command.args(["--after", &AFTER.as_secs().to_string()]);
        Ok(Self {
            child: Child::start("storm", &mut command, folder)?,
        })
    }

    /// An error with its last words if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.child.check()
    }

    /// How it went, once it is over.
    pub(crate) fn course(&self) -> Result<Option<Course>> {
        let output = self.child.output()?;
        // The last line may not be whole yet.
        let lines = output.lines().filter_map(|line| serde_json::from_str(line).ok());
        let mut over = lines.filter(|line: &Value| line["event"] == "over");
        let course = over.next().map(|mut line| line["course"].take());
        course
            .map(|course| serde_json::from_value(course).context("the generator's course is not understood"))
            .transpose()
    }
}
