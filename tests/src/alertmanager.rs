//! The real Alertmanager, telling a receiver of ours what it tells people.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::{lab, poll, ports};

/// How long it may take to start, or to end.
const WITHIN: Duration = Duration::from_secs(20);

/// Where one lives: it may end and start there again.
pub struct Home {
    dir: TempDir,
    port: u16,
}

/// A running one.
pub struct Alertmanager {
    process: Process,
    port: u16,
}

impl Home {
    /// Everything that fires or ends is told to `receiver` within a second, once.
    pub fn new(receiver: SocketAddr) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let config = format!(
            "route:\n  receiver: hook\n  group_by: ['...']\n  group_wait: 500ms\n  group_interval: 1s\n  repeat_interval: 4h\n\
             receivers:\n- name: hook\n  webhook_configs:\n  - url: http://{receiver}/\n    send_resolved: true\n"
        );
        std::fs::write(dir.path().join("alertmanager.yml"), config)?;
        Ok(Self {
            dir,
            port: ports::free_port()?,
        })
    }

    /// Where it listens while it runs.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it and waits until it is ready.
    pub fn start(&self) -> Result<Alertmanager> {
        let at = |path: &Path, name: &str| path.join(name).display().to_string();
        let mut command = Command::new(lab::alertmanager()?);
        command.args([
            format!("--config.file={}", at(self.dir.path(), "alertmanager.yml")),
            format!("--storage.path={}", at(self.dir.path(), "data")),
            format!("--web.listen-address=127.0.0.1:{}", self.port),
            // Alone: no gossip.
            "--cluster.listen-address=".to_owned(),
        ]);
        let alertmanager = Alertmanager {
            process: Process::spawn("alertmanager", &mut command)?,
            port: self.port,
        };
        poll::until_true("Alertmanager is ready", WITHIN, || {
            Ok(alertmanager.get("/-/ready").is_ok())
        })
        .with_context(|| alertmanager.process.words())?;
        Ok(alertmanager)
    }
}

impl Alertmanager {
    /// The alerts that it has now.
    pub fn alerts(&self) -> Result<Vec<Value>> {
        let page: Value = serde_json::from_str(&self.get("/api/v2/alerts")?)?;
        page.as_array().cloned().context("no list of alerts")
    }

    /// Ends it as its service manager would.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(WITHIN).map(|_| ())
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut response = ureq::get(format!("http://127.0.0.1:{}{path}", self.port))
            .config()
            .timeout_global(Some(Duration::from_secs(5)))
            .build()
            .call()?;
        ensure!(response.status().as_u16() == 200, "{}", response.status());
        Ok(response.body_mut().read_to_string()?)
    }
}
