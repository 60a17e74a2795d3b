//! Discovery against the real kernel: sockets of this process, and of helpers written in Python.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    io::{self, BufRead, BufReader, Write as _},
    net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::{fs::MetadataExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio, id},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, bind, listen, setsockopt, socket, sockopt,
    },
};

use super::*;

fn host() -> Host {
    Host::open("/proc", |_| Ok(1)).unwrap()
}

fn on_ports(ports: &[u16]) -> DiscoverySettings {
    DiscoverySettings {
        processes: vec!["no-such-server".to_owned()],
        ports: ports.to_vec(),
    }
}

fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

fn only(mut servers: Vec<FoundServer>) -> FoundServer {
    assert_eq!(servers.len(), 1, "{servers:?}");
    servers.remove(0)
}

fn inode(socket: &impl AsRawFd) -> u32 {
    fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd()))
        .unwrap()
        .ino()
        .try_into()
        .unwrap()
}

/// `SO_NETNS_COOKIE`, read by Python: this module has no unsafe code.
fn real_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let read =
        "import socket,struct;s=socket.socket(fileno=0);print(struct.unpack('Q',s.getsockopt(1,71,8))[0])";
    let output = Command::new("python3")
        .args(["-c", read])
        .stdin(socket.try_clone_to_owned()?)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .map_err(|_| io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// A process that listens; it ends with its standard input, and at the latest when this value is dropped.
struct Helper {
    child: Child,
    port: u16,
}

/// The interpreter itself: the command may be a script, which would not pass on the name it is given.
fn python() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let output = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

/// Waits for a line, listens, prints its port, and forks if told so.
const LISTEN: &str = "
import os, socket, sys
sys.stdin.readline()
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', int(sys.argv[1])))
s.listen(7)
if sys.argv[2] == 'alone' or os.fork(): print(s.getsockname()[1], flush=True)
sys.stdin.read()
";

impl Helper {
    fn start(mut command: Command, port: u16, fork: bool, before: impl FnOnce(u32)) -> Self {
        let command = command.args([
            "-c",
            LISTEN,
            &port.to_string(),
            if fork { "fork" } else { "alone" },
        ]);
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut helper = Self { child, port: 0 };
        before(helper.child.id());
        io::Write::write_all(helper.child.stdin.as_mut().unwrap(), b"\n").unwrap();
        let mut line = String::new();
        BufReader::new(helper.child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        helper.port = line.trim().parse().unwrap();
        helper
    }

    fn named(name: &str, port: u16, fork: bool) -> Self {
        let mut command = Command::new(python());
        command.arg0(name);
        Self::start(command, port, fork, |_| ())
    }

    fn in_new_netns() -> Self {
        let mut command = Command::new("unshare");
        command.args([
            "-n",
            "sh",
            "-c",
            r#"ip link set lo up && exec python3 "$@""#,
            "sh",
        ]);
        Self::start(command, 0, false, |_| ())
    }

    fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    fn stop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A cgroup of its own, removed when dropped: after the processes in it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(root: &Path, name: &str) -> Self {
        let path = root.join(format!("stormglass-test-{}-{name}", id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            match fs::remove_dir(&self.0) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    thread::sleep(Duration::from_millis(10));
                }
                _ => return,
            }
        }
    }
}

fn pairs(listener: &TcpListener, count: usize) -> Vec<(TcpStream, TcpStream)> {
    let address = listener.local_addr().unwrap();
    (0..count)
        .map(|_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap().0))
        .collect()
}

#[test]
fn a_listener_is_found_by_its_port_with_its_process() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut host = host();
    let server = only(host.servers(&on_ports(&[port_of(&listener)])).unwrap());

    assert_eq!(server.pid, id() as i32);
    assert_eq!(Some(server.start_time), start_time(server.pid));
    assert_eq!(host.start_time(server.pid), start_time(server.pid));
    assert_eq!(server.netns, fs::metadata("/proc/self/ns/net").unwrap().ino());
    assert_eq!(server.netns_cookie, 1);
    assert_eq!(server.port(), Some(port_of(&listener)));
    let found = &server.listeners[0];
    assert_eq!((found.address, found.v6only), (Ipv4Addr::LOCALHOST.into(), false));
    assert_eq!(found.inode, inode(&listener));
    assert_ne!(found.cookie, 0);
    assert!(found.queue_limit > 0);
    assert_eq!(host.cgroups().path_of(found.cgroup_id), server.cgroup_of_process);
    assert_eq!(
        host.cgroups().of_process(server.pid).ok(),
        server.cgroup_of_process
    );

    let again = only(host.servers(&on_ports(&[port_of(&listener)])).unwrap());
    assert_eq!(again, server, "from what is remembered");
    drop(listener);
    assert_eq!(host.servers(&on_ports(&[server.port().unwrap()])).unwrap(), []);
}

