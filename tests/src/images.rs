//! Bytes that the agent holds: its maps in the kernel, as bpftool reads them, and the memory of its process.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::Pid;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde_json::Value;

use crate::lab;

/// Bytes, and where they are.
#[derive(Debug)]
pub struct Image {
    /// The map, the connection or the mapping.
    pub place: String,
    /// Keys and values, or what is mapped.
    pub bytes: Vec<u8>,
}

/// Every map among `maps` that can be read out, keys and values, on all CPUs. Those that cannot hold text, queues of
/// numbers, are left out, and so are two that are read otherwise: states of connections by [`connections`], and the event
/// ring as part of the daemon's [`memory`].
pub fn maps(maps: &BTreeSet<u64>) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    for map in shown(maps)? {
        let (id, name) = (map["id"].to_string(), map["name"].as_str().unwrap_or_default());
        match map["type"].as_str().unwrap_or_default() {
            "queue" => {
                let bytes = map["bytes_value"].as_u64();
                ensure!(bytes == Some(4), "{name} is a queue of more than numbers: {map}");
            }
            "ringbuf" | "sk_storage" => {}
            _ => {
                let text = bpftool(&["map", "dump", "id", &id])?
                    .with_context(|| format!("map {name} cannot be read out"))?;
                images.push(Image {
                    place: name.to_owned(),
                    bytes: raw_bytes(&text),
                });
            }
        }
    }
    Ok(images)
}

/// The state of each connection that these processes have open. The kernel looks them up by a socket's descriptor in the
/// process that asks: they are duplicated for bpftool.
pub fn connections(maps: &BTreeSet<u64>, servers: &[Pid]) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    for map in shown(maps)?.iter().filter(|map| map["type"] == "sk_storage") {
        let (id, name) = (map["id"].to_string(), map["name"].as_str().unwrap_or_default());
        for &server in servers {
            for (number, socket) in sockets(server)? {
                if let Some(bytes) = state(&id, &socket)? {
                    let place = format!("{name} of descriptor {number} of {server}");
                    images.push(Image { place, bytes });
                }
            }
        }
    }
    Ok(images)
}

/// The first entries of an array among `maps`.
pub fn first_entries(maps: &BTreeSet<u64>, name: &str, count: u32) -> Result<Vec<Image>> {
    let list = shown(maps)?;
    let map = list
        .iter()
        .find(|map| map["name"] == name)
        .with_context(|| format!("there is no map {name}"))?;
    let mut images = Vec::new();
    for index in 0..count {
        let bytes = value(&map["id"].to_string(), index.to_ne_bytes())?;
        images.push(Image {
            place: format!("{name}[{index}]"),
            bytes: bytes.with_context(|| format!("{name} has no entry {index}"))?,
        });
    }
    Ok(images)
}

/// What a process has in memory, files and the kernel's maps included.
pub fn memory(process: Pid) -> Result<Vec<Image>> {
    let list = fs::read_to_string(format!("/proc/{process}/maps"))?;
    let memory = File::open(format!("/proc/{process}/mem"))?;
    let mut images = Vec::new();
    for line in list.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let [range, rights, ..] = words[..] else {
            bail!("cannot read {line:?}");
        };
        let name = words.get(5).copied().unwrap_or_default();
        // The kernel's clocks, which nobody else can read.
        if !rights.starts_with('r') || name.starts_with("[v") {
            continue;
        }
        let (start, end) = range
            .split_once('-')
            .with_context(|| format!("cannot read {line:?}"))?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        let mut bytes = vec![0; (end - start) as usize];
        if let Err(error) = memory.read_exact_at(&mut bytes, start) {
            // The stack of a thread that has ended.
            let now = fs::read_to_string(format!("/proc/{process}/maps"))?;
            ensure!(!now.contains(range), "cannot read {line:?}: {error}");
            continue;
        }
        let place = format!("memory of the agent, {range} {name}");
        images.push(Image { place, bytes });
    }
    Ok(images)
}

