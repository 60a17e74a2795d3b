//! Clients of other languages: scripts that drive a server through a library and write what they sent.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use stormglass_tests::lab;
use stormglass_tests::process::{Process, read_output};

use super::{Sent, Told};

const WITHIN: Duration = Duration::from_secs(60);

/// valkey-py, in RESP2 and RESP3.
pub(crate) fn valkey_py(port: u16) -> Result<Told> {
    python("valkey-py", include_str!("valkey_py.py"), port)
}

/// Valkey GLIDE in Python, in RESP2 and RESP3.
pub(crate) fn valkey_glide(port: u16) -> Result<Told> {
    python("valkey-glide", include_str!("valkey_glide.py"), port)
}

/// ioredis, in RESP2 and RESP3.
pub(crate) fn ioredis(port: u16) -> Result<Told> {
    let mut node = Command::new(lab::node()?);
    node.args(["-", &port.to_string()])
        .env("NODE_PATH", lab::node_path()?);
    let script = include_str!("ioredis.js");
    let finished = Process::spawn_with_input("ioredis", &mut node, script.as_bytes())?.finish(WITHIN)?;
    anyhow::ensure!(finished.status.success(), "ioredis failed: {}", finished.stderr);
    told(&finished.stdout).with_context(|| format!("ioredis.js wrote {:?}", finished.stdout))
}

fn python(name: &str, script: &str, port: u16) -> Result<Told> {
    let mut python = Command::new("python3");
    python
        .args(["-c", script, &port.to_string()])
        .env("PYTHONPATH", lab::python_path()?);
    let text = read_output(name, &mut python, WITHIN)?;
    told(&text).with_context(|| format!("the script of {name} wrote {text:?}"))
}

/// `{"PREFIX": {"commands": 1, "bytes_in": 2, "bytes_out": 3}, "(pubsub)": {"bytes_out": 4}}`; what a client does not know
/// is left out.
fn told(text: &str) -> Result<Told> {
    let value: Value = serde_json::from_str(text)?;
    let mut told = Told::default();
    for (prefix, row) in value.as_object().context("no object")? {
        if prefix == "(pubsub)" {
            told.pushed = row["bytes_out"].as_u64().context("no bytes of (pubsub)")?;
            continue;
        }
        let sent = Sent {
            commands: row["commands"].as_u64(),
            bytes_in: row["bytes_in"].as_u64(),
            bytes_out: row["bytes_out"].as_u64(),
        };
        told.rows.insert(prefix.clone(), sent);
    }
    Ok(told)
}
