//! What is in a machine: busybox, the agent, a server, the tests, and the libraries that they need.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::archive::Archive;
use super::{Role, machine};
use crate::lab::machines::{self, Kernel};
use crate::lab::{Lab, part};
use crate::process::Run as _;

const INIT: &str = include_str!("init");

/// Runs the verifier where it is, and the tests; called by the first process.
const RUN_TESTS: (&str, &str) = ("/bin/run-tests", include_str!("run-tests"));

/// Where systemd is the first process, it is told to run the tests. The shipped unit is as it is shipped; beside it is written where its
/// words go, since nothing here keeps a journal.
const UNITS: [(&str, &str); 3] = [
    ("default.target", include_str!("units/default.target")),
    ("tests.service", include_str!("units/tests.service")),
    (
        "stormglass.service.d/words.conf",
        include_str!("units/words.conf"),
    ),
];

/// Units of systemd's own that any other one needs.
const TARGETS: [&str; 10] = [
    "sysinit", "basic", "local-fs", "swap", "sockets", "timers", "paths", "slices", "umount", "shutdown",
];

/// Empty folders: mount points, and where programs write.
const FOLDERS: [&str; 7] = ["/dev", "/proc", "/sys", "/tmp", "/run", "/root", "/var/tmp"];

const VERIFY: &str = "/bin/verify";

/// One of the folders in which every loader looks.
const LIBRARIES: &str = "/lib";

/// Files of machines, read once: path in the guest and content.
pub(super) struct Guest {
    files: Files,
    /// Those of a machine whose first process is systemd besides.
    systemd: Files,
}

#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

/// What is compiled for the guests.
pub(super) struct Programs {
    /// The tests.
    pub(super) tests: PathBuf,
    /// Tells what the verifier says of each program of an object.
    pub(super) verify: PathBuf,
    /// The object with the kernel programs.
    pub(super) object: PathBuf,
}

impl Guest {
    /// Reads the programs of the lab, the agent and `programs`.
    pub(super) fn new(lab: &Lab, programs: &Programs) -> Result<Self> {
        let mut files = Files::default();
        files.text("/init", INIT);
        files.text(RUN_TESTS.0, RUN_TESTS.1);
        files.add("/bin/busybox", &lab.busybox())?;
        files.add_program("/bin/stormglass", &lab.tested_agent())?;
        files.add_program("/bin/vm-tests", &programs.tests)?;
        files.add_program(VERIFY, &programs.verify)?;
        files.add("/lib/stormglass-ebpf", &programs.object)?;
        files.add_program("/bin/valkey-server", &lab.valkey_server())?;
        // Not the one that the lab offers: that may be a script which names a folder for its libraries.
        files.add_program("/bin/bpftool", &lab.dir().join("bpftool/usr/sbin/bpftool"))?;
        Ok(Self {
            files,
            systemd: Files::of_systemd(lab)?,
        })
    }

    /// The initramfs of a machine that runs `tests`, named in full, as its role has it.
    pub(super) fn initramfs(&self, kernel: &Kernel, role: Role, tests: &[String]) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        for folder in FOLDERS {
            archive.folder(folder);
        }
        let verifies = role == Role::Supported;
        for (path, content) in self
            .files
            .0
            .iter()
            .filter(|(path, _)| verifies || *path != VERIFY)
        {
            archive.file(path, content);
        }
        if role == Role::Installed {
            for (path, content) in &self.systemd.0 {
                archive.file(path, content);
            }
        }
        let mut modules = String::new();
        for module in kernel.modules() {
            let path = format!("/lib/modules/{}", name(&module));
            archive.file(&path, &read(&module)?);
            modules += &format!("{path}\n");
        }
        archive.file("/etc/modules", modules.as_bytes());
        archive.file("/etc/tests", tests.join("\n").as_bytes());
        archive.file("/etc/limit", machine::LIMIT.as_secs().to_string().as_bytes());
        Ok(archive.finish())
    }
}

impl Files {
    /// Debian's systemd, what it needs, and the unit that is shipped.
    fn of_systemd(lab: &Lab) -> Result<Self> {
        let mut files = Self::default();
        for program in machines::SYSTEMD {
            files.add_program(&format!("/{program}"), &lab.systemd().join(program))?;
        }
        for target in TARGETS {
            let path = format!("lib/systemd/system/{target}.target");
            files.add(&format!("/{path}"), &lab.systemd().join(&path))?;
        }
        for (name, text) in UNITS {
            files.text(&format!("/etc/systemd/system/{name}"), text);
        }
        files.add(
            "/etc/systemd/system/stormglass.service",
            &lab.workspace().join("deploy/stormglass.service"),
        )?;
        Ok(files)
    }

    fn add_program(&mut self, path: &str, program: &Path) -> Result<()> {
        self.add(path, program)?;
        for (path, library) in libraries(program)? {
            self.add(&path, &library)?;
        }
        Ok(())
    }

    fn add(&mut self, path: &str, source: &Path) -> Result<()> {
        if !self.0.contains_key(path) {
            self.0.insert(path.to_owned(), read(source)?);
        }
        Ok(())
    }

    fn text(&mut self, path: &str, text: &str) {
        self.0.insert(path.to_owned(), text.as_bytes().to_vec());
    }
}

/// What the loader needs for `program`: path in the guest, file on this host.
fn libraries(program: &Path) -> Result<Vec<(String, PathBuf)>> {
    let folders: Vec<_> = program.ancestors().flat_map(part::library_folders).collect();
    let listing = Command::new("ldd")
        .arg(program)
        .env("LD_LIBRARY_PATH", std::env::join_paths(folders)?)
        .read()?;
    Ok(listing.lines().filter_map(library).collect())
}

/// A line of ldd: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x..)`, or the loader itself under its path alone.
fn library(line: &str) -> Option<(String, PathBuf)> {
    let (left, _) = line.trim().rsplit_once(" (0x")?;
    match left.split_once(" => ") {
        Some((name, file)) => Some((format!("{LIBRARIES}/{name}"), file.into())),
        None if left.starts_with('/') => Some((left.to_owned(), left.into())),
        // The kernel's own.
        None => None,
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_prints() {
        assert_eq!(
            library("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0c5193e000)"),
            Some(("/lib/libc.so.6".into(), "/lib/x86_64-linux-gnu/libc.so.6".into()))
        );
        assert_eq!(
            library("\t/lib64/ld-linux-x86-64.so.2 (0x00007f0c52001000)"),
            Some((
                "/lib64/ld-linux-x86-64.so.2".into(),
                "/lib64/ld-linux-x86-64.so.2".into()
            ))
        );
        assert_eq!(library("\tlinux-vdso.so.1 (0x00007f0c51fff000)"), None);
    }
}
