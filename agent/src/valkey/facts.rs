//! What is known of a server's process beside its sockets: from procfs, its executable and its configuration. The slow
//! part ([`FactReader`]) reads files of the server's, which may lie on a file system that does not answer: whoever must
//! not wait gives it to a thread of its own.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    net::SocketAddr,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    time::{ClockId, clock_gettime},
};

use super::{
    FoundServer, Place,
    maxclients::{CommandLine, MaxClients, read_and_wipe, relevant_lines},
    processes::Processes,
    version,
};
use crate::kubernetes;

/// Executables whose version is remembered: a host runs a few versions, and each upgrade brings another file.
const VERSIONS_REMEMBERED: usize = 256;
/// Largest configuration file that is read, in bytes; the shipped ones have 110 KB, most of it comments.
const CONFIG_BYTES: u64 = 1 << 20;
/// A process starts at a tick of 10 ms, and clocks are set: a file this much younger is still what it has read.
const START_SLACK_SECONDS: f64 = 1.0;
/// Descriptors that Valkey and Redis keep for themselves: `CONFIG_MIN_RESERVED_FDS` in their source.
const RESERVED_DESCRIPTORS: u64 = 32;

/// Everything that is known of a server's process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerFacts {
    /// Process number, as the agent sees it.
    pub pid: i32,
    /// The configured name that it goes by.
    pub process: String,
    /// Where it listens, by ascending port.
    pub listeners: Vec<SocketAddr>,
    /// Path of the process's cgroup v2 below the mount.
    pub cgroup: Option<String>,
    /// Container and pod.
    pub place: Place,
    /// What the Kubernetes API server says of the pod; `None` if it has not been asked, or does not know it.
    pub pod: Option<Arc<kubernetes::Pod>>,
    /// Seconds since the process started.
    pub uptime_seconds: f64,
    /// Descriptors that it may open, which bounds its clients.
    pub descriptors: Option<DescriptorLimit>,
    /// Version of the executable; `None` if it cannot be told for certain.
    pub version: Option<String>,
    /// The limit of clients that it was started with; `None` if none is named, or what names it cannot be read.
    pub maxclients: Option<MaxClients>,
}

impl ServerFacts {
    /// Everything: `read` is what a [`FactReader`] knows, `cgroup_root` where cgroup v2 is mounted. Reads one small file.
    #[must_use]
    pub fn new(found: &FoundServer, read: &ProcessFacts, cgroup_root: &Path) -> Self {
        let listeners = found
            .listeners
            .iter()
            .map(|listener| SocketAddr::new(listener.address, listener.port));
        let below = |path: &PathBuf| {
            let below = path.strip_prefix(cgroup_root).ok()?;
            Some(format!("/{}", below.display()))
        };
        Self {
            pid: found.pid,
            process: found.process.clone(),
            listeners: listeners.collect(),
            cgroup: found.cgroup_of_process.as_ref().and_then(below),
            place: found.place.clone(),
            pod: None,
            uptime_seconds: uptime_seconds(found.start_time),
            descriptors: fs::read_to_string(format!("/proc/{}/limits", found.pid))
                .ok()
                .and_then(|limits| DescriptorLimit::parse(&limits)),
            version: read.version.clone(),
            maxclients: read.maxclients,
        }
    }

    /// The UID of its pod: by its cgroup, or by its container.
    #[must_use]
    pub fn pod_uid(&self) -> Option<&str> {
        let by_path = self.place.pod.as_ref().map(|pod| &*pod.uid);
        by_path.or_else(|| self.pod.as_ref().map(|pod| &*pod.uid))
    }

    /// Most clients it can have: its `maxclients` if known, and never more than its descriptors allow. `None` if neither
    /// is a bound.
    #[must_use]
    pub fn clients_at_most(&self) -> Option<u64> {
        let descriptors = self.descriptors.and_then(|limit| limit.soft);
        let by_descriptors = descriptors.map(|soft| soft.saturating_sub(RESERVED_DESCRIPTORS));
        let named = self.maxclients.map(|maxclients| maxclients.clients);
        by_descriptors.into_iter().chain(named).min()
    }
}

/// `RLIMIT_NOFILE` of a process; `None` where it is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// What holds now.
    pub soft: Option<u64>,
    /// What the process itself may raise it to.
    pub hard: Option<u64>,
}

impl DescriptorLimit {
    /// From the text of `/proc/PID/limits`.
    fn parse(limits: &str) -> Option<Self> {
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))?;
        let mut words = line.split_ascii_whitespace();
        let mut next = || match words.next()? {
            "unlimited" => Some(None),
            number => number.parse().ok().map(Some),
        };
        Some(Self {
            soft: next()?,
            hard: next()?,
        })
    }
}

