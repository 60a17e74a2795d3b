//! The configuration changes while clients are at work.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow, bail, ensure};
use serde_json::Value;
use stormglass_tests::agent::Agent;
use stormglass_tests::exposition::{Scrape, whole};
use stormglass_tests::ledger::Opening;
use stormglass_tests::server::{Plan, Server, Traffic};

const FIRST: &str = r#"
[[tenant]]
name = "checkout"
prefixes = ["cart", "pay-*"]
[[tenant]]
name = "search"
prefixes = ["index"]
"#;

/// The carts have another tenant, the index has none any more.
const SECOND: &str = r#"
[[tenant]]
name = "baskets"
prefixes = ["cart"]
[[tenant]]
name = "checkout"
prefixes = ["pay-*"]
"#;

const BAD: &str = "[[tenant]]\nname = \"checkout\"\nprefix = [\"cart\", \"index\"]\n";

/// Keys are cut elsewhere.
const THIRD: &str = r#"
[keys]
delimiters = "/"
[[tenant]]
name = "checkout"
prefixes = ["cart:eu"]
[[tenant]]
name = "index"
prefixes = ["index*"]
"#;

/// Keys that the clients use, each with a number behind it.
const KEYS: [&str; 5] = ["cart:eu/", "pay-eu:1/", "pay-", "index:1/", "plain"];

const CLIENTS: usize = 3;
const PIPELINE: usize = 64;

/// A change is noticed by two looks, a second apart; with room for a loaded machine.
const RELOADED_WITHIN: Duration = Duration::from_secs(6);

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn tenants_change_three_times_under_load_and_every_byte_stays_where_it_was_counted() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with(FIRST)?;
    let mut opening = Opening::at(&agent, &server)?;
    let mut books = Books::open(&agent, &server)?;
    let before = books.tenants();
    let (address, stop) = (server.address(), AtomicBool::new(false));
    let sent = thread::scope(|scope| -> Result<u64> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| pipelines(&format!("redis://{address}"), &stop)))
            .collect();
        let changed = change_three_times(&mut books);
        stop.store(true, Ordering::Relaxed);
        let mut sent = 0;
        for client in clients {
            sent += client.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        changed.map(|()| sent)
    })?;
    ensure!(sent > 50_000, "only {sent} commands: no load");

    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    account.assert_commands_equal();
    books.look()?;
    let of_tenants = books.tenants().since(before);
    assert_eq!(of_tenants, account.counted.attributed());
    assert_eq!(
        (of_tenants.bytes_in, of_tenants.bytes_out),
        (account.server.bytes_in, account.server.bytes_out)
    );
    for prefix in [
        "cart", "pay-eu", "pay-", "index", "(none)", "cart:eu", "pay-eu:1", "index:1",
    ] {
        ensure!(account.counted.commands(prefix) > 100, "{prefix}: {account:#?}");
    }
    Ok(())
}

