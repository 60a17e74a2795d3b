//! Processes of the host, read from procfs as sparingly as can be: a scan of known processes reads one small file each.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, ErrorKind, Read},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::PathBuf,
};

use super::Error;

/// A process keeps its verdict while its command name stays, and this many scans at most: each scan looks again at
/// one in so many, so that a process number taken over by a namesake is noticed.
const VERDICT_SCANS: u64 = 32;

/// Reader of procfs, with what it remembers between two scans.
#[derive(Debug)]
pub(super) struct Processes {
    root: PathBuf,
    /// The names that the verdicts are about.
    names: Vec<String>,
    verdicts: HashMap<i32, Verdict>,
    scans: u64,
    /// Processes that could not be read, because they vanished or for lack of a privilege.
    pub(super) skipped: u64,
}

#[derive(Debug)]
struct Verdict {
    comm: Vec<u8>,
    /// Which of the names it goes by, if any.
    name: Option<String>,
    scan: u64,
}

/// A process that goes by one of the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) pid: i32,
    pub(super) name: String,
    pub(super) start_time: u64,
    pub(super) parent: i32,
    /// Inode of its network namespace.
    pub(super) netns: u64,
}

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Every process, ascending.
    pub(super) pids: Vec<i32>,
    /// Those that go by one of the names, the oldest first.
    pub(super) candidates: Vec<Candidate>,
}

/// Fields of `/proc/PID/stat`, or of a thread's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) ended: bool,
    pub(super) parent: i32,
    /// CPU time in clock ticks, of the program and of the kernel for it.
    pub(super) cpu_time: u64,
    /// Clock ticks after boot.
    pub(super) start_time: u64,
}