fn shown(maps: &BTreeSet<u64>) -> Result<Vec<Value>> {
    let text = bpftool(&["map", "show"])?.context("there are no maps")?;
    let mut list: Vec<Value> = serde_json::from_str(&text)?;
    list.retain(|map| map["id"].as_u64().is_some_and(|id| maps.contains(&id)));
    ensure!(list.len() == maps.len(), "a map of the agent is gone");
    Ok(list)
}

/// The bytes in bpftool's JSON. It writes each of them as `"0xff"`, and once more by its type, which is not needed.
fn raw_bytes(text: &str) -> Vec<u8> {
    let rest = text.split("\"0x").skip(1);
    rest.filter_map(|rest| u8::from_str_radix(rest.get(..2)?, 16).ok())
        .collect()
}

/// Duplicates of a process's sockets, with their numbers there.
fn sockets(process: Pid) -> Result<Vec<(i32, OwnedFd)>> {
    let pid = rustix::process::Pid::from_raw(process.as_raw()).context("no process has number 0")?;
    let pid = pidfd_open(pid, PidfdFlags::empty())?;
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
        let entry = entry?;
        let number = entry.file_name().to_string_lossy().parse()?;
        let target = fs::read_link(entry.path()).unwrap_or_default();
        if target.to_string_lossy().starts_with("socket:") {
            // One that has been closed since has no state either.
            let socket = pidfd_getfd(&pid, number, PidfdGetfdFlags::empty());
            found.extend(socket.ok().map(|socket| (number, socket)));
        }
    }
    Ok(found)
}

/// The value of a socket, if it has one.
fn state(map: &str, socket: &OwnedFd) -> Result<Option<Vec<u8>>> {
    fcntl_setfd(socket, FdFlags::empty())?;
    let bytes = value(map, socket.as_raw_fd().to_ne_bytes());
    fcntl_setfd(socket, FdFlags::CLOEXEC)?;
    bytes
}

/// The value of a key, with the key in front of it.
fn value(map: &str, key: [u8; 4]) -> Result<Option<Vec<u8>>> {
    let key = key.map(|byte| byte.to_string());
    let mut arguments = vec!["map", "lookup", "id", map, "key"];
    arguments.extend(key.iter().map(String::as_str));
    Ok(bpftool(&arguments)?.map(|text| raw_bytes(&text)))
}

/// What bpftool writes, unless it finds nothing. Not as a [`crate::process::Process`], which repeats what it said: the
/// largest map is a line of 112 MB.
fn bpftool(arguments: &[&str]) -> Result<Option<String>> {
    let output = Command::new(lab::bpftool()?).arg("-j").args(arguments).output()?;
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        let nothing = text.trim() == "null";
        ensure!(
            nothing,
            "bpftool cannot do {}: {:.200}",
            arguments.join(" "),
            text
        );
    }
    Ok(output.status.success().then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_from_what_bpftool_writes() {
        let text = r#"[{"key":["0x01","0x00"],"value":["0xff"],"formatted":{"key":1,"value":255}}]"#;
        assert_eq!(raw_bytes(text), [1, 0, 255]);
        let text = r#"{"key":["0x00"],"values":[{"cpu":0,"value":["0x61"]},{"cpu":1,"value":["0x62"]}]}"#;
        assert_eq!(raw_bytes(text), [0, 0x61, 0x62]);
        assert!(raw_bytes("null").is_empty());
    }

    #[test]
    fn the_memory_of_a_process_holds_what_it_knows() -> Result<()> {
        let words = format!("{} is known", fastrand::u64(..));
        let images = memory(Pid::this())?;
        let found = images.iter().any(|image| {
            image
                .bytes
                .windows(words.len())
                .any(|piece| piece == words.as_bytes())
        });
        assert!(found);
        Ok(())
    }
}
