//! The agent, with a configuration of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use ureq::Body;
use ureq::http::Response;

use super::child::Child;
use super::interrupt::Interrupt;
use super::ports;
use super::scrape::Scrape;
use super::storm::Course;
use crate::lab::Lab;
use crate::process::Run as _;

/// The agent's default port, wished for and not insisted on.
const PORT: u16 = 9466;

/// How long it may take to load its programs and find the servers.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// How long after its sockets a dying process is gone.
const DEATH_WITHIN: Duration = Duration::from_millis(300);

const SCRAPE_WITHIN: Duration = Duration::from_secs(10);

/// How long a page may be.
const PAGE_BYTES: u64 = 128 << 20;

/// A storm as the agent tells of it. Moments are milliseconds since 1970 began.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Finding {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) severity: String,
    pub(crate) summary: String,
    found: u64,
    pub(crate) ended: Option<u64>,
    culprits: Vec<Culprit>,
}

#[derive(Debug, Clone, Deserialize)]
struct Culprit {
    name: String,
}

/// Storms of a server.
#[derive(Deserialize)]
struct Storms {
    active: Vec<Finding>,
    ended: Vec<Finding>,
}

impl Finding {
    /// Who leads; empty if nobody is known.
    pub(crate) fn culprit(&self) -> &str {
        self.culprits.first().map_or("", |culprit| &culprit.name)
    }

    /// When it was found, beside the onset, for people: `120 ms after`. What a server's stop does to its clients may be found before the
    /// first of them times out.
    pub(crate) fn delay(&self, course: &Course) -> String {
        let word = if self.found < course.onset_ms {
            "before"
        } else {
            "after"
        };
        format!("{} ms {word}", self.found.abs_diff(course.onset_ms))
    }
}

/// A running agent. Dropping it ends it.
pub(crate) struct Agent {
    child: Child,
    url: String,
    config: PathBuf,
}

impl Agent {
    /// Starts it for these servers' ports, with `more` in its configuration, and waits until it has found them all under
    /// these labels.
    pub(crate) fn start(
        lab: &Lab,
        folder: &Path,
        ports: &[u16],
        more: &str,
        labels: &[String],
        interrupt: &Interrupt,
    ) -> Result<Self> {
        Self::start_program(&lab.agent(), folder, ports, more, labels, interrupt)
    }

    /// The same with an agent that lies elsewhere.
    pub(crate) fn start_program(
        program: &Path,
        folder: &Path,
        ports: &[u16],
        more: &str,
        labels: &[String],
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let listen = format!("127.0.0.1:{}", ports::free_from(PORT)?);
        let config = folder.join("stormglass.toml");
        fs::write(&config, configuration(&listen, folder, ports, more))
            .with_context(|| format!("cannot write {}", config.display()))?;
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(&config);
        let mut agent = Self {
            child: Child::start("stormglass", &mut command, folder)?,
            url: format!("http://{listen}"),
            config,
        };
        agent.wait_for(labels, interrupt)?;
        Ok(agent)
    }

    /// An error with the tail of its log if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.child.check()
    }

    /// What Prometheus would read at this moment. Says so if it is because the agent has ended that there is nothing.
    pub(crate) fn scrape(&mut self) -> Result<Scrape> {
        self.fetch().or_else(|error| {
            // A process that dies closes its sockets a moment before it can be waited for.
            sleep(DEATH_WITHIN);
            self.child.check()?;
            Err(error)
        })
    }

    /// The same as it comes, however long it is.
    pub(crate) fn page(&self) -> Result<Vec<u8>> {
        let mut answer = self.call("/metrics")?;
        let body = answer.body_mut().with_config().limit(PAGE_BYTES);
        Ok(body.read_to_vec()?)
    }

    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Storms of a server, those that go on first.
    pub(crate) fn storms(&self, server: &str) -> Result<Vec<Finding>> {
        let text = self.get(&format!("/api/v1/storms?server={server}"))?;
        let mut storms: Storms =
            serde_json::from_str(&text).context("the agent's storms are not understood")?;
        storms.active.append(&mut storms.ended);
        Ok(storms.active)
    }

    /// The course of an incident, drawn for a terminal.
    pub(crate) fn incident(&self, lab: &Lab, id: &str) -> Result<String> {
        Command::new(lab.agent())
            .args(["incidents", "show", id, "--url", &self.url])
            .read()
    }

    /// Where it serves, without a slash at the end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its configuration file.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    fn fetch(&self) -> Result<Scrape> {
        Scrape::parse(&self.get("/metrics")?)
    }

    fn get(&self, path: &str) -> Result<String> {
        Ok(self.call(path)?.body_mut().read_to_string()?)
    }

    fn call(&self, path: &str) -> Result<Response<Body>> {
        let url = format!("{}{path}", self.url);
        ureq::get(&url)
            .config()
            .timeout_global(Some(SCRAPE_WITHIN))
            .build()
            .call()
            .with_context(|| format!("no answer from {url}"))
    }

    fn wait_for(&mut self, labels: &[String], interrupt: &Interrupt) -> Result<()> {
        let started = Instant::now();
        loop {
            self.check()?;
            let found = self.fetch().map(|scrape| scrape.servers()).unwrap_or_default();
            if labels.iter().all(|label| found.contains(label)) {
                return Ok(());
            }
            if started.elapsed() > READY_WITHIN {
                bail!(
                    "after {} s the agent knows the servers {found:?}, not {labels:?}",
                    READY_WITHIN.as_secs()
                );
            }
            interrupt.sleep(Duration::from_millis(50))?;
        }
    }
}

/// Only these ports: other servers of this host are none of its business.
fn configuration(listen: &str, folder: &Path, ports: &[u16], more: &str) -> String {
    format!(
        "[http]\nlisten = \"{listen}\"\n\n[incidents]\ndir = {:?}\n\n\
         [discovery]\nprocesses = []\nports = {ports:?}\n\
         {more}",
        folder.join("incidents")
    )
}
