//! Cgroups (version 2) for servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::unistd::Pid;

use crate::poll;

static MADE: AtomicU32 = AtomicU32::new(0);

/// Where cgroup v2 is mounted: alone, or beside v1.
pub fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")
        .context("cannot read the mount table; is /proc mounted?")?;
    mounts
        .lines()
        .find_map(cgroup2_mount)
        .context("cgroup v2 is not mounted; `mount -t cgroup2 none /sys/fs/cgroup/unified` mounts it")
}

/// A cgroup below the root. Dropping it kills what is left in it and removes it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes a cgroup whose name contains `name`. Needs root.
    pub fn create(name: &str) -> Result<Self> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let leaf = format!("stormglass-test-{}-{number}-{name}", std::process::id());
        let path = mount_point()?.join(leaf);
        fs::create_dir(&path)
            .with_context(|| format!("cannot make cgroup {}; live tests run as root", path.display()))?;
        Ok(Self { path })
    }

    /// Makes one of exactly this name inside this one. Drop it first.
    pub fn inside(&self, name: &str) -> Result<Self> {
        let path = self.path.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make cgroup {}", path.display()))?;
        Ok(Self { path })
    }

    /// Moves a running process here. Sockets that it has stay where they were made.
    pub fn adopt(&self, process: Pid) -> Result<()> {
        fs::write(self.procs(), process.to_string())
            .with_context(|| format!("cannot move process {process} to {}", self.path.display()))
    }

    /// The file that takes process numbers.
    #[must_use]
    pub fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The cgroup of a container of containerd's in a burstable pod, and what it lies in, as kubelet and containerd lay them out.
pub fn of_pod(uid: &str, container: &str) -> Result<(Vec<Cgroup>, Rc<Cgroup>)> {
    let slices = [
        "kubepods.slice".to_owned(),
        "kubepods-burstable.slice".to_owned(),
        format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_")),
    ];
    // The innermost first, as they have to be dropped.
    let mut outer = vec![Cgroup::create("node")?];
    for name in slices {
        let inner = outer[0].inside(&name)?;
        outer.insert(0, inner);
    }
    let container = outer[0].inside(&format!("cri-containerd-{container}.scope"))?;
    Ok((outer, Rc::new(container)))
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Kernels before 5.14 have no cgroup.kill; the guards of the processes have ended them in that case too.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        let removed = poll::until_true("the cgroup's removal", Duration::from_secs(5), || {
            Ok(fs::remove_dir(&self.path).is_ok() || !self.path.exists())
        });
        if let Err(error) = removed {
            eprintln!("{} is left behind: {error:#}", self.path.display());
        }
    }
}

/// The mount point of a line of mountinfo if it is cgroup v2: `36 31 0:38 / /sys/fs/cgroup rw shared:1 - cgroup2 ...`.
fn cgroup2_mount(line: &str) -> Option<PathBuf> {
    let (left, right) = line.split_once(" - ")?;
    let is_whole_tree = left.split(' ').nth(3)? == "/";
    (is_whole_tree && right.starts_with("cgroup2 ")).then(|| left.split(' ').nth(4).map(PathBuf::from))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_alone_and_beside_version_1() {
        let hybrid = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let version_1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
        assert_eq!(cgroup2_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroup2_mount(unified), Some("/sys/fs/cgroup".into()));
        assert_eq!(cgroup2_mount(version_1), None);
    }
}
