//! OCI containers under runc: the agent as it is shipped, and servers with namespaces of their own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::lab;
use crate::netns::Netns;
use crate::process::{Finished, Process, read_output};

const WITHIN: Duration = Duration::from_secs(30);

static MADE: AtomicU32 = AtomicU32::new(0);

/// A bundle, and what runs by it. Dropping it ends that and removes it.
#[derive(Debug)]
pub struct Container {
    dir: TempDir,
    name: String,
    spec: Value,
}

impl Container {
    /// The agent's, exactly as deploy/container describes it: root file system, capabilities, mounts, seccomp profile.
    pub fn of_agent() -> Result<Self> {
        let folder = deploy().join("container");
        let mut spec = read_json(&folder.join("config.json"))?;
        spec["linux"]["seccomp"] = read_json(&folder.join("seccomp.json"))?;
        let mut container = Self::new("agent", &lab::agent()?, spec)?;
        for place in ["/etc/stormglass", "/var/lib/stormglass"] {
            let source = container.dir.path().join(place.replace('/', "-"));
            fs::create_dir(&source)?;
            container.mount(place)?["source"] = json!(source);
        }
        Ok(container)
    }

    /// A server's: another user, no capability, namespaces of its own, the network's among them.
    pub fn of_server(program: &Path, netns: &Netns) -> Result<Self> {
        let spec = json!({
            "ociVersion": "1.0.2",
            "root": { "path": "rootfs", "readonly": true },
            "process": { "user": { "uid": 999, "gid": 999 }, "cwd": "/", "args": [], "noNewPrivileges": true },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            ],
            "linux": { "namespaces": [
                { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }, { "type": "pid" }, { "type": "cgroup" },
                { "type": "network", "path": netns.path() },
            ] },
        });
        Self::new("server", program, spec)
    }

    fn new(name: &str, program: &Path, mut spec: Value) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("stormglass-test-{}-{number}-{name}", std::process::id());
        spec["linux"]["cgroupsPath"] = json!(format!("/{name}"));
        let file = program.file_name().unwrap_or_default().to_string_lossy();
        spec["process"]["args"] = json!([format!("/usr/bin/{file}")]);
        let mut assemble = Command::new(deploy().join("container/rootfs.sh"));
        assemble.arg(program).arg(dir.path().join("rootfs"));
        read_output("rootfs.sh", &mut assemble, WITHIN)?;
        Ok(Self { dir, name, spec })
    }

    /// Takes a capability away.
    pub fn drop_capability(&mut self, capability: &str) {
        if let Some(sets) = self.spec["process"]["capabilities"].as_object_mut() {
            for set in sets.values_mut().filter_map(Value::as_array_mut) {
                set.retain(|name| name != capability);
            }
        }
    }

    /// Its capabilities.
    #[must_use]
    pub fn capabilities(&self) -> Vec<String> {
        let set = self.spec["process"]["capabilities"]["bounding"].as_array();
        set.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(Into::into)
            .collect()
    }

    /// Puts a file into its root, which it cannot change itself. Returns where it has it.
    pub fn put(&self, name: &str, text: &str) -> Result<PathBuf> {
        fs::write(self.dir.path().join("rootfs").join(name), text)?;
        Ok(Path::new("/").join(name))
    }

    /// What is mounted at a place, from outside.
    pub fn outside(&mut self, place: &str) -> Result<PathBuf> {
        let source = self.mount(place)?["source"].as_str().map(PathBuf::from);
        source.with_context(|| format!("nothing of the host is mounted at {place}"))
    }

    fn mount(&mut self, place: &str) -> Result<&mut Value> {
        let mounts = self.spec["mounts"].as_array_mut();
        let mut mounts = mounts.into_iter().flatten();
        mounts
            .find(|mount| mount["destination"] == place)
            .with_context(|| format!("nothing is mounted at {place}"))
    }

    /// The command that runs its program with these arguments.
    pub fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<Command> {
        let mut spec = self.spec.clone();
        if let Some(args) = spec["process"]["args"].as_array_mut() {
            args.extend(
                arguments
                    .into_iter()
                    .map(|argument| json!(argument.to_string_lossy())),
            );
        }
        fs::write(self.dir.path().join("config.json"), spec.to_string())?;
        let mut command = self.runc()?;
        command
            .args(["run", "--bundle"])
            .arg(self.dir.path())
            .arg(&self.name);
        Ok(command)
    }

    /// Runs its program with these arguments to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = self.command(arguments.iter().map(OsStr::new))?;
        Process::spawn("runc", &mut command)?.finish(WITHIN)
    }

    /// The number of its first process, in the host's pid namespace.
    pub fn process_id(&self) -> Result<u32> {
        let mut command = self.runc()?;
        let state = read_output("runc", command.args(["state", &self.name]), WITHIN)?;
        let state: Value = serde_json::from_str(&state)?;
        let id = state["pid"].as_u64().and_then(|id| u32::try_from(id).ok());
        id.context("runc names no process")
    }

    fn runc(&self) -> Result<Command> {
        let mut command = Command::new(lab::runc()?);
        command.arg("--root").arg(self.dir.path().join("runc"));
        Ok(command)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // What has ended by itself is gone, which is an error to runc.
        let removed = self.runc().and_then(|mut runc| {
            let command = runc.args(["delete", "--force", &self.name]);
            Process::spawn("runc", command)?.finish(WITHIN)
        });
        if let Err(error) = removed {
            eprintln!("the container {} may be left behind: {error:#}", self.name);
        }
    }
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}