/// By a change of the file, one that is refused, one by SIGHUP; and SIGHUP without a change.
fn change_three_times(books: &mut Books<'_>) -> Result<()> {
    books.work()?;
    ensure!(books.bytes("checkout") > 0 && books.bytes("search") > 0);
    assert_eq!(books.reloads(), (0, 0));

    books.agent.rewrite(SECOND)?;
    books.until("the second file is in force", |books| books.reloads() == (1, 0))?;
    let frozen = books.bytes("search");
    books.work_and_see_grow(&["baskets", "checkout", "(unassigned)"])?;
    assert_eq!(books.bytes("search"), frozen, "what it had stays, nothing comes");
    let read_at = books.read_at()?;

    books.agent.rewrite(BAD)?;
    books.until("the bad file is refused", |books| books.reloads() == (1, 1))?;
    books.work_and_see_grow(&["baskets", "checkout"])?;
    assert_eq!(books.gauge("stormglass_config_last_reload_successful"), Some(0.0));
    assert_eq!(books.read_at()?, read_at, "the second one is still in force");
    let config = books.config()?;
    let reason = config["refused"]["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("stormglass.toml:6:1: unknown key `prefix`"),
        "{config}"
    );
    let (_, page) = books.agent.get("/")?;
    ensure!(
        page.contains("A newer file was refused") && page.contains(":6:1"),
        "{page}"
    );

    books.agent.rewrite(THIRD)?;
    books.agent.hang_up()?;
    books.until("the third file is in force", |books| books.reloads() == (2, 1))?;
    let frozen = books.bytes("baskets");
    books.work_and_see_grow(&["checkout", "index", "(unassigned)"])?;
    assert_eq!(books.bytes("baskets"), frozen);
    assert_eq!(books.gauge("stormglass_config_last_reload_successful"), Some(1.0));
    ensure!(books.read_at()? > read_at);
    ensure!(books.config()?["refused"].is_null());

    books.agent.hang_up()?;
    books.until("the same file is read again", |books| books.reloads() == (3, 1))
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_config_map_that_is_swapped_is_read_and_what_needs_a_restart_is_named() -> Result<()> {
    let agent = Agent::start()?;
    // As Kubernetes mounts it: the file is a link into a folder that is itself a link, and that one is swapped.
    let (folder, path) = (tempfile::tempdir()?, agent.config().path());
    let swap = |version: &str, tables: &str| -> Result<()> {
        fs::create_dir(folder.path().join(version))?;
        let file = folder.path().join(version).join("stormglass.toml");
        fs::write(file, agent.config_with(tables))?;
        symlink(version, folder.path().join("..tmp"))?;
        Ok(fs::rename(
            folder.path().join("..tmp"),
            folder.path().join("..data"),
        )?)
    };
    swap("..1", "[[tenant]]\nname = \"one\"\n")?;
    symlink(
        folder.path().join("..data/stormglass.toml"),
        path.with_extension("new"),
    )?;
    fs::rename(path.with_extension("new"), &path)?;
    let known = |scrape: &Scrape, tenant: &str| {
        let labels = [("tenant", tenant), ("owner", "")];
        scrape.value("stormglass_tenant_info", &labels) == Some(1.0)
    };
    agent.scrape_until("the first version", |scrape| known(scrape, "one"))?;

    swap("..2", "[limits]\nprefixes = 100\n[[tenant]]\nname = \"two\"\n")?;
    let scrape = agent.scrape_until("the second version", |scrape| known(scrape, "two"))?;
    ensure!(!known(&scrape, "one"), "it had nothing");
    let waits = |scrape: &Scrape, key| {
        scrape.value("stormglass_config_restart_required", &[("key", key)]) == Some(1.0)
    };
    ensure!(waits(&scrape, "limits.prefixes") && !waits(&scrape, "http.listen"));
    let capacity = scrape.value("stormglass_map_capacity", &[("map", "SG_PREFIXES")]);
    assert_eq!(capacity, Some(4096.0), "it does wait");
    ensure!(agent.log().contains("waits for a restart"), "{}", agent.log());

    swap("..3", "[[tenant]]\nname = \"three\"\n")?;
    let scrape = agent.scrape_until("the third version", |scrape| known(scrape, "three"))?;
    ensure!(!waits(&scrape, "limits.prefixes"));

    fs::remove_file(&path)?;
    let refused = ("stormglass_config_reloads_total", &[("result", "refused")]);
    let scrape = agent.scrape_until("the missing file", |scrape| {
        scrape.count(refused.0, refused.1) == 1
    })?;
    ensure!(known(&scrape, "three"), "the old one stays");
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_server_that_the_configuration_leaves_out_is_not_shown_and_comes_back_with_every_count() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let rule = |name| format!("[[tenant]]\nname = \"{name}\"\nprefixes = [\"cart\"]\n");
    let agent = Agent::start_with(&rule("earlier"))?;
    let mut opening = Opening::at(&agent, &server)?;
    let label = server.label();
    let mut connection = server.connect()?;
    for _ in 0..10 {
        connection.ask(&[b"SET", b"cart:1", b"x"])?;
    }
    let nobody = "[discovery]\nprocesses = [\"somebody-else\"]\n";
    agent.rewrite(&format!("{nobody}{}", rule("earlier")))?;
    agent.hang_up()?;
    agent.forgets(&label)?;
    for _ in 0..10 {
        connection.ask(&[b"SET", b"cart:1", b"x"])?;
    }
    let late = Plan::valkey()?.start()?;
    thread::sleep(Duration::from_secs(1));
    ensure!(!agent.scrape()?.mentions(&late.label()), "it is not wanted");

    let workload = "[[workload]]\nname = \"here\"\naddresses = [\"127.0.0.0/8\"]\n";
    agent.rewrite(&format!("{}{workload}", rule("later")))?;
    agent.hang_up()?;
    agent.sees(&label)?;
    agent.sees(&late.label())?;
    for _ in 0..5 {
        connection.ask(&[b"SET", b"cart:1", b"x"])?;
    }
    drop(connection);
    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    assert_eq!(account.counted.commands("cart"), 25);
    let scrape = agent.scrape_until("the connection has ended", |scrape| {
        scrape.value("stormglass_connections", &[("server", &*label)]) == Some(1.0)
    })?;
    let commands = |tenant| {
        let labels = [("server", &*label), ("tenant", tenant)];
        scrape.count("stormglass_tenant_commands_total", &labels)
    };
    assert_eq!((commands("earlier"), commands("later")), (20, 5));
    let here = [("server", &*label), ("workload", "here")];
    assert_eq!(scrape.count("stormglass_workload_connections", &here), 1);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn users_get_other_tenants_under_load_and_every_byte_stays_where_it_was_counted() -> Result<()> {
    const FIRST: &str = "[[tenant]]\nname = \"one\"\nusers = [\"alpha\", \"beta\"]\n";
    const SECOND: &str = "[[tenant]]\nname = \"two\"\nusers = [\"be*\"]\n[[tenant]]\nname = \"carts\"\n\
                          prefixes = [\"cart:eu\"]\nusers = [\"alpha\"]\n[keys]\ndelimiters = \"/\"\n";
    let users = "user alpha on >pw ~* &* +@all\nuser beta on >pw ~* &* +@all\n";
    let server = Plan::valkey()?.config(users).start()?;
    let agent = Agent::start_with(FIRST)?;
    let mut opening = Opening::at(&agent, &server)?;
    let mut books = Books::open(&agent, &server)?;
    let before = books.tenants();
    let (address, stop) = (server.address(), AtomicBool::new(false));
    let urls = ["alpha", "beta"].map(|user| format!("redis://{user}:pw@{address}"));
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = urls
            .iter()
            .map(|url| scope.spawn(|| pipelines(url, &stop)))
            .collect();
        let changed = (|| {
            books.work_and_see_grow(&["one"])?;
            agent.rewrite(SECOND)?;
            agent.hang_up()?;
            books.until("the second file is in force", |books| books.reloads() == (1, 0))?;
            books.work_and_see_grow(&["two", "carts"])?;
            let frozen = books.bytes("one");
            books.work_and_see_grow(&["two", "carts"])?;
            assert_eq!(books.bytes("one"), frozen, "nobody has it any more");
            agent.rewrite(FIRST)?;
            agent.hang_up()?;
            books.until("the first file is in force again", |books| {
                books.reloads() == (2, 0)
            })?;
            books.work_and_see_grow(&["one"])?;
            let frozen = books.bytes("two");
            books.work_and_see_grow(&["one"])?;
            assert_eq!(books.bytes("two"), frozen);
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        changed
    })?;
    let account = opening.account(&agent)?;
    account.assert_all_attributed();
    books.look()?;
    let of_tenants = books.tenants().since(before);
    assert_eq!(
        (of_tenants.bytes_in, of_tenants.bytes_out),
        (account.server.bytes_in, account.server.bytes_out)
    );
    let others = books.bytes("(unassigned)");
    ensure!(
        others < 10_000,
        "{others} bytes are nobody's: more than the logins and the count of the server"
    );
    Ok(())
}

/// Sends pipelines until it is to stop. Returns how many commands.
fn pipelines(url: &str, stop: &AtomicBool) -> Result<u64> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut pipeline = redis::pipe();
        for number in 0..PIPELINE {
            let key = format!("{}{}", KEYS[number % KEYS.len()], number / 2);
            if number % 2 == 0 {
                pipeline.cmd("SET").arg(key).arg("v".repeat(number)).ignore();
            } else {
                pipeline.cmd("GET").arg(key).ignore();
            }
        }
        pipeline.exec(&mut connection)?;
        sent += PIPELINE as u64;
    }
    Ok(sent)
}

