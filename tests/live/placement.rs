//! Servers in cgroups and network namespaces, on several addresses, beside other programs.

use std::net::{Ipv6Addr, SocketAddr};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use stormglass_tests::agent::Agent;
use stormglass_tests::cgroup::Cgroup;
use stormglass_tests::ledger::{Account, Counted, Opening};
use stormglass_tests::netns::Netns;
use stormglass_tests::process::Process;
use stormglass_tests::resp::Connection;
use stormglass_tests::server::{Plan, Server};
use stormglass_tests::{lab, poll, ports};

use crate::clients::Benchmark;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn two_servers_in_one_cgroup_are_told_apart_also_beside_a_client_in_the_same_cgroup() -> Result<()> {
    let one = Plan::valkey()?.start()?;
    let two = Plan::valkey()?.cgroup(one.cgroup()).start()?;
    let agent = Agent::start()?;
    let mut openings = [Opening::at(&agent, &one)?, Opening::at(&agent, &two)?];

    benchmark(&one, "one", 9_000, None)?;
    // This one's own sockets are seen by the same programs.
    benchmark(&two, "two", 6_000, Some(two.cgroup()))?;

    let [first, second] = openings.each_mut().map(|opening| opening.account(&agent));
    let (first, second) = (first?, second?);
    for account in [&first, &second] {
        account.assert_all_attributed();
        account.assert_commands_equal();
    }
    assert_eq!(
        (first.counted.commands("one"), first.counted.commands("two")),
        (9_000, 0)
    );
    assert_eq!(
        (second.counted.commands("one"), second.counted.commands("two")),
        (0, 6_000)
    );
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_server_that_was_moved_to_another_cgroup_is_watched_where_its_sockets_are() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let (elsewhere, further) = (Cgroup::create("elsewhere")?, Cgroup::create("further")?);
    elsewhere.adopt(server.id())?;
    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;

    server.connect()?.ask(&[b"SET", b"moved:1", b"value"])?;
    benchmark(&server, "moved", 1_000, None)?;
    further.adopt(server.id())?;
    server.connect()?.ask(&[b"SET", b"moved:1", b"value"])?;
    benchmark(&server, "moved", 1_000, None)?;

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    assert_eq!(account.counted.commands("moved"), 2_002);
    // The server holds the guards' cgroups.
    drop(server);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_server_in_its_own_network_namespace_is_counted_whether_it_starts_before_or_after_the_agent() -> Result<()>
{
    let netns = Rc::new(Netns::create()?);
    let server = Plan::valkey()?.netns(&netns).start()?;
    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;
    let mut connection = server.connect()?;
    for _ in 0..100 {
        connection.ask(&[b"SET", b"inside:1", b"value"])?;
    }
    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    assert_eq!(account.counted.commands("inside"), 100);

    let later = Plan::valkey()?.netns(&Rc::new(Netns::create()?)).start()?;
    later.connect()?.ask(&[b"SET", b"inside:1", b"value"])?;
    Account::from_the_start(&agent, &later)?.assert_all_attributed();
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_server_on_several_addresses_of_both_families_is_one_server() -> Result<()> {
    let server = Plan::valkey()?.bind(&["127.0.0.1", "127.0.0.7", "::1"]).start()?;
    let agent = Agent::start()?;
    let mut opening = Opening::at(&agent, &server)?;
    let addresses: [SocketAddr; 3] = [
        server.address(),
        ([127, 0, 0, 7], server.port()).into(),
        (Ipv6Addr::LOCALHOST, server.port()).into(),
    ];
    let mut open = Vec::new();
    for address in addresses {
        let mut connection = Connection::open(address)?;
        for _ in 0..10 {
            connection.ask(&[b"SET", b"many:1", &[b'x'; 5_000]])?;
            connection.ask(&[b"GET", b"many:1"])?;
        }
        open.push(connection);
    }
    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    assert_eq!(account.counted.commands("many"), 60);

    let label = server.label();
    let scrape = agent.scrape()?;
    let client = |address| {
        let labels = [("server", label.as_str()), ("client", address)];
        scrape.count("stormglass_client_connections", &labels)
    };
    assert_eq!(client("::1"), 1);
    // Connections to 127.0.0.7 come from 127.0.0.1, as does the one for the server's counters.
    assert_eq!(client("127.0.0.1"), 3);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_program_found_by_its_ports_serves_both_families_on_one_socket_and_both_ports_as_one_server() -> Result<()>
{
    // Neither Valkey nor Redis has dual-stack sockets or two plain ports: this stands for servers that do.
    let ports = [ports::free_port()?, ports::free_port()?];
    let _program = answering_program(ports)?;
    let agent = Agent::start_with(&format!("[discovery]\nports = [{}, {}]\n", ports[0], ports[1]))?;
    let lowest = format!(":{}", ports[0].min(ports[1]));
    let named = |scrape: &stormglass_tests::exposition::Scrape| {
        let found = scrape.servers().into_iter().find(|name| name.ends_with(&lowest));
        found.map(str::to_owned)
    };
    let scrape = agent.scrape_until("the program in /metrics", |scrape| named(scrape).is_some())?;
    let label = named(&scrape).unwrap_or_default();

    let (mut sent, mut received) = (0, 0);
    let mut open = Vec::new();
    for port in ports {
        let both: [SocketAddr; 2] = [([127, 0, 0, 1], port).into(), (Ipv6Addr::LOCALHOST, port).into()];
        for address in both {
            let mut connection = Connection::open(address)?;
            for _ in 0..10 {
                connection.send_bytes(b"SET dual:1 value\r\n")?;
                connection.receive()?;
            }
            sent += connection.sent();
            received += connection.received();
            open.push(connection);
        }
    }
    let scrape = agent.scrape()?;
    let counted = Counted::of(&scrape, &label);
    let row = counted.prefixes["dual"];
    assert_eq!(
        (row.commands, row.bytes_in, row.bytes_out),
        (40, sent, received),
        "{counted:?}"
    );
    assert!(counted.unattributed.is_empty(), "{counted:?}");
    let client = |address| {
        let labels = [("server", label.as_str()), ("client", address)];
        scrape.count("stormglass_client_connections", &labels)
    };
    assert_eq!((client("127.0.0.1"), client("::1")), (2, 2));
    Ok(())
}

/// A run of valkey-benchmark, inside a cgroup if one is given.
fn benchmark(server: &Server, prefix: &str, requests: u32, cgroup: Option<&Rc<Cgroup>>) -> Result<()> {
    let benchmark = Benchmark {
        port: server.port(),
        command: "SET",
        prefix,
        requests,
        connections: 10,
        pipeline: 10,
        value: Some(100),
    };
    let Some(cgroup) = cgroup else {
        return benchmark.run();
    };
    let mut command = Command::new("sh");
    command
        .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
        .arg(cgroup.procs())
        .arg(lab::valkey_benchmark()?);
    let finished = benchmark.spawn(&mut command)?.finish(Duration::from_secs(60))?;
    ensure!(finished.status.success(), "{finished:?}");
    Ok(())
}

/// Answers each line with `+OK` on dual-stack sockets, in the cgroup of this test: its clients are seen there as well.
fn answering_program(ports: [u16; 2]) -> Result<Process> {
    const SCRIPT: &str = r"
import socket, socketserver, sys, threading

class Answer(socketserver.StreamRequestHandler):
    def handle(self):
        for _ in self.rfile:
            self.wfile.write(b'+OK\r\n')

class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

servers = [Server(('::', int(port)), Answer) for port in sys.argv[1:]]
threads = [threading.Thread(target=server.serve_forever) for server in servers]
[thread.start() for thread in threads]
";
    let mut command = Command::new("python3");
    command
        .args(["-c", SCRIPT])
        .args(ports.map(|port| port.to_string()));
    let process = Process::spawn("answering program", &mut command)?;
    poll::until_true("the program answers", Duration::from_secs(10), || {
        Ok(ports
            .iter()
            .all(|&port| Connection::open(([127, 0, 0, 1], port).into()).is_ok()))
    })?;
    Ok(process)
}
