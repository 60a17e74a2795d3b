//! The real agent as a child process.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::container::Container;
use crate::exposition::Scrape;
use crate::kubernetes::ApiServer;
use crate::process::{Finished, Process};
use crate::{lab, poll, ports};

/// How long it may take to load its programs and find every server: a moment, but in an emulated machine on a busy host.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How many bytes a page may have.
const PAGE_BYTES: u64 = 128 << 20;

/// How long a page may take.
const PAGE_WITHIN: Duration = Duration::from_secs(10);

/// How soon a server that starts or stops has to be noticed, with room for a loaded machine. The promise is 2 s.
const NOTICED_WITHIN: Duration = Duration::from_secs(4);

/// Becomes the agent, whose path is its name, with the folder `ACCOUNT` where a pod has its service account.
const IN_POD: &str = "set -e
mount -t tmpfs -o size=16m none /run
mkdir -p /run/secrets/kubernetes.io/serviceaccount
mount --bind \"$ACCOUNT\" /run/secrets/kubernetes.io/serviceaccount
exec \"$0\" \"$@\"";

/// A running agent. Dropping it kills it.
pub struct Agent {
    process: Process,
    container: Option<Container>,
    port: u16,
    config: ConfigFile,
}

impl Agent {
    /// Starts an agent that watches whatever is there, and waits until it is ready.
    pub fn start() -> Result<Self> {
        Self::start_with("")
    }

    /// Starts an agent with these further tables in its configuration, and waits until it is ready.
    pub fn start_with(tables: &str) -> Result<Self> {
        Self::start_logging("info", tables)
    }

    /// The same, logging at a level.
    pub fn start_logging(level: &str, tables: &str) -> Result<Self> {
        Self::start_by(Command::new(lab::agent()?), level, tables)
    }

    /// Starts it as in a pod on the node `here`: with a service account where pods find theirs, in a mount namespace of its own.
    pub fn start_in_pod(api: &ApiServer, tables: &str) -> Result<Self> {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", IN_POD])
            .arg(lab::agent()?)
            .env("ACCOUNT", api.service_account())
            .env("KUBERNETES_SERVICE_HOST", api.address().ip().to_string())
            .env("KUBERNETES_SERVICE_PORT", api.address().port().to_string())
            .env("NODE_NAME", "here");
        Self::start_by(command, "info", tables)
    }

    /// Starts it in its container. What it is told to record lies there.
    pub fn start_in(container: Container, tables: &str) -> Result<Self> {
        let port = ports::free_port()?;
        let mut container = container;
        let folder = container.outside("/etc/stormglass")?;
        let config = ConfigFile::new("")?;
        std::fs::write(folder.join("stormglass.toml"), listening(port, tables))?;
        let mut command = container.command([OsStr::new("run")])?;
        Self::ready("runc", &mut command, port, config, Some(container))
    }

    fn start_by(mut command: Command, level: &str, tables: &str) -> Result<Self> {
        let port = ports::free_port()?;
        let config = ConfigFile::new("")?;
        std::fs::write(config.path(), config_text(port, &config, tables))?;
        command
            .args(["run", "--log-level", level, "--config"])
            .arg(config.path());
        Self::ready("stormglass", &mut command, port, config, None)
    }

    fn ready(
        name: &str,
        command: &mut Command,
        port: u16,
        config: ConfigFile,
        container: Option<Container>,
    ) -> Result<Self> {
        let mut agent = Self {
            process: Process::spawn(name, command)?,
            container,
            port,
            config,
        };
        agent.wait_until_ready()?;
        Ok(agent)
    }

    /// Writes other tables into its configuration file; it listens where it did.
    pub fn rewrite(&self, tables: &str) -> Result<()> {
        std::fs::write(self.config.path(), self.config_with(tables))?;
        Ok(())
    }

    /// What its configuration file has to hold so that it listens where it does.
    #[must_use]
    pub fn config_with(&self, tables: &str) -> String {
        config_text(self.port, &self.config, tables)
    }

    /// Asks it to read its configuration file again.
    pub fn hang_up(&self) -> Result<()> {
        self.process.signal(Signal::SIGHUP)
    }

    /// Its process number.
    #[must_use]
    pub fn id(&self) -> Pid {
        self.process.id()
    }

    /// The container that it runs in.
    #[must_use]
    pub fn container(&self) -> Option<&Container> {
        self.container.as_ref()
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &ConfigFile {
        &self.config
    }

    /// A page: status and body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        self.get_as(path, "*/*")
    }

    /// A page in a media type.
    pub fn get_as(&self, path: &str, accept: &str) -> Result<(u16, String)> {
        page(self.port, path, accept)
    }

    /// The text of /metrics.
    pub fn metrics(&self) -> Result<String> {
        match self.get("/metrics")? {
            (200, body) => Ok(body),
            (status, body) => bail!("/metrics answers {status}: {body}"),
        }
    }

    /// /metrics, read.
    pub fn scrape(&self) -> Result<Scrape> {
        Scrape::parse(&self.metrics()?)
    }

    /// Every storm of a server, those that go on first.
    pub fn storms(&self, server: &str) -> Result<Vec<Value>> {
        let (status, body) = self.get(&format!("/api/v1/storms?server={server}"))?;
        ensure!(status == 200, "{status}: {body}");
        let page: Value = serde_json::from_str(&body)?;
        let list = |which: &str| page[which].as_array().cloned().context("no list of storms");
        Ok([list("active")?, list("ended")?].concat())
    }

