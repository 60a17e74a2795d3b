//! Tenants by user, client name and address, where the prefix does not decide.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use stormglass_tests::agent::{self, Agent};
use stormglass_tests::exposition::{Scrape, whole};
use stormglass_tests::lab;
use stormglass_tests::ledger::Account;
use stormglass_tests::process::Process;
use stormglass_tests::resp::Connection;
use stormglass_tests::server::{Plan, Server, Traffic};

const CONFIG: &str = r#"
[[tenant]]
name = "checkout"
prefixes = ["cart"]
users = ["checkout-svc"]

[[tenant]]
name = "search"
users = ["search-*"]

[[tenant]]
name = "batch"
client_names = ["batch-*"]

[[tenant]]
name = "lab"
addresses = ["127.0.77.0/24"]
users = ["nobody-says-so"]
"#;

const CHECKOUT: [&[u8]; 3] = [b"AUTH", b"checkout-svc", b"pw"];
const SEARCH: [&[u8]; 3] = [b"AUTH", b"search-svc", b"pw"];

/// A client that counts its own bytes and commands.
struct Client {
    connection: Connection,
    commands: u64,
    taken: Traffic,
}

impl Client {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            commands: 0,
            taken: Traffic::default(),
        }
    }

    /// One that has said who it is: until then it is nobody's.
    fn introduced(server: &Server, introduction: &[&[u8]]) -> Result<Self> {
        let mut client = Self::new(server.connect()?);
        client.ask(introduction)?;
        client.take();
        Ok(client)
    }

    fn ask(&mut self, words: &[&[u8]]) -> Result<()> {
        self.connection.ask(words)?;
        self.commands += 1;
        Ok(())
    }

    /// Keys below a prefix, a key without one, and commands without a key.
    fn work(&mut self, prefix: &str, times: usize) -> Result<()> {
        for number in 0..times {
            let key = format!("{prefix}:{number}");
            self.ask(&[b"SET", key.as_bytes(), &vec![b'x'; 10 * number]])?;
            self.ask(&[b"GET", key.as_bytes()])?;
            self.ask(&[b"GET", b"flat"])?;
            self.ask(&[b"PING"])?;
        }
        Ok(())
    }

    /// What it has sent and received since the last time.
    fn take(&mut self) -> Traffic {
        let all = Traffic {
            bytes_in: self.connection.sent(),
            bytes_out: self.connection.received(),
            commands: self.commands,
        };
        let since = all.since(self.taken);
        self.taken = all;
        since
    }
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn users_names_and_addresses_have_their_tenants_to_the_byte_also_when_they_change() -> Result<()> {
    let server = with_users()?;
    let agent = Agent::start_with(CONFIG)?;
    agent.sees(&server.label())?;
    let mut checkout = Client::introduced(&server, &CHECKOUT)?;
    let mut search = Client::introduced(&server, &SEARCH)?;
    let mut batch = Client::introduced(&server, &[b"CLIENT", b"SETNAME", b"batch-7"])?;
    let local = SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.port());
    let mut lab = Client::new(Connection::open_from(Ipv4Addr::new(127, 0, 77, 5), local)?);
    let mut nobody = Client::new(server.connect()?);
    for client in [&mut checkout, &mut search, &mut batch, &mut lab, &mut nobody] {
        client.work("shared", 20)?;
    }
    let mut of_checkout = checkout.take();
    let (mut of_search, mut of_batch, mut of_lab) = (search.take(), batch.take(), lab.take());

    // The carts are those of checkout, whoever uses them.
    search.ask(&[b"SET", b"cart:1", b"of another team"])?;
    search.ask(&[b"GET", b"cart:1"])?;
    let used = search.take();
    of_checkout = of_checkout.plus(used);
    checkout.ask(&[b"GET", b"cart:1"])?;
    of_checkout = of_checkout.plus(checkout.take());

    // Another user in mid-connection: what makes it so is the first one's.
    checkout.ask(&SEARCH)?;
    of_checkout = of_checkout.plus(checkout.take());
    checkout.work("shared", 7)?;
    of_search = of_search.plus(checkout.take());
    // One that the server does not know changes nothing.
    ensure!(checkout.ask(&[b"AUTH", b"checkout-svc", b"wrong"]).is_err());
    checkout.commands += 1;
    checkout.work("shared", 3)?;
    checkout.ask(&[b"RESET"])?;
    of_search = of_search.plus(checkout.take());
    checkout.work("shared", 5)?;
    // The name decides where the user does not, and a user before a name, and either before an address.
    lab.ask(&[b"CLIENT", b"SETNAME", b"batch-8"])?;
    of_lab = of_lab.plus(lab.take());
    lab.work("shared", 2)?;
    lab.ask(&SEARCH)?;
    of_batch = of_batch.plus(lab.take());
    lab.work("shared", 2)?;
    of_search = of_search.plus(lab.take());

    let account = Account::from_the_start(&agent, &server)?;
    account.assert_all_attributed();
    let scrape = agent.scrape()?;
    let label = server.label();
    for (name, expected) in [
        ("checkout", of_checkout),
        ("search", of_search),
        ("batch", of_batch),
        ("lab", of_lab),
    ] {
        assert_eq!(scrape.tenant(&label, name), expected, "{name}");
    }
    let of_server = [("server", &*label)];
    let everything = scrape.series("stormglass_tenant_bytes_total", &of_server);
    assert_eq!(
        everything.map(|(_, bytes)| whole(bytes)).sum::<u64>(),
        account.server.bytes_in + account.server.bytes_out
    );
    assert_disagreement(&agent, &scrape, &label, used)
}