/// The agent's books of one server: each look at them has to balance, and no tenant may have less than before.
struct Books<'a> {
    agent: &'a Agent,
    label: String,
    last: Scrape,
}

impl<'a> Books<'a> {
    fn open(agent: &'a Agent, server: &Server) -> Result<Self> {
        let mut books = Self {
            agent,
            label: server.label(),
            last: Scrape::default(),
        };
        books.look()?;
        Ok(books)
    }

    fn look(&mut self) -> Result<()> {
        let scrape = self.agent.scrape()?;
        let before = std::mem::replace(&mut self.last, scrape);
        assert_eq!(
            self.tenants(),
            self.prefixes(),
            "tenants do not add up to prefixes"
        );
        self.assert_grown(&before)
    }

    /// Lets the clients work for a while, and looks on.
    fn work(&mut self) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(700) {
            self.look()?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn work_and_see_grow(&mut self, tenants: &[&str]) -> Result<()> {
        let before: Vec<u64> = tenants.iter().map(|tenant| self.bytes(tenant)).collect();
        self.work()?;
        for (tenant, before) in tenants.iter().zip(before) {
            ensure!(self.bytes(tenant) > before, "{tenant} has not grown");
        }
        Ok(())
    }

    fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) -> Result<()> {
        let started = Instant::now();
        while !condition(self) {
            if started.elapsed() > RELOADED_WITHIN {
                bail!(
                    "{what}: not within {RELOADED_WITHIN:?}; the log: {}",
                    self.agent.log()
                );
            }
            thread::sleep(Duration::from_millis(20));
            self.look()?;
        }
        Ok(())
    }