#[test]
fn a_process_found_by_its_executable_has_all_its_listeners_and_new_ones_too() {
    let executable = std::env::current_exe().unwrap();
    let name = executable.file_name().unwrap().to_string_lossy().into_owned();
    let settings = DiscoverySettings {
        processes: vec![name.clone()],
        ports: vec![],
    };
    let mut host = host();
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind("127.0.0.1:0").unwrap());
        let servers = host.servers(&settings).unwrap();
        let this = servers.iter().find(|server| server.pid == id() as i32).unwrap();
        assert_eq!(this.process, name);
        let ports: BTreeSet<u16> = this.listeners.iter().map(|listener| listener.port).collect();
        assert!(
            listeners
                .iter()
                .all(|listener| ports.contains(&port_of(listener)))
        );
        assert!(this.listeners.is_sorted_by_key(|listener| listener.port));
    }
}

#[test]
fn the_cluster_bus_of_a_process_is_left_out() {
    let name = std::env::current_exe()
        .unwrap()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    let (_data, _bus, port) = (21_000..22_000)
        .find_map(|port| {
            let listen = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
            Some((listen(port)?, listen(port + 10_000)?, port))
        })
        .unwrap();
    let mut host = host();
    for (configured, expected) in [
        (vec![], vec![port]),
        (vec![port + 10_000], vec![port, port + 10_000]),
    ] {
        let settings = DiscoverySettings {
            processes: vec![name.clone()],
            ports: configured,
        };
        let servers = host.servers(&settings).unwrap();
        let this = servers.iter().find(|server| server.pid == id() as i32).unwrap();
        let mut ports: Vec<u16> = this.listeners.iter().map(|listener| listener.port).collect();
        ports.retain(|found| *found == port || *found == port + 10_000);
        assert_eq!(ports, expected);
    }
}

#[test]
fn ipv6_listeners_tell_whether_they_take_ipv4() {
    let dual = TcpListener::bind("[::]:0").unwrap();
    let alone = v6only_listener();
    let mut host = host();
    for (listener, v6only) in [(&dual, false), (&alone, true)] {
        let server = only(host.servers(&on_ports(&[port_of(listener)])).unwrap());
        assert_eq!(server.listeners[0].address, Ipv6Addr::UNSPECIFIED);
        assert_eq!(server.listeners[0].v6only, v6only);
    }
}

fn v6only_listener() -> TcpListener {
    let socket: OwnedFd = socket(
        AddressFamily::Inet6,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    setsockopt(&socket, sockopt::Ipv6V6Only, &true).unwrap();
    bind(
        socket.as_raw_fd(),
        &SockaddrIn6::from(std::net::SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0)),
    )
    .unwrap();
    listen(&socket, Backlog::new(16).unwrap()).unwrap();
    socket.into()
}

#[test]
fn established_connections_are_found_at_the_servers_end_only() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let connections = pairs(&listener, 3);
    let _others = pairs(&other, 2);
    let mut host = host();
    let server = only(host.servers(&on_ports(&[port_of(&listener)])).unwrap());

    let found = host.established(server.netns, &[port_of(&listener), 1]).unwrap();
    assert_eq!(found.len(), 3);
    for (client, accepted) in &connections {
        let one = found
            .iter()
            .find(|one| one.remote == client.local_addr().unwrap())
            .unwrap();
        assert_eq!(one.local, accepted.local_addr().unwrap());
        assert_eq!(one.inode, inode(accepted));
        assert_eq!(one.cgroup_id, server.listeners[0].cgroup_id);
        assert_ne!(one.cookie, 0);
    }
    assert_eq!(
        host.established(server.netns, &[port_of(&listener), port_of(&other)])
            .unwrap()
            .len(),
        5
    );
    assert_eq!(host.established(server.netns, &[]).unwrap(), []);
}