impl Processes {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            names: Vec::new(),
            verdicts: HashMap::new(),
            scans: 0,
            skipped: 0,
        }
    }

    /// Looks at every process of the host.
    pub(super) fn scan(&mut self, names: &[String]) -> Result<Scan, Error> {
        if self.names != names {
            self.names = names.to_vec();
            self.verdicts.clear();
        }
        self.scans += 1;
        let pids = self.pids().map_err(|source| Error::Procfs {
            path: self.root.clone(),
            source,
        })?;
        let mut candidates = Vec::new();
        for &pid in &pids {
            if let Some(name) = self.name_of(pid) {
                candidates.extend(self.candidate(pid, name));
            }
        }
        let scan = self.scans;
        self.verdicts.retain(|_, verdict| verdict.scan == scan);
        candidates.sort_by_key(|candidate| (candidate.start_time, candidate.pid));
        Ok(Scan { pids, candidates })
    }

    pub(super) fn stat(&self, pid: i32) -> Option<Stat> {
        parse_stat(&fs::read(self.path(pid, "stat")).ok()?)
    }

    /// The same of its first thread, in which servers execute commands.
    pub(super) fn stat_of_first_thread(&self, pid: i32) -> Option<Stat> {
        parse_stat(&fs::read(self.path(pid, &format!("task/{pid}/stat"))).ok()?)
    }

    /// Command name, for people.
    pub(super) fn comm(&self, pid: i32) -> Option<String> {
        let mut buffer = [0; COMM_BYTES];
        Some(String::from_utf8_lossy(self.read_comm(pid, &mut buffer).ok()?).into_owned())
    }

    /// The port that a cluster node names in its title, as in `valkey-server 127.0.0.1:6379 [cluster]`: the template that
    /// `proc-title-template` has by default (Valkey 7.2 and Redis 6.2 on).
    pub(super) fn cluster_port(&self, pid: i32) -> Option<u16> {
        cluster_port(&fs::read(self.path(pid, "cmdline")).ok()?)
    }

    pub(super) fn cgroup_file(&self, pid: i32) -> Option<String> {
        fs::read_to_string(self.path(pid, "cgroup")).ok()
    }

    /// Inode of the network namespace of a process; counts the process as skipped if it cannot be read. One that has
    /// ended and waits for its parent is in none, and not missed.
    pub(super) fn netns(&mut self, pid: i32) -> io::Result<u64> {
        let found = fs::metadata(self.netns_path(pid)).map(|netns| netns.ino());
        if found.is_err() && !self.stat(pid).is_some_and(|stat| stat.ended) {
            self.skipped += 1;
        }
        found
    }

    pub(super) fn netns_path(&self, pid: i32) -> String {
        self.path(pid, "ns/net")
    }

    /// Calls `each` for the inode of each socket that a process has open, until it returns false. Returns how many
    /// descriptors were read: some 5 us each.
    pub(super) fn socket_inodes(&self, pid: i32, mut each: impl FnMut(u32) -> bool) -> io::Result<u64> {
        let mut read = 0;
        for entry in fs::read_dir(self.path(pid, "fd"))? {
            read += 1;
            // A descriptor closed meanwhile is no loss.
            let Ok(target) = fs::read_link(entry?.path()) else {
                continue;
            };
            if socket_inode(target.as_os_str().as_bytes()).is_some_and(|inode| !each(inode)) {
                break;
            }
        }
        Ok(read)
    }

    fn pids(&self) -> io::Result<Vec<i32>> {
        let mut pids = Vec::with_capacity(self.verdicts.len());
        for entry in fs::read_dir(&self.root)? {
            pids.extend(
                entry?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<i32>().ok()),
            );
        }
        pids.sort_unstable();
        Ok(pids)
    }

    fn candidate(&mut self, pid: i32, name: String) -> Option<Candidate> {
        let Some(stat) = self.stat(pid) else {
            self.skipped += 1;
            return None;
        };
        if stat.ended {
            return None;
        }
        match self.netns(pid) {
            Ok(netns) => Some(Candidate {
                pid,
                name,
                start_time: stat.start_time,
                parent: stat.parent,
                netns,
            }),
            Err(error) => {
                tracing::debug!(pid, name, %error, "cannot read the network namespace of a server's process");
                None
            }
        }
    }

    /// Which of the names a process goes by: from the last scan where nothing speaks against it.
    fn name_of(&mut self, pid: i32) -> Option<String> {
        let mut buffer = [0; COMM_BYTES];
        let Ok(comm) = self.read_comm(pid, &mut buffer) else {
            self.skipped += 1;
            return None;
        };
        let again = (self.scans + u64::from(pid.unsigned_abs())).is_multiple_of(VERDICT_SCANS);
        if let Some(verdict) = self
            .verdicts
            .get_mut(&pid)
            .filter(|verdict| !again && verdict.comm == comm)
        {
            verdict.scan = self.scans;
            return verdict.name.clone();
        }
        let name = self.examine(pid, comm);
        self.verdicts.insert(
            pid,
            Verdict {
                comm: comm.to_vec(),
                name: name.clone(),
                scan: self.scans,
            },
        );
        name
    }

    /// Command name first, then executable, then what the process calls itself: each costs more than the one before.
    fn examine(&mut self, pid: i32, comm: &[u8]) -> Option<String> {
        let known = |name: &[u8]| self.names.iter().find(|known| known.as_bytes() == name).cloned();
        if let Some(name) = known(comm) {
            return Some(name);
        }
        let exe = fs::read_link(self.path(pid, "exe"));
        if let Some(name) = exe
            .as_ref()
            .ok()
            .and_then(|exe| known(executable_name(exe.as_os_str().as_bytes())))
        {
            return Some(name);
        }
        let command_line = fs::read(self.path(pid, "cmdline")).unwrap_or_default();
        let name = argument_names(&command_line).into_iter().find_map(known);
        // Kernel threads have no executable at all.
        if name.is_none() && exe.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
            self.skipped += 1;
        }
        name
    }

    fn read_comm<'a>(&self, pid: i32, buffer: &'a mut [u8; COMM_BYTES]) -> io::Result<&'a [u8]> {
        let length = File::open(self.path(pid, "comm"))?.read(buffer)?;
        let comm = &buffer[..length];
        Ok(comm.strip_suffix(b"\n").unwrap_or(comm))
    }

    fn path(&self, pid: i32, file: &str) -> String {
        format!("{}/{pid}/{file}", self.root.display())
    }
}

