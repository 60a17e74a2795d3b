//! The cgroup v2 tree: where it is mounted, which directory a cgroup id is, and where programs have to be attached.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    io::ErrorKind,
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Component, Path, PathBuf},
};

use super::Error;

/// Ids remembered as gone. An id is never used again, so forgetting all of them only costs one more walk.
const GONE_REMEMBERED: usize = 4096;

/// The cgroup v2 tree of this host.
#[derive(Debug)]
pub struct Cgroups {
    /// Where the tree is mounted.
    root: PathBuf,
    /// Which cgroup is mounted there, as `/proc/PID/cgroup` writes it: `/`, or `/../..` from inside a cgroup namespace.
    mounted: PathBuf,
    /// Directories by id, as the last walk saw them.
    paths: HashMap<u64, PathBuf>,
    /// Ids that a complete walk did not find.
    gone: HashSet<u64>,
}

impl Cgroups {
    /// Finds the cgroup v2 mount in the text of `/proc/self/mountinfo`, alone or beside v1. Of several mounts, the one
    /// that shows most of the tree.
    ///
    /// # Errors
    /// [`Error::NoCgroup2`] if none is mounted.
    pub fn find(mountinfo: &str) -> Result<Self, Error> {
        let mounts = mountinfo.lines().filter_map(cgroup2_mount);
        // A mount that shows a parent of this process's cgroup namespace (`/..`) shows more than one that shows `/`.
        let (mounted, root) = mounts
            .min_by_key(|(mounted, _)| depth(mounted))
            .ok_or(Error::NoCgroup2)?;
        Ok(Self {
            root,
            mounted,
            paths: HashMap::new(),
            gone: HashSet::new(),
        })
    }

    /// Where the tree is mounted.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of the cgroup with this id (the inode number of its directory), or `None` when it is gone or lies
    /// outside of what is mounted here.
    ///
    /// Usually one `stat`; a walk over the whole tree for an id that is new.
    pub fn path_of(&mut self, id: u64) -> Option<PathBuf> {
        if let Some(path) = self.paths.get(&id) {
            if is_directory_of(path, id) {
                return Some(path.clone());
            }
            self.paths.remove(&id);
        }
        if self.gone.contains(&id) {
            return None;
        }
        let complete = self.walk();
        let found = self
            .paths
            .get(&id)
            .filter(|path| is_directory_of(path, id))
            .cloned();
        if found.is_none() && complete {
            self.remember_gone(id);
        }
        found
    }

    /// The directory of the cgroup that a process is in now. Its sockets may belong to another one.
    ///
    /// # Errors
    /// [`Error::Cgroup`] if the process is gone, or in a cgroup that is not visible under this mount.
    pub fn of_process(&self, pid: i32) -> Result<PathBuf, Error> {
        let path = format!("/proc/{pid}/cgroup");
        match fs::read_to_string(&path) {
            Ok(text) => self.of_cgroup_file(&text),
            Err(source) => Err(Error::Cgroup(format!("{path}: {source}"))),
        }
    }

    /// As [`Self::of_process`], from the text of `/proc/PID/cgroup`.
    ///
    /// # Errors
    /// [`Error::Cgroup`] if it has no cgroup v2 line, or one that is not visible under this mount.
    pub fn of_cgroup_file(&self, text: &str) -> Result<PathBuf, Error> {
        let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::")) else {
            return Err(Error::Cgroup("the process has no cgroup v2 line".to_owned()));
        };
        if path.ends_with(" (deleted)") {
            return Err(Error::Cgroup(format!("{path}: the cgroup was removed")));
        }
        let below = Path::new(path).strip_prefix(&self.mounted);
        match below {
            Ok(below)
                if below
                    .components()
                    .all(|part| matches!(part, Component::Normal(_))) =>
            {
                Ok(if below.as_os_str().is_empty() {
                    self.root.clone()
                } else {
                    self.root.join(below)
                })
            }
            _ => Err(Error::Cgroup(format!(
                "{path} is not visible under {}: run the agent in the host's cgroup namespace",
                self.root.display()
            ))),
        }
    }

    /// The last part of a cgroup's path, as a name for people; `None` for the root.
    #[must_use]
    pub fn leaf(&self, path: &Path) -> Option<String> {
        let below = path.strip_prefix(&self.root).ok()?;
        Some(below.file_name()?.to_string_lossy().into_owned())
    }

    /// Reads the ids of all directories. False if a part could not be read, for another reason than that it vanished.
    fn walk(&mut self) -> bool {
        self.paths.clear();
        let Ok(root) = fs::metadata(&self.root) else {
            return false;
        };
        self.paths.insert(root.ino(), self.root.clone());
        let mut complete = true;
        let mut unread = vec![self.root.clone()];
        while let Some(directory) = unread.pop() {
            match children(&directory) {
                Ok(found) => {
                    for (id, path) in found {
                        unread.push(path.clone());
                        self.paths.insert(id, path);
                    }
                }
                // ENODEV: the cgroup was removed while it was read.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(_) => complete = false,
            }
        }
        complete
    }

    fn remember_gone(&mut self, id: u64) {
        if self.gone.len() >= GONE_REMEMBERED {
            self.gone.clear();
        }
        self.gone.insert(id);
    }
}