#[test]
fn an_ipv4_client_of_a_dual_stack_listener_has_an_ipv4_address() {
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = port_of(&listener);
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let client6 = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
    let mut host = host();
    let server = only(host.servers(&on_ports(&[port])).unwrap());
    let found = host.established(server.netns, &[port]).unwrap();
    let remotes: HashSet<_> = found.iter().map(|one| one.remote).collect();
    assert_eq!(
        remotes,
        HashSet::from([client.local_addr().unwrap(), client6.local_addr().unwrap()])
    );
}

#[test]
fn connections_that_wait_to_be_accepted_are_in_the_queue_and_among_the_established() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port_of(&listener);
    let _clients: Vec<TcpStream> = (0..4)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    let mut host = host();
    let server = only(host.servers(&on_ports(&[port])).unwrap());
    let now = host.listeners(server.netns).unwrap();
    assert_eq!(
        now.iter().find(|found| found.port == port).unwrap().queue_length,
        4
    );
    let waiting = host.established(server.netns, &[port]).unwrap();
    assert_eq!(waiting.len(), 4);
    assert!(waiting.iter().all(|one| one.inode == 0 && one.cookie != 0));
}

#[test]
fn two_thousand_connections_are_dumped_each_once() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connections = pairs(&listener, 2000);
    let mut host = host();
    let server = only(host.servers(&on_ports(&[port_of(&listener)])).unwrap());
    let found = host.established(server.netns, &[port_of(&listener)]).unwrap();
    assert_eq!(found.len(), connections.len());
    let cookies: HashSet<u64> = found.iter().map(|one| one.cookie).collect();
    assert_eq!(cookies.len(), connections.len());
}

#[test]
fn a_survey_sees_silence_queues_and_memory_of_each_connection() {
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = port_of(&listener);
    let quiet = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut talks = TcpStream::connect(("::1", port)).unwrap();
    let _accepted = [listener.accept().unwrap(), listener.accept().unwrap()];
    thread::sleep(Duration::from_millis(120));
    // Nobody reads it.
    talks.write_all(&[b'x'; 10_000]).unwrap();

    let mut host = host();
    let netns = only(host.servers(&on_ports(&[port])).unwrap()).netns;
    let mut surveyor = Surveyor::new(Path::new("/proc"));
    assert!(
        surveyor.survey(netns, &[port], &mut |_| ()).is_err(),
        "not prepared"
    );
    surveyor.prepare(&host, &[netns].into());
    let mut found = Vec::new();
    surveyor
        .survey(netns, &[port], &mut |connection| found.push(*connection))
        .unwrap();
    found.sort_by_key(|connection| connection.client);
    let [first, second] = &*found else {
        panic!("{found:?}")
    };
    assert_eq!(
        (first.client, first.local, first.port),
        (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into(), port)
    );
    assert!(!first.queued && first.quiet_milliseconds >= 100, "{first:?}");
    assert_eq!(second.client, IpAddr::from(Ipv6Addr::LOCALHOST));
    // However long the survey took to come.
    let quieter = first.quiet_milliseconds.saturating_sub(second.quiet_milliseconds);
    assert!(second.queued && quieter >= 100, "{found:?}");
    assert!(second.memory_bytes >= first.memory_bytes + 10_000, "{found:?}");
    drop(quiet);
}

#[test]
fn a_socket_shared_with_a_forked_child_belongs_to_the_parent() {
    let name = format!("sg-fork-{}", id());
    let helper = Helper::named(&name, 0, true);
    let settings = DiscoverySettings {
        processes: vec![name.clone()],
        ports: vec![],
    };
    let mut host = host();
    for _ in 0..4 {
        let server = only(host.servers(&settings).unwrap());
        assert_eq!(
            (server.pid, server.port(), &server.process),
            (helper.pid(), Some(helper.port), &name)
        );
    }
    // By its port, whatever its name, it is the same.
    assert_eq!(
        only(host.servers(&on_ports(&[helper.port])).unwrap()).pid,
        helper.pid()
    );
}

#[test]
fn a_restarted_server_is_another_process_with_the_same_port() {
    let name = format!("sg-restart-{}", id());
    let settings = DiscoverySettings {
        processes: vec![name.clone()],
        ports: vec![],
    };
    let mut host = host();
    let mut first = Helper::named(&name, 0, false);
    let before = only(host.servers(&settings).unwrap());
    first.stop();
    assert_eq!(start_time(before.pid), None);
    assert_eq!(host.servers(&settings).unwrap(), []);
    let _second = Helper::named(&name, before.port().unwrap(), false);
    let after = only(host.servers(&settings).unwrap());
    assert_eq!(after.port(), before.port());
    assert_ne!((after.pid, after.start_time), (before.pid, before.start_time));
    assert_ne!(after.listeners[0].cookie, before.listeners[0].cookie);
}

