//! What is loaded into and attached in the kernel, by bpftool.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process::read_output;
use crate::{cgroup, lab};

/// Before maps are looked at. Where an agent has just ended, the kernel empties its array of programs in a moment's time; who opens and closes
/// that map meanwhile, as bpftool does, has it emptied twice, and then it stays for ever: `prog_array_map_clear` takes a reference
/// for each time, and the work that gives it back runs once (kernel/bpf/arraymap.c; seen with Linux 6.18).
const PAUSE: Duration = Duration::from_millis(300);

const WITHIN: Duration = Duration::from_secs(10);

/// Programs, maps and links by number, and attachments by (cgroup, program).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Programs.
    pub programs: BTreeSet<u64>,
    /// Maps.
    pub maps: BTreeSet<u64>,
    /// Links.
    pub links: BTreeSet<u64>,
    /// What is attached to which cgroup.
    pub attached: BTreeSet<(String, u64)>,
}

impl Loaded {
    /// What is there now.
    pub fn now() -> Result<Self> {
        sleep(PAUSE);
        let root = cgroup::mount_point()?;
        let tree = bpftool(&["cgroup", "tree", &root.to_string_lossy()])?;
        Ok(Self {
            programs: numbers(&bpftool(&["prog", "show"])?),
            maps: numbers(&bpftool(&["map", "show"])?),
            links: numbers(&bpftool(&["link", "show"])?),
            attached: rows(&tree).flat_map(attachments).collect(),
        })
    }

    /// What is here and was not in `earlier`.
    #[must_use]
    pub fn beyond(&self, earlier: &Self) -> Self {
        Self {
            programs: &self.programs - &earlier.programs,
            maps: &self.maps - &earlier.maps,
            links: &self.links - &earlier.links,
            attached: &self.attached - &earlier.attached,
        }
    }

    /// What is both here and in `other`.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        Self {
            programs: &self.programs & &other.programs,
            maps: &self.maps & &other.maps,
            links: &self.links & &other.links,
            attached: &self.attached & &other.attached,
        }
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Memory of all maps of the agent, in bytes, as the kernel accounts it. Per-connection storage is not in it: it belongs to the
/// sockets.
pub fn map_memory() -> Result<u64> {
    let maps = bpftool(&["map", "show"])?;
    let ours = rows(&maps).filter(|map| map["name"].as_str().is_some_and(|name| name.starts_with("SG_")));
    Ok(ours.filter_map(|map| map["bytes_memlock"].as_u64()).sum())
}

/// Keys and values of the one map of this name, by its type.
pub fn entries(name: &str) -> Result<Vec<Value>> {
    let entries = bpftool(&["map", "dump", "name", name])?;
    Ok(rows(&entries).map(|entry| entry["formatted"].clone()).collect())
}

fn bpftool(arguments: &[&str]) -> Result<Value> {
    let mut command = Command::new(lab::bpftool()?);
    command.arg("-j").args(arguments);
    let text = read_output("bpftool", &mut command, WITHIN)?;
    if text.trim().is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_str(&text).with_context(|| format!("bpftool {} wrote no JSON", arguments.join(" ")))
}

fn rows(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn numbers(list: &Value) -> BTreeSet<u64> {
    rows(list).filter_map(|row| row["id"].as_u64()).collect()
}

fn attachments(cgroup: &Value) -> Vec<(String, u64)> {
    let path = cgroup["cgroup"].as_str().unwrap_or_default();
    rows(&cgroup["programs"])
        .filter_map(|program| Some((path.to_owned(), program["id"].as_u64()?)))
        .collect()
}
