//! The systemd unit, as systemd judges it.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::lab::Lab;
use crate::process::{Run as _, say};

/// Exposure that is too much, times ten, as `--threshold` has it.
const THRESHOLD: u32 = 30;

/// Where this machine has systemd's tool; elsewhere it says that this was left out.
pub(super) fn check(lab: &Lab) -> Result<()> {
    let help = Command::new("systemd-analyze").arg("--help").read();
    let missing = match help {
        Ok(text) if text.contains("--offline") => None,
        Ok(_) => Some("this machine's systemd is older than 250"),
        Err(_) => Some("this machine has no systemd-analyze"),
    };
    if let Some(missing) = missing {
        say(format!("stormglass.service: skipped, {missing}"));
        return Ok(());
    }
    let text = Command::new("systemd-analyze")
        .args(["--no-pager", "security", "--offline=true"])
        .arg(format!("--threshold={THRESHOLD}"))
        .arg(lab.workspace().join("deploy/stormglass.service"))
        .envs([("LC_ALL", "C"), ("SYSTEMD_EMOJI", "0")])
        .read()
        .with_context(|| {
            format!(
                "the unit's exposure is more than {}.{}",
                THRESHOLD / 10,
                THRESHOLD % 10
            )
        })?;
    let (_, score) = text
        .split_once("Overall exposure level for stormglass.service: ")
        .context("systemd-analyze security names no exposure")?;
    say(format!(
        "stormglass.service: systemd-analyze security says {}",
        score.split_whitespace().next().unwrap_or_default()
    ));
    Ok(())
}
