//! Virtual machines: QEMU, a userland for the guest, and Debian's kernels.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::apt::{Apt, Suite};
use super::{Lab, part, servers};
use crate::process::Run as _;

/// From backports: 7.2 of bookworm crashes guests with two processors.
const QEMU: [&str; 4] = [
    "qemu-system-x86=1:10*",
    "qemu-system-common=1:10*",
    "qemu-system-data=1:10*",
    "seabios=1.16*",
];

/// Where kernels are that the host's own release does not have.
const SUITES: [Suite; 2] = [
    Suite::Archive("trixie-backports"),
    Suite::Security("bullseye-security"),
];

/// Modules that the agent needs and no init of the guest would load by itself, in this order.
const MODULES: [&str; 2] = ["inet_diag", "tcp_diag"];

/// A line of kernels in Debian, and how the packages of its point releases are called: `beginning`VERSION`ending`.
pub(crate) struct Series {
    /// What people call it, and its name in the lab.
    pub(crate) name: &'static str,
    beginning: &'static str,
    ending: &'static str,
}

/// Refused by the agent: older than what it needs.
pub(crate) const TOO_OLD: Series = Series {
    name: "5.10",
    beginning: "linux-image-5.10.0-",
    ending: "-cloud-amd64",
};

/// The oldest that is supported, what current releases run, and the newest that there is.
pub(crate) const SUPPORTED: [Series; 4] = [
    Series {
        name: "6.1",
        beginning: "linux-image-6.1.0-",
        ending: "-cloud-amd64",
    },
    Series {
        name: "6.12",
        beginning: "linux-image-6.12.",
        ending: "+deb12-cloud-amd64",
    },
    Series {
        name: "6.18",
        beginning: "linux-image-6.18.",
        ending: "+deb13-cloud-amd64",
    },
    Series {
        name: "newest",
        beginning: "linux-binary-",
        ending: "+deb13-cloud-amd64",
    },
];

/// A kernel in the lab.
pub(crate) struct Kernel {
    folder: PathBuf,
}

impl Kernel {
    /// The image to boot.
    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Modules that a guest has to load, in this order. None where they are built in.
    pub(crate) fn modules(&self) -> Vec<PathBuf> {
        let paths = MODULES.map(|name| self.folder.join(name).with_extension("ko"));
        paths.into_iter().filter(|path| path.is_file()).collect()
    }
}

/// What a machine needs of systemd, in its package.
pub(crate) const SYSTEMD: [&str; 2] = ["lib/systemd/systemd", "bin/systemctl"];

/// And the tool that judges units.
const SYSTEMD_ANALYZE: &str = "usr/bin/systemd-analyze";

/// Brings QEMU 10, busybox and systemd.
pub(crate) fn ensure_machines(lab: &Lab) -> Result<()> {
    ensure_systemd(lab)?;
    servers::from_packages(lab, "qemu", &QEMU, &["usr/bin/qemu-system-x86_64"])?;
    part::ensure(lab, "busybox", "busybox-static", |folder| {
        // A static program needs no libraries, and `ldd` calls that an error.
        Apt::new(lab)?.unpack(&["busybox-static"], &[], folder)?;
        part::offer(lab, folder, &folder.join("bin/busybox"))
    })
}

/// Brings Debian's systemd. Nothing of it runs here but `systemd-analyze`.
pub(crate) fn ensure_systemd(lab: &Lab) -> Result<()> {
    part::ensure(lab, "systemd", "systemd", |folder| {
        let programs = [SYSTEMD[0], SYSTEMD[1], SYSTEMD_ANALYZE];
        Apt::new(lab)?.unpack(&["systemd"], &programs, folder)?;
        part::offer(lab, folder, &folder.join(SYSTEMD_ANALYZE))
    })
}

/// Brings the newest point release of a series that the mirror has at that moment; from then on it stays.
pub(crate) fn ensure_kernel(lab: &Lab, series: &Series) -> Result<Kernel> {
    let name = format!("kernel-{}", series.name);
    let recipe = format!("kernel {}*{}", series.beginning, series.ending);
    part::ensure(lab, &name, &recipe, |folder| {
        ensure_machines(lab)?;
        let apt = Apt::with_suites(lab, "apt-kernels", &SUITES)?;
        let unpacked = folder.join("unpacked");
        // A failure refreshes the lists, and then the newest is another one.
        unpack(&apt, series, &unpacked).or_else(|_| unpack(&apt, series, &unpacked))?;
        fs::copy(find(&unpacked, "vmlinuz")?, folder.join("vmlinuz"))?;
        for module in MODULES {
            if let Ok(path) = find(&unpacked, &format!("{module}.ko")) {
                unpack_module(lab, &path, &folder.join(module).with_extension("ko"))?;
            }
        }
        fs::remove_dir_all(unpacked).map_err(Into::into)
    })?;
    Ok(Kernel {
        folder: lab.dir().join(name),
    })
}

fn unpack(apt: &Apt, series: &Series, folder: &Path) -> Result<()> {
    let image = apt.newest(series.beginning, series.ending)?;
    // The image of newer kernels comes without their modules.
    let modules = image.replacen("-binary-", "-modules-", 1);
    let mut packages = vec![image.as_str()];
    if modules != image && apt.knows(&modules)? {
        packages.push(&modules);
    }
    apt.unpack(&packages, &[], folder)
}

/// The first file below `folder` whose name begins like this.
fn find(folder: &Path, beginning: &str) -> Result<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.file_name().to_string_lossy().starts_with(beginning) {
                return Ok(entry.path());
            }
        }
    }
    Err(anyhow::anyhow!("there is no {beginning}*"))
        .context("the layout of kernel packages has changed, adapt xtask/src/lab")
}

fn unpack_module(lab: &Lab, packed: &Path, module: &Path) -> Result<()> {
    if packed.extension().is_some_and(|extension| extension == "ko") {
        fs::copy(packed, module)?;
        return Ok(());
    }
    Command::new(lab.busybox())
        .arg("xzcat")
        .arg(packed)
        .stdout(File::create(module)?)
        .run()
}
