//! Cgroups (version 2) for servers, below one of our own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Where cgroup v2 is mounted, alone or beside v1.
pub(crate) fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")
        .context("cannot read the mount table; is /proc mounted?")?;
    mounts.lines().find_map(cgroup2_mount).context(
        "cgroup v2 is not mounted; `mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified` \
         mounts it",
    )
}

/// A cgroup `NAME-PID`. Dropping it removes it and all below it, processes included.
pub(crate) struct Tree {
    path: PathBuf,
}

impl Tree {
    /// Makes it.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let path = mount_point()?.join(format!("{name}-{}", process::id()));
        make(&path)?;
        Ok(Self { path })
    }

    /// Makes a cgroup below and returns the file that takes process numbers.
    pub(crate) fn leaf(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        make(&path)?;
        Ok(path.join("cgroup.procs"))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Only what was started for it is in here, and it has ended by now unless something went wrong.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        for _ in 0..100 {
            if remove(&self.path).is_ok() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        eprintln!(
            "cannot remove {}; rmdir does it once it is empty",
            self.path.display()
        );
    }
}

fn make(path: &Path) -> Result<()> {
    fs::create_dir(path).with_context(|| {
        format!(
            "cannot make the cgroup {}; in a container, give it a writable cgroup v2 mount",
            path.display()
        )
    })
}

fn remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir(entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// The mount point in a line of mountinfo, if it is the whole tree of cgroup v2.
fn cgroup2_mount(line: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    (root == "/" && kind.starts_with("cgroup2 ")).then(|| PathBuf::from(point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_alone_and_beside_version_1() {
        let alone = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let beside = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_mount(alone), Some("/sys/fs/cgroup".into()));
        assert_eq!(cgroup2_mount(beside), Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn version_1_and_parts_of_the_tree_are_left_out() {
        assert_eq!(
            cgroup2_mount("35 31 0:32 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids"),
            None
        );
        assert_eq!(
            cgroup2_mount("51 31 0:38 /a/b /mnt rw - cgroup2 cgroup2 rw"),
            None
        );
    }
}
