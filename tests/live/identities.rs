//! Who the clients are, connection by connection, beside the server's own CLIENT LIST.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use stormglass_tests::agent::{Agent, command};
use stormglass_tests::exposition::whole;
use stormglass_tests::lab;
use stormglass_tests::poll;
use stormglass_tests::process::Process;
use stormglass_tests::resp::{Connection, Reply};
use stormglass_tests::server::{Plan, Server};

const WITHIN: Duration = Duration::from_secs(30);

/// Users of the tests and their passwords.
const USERS: [(&str, &str); 3] = [
    ("checkout-svc", "pw-checkout"),
    ("search-svc", "pw-search"),
    ("batch", "pw-batch"),
];

/// What is known of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    user: String,
    name: String,
    library: String,
    version: String,
    database: u64,
    protocol: u64,
}

/// By the client's address and port.
type Clients = BTreeMap<SocketAddr, Known>;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn two_thousand_connections_are_known_as_the_server_knows_them() -> Result<()> {
    let server = with_users()?;
    let agent = Agent::start()?;
    agent.sees(&server.label())?;
    let mut connections = Vec::new();
    for number in 0..2_000_u32 {
        connections.push(introduced(&server, number)?);
    }
    assert_equal_lists(&agent, &server)?;
    // Mid-connection: other names, other users, back to nobody.
    for (number, connection) in (0_u32..).zip(&mut connections) {
        match number % 5 {
            0 => _ = connection.ask(&[b"CLIENT", b"SETNAME", format!("renamed-{number}").as_bytes()])?,
            1 => _ = connection.ask(&[b"AUTH", b"batch", b"pw-batch"])?,
            2 => _ = connection.ask(&[b"RESET"])?,
            3 => _ = connection.ask(&[b"HELLO", b"2", b"SETNAME", b""])?,
            _ => {}
        }
    }
    let clients = assert_equal_lists(&agent, &server)?;
    ensure!(clients.len() >= 2_000, "only {}", clients.len());

    let scrape = agent.scrape()?;
    let label = server.label();
    let batch = clients.values().filter(|known| known.user == "batch").count() as u64;
    let counted = scrape.count(
        "stormglass_user_connections",
        &[("server", &label), ("user", "batch")],
    );
    assert_eq!((counted, batch >= 400), (batch, true));
    drop(connections.split_off(1_000));
    let list = client_list(&server)?;
    ensure!(list.len() < clients.len(), "none has ended");
    assert_equal_lists(&agent, &server)?;
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn real_libraries_are_known_by_name_and_version() -> Result<()> {
    let server = with_users()?;
    let agent = Agent::start()?;
    agent.sees(&server.label())?;
    let port = server.port().to_string();
    let mut python = Command::new("python3");
    python
        .args(["-c", include_str!("clients/identities.py"), &port])
        .env("PYTHONPATH", lab::python_path()?);
    let mut node = Command::new(lab::node()?);
    node.args(["-e", include_str!("clients/identities.js"), &port])
        .env("NODE_PATH", lab::node_path()?);
    let _python = Process::spawn("identities.py", &mut python)?;
    let _node = Process::spawn("identities.js", &mut node)?;
    let redis = redis::Client::open(format!("redis://checkout-svc:pw-checkout@127.0.0.1:{port}/2"))?;
    let mut redis = redis.get_connection()?;
    redis::cmd("CLIENT")
        .arg("SETNAME")
        .arg("checkout-redis-rs")
        .exec(&mut redis)?;
    // One that still runs an old version.
    let mut old = server.connect()?;
    old.ask(&[b"CLIENT", b"SETNAME", b"old-version"])?;
    old.ask(&[b"CLIENT", b"SETINFO", b"LIB-NAME", b"valkey-py"])?;
    old.ask(&[b"CLIENT", b"SETINFO", b"LIB-VER", b"0.0.1"])?;
    let names = [
        "old-version",
        "checkout-redis-rs",
        "search-pool",
        "search-renamed",
        "glide-client",
        "ioredis-client",
    ];
    poll::until_true("all clients", WITHIN, || {
        let clients = client_list(&server)?;
        Ok(names
            .iter()
            .all(|name| clients.values().any(|known| known.name == *name)))
    })?;
    let clients = assert_equal_lists(&agent, &server)?;
    let pool = clients.values().filter(|known| known.name == "search-pool");
    assert_eq!(pool.count(), 8, "a pool under eight threads");
    for library in ["valkey-py", "redis-rs", "ioredis", "GlidePy"] {
        ensure!(
            clients.values().any(|known| known.library.starts_with(library)),
            "no {library}: {clients:?}"
        );
    }
    let scrape = agent.scrape()?;
    let label = server.label();
    let python = clients
        .values()
        .find(|known| known.name == "search-pool")
        .context("no pool")?;
    let counted = scrape.count(
        "stormglass_library_connections",
        &[
            ("server", &label),
            ("library", &python.library),
            ("version", &python.version),
        ],
    );
    let expected = clients
        .values()
        .filter(|known| (&known.library, &known.version) == (&python.library, &python.version));
    assert_eq!(counted, expected.count() as u64);
    let old = clients
        .values()
        .find(|known| known.name == "old-version")
        .context("no old version")?;
    for version in [python, old] {
        one_query_names_who_runs_a_version(&agent, &server, version, &clients)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn libraries_beyond_the_limit_are_counted_in_one_row() -> Result<()> {
    let server = with_users()?;
    let agent = Agent::start_with("[limits]\nlibraries = 2\n")?;
    agent.sees(&server.label())?;
    let mut connections = Vec::new();
    for (library, count) in [("most", 4), ("some", 2), ("made-up-1", 1), ("made-up-2", 1)] {
        for _ in 0..count {
            let mut connection = server.connect()?;
            connection.ask(&[b"CLIENT", b"SETINFO", b"LIB-NAME", library.as_bytes()])?;
            connections.push(connection);
        }
    }
    let (scrape, label) = (agent.scrape()?, server.label());
    let of_server = [("server", &*label)];
    let rows = scrape.series("stormglass_library_connections", &of_server);
    let rows: BTreeMap<String, u64> = rows
        .map(|(labels, value)| (labels["library"].clone(), whole(value)))
        .collect();
    let expected = [("most", 4), ("some", 2), ("(other)", 2)];
    assert_eq!(
        rows,
        expected
            .map(|(library, count)| (library.to_owned(), count))
            .into()
    );
    Ok(())
}

/// `stormglass libraries` has the version, and `stormglass connections` all that run it and nobody else.
fn one_query_names_who_runs_a_version(
    agent: &Agent,
    server: &Server,
    version: &Known,
    clients: &Clients,
) -> Result<()> {
    let table = command(
        &["libraries", "--library", &version.library],
        Some(agent.config()),
    )?;
    let expected = clients
        .values()
        .filter(|known| (&known.library, &known.version) == (&version.library, &version.version));
    let row = [
        server.label(),
        version.library.clone(),
        version.version.clone(),
        expected.count().to_string(),
    ];
    // Behind them is what they opened, which `workloads_by_name` counts.
    let has_row = |line: &str| {
        let cells = line.split_whitespace().take(row.len());
        cells.eq(row.iter().map(String::as_str))
    };
    ensure!(table.stdout.lines().any(has_row), "{row:?} is not in {table:?}");

    let label = server.label();
    let shown = command(
        &[
            "connections",
            "--json",
            "--server",
            &label,
            "--library",
            &version.library,
            "--library-version",
            &version.version,
        ],
        Some(agent.config()),
    )?;
    let shown: Value = serde_json::from_str(&shown.stdout).with_context(|| format!("{shown:?}"))?;
    let shown: Vec<u64> = shown["connections"]
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(|connection| connection["port"].as_u64())
        .collect();
    let mut expected: Vec<u64> = clients
        .iter()
        .filter(|(_, known)| (&known.library, &known.version) == (&version.library, &version.version))
        .map(|(address, _)| address.port().into())
        .collect();
    expected.sort_unstable();
    assert_eq!(shown, expected);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn of_connections_from_before_the_agent_only_what_they_say_later_is_known() -> Result<()> {
    let server = with_users()?;
    let mut connection = server.connect()?;
    connection.ask(&[b"AUTH", b"batch", b"pw-batch"])?;
    connection.ask(&[b"CLIENT", b"SETNAME", b"early"])?;
    let agent = Agent::start()?;
    agent.sees(&server.label())?;
    let before = one(&agent, &server)?;
    assert_eq!(
        (
            &before["user"],
            &before["name"],
            &before["database"],
            &before["before_agent"]
        ),
        (
            &"(unknown)".into(),
            &"(unknown)".into(),
            &Value::Null,
            &true.into()
        )
    );
    // What is sent on trial proves that the stream is read right; what is said after it counts.
    for _ in 0..3 {
        connection.ask(&[b"GET", b"cart:1"])?;
        std::thread::sleep(Duration::from_millis(20));
    }
    connection.ask(&[b"CLIENT", b"SETNAME", b"late"])?;
    let after = one(&agent, &server)?;
    assert_eq!(
        (&after["user"], &after["name"]),
        (&"(unknown)".into(), &"late".into())
    );
    Ok(())
}

fn with_users() -> Result<Server> {
    let users: String = USERS
        .iter()
        .map(|(user, password)| format!("user {user} on >{password} ~* &* +@all\n"))
        .collect();
    Plan::valkey()?.config(&users).start()
}

/// A connection from one of 40 addresses that has said who it is, in one of many ways.
fn introduced(server: &Server, number: u32) -> Result<Connection> {
    let source = Ipv4Addr::new(127, 0, 6, 1 + (number % 40) as u8);
    let mut connection =
        Connection::open_from(source, SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.port()))?;
    let (user, password) = USERS[number as usize % USERS.len()];
    let name = format!("{user}-{number}");
    let (user, password, name) = (user.as_bytes(), password.as_bytes(), name.as_bytes());
    match number % 9 {
        0 => _ = connection.ask(&[b"HELLO", b"3", b"AUTH", user, password, b"SETNAME", name])?,
        1 => _ = connection.ask(&[b"AUTH", user, password])?,
        2 => _ = connection.ask(&[b"CLIENT", b"SETNAME", name])?,
        3 => {
            connection.ask(&[b"CLIENT", b"SETINFO", b"LIB-NAME", b"go-redis(,go1.27.3)"])?;
            connection.ask(&[b"client", b"setinfo", b"lib-ver", b"9.17.0"])?;
        }
        4 => _ = connection.ask(&[b"SELECT", (number % 16).to_string().as_bytes()])?,
        5 => {
            // Refused: it stays who it was.
            connection.ask(&[b"AUTH", user, password])?;
            connection.call(&[b"AUTH", b"batch", b"wrong"])?;
            connection.call(&[b"CLIENT", b"SETNAME", b"with blank"])?;
            connection.call(&[b"SELECT", b"99"])?;
        }
        6 => {
            // All at once, and the replies later.
            for words in [
                &[b"HELLO", &b"3"[..], b"AUTH", user, password][..],
                &[b"CLIENT", b"SETINFO", b"LIB-NAME", b"pipelined"],
                &[b"CLIENT", b"SETINFO", b"LIB-VER", b"1"],
                &[b"CLIENT", b"SETNAME", name],
                &[b"SELECT", b"3"],
            ] {
                connection.send(words)?;
            }
            for _ in 0..5 {
                connection.receive()?;
            }
        }
        7 => {
            connection.ask(&[b"AUTH", user, password])?;
            connection.ask(&[b"CLIENT", b"SETNAME", name])?;
            connection.ask(&[b"AUTH", b"default", b"any"])?;
        }
        _ => _ = connection.ask(&[b"PING"])?,
    }
    Ok(connection)
}

/// Insists that the agent and the server know the same connections, and the same of them. Returns them.
fn assert_equal_lists(agent: &Agent, server: &Server) -> Result<Clients> {
    let expected = client_list(server)?;
    let mut counted = Clients::new();
    poll::until_true("as many connections", WITHIN, || {
        counted = connections(agent, server)?;
        counted.retain(|address, _| expected.contains_key(address));
        Ok(counted.len() == expected.len())
    })?;
    for (address, known) in &expected {
        assert_eq!(counted.get(address), Some(known), "{address}");
    }
    Ok(expected)
}

/// CLIENT LIST, without the connection that asks.
fn client_list(server: &Server) -> Result<Clients> {
    let mut connection = server.connect()?;
    let Reply::Integer(own) = connection.ask(&[b"CLIENT", b"ID"])? else {
        bail!("CLIENT ID is no number");
    };
    let list = connection
        .ask(&[b"CLIENT", b"LIST", b"TYPE", b"normal"])?
        .text()?;
    let mut clients = Clients::new();
    for line in list.lines() {
        let fields: BTreeMap<&str, &str> = line
            .split(' ')
            .filter_map(|field| field.split_once('='))
            .collect();
        let field = |name: &str| {
            fields
                .get(name)
                .copied()
                .with_context(|| format!("no {name} in {line}"))
        };
        if field("id")?.parse::<i64>()? == own || !field("addr")?.starts_with("127.") {
            continue;
        }
        let said = |name: &str| -> Result<String> {
            let text = field(name)?;
            Ok(if text.is_empty() {
                "(none)".into()
            } else {
                text.into()
            })
        };
        let known = Known {
            user: said("user")?,
            name: said("name")?,
            library: said("lib-name")?,
            version: said("lib-ver")?,
            database: field("db")?.parse()?,
            protocol: field("resp")?.parse()?,
        };
        clients.insert(field("addr")?.parse()?, known);
    }
    Ok(clients)
}

/// The agent's list of the server's connections.
fn connections(agent: &Agent, server: &Server) -> Result<Clients> {
    let mut clients = Clients::new();
    for connection in list(agent, server)? {
        let text = |name: &str| {
            connection[name]
                .as_str()
                .map(str::to_owned)
                .with_context(|| format!("no {name}"))
        };
        let number = |name: &str| {
            connection[name]
                .as_u64()
                .with_context(|| format!("no {name} in {connection}"))
        };
        let address = SocketAddr::new(text("address")?.parse()?, u16::try_from(number("port")?)?);
        let known = Known {
            user: text("user")?,
            name: text("name")?,
            library: text("library")?,
            version: text("library_version")?,
            database: number("database")?,
            protocol: number("protocol")?,
        };
        clients.insert(address, known);
    }
    Ok(clients)
}

fn one(agent: &Agent, server: &Server) -> Result<Value> {
    let mut list = list(agent, server)?;
    match (list.pop(), list.len()) {
        (Some(one), 0) => Ok(one),
        (_, more) => bail!("not one connection, {more} more"),
    }
}

fn list(agent: &Agent, server: &Server) -> Result<Vec<Value>> {
    let label = server.label();
    let (status, body) = agent.get(&format!("/api/v1/connections?server={label}"))?;
    ensure!(status == 200, "{status}: {body}");
    let mut page: Value = serde_json::from_str(&body)?;
    let Value::Array(connections) = page["connections"].take() else {
        bail!("no list in {body}");
    };
    for connection in &connections {
        assert_eq!(connection["server"], *label, "asked for one server alone");
    }
    Ok(connections)
}