    /// Places in use by bytes that came early.
    pub fn parked(&self) -> Result<u64> {
        let scrape = self.scrape()?;
        Ok(scrape.count("stormglass_map_entries", &[("map", "SG_PARKED")]))
    }

    /// Waits until a scrape satisfies `condition` and returns it.
    pub fn scrape_until(&self, what: &str, condition: impl Fn(&Scrape) -> bool) -> Result<Scrape> {
        let mut last = None;
        let found = poll::until(what, NOTICED_WITHIN, || {
            let scrape = self.scrape()?;
            let found = condition(&scrape).then(|| scrape.clone());
            last = Some(scrape);
            Ok(found)
        });
        found.with_context(|| {
            let servers = last.as_ref().map(Scrape::servers).unwrap_or_default();
            format!("the last scrape names the servers {servers:?}")
        })
    }

    /// Waits until a server is in /metrics.
    pub fn sees(&self, server: &str) -> Result<Scrape> {
        self.scrape_until(&format!("{server} in /metrics"), |scrape| scrape.mentions(server))
    }

    /// Waits until a server has left /metrics.
    pub fn forgets(&self, server: &str) -> Result<Scrape> {
        self.scrape_until(&format!("{server} gone from /metrics"), |scrape| {
            !scrape.mentions(server)
        })
    }

    /// Ends it as an operator would. Returns how long it took and how it ended.
    pub fn terminate(self) -> Result<(Duration, Finished)> {
        let started = Instant::now();
        self.process.signal(Signal::SIGTERM)?;
        let finished = self.process.finish(Duration::from_secs(10))?;
        Ok((started.elapsed(), finished))
    }

    /// Kills it and starts it anew with the same configuration at the same port, after `pause`.
    pub fn start_again(mut self, pause: Duration) -> Result<Self> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.wait(Duration::from_secs(10))?;
        std::thread::sleep(pause);
        let mut command = Command::new(lab::agent()?);
        command
            .args(["run", "--log-level", "info", "--config"])
            .arg(self.config.path());
        self.process = Process::spawn("stormglass", &mut command)?;
        self.wait_until_ready()?;
        Ok(self)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Ends it without warning and waits until it is gone.
    pub fn kill(mut self) -> Result<()> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.wait(Duration::from_secs(10)).map(|_| ())
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            if !self.process.is_running()? {
                bail!("the agent ended at once: {}", self.process.words());
            }
            if matches!(self.get("/readyz"), Ok((200, _))) {
                return Ok(());
            }
            if started.elapsed() > READY_WITHIN {
                bail!(
                    "the agent is not ready within {READY_WITHIN:?}: {}",
                    self.process.words()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A page of the agent at `port`, whoever started it: status and body.
pub fn page(port: u16, path: &str, accept: &str) -> Result<(u16, String)> {
    let mut response = ureq::get(format!("http://127.0.0.1:{port}{path}"))
        .config()
        .timeout_global(Some(PAGE_WITHIN))
        .http_status_as_error(false)
        .build()
        .header("accept", accept)
        .call()
        .with_context(|| format!("no answer for {path}"))?;
    let body = response
        .body_mut()
        .with_config()
        .limit(PAGE_BYTES)
        .read_to_string()?;
    Ok((response.status().as_u16(), body))
}

/// What it records and remembers lies beside its configuration, and goes with it, unless the test says where.
fn config_text(port: u16, file: &ConfigFile, tables: &str) -> String {
    let homes = ["incidents", "alerts"].iter();
    let tables = homes.fold(tables.to_owned(), |tables, name| at_home(&tables, name, file));
    listening(port, &tables)
}

/// Says where the folder of a table is. A table that is not there comes last: tests name lines.
fn at_home(tables: &str, name: &str, file: &ConfigFile) -> String {
    let header = format!("[{name}]\n");
    let dir = format!("dir = {:?}\n", file.dir.path().join(name));
    let Some((before, table)) = tables.split_once(&header) else {
        return format!("{tables}\n\n{header}{dir}");
    };
    let own = table.split("\n[").next().unwrap_or_default();
    if own.lines().any(|line| line.starts_with("dir = ")) {
        return tables.to_owned();
    }
    format!("{before}{header}{dir}{table}")
}

fn listening(port: u16, tables: &str) -> String {
    format!("[http]\nlisten = \"127.0.0.1:{port}\"\n\n{tables}")
}

/// A configuration in a folder of its own.
pub struct ConfigFile {
    dir: TempDir,
}

impl ConfigFile {
    /// Writes it.
    pub fn new(text: &str) -> Result<Self> {
        let file = Self {
            dir: tempfile::tempdir()?,
        };
        std::fs::write(file.path(), text)?;
        Ok(file)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("stormglass.toml")
    }
}

/// Runs another command of the agent to its end.
pub fn command(arguments: &[&str], config: Option<&ConfigFile>) -> Result<Finished> {
    command_at(None, arguments, config)
}

/// The same, on a terminal of so many columns.
pub fn command_at(columns: Option<u16>, arguments: &[&str], config: Option<&ConfigFile>) -> Result<Finished> {
    let mut command = Command::new(lab::agent()?);
    command.args(arguments).env_remove("COLUMNS");
    command.envs(columns.map(|columns| ("COLUMNS", columns.to_string())));
    if let Some(config) = config {
        command.arg("--config").arg(config.path());
    }
    Process::spawn("stormglass", &mut command)?.finish(READY_WITHIN)
}
