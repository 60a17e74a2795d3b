//! The Debian package: a folder as it will lie, and `dpkg-deb`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::lab::Lab;
use crate::process::{Run as _, say};

/// Where what lies, beside the binary and the unit.
const DOCUMENTS: [(&str, &str); 5] = [
    (
        "deploy/stormglass.example.toml",
        "usr/share/doc/stormglass/examples/stormglass.toml",
    ),
    (
        "deploy/container/seccomp.json",
        "usr/share/doc/stormglass/examples/seccomp.json",
    ),
    ("README.md", "usr/share/doc/stormglass/README.md"),
    ("docs/SECURITY.md", "usr/share/doc/stormglass/SECURITY.md"),
    (
        "docs/TROUBLESHOOTING.md",
        "usr/share/doc/stormglass/TROUBLESHOOTING.md",
    ),
];

/// After the unit was put there: systemd reads it; nothing is started that nobody asked for.
const AFTER: &str = "#!/bin/sh
set -e
if [ \"$1\" = configure ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    if [ -n \"$2\" ]; then
        systemctl try-restart stormglass.service
    fi
fi
";

const BEFORE: &str = "#!/bin/sh
set -e
if [ \"$1\" = remove ] && [ -d /run/systemd/system ]; then
    systemctl --no-reload disable --now stormglass.service
fi
";

const MAINTAINER: &str = "Stormglass <stormglass@localhost>";

const COPYRIGHT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2026 The Stormglass authors
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
Comment:
 The kernel programs inside the binary may be used under the MIT licence or
 GPL-2.0 as well; the text of the latter is in /usr/share/common-licenses/GPL-2.
";

pub(super) fn run(lab: &Lab) -> Result<()> {
    let binary = lab.agent();
    if !binary.is_file() {
        bail!("there is no {}; `cargo xtask build` makes it", binary.display());
    }
    let package = build(lab, &binary, &lab.target(), "xz")?;
    say(format!("built {}", package.display()));
    Ok(())
}

/// That it can be built, and has what it starts; without a binary or `dpkg-deb` it says that this was left out.
pub(super) fn check(lab: &Lab) -> Result<()> {
    let binary = lab.agent();
    let missing = if !binary.is_file() {
        Some("`cargo xtask build` has left no binary")
    } else if !Command::new("dpkg-deb").arg("--version").succeeds() {
        Some("this machine has no dpkg-deb")
    } else {
        None
    };
    if let Some(missing) = missing {
        say(format!("Debian package: skipped, {missing}"));
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    // Who only looks inside does not wait for a small file.
    let package = build(lab, &binary, folder.path(), "none")?;
    let root = folder.path().join("unpacked");
    Command::new("dpkg-deb")
        .arg("--extract")
        .args([&package, &root])
        .read()?;
    let unit = fs::read_to_string(root.join("usr/lib/systemd/system/stormglass.service"))?;
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/")?.split(' ').next())
        .context("the package's unit starts nothing")?;
    ensure!(
        root.join(start).is_file(),
        "the package's unit starts /{start}, which is not in it"
    );
    say("Debian package: its unit starts its binary");
    Ok(())
}

fn build(lab: &Lab, binary: &Path, into: &Path, compression: &str) -> Result<PathBuf> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    put(binary, &root.join("usr/bin/stormglass"), 0o755)?;
    Command::new("strip")
        .args(["--strip-unneeded", "--remove-section=.comment"])
        .arg(root.join("usr/bin/stormglass"))
        .run()?;
    let unit = fs::read_to_string(lab.workspace().join("deploy/stormglass.service"))?;
    write(
        &root.join("usr/lib/systemd/system/stormglass.service"),
        &unit.replace("/usr/local/bin/", "/usr/bin/"),
        0o644,
    )?;
    for (from, to) in DOCUMENTS {
        put(&lab.workspace().join(from), &root.join(to), 0o644)?;
    }
    documents(lab, &root)?;
    control(&root)?;
    let architecture = architecture()?;
    let package = into.join(format!(
        "stormglass_{}_{architecture}.deb",
        env!("CARGO_PKG_VERSION")
    ));
    Command::new("dpkg-deb")
        .args(["--root-owner-group", &format!("-Z{compression}"), "--build"])
        .arg(&root)
        .arg(&package)
        .read()?;
    Ok(package)
}

/// What Debian wants of every package: its licence, and what has changed.
fn documents(lab: &Lab, root: &Path) -> Result<()> {
    let folder = root.join("usr/share/doc/stormglass");
    write(&folder.join("copyright"), COPYRIGHT, 0o644)?;
    put(
        &lab.workspace().join("CHANGELOG.md"),
        &folder.join("CHANGELOG.md"),
        0o644,
    )?;
    let date = Command::new("date").arg("--rfc-email").read()?;
    let changes = folder.join("changelog");
    let text = format!(
        "stormglass ({}) unstable; urgency=medium\n\n  * What has changed is in CHANGELOG.md.\n\n -- {MAINTAINER}  {date}",
        env!("CARGO_PKG_VERSION")
    );
    write(&changes, &text, 0o644)?;
    Command::new("gzip").args(["-9", "-n"]).arg(&changes).run()
}

fn control(root: &Path) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let text = format!(
        "Package: stormglass\nVersion: {version}\nArchitecture: {}\nMaintainer: {MAINTAINER}\n\
         Section: admin\nPriority: optional\nDepends: libc6 (>= 2.36), libgcc-s1\nRecommends: ca-certificates\n\
         Description: eBPF agent for hosts that run Valkey or Redis\n \
         Counts connections per client, bursts of accepts and bytes per key prefix\n \
         inside the kernel, finds storms and tells of them. Needs Linux 6.1 or later.\n",
        architecture()?
    );
    write(&root.join("DEBIAN/control"), &text, 0o644)?;
    write(&root.join("DEBIAN/postinst"), AFTER, 0o755)?;
    write(&root.join("DEBIAN/prerm"), BEFORE, 0o755)
}

fn architecture() -> Result<String> {
    let name = Command::new("dpkg").arg("--print-architecture").read()?;
    Ok(name.trim().to_owned())
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    place(to)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(fs::set_permissions(to, Permissions::from_mode(mode))?)
}

fn write(to: &Path, text: &str, mode: u32) -> Result<()> {
    place(to)?;
    fs::write(to, text)?;
    Ok(fs::set_permissions(to, Permissions::from_mode(mode))?)
}

fn place(path: &Path) -> Result<()> {
    let folder = path.parent().context("a path has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}