/// What takes reading files of the server's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Version of the executable.
    pub version: Option<String>,
    /// The limit of clients that it was started with.
    pub maxclients: Option<MaxClients>,
}

/// Reads executables and configuration files of servers.
#[derive(Debug)]
pub struct FactReader {
    procfs: PathBuf,
    versions: HashMap<ExecutableId, Option<String>>,
}

/// One state of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ExecutableId {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl FactReader {
    /// `procfs` is where the host's procfs is mounted, usually `/proc`.
    #[must_use]
    pub fn new(procfs: impl Into<PathBuf>) -> Self {
        Self {
            procfs: procfs.into(),
            versions: HashMap::new(),
        }
    }

    /// What is known of a process; `started` is how it was started if that was seen. `None` if it is another one by now.
    ///
    /// Up to 64 MiB of an executable are read the first time, usually two, and at most 16 MiB of configuration.
    pub fn read(&mut self, pid: i32, start_time: u64, started: Option<&CommandLine>) -> Option<ProcessFacts> {
        let process = self.procfs.join(pid.to_string());
        let version = self.version(&process).unwrap_or_else(|error| {
            tracing::debug!(pid, %error, "cannot read a server's executable: its version is unknown");
            None
        });
        let command_line = started.cloned().or_else(|| CommandLine::read(&process));
        let started_at = unix_seconds() - uptime_seconds(start_time);
        let maxclients = command_line.and_then(|line| {
            line.maxclients(&mut |path| {
                let text = read_config(&process, path, started_at);
                text.inspect_err(|error| {
                    tracing::debug!(pid, path = %path.display(), %error, "cannot read a server's configuration: its maxclients is unknown");
                })
                .ok()
            })
        });
        let same = Processes::new(self.procfs.clone())
            .stat(pid)
            .is_some_and(|stat| stat.start_time == start_time);
        same.then_some(ProcessFacts { version, maxclients })
    }

    fn version(&mut self, process: &Path) -> io::Result<Option<String>> {
        // The link leads to the file that runs, in whatever root, also when it was deleted or replaced.
        let file = File::open(process.join("exe"))?;
        let id = ExecutableId::of(&file)?;
        if let Some(version) = self.versions.get(&id) {
            return Ok(version.clone());
        }
        let version = version::of_executable(&file)?;
        if self.versions.len() >= VERSIONS_REMEMBERED {
            self.versions.clear();
        }
        self.versions.insert(id, version.clone());
        Ok(version)
    }
}

impl ExecutableId {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// What decides in a configuration file, found as the process itself would: no link in its root leads out of it. One that was changed
/// after the start is not what the process has read.
fn read_config(process: &Path, path: &Path, started_at: f64) -> io::Result<String> {
    let root = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(process.join("root"))?;
    // A pipe must not keep us waiting for its other end.
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(&root, path, how)?);
    let metadata = file.metadata()?;
    let refuse = |why| Err(io::Error::other(why));
    if !metadata.is_file() {
        return refuse("it is no regular file");
    }
    if metadata.len() > CONFIG_BYTES {
        return refuse("it is larger than 1 MiB");
    }
    if metadata.mtime() as f64 + metadata.mtime_nsec() as f64 / 1e9 > started_at + START_SLACK_SECONDS {
        return refuse("it was changed after the server had started");
    }
    read_and_wipe(&file, metadata.len() as usize, relevant_lines)
}

/// Seconds since a process started, from its start in clock ticks after boot.
fn uptime_seconds(start_time: u64) -> f64 {
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0.0, |now| now.tv_sec() as f64 + now.tv_nsec() as f64 / 1e9);
    (since_boot - start_time as f64 / procfs::ticks_per_second() as f64).max(0.0)
}