    fn assert_grown(&self, before: &Scrape) -> Result<()> {
        for name in [
            "stormglass_tenant_bytes_total",
            "stormglass_tenant_commands_total",
            "stormglass_tenant_reads_total",
            "stormglass_tenant_request_bytes_bucket",
            "stormglass_tenant_reply_bytes_bucket",
            "stormglass_tenant_request_duration_seconds_bucket",
            "stormglass_tenant_request_duration_seconds_count",
            "stormglass_prefix_bytes_total",
        ] {
            for (labels, earlier) in before.series(name, &[]) {
                let wanted: Vec<_> = labels.iter().map(|(label, value)| (&**label, &**value)).collect();
                let Some(now) = self.last.value(name, &wanted) else {
                    bail!("{name}{labels:?} has vanished");
                };
                ensure!(
                    now >= earlier,
                    "{name}{labels:?} went back from {earlier} to {now}"
                );
            }
        }
        Ok(())
    }

    fn tenants(&self) -> Traffic {
        self.sum(
            "stormglass_tenant_bytes_total",
            "stormglass_tenant_commands_total",
        )
    }

    fn prefixes(&self) -> Traffic {
        self.sum(
            "stormglass_prefix_bytes_total",
            "stormglass_prefix_commands_total",
        )
    }

    fn sum(&self, bytes: &str, commands: &str) -> Traffic {
        let sum = |name: &str, labels: &[(&str, &str)]| -> u64 {
            let series = self.last.series(name, labels);
            series.map(|(_, value)| whole(value)).sum()
        };
        let server = ("server", &*self.label);
        Traffic {
            bytes_in: sum(bytes, &[server, ("direction", "in")]),
            bytes_out: sum(bytes, &[server, ("direction", "out")]),
            commands: sum(commands, &[server]),
        }
    }

    /// Bytes in of a tenant.
    fn bytes(&self, tenant: &str) -> u64 {
        let labels = [("server", &*self.label), ("tenant", tenant), ("direction", "in")];
        self.last.count("stormglass_tenant_bytes_total", &labels)
    }

    /// Reloads that were applied, and that were refused.
    fn reloads(&self) -> (u64, u64) {
        let count = |result| {
            let labels = [("result", result)];
            self.last.count("stormglass_config_reloads_total", &labels)
        };
        (count("applied"), count("refused"))
    }

    fn gauge(&self, name: &str) -> Option<f64> {
        self.last.value(name, &[])
    }

    /// When the configuration in force was read: not long ago.
    fn read_at(&self) -> Result<f64> {
        let read = self.gauge("stormglass_config_last_reload_success_timestamp_seconds");
        let read = read.unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        ensure!(
            (now - 60.0..=now).contains(&read),
            "{read} is not the time of day"
        );
        Ok(read)
    }

    fn config(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.agent.get("/api/v1/config")?.1)?)
    }
}