/// The fewest directories that contain all those needed: each path that has an ancestor in the set is dropped, because
/// a program attached to the ancestor runs for it already, and would run twice.
#[must_use]
pub fn attach_points(needed: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let mut points: Vec<&PathBuf> = Vec::new();
    // Paths are ordered by component: whatever lies below a path follows it directly.
    for path in needed {
        if !points.last().is_some_and(|last| path.starts_with(last)) {
            points.push(path);
        }
    }
    points.into_iter().cloned().collect()
}

/// Which cgroup is mounted, and where, if this line of mountinfo is a cgroup v2 mount.
fn cgroup2_mount(line: &str) -> Option<(PathBuf, PathBuf)> {
    // 36 35 98:0 ROOT MOUNT_POINT options [optional fields] - TYPE source options
    let (mount, file_system) = line.split_once(" - ")?;
    if file_system.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    Some((unescape(fields.next()?), unescape(fields.next()?)))
}

/// The kernel writes space, tab, newline and backslash in paths as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let (mut text, mut rest) = (String::with_capacity(field.len()), field);
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        match after
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok())
        {
            Some(byte) => {
                text.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    PathBuf::from(text)
}

/// How far below this process's cgroup namespace a mount begins: negative above it.
fn depth(mounted: &Path) -> isize {
    mounted
        .components()
        .map(|part| match part {
            Component::Normal(_) => 1,
            Component::ParentDir => -1,
            _ => 0,
        })
        .sum()
}

fn is_directory_of(path: &Path, id: u64) -> bool {
    fs::metadata(path).is_ok_and(|found| found.ino() == id)
}

/// Directories in a directory, with their ids: readdir tells both, without a `stat` each.
fn children(directory: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push((entry.ino(), entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Debian 12, systemd.unified_cgroup_hierarchy=1.
    const UNIFIED: &str = "\
22 28 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
23 28 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
26 22 0:24 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
";
    // The same, hybrid.
    const HYBRID: &str = "\
26 22 0:24 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,size=4096k,nr_inodes=1024,mode=755
27 26 0:25 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate
29 26 0:27 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
31 26 0:29 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,memory
";
    const V1_ALONE: &str = "\
31 26 0:29 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,memory
";
    // A container with a cgroup namespace of its own and the host's tree bind-mounted beside it.
    const CONTAINER: &str = "\
612 598 0:24 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw
640 580 0:24 /../../.. /host/sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw
";

    fn paths(of: &[&str]) -> BTreeSet<PathBuf> {
        of.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn the_v2_mount_is_found_alone_and_beside_v1() {
        assert_eq!(
            Cgroups::find(UNIFIED).unwrap().root(),
            Path::new("/sys/fs/cgroup")
        );
        assert_eq!(
            Cgroups::find(HYBRID).unwrap().root(),
            Path::new("/sys/fs/cgroup/unified")
        );
    }

    #[test]
    fn the_mount_that_shows_most_of_the_tree_wins() {
        assert_eq!(
            Cgroups::find(CONTAINER).unwrap().root(),
            Path::new("/host/sys/fs/cgroup")
        );
    }

    #[test]
    fn without_a_v2_mount_the_error_says_how_to_mount_it() {
        let error = Cgroups::find(V1_ALONE).unwrap_err().to_string();
        assert!(error.contains("mount -t cgroup2"), "{error}");
        assert!(Cgroups::find("").is_err());
        assert!(Cgroups::find("nonsense - cgroup2\n1 2 3 - cgroup2 x y\n").is_err());
    }

    #[test]
    fn escaped_mount_points_are_read() {
        let line = r"27 26 0:25 / /mnt/two\040words\134x rw - cgroup2 none rw";
        assert_eq!(
            Cgroups::find(line).unwrap().root(),
            Path::new(r"/mnt/two words\x")
        );
        assert_eq!(unescape(r"a\9b\"), Path::new(r"a\9b\"));
    }

    #[test]
    fn the_cgroup_of_a_process_is_its_v2_line_under_the_mount() {
        let cgroups = Cgroups::find(HYBRID).unwrap();
        let hybrid = "9:name=systemd:/system.slice\n4:memory:/m\n0::/system.slice/valkey@1.service\n";
        assert_eq!(
            cgroups.of_cgroup_file(hybrid).unwrap(),
            Path::new("/sys/fs/cgroup/unified/system.slice/valkey@1.service")
        );
        assert_eq!(
            cgroups.of_cgroup_file("0::/\n").unwrap(),
            Path::new("/sys/fs/cgroup/unified")
        );
        assert!(cgroups.of_cgroup_file("4:memory:/m\n").is_err());
        assert!(cgroups.of_cgroup_file("0::/old.service (deleted)\n").is_err());
    }

    #[test]
    fn a_cgroup_above_the_namespace_is_visible_only_under_a_mount_that_shows_it() {
        let line = "0::/../../../kubepods/pod1/c1\n";
        let host = Cgroups::find(CONTAINER).unwrap();
        assert_eq!(
            host.of_cgroup_file(line).unwrap(),
            Path::new("/host/sys/fs/cgroup/kubepods/pod1/c1")
        );
        let error = Cgroups::find(UNIFIED)
            .unwrap()
            .of_cgroup_file(line)
            .unwrap_err()
            .to_string();
        assert!(error.contains("cgroup namespace"), "{error}");
    }

    #[test]
    fn the_leaf_names_a_cgroup_and_the_root_has_none() {
        let cgroups = Cgroups::find(UNIFIED).unwrap();
        assert_eq!(
            cgroups
                .leaf(Path::new("/sys/fs/cgroup/a/valkey@1.service"))
                .as_deref(),
            Some("valkey@1.service")
        );
        assert_eq!(cgroups.leaf(Path::new("/sys/fs/cgroup")), None);
    }

    #[test]
    fn attach_points_leave_out_what_lies_below_another() {
        let needed = paths(&["/c/a", "/c/a/b", "/c/a/b/c", "/c/a-b", "/c/ab", "/c/d/e"]);
        assert_eq!(
            attach_points(&needed),
            paths(&["/c/a", "/c/a-b", "/c/ab", "/c/d/e"])
        );
        assert_eq!(attach_points(&paths(&["/c", "/c/a", "/c/z"])), paths(&["/c"]));
        assert_eq!(attach_points(&paths(&[])), paths(&[]));
    }

    #[test]
    fn an_id_is_found_by_the_inode_of_its_directory_and_forgotten_with_it() {
        let tree = tempfile::tempdir().unwrap();
        let leaf = tree.path().join("a/b");
        fs::create_dir_all(&leaf).unwrap();
        let id = fs::metadata(&leaf).unwrap().ino();
        let line = format!("1 1 0:1 / {} rw - cgroup2 none rw", tree.path().display());
        let mut cgroups = Cgroups::find(&line).unwrap();

        assert_eq!(cgroups.path_of(id), Some(leaf.clone()));
        // Another directory takes the name: the cached path must not be believed.
        fs::rename(&leaf, tree.path().join("moved")).unwrap();
        fs::create_dir(&leaf).unwrap();
        assert_eq!(cgroups.path_of(id), Some(tree.path().join("moved")));
        fs::remove_dir(tree.path().join("moved")).unwrap();
        assert_eq!(cgroups.path_of(id), None);
        assert!(cgroups.gone.contains(&id));
    }

    #[test]
    fn the_root_is_found_by_its_id() {
        let tree = tempfile::tempdir().unwrap();
        let line = format!("1 1 0:1 / {} rw - cgroup2 none rw", tree.path().display());
        let id = fs::metadata(tree.path()).unwrap().ino();
        assert_eq!(
            Cgroups::find(&line).unwrap().path_of(id).as_deref(),
            Some(tree.path())
        );
    }
}