fn unix_seconds() -> f64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0.0, |now| now.tv_sec() as f64 + now.tv_nsec() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::{super::maxclients::Source, *};

    /// A process 7 in a procfs of our own making, whose root is a folder, started now.
    struct World {
        procfs: tempfile::TempDir,
        root: tempfile::TempDir,
        start_time: u64,
    }

    impl World {
        fn new(arguments: &str) -> Self {
            let (procfs, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let process = procfs.path().join("7");
            fs::create_dir(&process).unwrap();
            let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
            let start_time = since_boot.tv_sec() as u64 * procfs::ticks_per_second();
            fs::write(
                process.join("stat"),
                format!("7 (v) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start_time} 0"),
            )
            .unwrap();
            fs::write(process.join("cmdline"), arguments).unwrap();
            symlink(root.path(), process.join("root")).unwrap();
            Self {
                procfs,
                root,
                start_time,
            }
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.root.path().join(name);
            fs::write(&path, text).unwrap();
            path
        }

        fn maxclients(&self) -> Option<u64> {
            let facts = FactReader::new(self.procfs.path()).read(7, self.start_time, None);
            facts.unwrap().maxclients.map(|maxclients| maxclients.clients)
        }
    }

    #[test]
    fn the_descriptor_limit_is_read_from_the_table_of_limits() {
        let table = "\
Limit                     Soft Limit           Hard Limit           Units     \n\
Max processes             95922                95922                processes \n\
Max open files            10032                unlimited            files     \n";
        let limit = DescriptorLimit::parse(table).unwrap();
        assert_eq!((limit.soft, limit.hard), (Some(10_032), None));
        assert_eq!(DescriptorLimit::parse("Max open files  x y"), None);
        assert_eq!(DescriptorLimit::parse(""), None);
    }

    #[test]
    fn clients_are_bounded_by_descriptors_and_by_what_is_named() {
        let facts = |soft: Option<u64>, clients: Option<u64>| ServerFacts {
            descriptors: Some(DescriptorLimit { soft, hard: None }),
            maxclients: clients.map(|clients| MaxClients {
                clients,
                source: Source::CommandLine,
            }),
            ..ServerFacts::default()
        };
        assert_eq!(facts(Some(10_032), None).clients_at_most(), Some(10_000));
        assert_eq!(facts(Some(10_032), Some(50)).clients_at_most(), Some(50));
        assert_eq!(facts(Some(1_024), Some(10_000)).clients_at_most(), Some(992));
        assert_eq!(facts(None, Some(50)).clients_at_most(), Some(50));
        assert_eq!(facts(None, None).clients_at_most(), None);
        assert_eq!(facts(Some(8), None).clients_at_most(), Some(0));
    }

    #[test]
    fn a_configuration_is_found_inside_the_root_of_its_process() {
        let world = World::new("v\0/v.conf\0");
        world.file("v.conf", "maxclients 123\n");
        assert_eq!(world.maxclients(), Some(123));
    }

    #[test]
    fn no_link_of_a_container_leads_out_of_it() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), "maxclients 666\n").unwrap();
        let world = World::new("v\0/v.conf\0");
        let link = world.root.path().join("v.conf");
        symlink(outside.path(), &link).unwrap();
        assert_eq!(world.maxclients(), None);
        fs::remove_file(&link).unwrap();
        world.file("real.conf", "maxclients 5\n");
        symlink("/../../real.conf", &link).unwrap();
        assert_eq!(world.maxclients(), Some(5), "as the process sees it");
    }

    #[test]
    fn what_is_no_small_regular_file_older_than_the_process_is_not_read() {
        let world = World::new("v\0/v.conf\0");
        let path = world.root.path().join("v.conf");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(world.maxclients(), None, "a pipe");
        fs::remove_file(&path).unwrap();
        let mut text = "maxclients 9\n".to_owned();
        text.push_str(&"#".repeat(CONFIG_BYTES as usize));
        world.file("v.conf", &text);
        assert_eq!(world.maxclients(), None, "too large");
        let file = File::open(world.file("v.conf", "maxclients 9\n")).unwrap();
        assert_eq!(world.maxclients(), Some(9));
        file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(60))
            .unwrap();
        assert_eq!(world.maxclients(), None, "changed later");
    }

    #[test]
    fn facts_of_a_process_that_is_another_one_by_now_are_none() {
        let world = World::new("v\0");
        let mut reader = FactReader::new(world.procfs.path());
        assert!(reader.read(7, world.start_time, None).is_some());
        assert!(reader.read(7, world.start_time + 1, None).is_none());
        assert!(reader.read(8, world.start_time, None).is_none());
    }

    #[test]
    fn a_version_is_read_once_per_state_of_a_file() {
        let world = World::new("v\0");
        let exe = world.procfs.path().join("7/exe");
        fs::write(&exe, "no executable").unwrap();
        let mut reader = FactReader::new(world.procfs.path());
        let mut read = || {
            reader.read(7, world.start_time, None).unwrap();
            reader.versions.len()
        };
        assert_eq!((read(), read()), (1, 1));
        fs::write(&exe, "another one").unwrap();
        assert_eq!(read(), 2);
        for length in 0..2 * VERSIONS_REMEMBERED {
            fs::write(&exe, "x".repeat(length)).unwrap();
            assert!(read() <= VERSIONS_REMEMBERED);
        }
    }
}