fn assert_disagreement(agent: &Agent, scrape: &Scrape, server: &str, used: Traffic) -> Result<()> {
    let pair = [
        ("server", server),
        ("tenant", "checkout"),
        ("connection_tenant", "search"),
    ];
    let bytes = |direction| {
        let labels = [&pair[..], &[("direction", direction)]].concat();
        scrape.count("stormglass_tenant_disagreement_bytes_total", &labels)
    };
    let counted = Traffic {
        bytes_in: bytes("in"),
        bytes_out: bytes("out"),
        commands: scrape.count("stormglass_tenant_disagreement_commands_total", &pair),
    };
    assert_eq!(counted, used);
    let all = scrape.series("stormglass_tenant_disagreement_commands_total", &[]);
    assert_eq!(all.count(), 1, "of all others nobody used another's prefix");

    let (_, body) = agent.get("/api/v1/tenants")?;
    let page: Value = serde_json::from_str(&body)?;
    let tenants = page["tenants"].as_array().context("no tenants")?;
    let checkout = tenants.iter().find(|tenant| tenant["tenant"] == "checkout");
    let disagreements = &checkout.context("no checkout")?["disagreements"];
    assert_eq!(
        disagreements,
        &serde_json::json!([{"connection_tenant": "search", "commands": used.commands, "bytes_in": used.bytes_in,
            "bytes_out": used.bytes_out}])
    );
    let table = agent::command(&["tenants"], Some(agent.config()))?;
    ensure!(
        table
            .stdout
            .contains("prefixes of a tenant on connections of another")
            && table.status.success(),
        "{table:?}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn real_clients_with_users_and_names_have_their_tenants() -> Result<()> {
    const PYTHON: &str = r#"
import sys, valkey
port = int(sys.argv[1])
for hits, options in [
    (31, dict(username="checkout-svc", password="pw")),
    (17, dict(username="search-svc", password="pw", client_name="batch-1")),
    (13, dict(client_name="batch-2")),
]:
    client = valkey.Valkey(port=port, **options)
    client.set("shared:1", "x")
    for _ in range(hits):
        client.get("shared:1")
    client.close()
"#;
    const NODE: &str = r#"
const Redis = require("ioredis");
(async () => {
  const client = new Redis({port: +process.argv[1], username: "search-svc", password: "pw", connectionName: "batch-3"});
  await client.ping();
  for (let number = 0; number < 7; number++) await client.get("shared:1");
  await client.quit();
})();
"#;
    let server = with_users()?;
    let agent = Agent::start_with(CONFIG)?;
    agent.sees(&server.label())?;
    let port = server.port().to_string();
    let mut python = Command::new("python3");
    python
        .args(["-c", PYTHON, &port])
        .env("PYTHONPATH", lab::python_path()?);
    let mut node = Command::new(lab::node()?);
    node.args(["-e", NODE, &port]).env("NODE_PATH", lab::node_path()?);
    for (name, mut command) in [("valkey-py", python), ("ioredis", node)] {
        let finished = Process::spawn(name, &mut command)?.finish(Duration::from_secs(30))?;
        ensure!(finished.status.success(), "{finished:?}");
    }
    let url = format!("redis://checkout-svc:pw@127.0.0.1:{port}");
    let mut rust = redis::Client::open(url)?.get_connection()?;
    for _ in 0..5 {
        redis::cmd("GET").arg("shared:1").exec(&mut rust)?;
    }
    drop(rust);
    let account = Account::from_the_start(&agent, &server)?;
    account.assert_all_attributed();
    let scrape = agent.scrape()?;
    let label = server.label();
    for (tenant, hits) in [("checkout", 31 + 5), ("search", 17 + 7), ("batch", 13)] {
        let labels = [("server", &*label), ("tenant", tenant), ("result", "hit")];
        assert_eq!(
            scrape.count("stormglass_tenant_reads_total", &labels),
            hits,
            "{tenant}"
        );
    }
    Ok(())
}

fn with_users() -> Result<Server> {
    let users = ["checkout-svc", "search-svc"].map(|user| format!("user {user} on >pw ~* &* +@all\n"));
    Plan::valkey()?.config(&users.concat()).start()
}
