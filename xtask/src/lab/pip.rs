//! Python packages into a folder of their own.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::Run as _;

/// Installs exactly `packages` (`name==version`), without what they would pull in, into `folder`.
pub(super) fn install(packages: &[&str], folder: &Path) -> Result<()> {
    if !Command::new("python3")
        .args(["-m", "pip", "--version"])
        .succeeds()
    {
        bail!("Python 3 with pip is missing; `apt-get install python3-pip` brings it");
    }
    Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ])
        .args([
            "--disable-pip-version-check",
            "--root-user-action=ignore",
            "--upgrade",
            "--target",
        ])
        .arg(folder)
        .args(packages)
        .read()
        .map(|_| ())
}