#[test]
fn an_unknown_namespace_is_an_error_that_says_what_to_do() {
    let mut host = host();
    for error in [
        host.listeners(7).unwrap_err(),
        host.in_netns(7, || ()).unwrap_err(),
    ] {
        assert!(error.to_string().contains("scan again"), "{error}");
    }
}

#[test]
fn a_namespace_without_a_server_is_not_kept_open() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut host = host();
    let server = only(host.servers(&on_ports(&[port_of(&listener)])).unwrap());
    assert!(host.namespaces.are_open().contains(&server.netns));
    host.servers(&on_ports(&[])).unwrap();
    assert!(host.namespaces.are_open().is_empty());
    assert!(host.listeners(server.netns).is_err());
}

#[test]
#[ignore = "needs root"]
fn a_server_in_a_namespace_of_its_own_is_found_and_can_be_reached_there() {
    let mut helper = Helper::in_new_netns();
    let here = fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
    let mut host = Host::open("/proc", real_cookie).unwrap();
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = host.servers(&on_ports(&[helper.port, port_of(&own)])).unwrap();
    let server = servers
        .iter()
        .find(|server| server.pid == helper.pid())
        .unwrap()
        .clone();
    let local = servers.iter().find(|server| server.pid == id() as i32).unwrap();
    assert_eq!(server.process, "python3");
    assert_ne!(server.netns, here);
    assert_ne!(server.netns_cookie, local.netns_cookie);
    assert_eq!(
        local.netns_cookie,
        real_cookie(std::os::fd::AsFd::as_fd(&own)).unwrap()
    );

    let client = host
        .in_netns(server.netns, || TcpStream::connect(("127.0.0.1", helper.port)))
        .unwrap()
        .unwrap();
    assert_eq!(fs::metadata("/proc/thread-self/ns/net").unwrap().ino(), here);
    let found = host.established(server.netns, &[helper.port]).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].remote, client.local_addr().unwrap());
    assert!(host.established(local.netns, &[helper.port]).unwrap().is_empty());

    helper.stop();
    drop(client);
    assert!(host.namespaces.are_open().contains(&server.netns));
    host.servers(&on_ports(&[port_of(&own)])).unwrap();
    assert!(
        !host.namespaces.are_open().contains(&server.netns),
        "its last process is gone"
    );
}

#[test]
#[ignore = "needs root"]
fn the_cgroup_of_the_listening_socket_stays_when_its_process_is_moved() {
    let mut host = Host::open("/proc", real_cookie).unwrap();
    let root = host.cgroups().root().to_owned();
    let (before, after) = (Cgroup::new(&root, "before"), Cgroup::new(&root, "after"));
    let helper = Helper::start(Command::new("python3"), 0, false, |pid| before.take(pid));
    let settings = on_ports(&[helper.port]);
    let server = only(host.servers(&settings).unwrap());
    assert_eq!(server.cgroup_of_process.as_deref(), Some(before.0.as_path()));

    after.take(helper.child.id());
    let server = only(host.servers(&settings).unwrap());
    let id = server.listeners[0].cgroup_id;
    assert_eq!(server.cgroup_of_process.as_deref(), Some(after.0.as_path()));
    assert_eq!(host.cgroups().path_of(id).as_deref(), Some(before.0.as_path()));

    // The emptied cgroup may be removed while its socket lives on.
    fs::remove_dir(&before.0).unwrap();
    assert_eq!(only(host.servers(&settings).unwrap()).listeners[0].cgroup_id, id);
    assert_eq!(host.cgroups().path_of(id), None);
}

/// Not a proof, a guard against an accident of the order of magnitude: the figures are printed.
#[test]
#[ignore = "needs root"]
fn a_scan_of_this_host_is_quick() {
    let _helper = Helper::named("valkey-server", 0, false);
    let mut host = Host::open("/proc", |_| Ok(1)).unwrap();
    let settings = DiscoverySettings::default();
    let mut took = Vec::new();
    for _ in 0..5 {
        let before = Instant::now();
        assert!(!host.servers(&settings).unwrap().is_empty());
        took.push(before.elapsed());
    }
    println!(
        "{} processes, scans {took:?}, skipped {}",
        fs::read_dir("/proc").unwrap().count(),
        host.skipped()
    );
    assert!(took[4] < Duration::from_millis(100));
}
