//! valkey-py.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use stormglass_tests::lab;
use stormglass_tests::process::read_output;

use super::Sent;

const SCRIPT: &str = include_str!("valkey_py.py");
const WITHIN: Duration = Duration::from_secs(60);

/// Sends what `valkey_py.py` says; its standard output is what it sent.
pub(crate) fn drive(port: u16) -> Result<Sent> {
    let mut command = Command::new("python3");
    command
        .args(["-c", SCRIPT, &port.to_string()])
        .env("PYTHONPATH", lab::python_path()?);
    let text = read_output("valkey-py", &mut command, WITHIN)?;
    serde_json::from_str(&text).with_context(|| format!("valkey_py.py wrote {text:?}"))
}