/// Kernel threads of work queues have the longest names, 64 bytes.
const COMM_BYTES: usize = 64;

/// Last part of an executable's path; a server whose package was upgraded under it runs a deleted one.
fn executable_name(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    last_part(path)
}

/// What argument 0 may name: as a path, and up to the first space, because servers append their address to it.
fn argument_names(command_line: &[u8]) -> [&[u8]; 2] {
    let argument = command_line.split(|&byte| byte == 0).next().unwrap_or_default();
    let word = argument.split(|&byte| byte == b' ').next().unwrap_or_default();
    [last_part(argument), last_part(word)]
}

fn cluster_port(command_line: &[u8]) -> Option<u16> {
    let title = std::str::from_utf8(command_line).ok()?;
    let title = title.trim_end_matches(['\0', ' ']).strip_suffix("[cluster]")?;
    let (_, port) = title.trim_end().rsplit_once(':')?;
    port.parse().ok()
}

fn last_part(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn socket_inode(link: &[u8]) -> Option<u32> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn parse_stat(stat: &[u8]) -> Option<Stat> {
    // The command name, in parentheses, may itself hold spaces and parentheses.
    let after_name = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[after_name + 1..])
        .ok()?
        .split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    // Fields 14, 15 and 22 of all; the first after the name is field 3.
    let in_program: u64 = fields.nth(14 - 5)?.parse().ok()?;
    let in_kernel: u64 = fields.next()?.parse().ok()?;
    let start_time = fields.nth(22 - 16)?.parse().ok()?;
    Some(Stat {
        ended: matches!(state, "Z" | "X" | "x"),
        parent,
        cpu_time: in_program.saturating_add(in_kernel),
        start_time,
    })
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, path::Path};

    use super::*;

    #[test]
    fn the_start_time_is_read_behind_any_command_name() {
        let stat = |name: &str, state: &str| {
            format!("812 ({name}) {state} 1 812 812 0 -1 4194560 9 8 7 6 5 4 3 2 20 0 5 0 4242 99 1 0\n")
        };
        for name in ["valkey-server", "a) R 1 (b", ") (", ""] {
            let found = parse_stat(stat(name, "S").as_bytes()).unwrap();
            assert_eq!(
                found,
                Stat {
                    ended: false,
                    parent: 1,
                    cpu_time: 5 + 4,
                    start_time: 4242
                }
            );
        }
        assert!(parse_stat(stat("x", "Z").as_bytes()).unwrap().ended);
        assert_eq!(parse_stat(b""), None);
        assert_eq!(parse_stat(b"812 (x) S 1 2"), None);
    }

    #[test]
    fn executables_and_arguments_are_named_by_their_last_part() {
        assert_eq!(
            executable_name(b"/usr/bin/valkey-server (deleted)"),
            b"valkey-server"
        );
        assert_eq!(executable_name(b"valkey-server"), b"valkey-server");
        assert!(
            argument_names(b"/opt/valkey-server *:6379 [cluster]\0").contains(&b"valkey-server".as_slice())
        );
        assert!(
            argument_names(b"/opt/my servers/valkey-server\0--port\x006379\0")
                .contains(&b"valkey-server".as_slice())
        );
        assert_eq!(argument_names(b""), [b"", b""]);
    }

    #[test]
    fn a_cluster_node_names_its_port_in_its_title() {
        for (title, port) in [
            ("valkey-server 127.0.0.1:6379 [cluster]\0\0\0", Some(6379)),
            ("/usr/bin/redis-server *:7000 [cluster]\0", Some(7000)),
            ("valkey-server ::1:6379 [cluster]", Some(6379)),
            ("valkey-server 127.0.0.1:6379\0\0", None),
            ("valkey-server 127.0.0.1:6379 [sentinel]\0", None),
            ("valkey-server /run/valkey.sock [cluster]\0", None),
            ("valkey-server\0--port\x006379\0", None),
            ("", None),
        ] {
            assert_eq!(cluster_port(title.as_bytes()), port, "{title:?}");
        }
    }

    #[test]
    fn only_sockets_are_read_from_descriptors() {
        assert_eq!(socket_inode(b"socket:[4711]"), Some(4711));
        for other in [
            "pipe:[4711]",
            "socket:[]",
            "socket:[99999999999]",
            "/dev/null",
            "anon_inode:[eventpoll]",
        ] {
            assert_eq!(socket_inode(other.as_bytes()), None, "{other}");
        }
    }

    /// A procfs of our own making.
    fn process(root: &Path, pid: i32, comm: &str, exe: &str, argument: &str) {
        let path = root.join(pid.to_string());
        fs::create_dir_all(path.join("ns")).unwrap();
        fs::write(path.join("comm"), format!("{comm}\n")).unwrap();
        fs::write(path.join("cmdline"), format!("{argument}\0")).unwrap();
        fs::write(
            path.join("stat"),
            format!("{pid} ({comm}) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {pid} 0"),
        )
        .unwrap();
        fs::write(path.join("ns/net"), "").unwrap();
        let _ = fs::remove_file(path.join("exe"));
        symlink(exe, path.join("exe")).unwrap();
    }

    fn names(processes: &mut Processes) -> Vec<(i32, String)> {
        let known = ["valkey-server".to_owned(), "a-server-with-a-long-name".to_owned()];
        let scan = processes.scan(&known).unwrap();
        scan.candidates
            .into_iter()
            .map(|candidate| (candidate.pid, candidate.name))
            .collect()
    }

    #[test]
    fn a_process_matches_by_command_name_executable_or_argument() {
        let root = tempfile::tempdir().unwrap();
        process(root.path(), 10, "valkey-server", "/x", "/x");
        process(
            root.path(),
            11,
            "main",
            "/usr/bin/valkey-server (deleted)",
            "./main",
        );
        process(
            root.path(),
            12,
            "ld.so",
            "/lib/ld.so",
            "/opt/valkey-server 127.0.0.1:6379",
        );
        process(
            root.path(),
            13,
            "a-server-with-a",
            "/b/a-server-with-a-long-name",
            "x",
        );
        process(root.path(), 14, "valkey-cli", "/usr/bin/valkey-cli", "valkey-cli");
        fs::write(root.path().join("uptime"), "").unwrap();
        let mut processes = Processes::new(root.path().to_owned());
        let expected = [10, 11, 12].map(|pid| (pid, "valkey-server".to_owned()));
        let mut expected = expected.to_vec();
        expected.push((13, "a-server-with-a-long-name".to_owned()));
        assert_eq!(names(&mut processes), expected);
        assert_eq!(names(&mut processes), expected, "from what is remembered");
        assert_eq!(processes.skipped, 0);
    }

    #[test]
    fn a_shell_that_becomes_a_server_is_noticed_at_once_and_a_namesake_soon() {
        let root = tempfile::tempdir().unwrap();
        process(root.path(), 10, "sh", "/bin/sh", "sh");
        process(root.path(), 11, "main", "/bin/main", "main");
        let mut processes = Processes::new(root.path().to_owned());
        assert_eq!(names(&mut processes), []);
        process(root.path(), 10, "valkey-server", "/bin/valkey-server", "sh");
        process(root.path(), 11, "main", "/bin/valkey-server", "main");
        assert_eq!(names(&mut processes)[0], (10, "valkey-server".to_owned()));
        let both = (0..VERDICT_SCANS).any(|_| names(&mut processes).len() == 2);
        assert!(both);
    }

    #[test]
    fn vanished_processes_are_counted_and_forgotten() {
        let root = tempfile::tempdir().unwrap();
        process(root.path(), 10, "valkey-server", "/x", "x");
        process(root.path(), 11, "sh", "/bin/sh", "sh");
        let mut processes = Processes::new(root.path().to_owned());
        assert_eq!(names(&mut processes).len(), 1);
        fs::remove_file(root.path().join("10/ns/net")).unwrap();
        fs::remove_file(root.path().join("11/comm")).unwrap();
        assert_eq!(names(&mut processes), []);
        assert_eq!(processes.skipped, 2);
        fs::remove_dir_all(root.path().join("10")).unwrap();
        assert_eq!(names(&mut processes), []);
        assert!(processes.verdicts.is_empty());
    }
}
