//! The systemd unit, as systemd judges it.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::lab::{Lab, machines};
use crate::process::{Run as _, say};

/// Exposure that is too much, times ten, as `--threshold` has it.
const THRESHOLD: u32 = 30;

/// Holds it to systemd's own judgement, and says what that is.
pub(super) fn check(lab: &Lab) -> Result<()> {
    machines::ensure_systemd(lab)?;
    let text = Command::new(lab.systemd_analyze())
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
