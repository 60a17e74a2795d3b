//! A browser that draws pages into pictures.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::apt::Apt;
use super::{Lab, node, part};
use crate::process::Run as _;

/// Chromium's shell for pages that nobody looks at, with what it reads at its start, and the font that every picture has, whatever
/// the host's are.
const PACKAGES: [&str; 3] = ["chromium-headless-shell", "chromium-common", "fonts-dejavu-core"];
const PROGRAM: &str = "usr/lib/chromium/chromium-headless-shell";

/// What drives it in tests, and what finds barriers in a page.
const DRIVER: &str = "tests/live/browser/node";

/// Brings Chromium.
pub(crate) fn ensure_chromium(lab: &Lab) -> Result<()> {
    part::ensure(lab, "chromium", &PACKAGES.join(" "), |folder| {
        Apt::new(lab)?.unpack(&PACKAGES, &[PROGRAM], folder)?;
        let fonts = format!(
            "<?xml version=\"1.0\"?>\n<!DOCTYPE fontconfig SYSTEM \"fonts.dtd\">\n<fontconfig><dir>{0}</dir><cachedir>{0}/cache</cachedir></fontconfig>\n",
            folder.join("usr/share/fonts").display()
        );
        fs::write(folder.join("fonts.conf"), fonts)?;
        part::offer(lab, folder, &folder.join(PROGRAM))
    })
}

/// Brings it with its driver.
pub(super) fn ensure_driven(lab: &Lab) -> Result<()> {
    ensure_chromium(lab)?;
    node::ensure_node(lab)?;
    node::ensure_locked(lab, "browser-driver", DRIVER)
}

/// Draws the page at `page` into `picture`, so many pixels wide and high.
pub(crate) fn draw(lab: &Lab, page: &Path, picture: &Path, (width, height): (u32, u32)) -> Result<()> {
    let profile = tempfile::tempdir()?;
    Command::new(lab.chromium())
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ])
        .args([
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--virtual-time-budget=5000",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--window-size={width},{height}"))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", page.display()))
        .env("FONTCONFIG_FILE", lab.fonts())
        .read()
        .map(|_| ())
}
