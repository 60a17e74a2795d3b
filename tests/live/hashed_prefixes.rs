//! `keys.hash_prefixes`: no prefix is shown or written anywhere, and whoever knows one finds its hash. Prefixes are marked by being
//! random, so that eight bytes of one are proof.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use stormglass_tests::agent::{Agent, ConfigFile, command};
use stormglass_tests::exposition::Scrape;
use stormglass_tests::ledger::Account;
use stormglass_tests::poll;
use stormglass_tests::receiver::Receiver;
use stormglass_tests::resp::Connection;
use stormglass_tests::secrets::Secrets;
use stormglass_tests::server::{Plan, Server};

const HASHED: &str = "[keys]\nhash_prefixes = true\n";

const PAGES: [&str; 12] = [
    "/",
    "/incidents",
    "/metrics",
    "/api/v1/servers",
    "/api/v1/tenants?prefixes=4096",
    "/api/v1/clients",
    "/api/v1/workloads",
    "/api/v1/connections",
    "/api/v1/libraries",
    "/api/v1/storms",
    "/api/v1/incidents",
    "/api/v1/config",
];

const COMMANDS: [&[&str]; 7] = [
    &["tenants"],
    &["tenants", "--json"],
    &["tenants", "--interval", "500ms"],
    &["storms"],
    &["incidents", "list"],
    &["incidents", "show", "last"],
    &["incidents", "export", "last"],
];

/// Errors are usual for nobody after ten seconds of a server's life; the rest is for a busy machine.
const QUIET: Duration = Duration::from_secs(14);
const TOLD_WITHIN: Duration = Duration::from_secs(30);
const RECORDED_WITHIN: Duration = Duration::from_secs(20);

/// Marked prefixes, all of them of a kind of their own.
struct Prefixes {
    secrets: Secrets,
    /// Of a tenant, which names it.
    exact: String,
    /// Of a tenant, which names its beginning.
    glob: String,
    /// Of nobody.
    nobodys: String,
    /// Of nobody, and its commands fail.
    failing: String,
}

impl Prefixes {
    fn new() -> Self {
        let mut secrets = Secrets::default();
        let mut make = |what: &str| secrets.make(what, 20);
        let (exact, glob) = (make("exact prefix"), make("prefix of a glob"));
        let (nobodys, failing) = (make("prefix without a rule"), make("prefix of errors"));
        Self {
            secrets,
            exact,
            glob: format!("{glob}-eu"),
            nobodys,
            failing,
        }
    }

    /// The tenant; and a rule that can never match, of which a warning tells.
    fn rules(&self) -> String {
        let (exact, glob) = (&self.exact, self.glob.trim_end_matches("eu"));
        format!(
            "[[tenant]]\nname = \"checkout\"\nprefixes = [\"{exact}\", \"{glob}*\", \"{exact}:deeper\"]\n"
        )
    }

    fn all(&self) -> [&str; 4] {
        [&self.exact, &self.glob, &self.nobodys, &self.failing]
    }

    /// Asks below all of them, `times` each, without errors; one key of the declared prefix has no delimiter.
    fn ask(&self, connection: &mut Connection, times: usize) -> Result<()> {
        for prefix in self.all() {
            for _ in 0..times {
                connection.ask(&[b"SET", format!("{prefix}:1").as_bytes(), b"x"])?;
            }
        }
        connection.ask(&[b"SET", self.glob.as_bytes(), b"x"])?;
        connection.ask(&[b"PING"])?;
        Ok(())
    }

    /// Insists that nothing of them is left in what was written.
    fn assert_not_in(&self, texts: &[(String, String)]) {
        for (place, text) in texts {
            let traces: Vec<_> = self.secrets.traces_in_text(text);
            assert!(traces.is_empty(), "{place}: {traces:?}\n{text}");
        }
    }

    /// What `stormglass hash-prefix` says of each, in their order.
    fn hashes(&self, config: &ConfigFile) -> Result<Vec<String>> {
        let all = self.all();
        let finished = command(&[&["hash-prefix"][..], &all].concat(), Some(config))?;
        ensure!(finished.status.success(), "{finished:?}");
        let lines = finished.stdout.lines().zip(all).map(|(line, prefix)| {
            let hash = line.strip_suffix(&format!("  {prefix}"));
            hash.map(str::to_owned).with_context(|| format!("{line:?}"))
        });
        let hashes: Vec<String> = lines.collect::<Result<_>>()?;
        ensure!(
            hashes.len() == 4
                && hashes
                    .iter()
                    .all(|hash| hash.len() == 17 && hash.starts_with('#')),
            "{hashes:?}"
        );
        Ok(hashes)
    }
}

/// Every page, and what every command says.
fn texts(agent: &Agent) -> Result<Vec<(String, String)>> {
    let mut texts = vec![("log".to_owned(), agent.log())];
    for page in PAGES {
        let (status, body) = agent.get(page)?;
        ensure!(status == 200, "{page} answers {status}");
        texts.push((page.to_owned(), body));
    }
    let (_, listed) = agent.get("/api/v1/incidents")?;
    let listed: Value = serde_json::from_str(&listed)?;
    for incident in listed["incidents"].as_array().context("no list")? {
        let id = incident["id"].as_str().context("no id")?;
        for page in [format!("/api/v1/incidents/{id}"), format!("/incidents/{id}")] {
            texts.push((page.clone(), agent.get(&page)?.1));
        }
    }
    for arguments in COMMANDS {
        let finished = command(arguments, Some(agent.config()))?;
        ensure!(finished.status.success(), "{arguments:?}: {finished:?}");
        texts.push((arguments.join(" "), finished.stdout + &finished.stderr));
    }
    Ok(texts)
}

/// Everything that was written below a folder, but for the configuration.
fn files(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            texts.extend(files(&path)?);
        } else if path.extension().is_none_or(|extension| extension != "toml") {
            let bytes = fs::read(&path)?;
            texts.push((
                path.display().to_string(),
                String::from_utf8_lossy(&bytes).into_owned(),
            ));
        }
    }
    Ok(texts)
}

fn folder(agent: &Agent) -> Result<std::path::PathBuf> {
    let path = agent.config().path();
    Ok(path.parent().context("a folder")?.to_owned())
}

/// Waits until so many reloads have come to this.
fn reloaded(agent: &Agent, result: &str, times: u64) -> Result<()> {
    let of = [("result", result)];
    agent.scrape_until("a reload", |scrape| {
        scrape.count("stormglass_config_reloads_total", &of) == times
    })?;
    Ok(())
}

/// Commands below a prefix of nobody fail until a storm of it was told under this name.
fn storm(connection: &mut Connection, prefix: &str, name: &str, hook: &Receiver) -> Result<()> {
    let names = |body: &Value| body["storm"]["culprits"][0]["name"] == name;
    let key = format!("{prefix}:1");
    let began = Instant::now();
    while !hook.received().iter().any(|request| names(&request.body)) {
        ensure!(began.elapsed() < TOLD_WITHIN, "{name}: {:#?}", hook.received());
        for _ in 0..200 {
            connection.call(&[b"LPUSH", key.as_bytes(), b"x"])?;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Whether the place has this text.
fn has(texts: &[(String, String)], place: &str, what: &str) -> Result<()> {
    let text = texts.iter().find(|(name, _)| name.starts_with(place));
    let (_, text) = text.with_context(|| format!("no {place}"))?;
    ensure!(text.contains(what), "{place} has no {what}: {text}");
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn no_prefix_is_shown_told_or_written_and_its_hash_is_everywhere_instead() -> Result<()> {
    let prefixes = Prefixes::new();
    let dir = tempfile::tempdir()?;
    let key = dir.path().join("key");
    fs::write(&key, "a key that is long enough")?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    let (hook, manager) = (Receiver::start()?, Receiver::start()?);
    let rest = format!(
        "{}\n[incidents]\nafter_seconds = 0\n\n[alerts.alertmanager]\nurl = \"http://{}\"\n\n\
         [[alerts.webhook]]\nname = \"hook\"\nurl = \"http://{}/\"\n",
        prefixes.rules(),
        manager.address(),
        hook.address(),
    );
    let agent = Agent::start_logging("trace", &format!("{HASHED}{rest}"))?;
    let server = Plan::valkey()?.start()?;
    agent.sees(&server.label())?;
    let mut connection = server.connect()?;
    let began = Instant::now();
    while began.elapsed() < QUIET {
        prefixes.ask(&mut connection, 2)?;
        std::thread::sleep(Duration::from_millis(200));
    }
    let first = prefixes.hashes(agent.config())?;
    storm(&mut connection, &prefixes.failing, &first[3], &hook)?;
    // Another key, while the storm goes on.
    agent.rewrite(&format!("{HASHED}hash_key_file = {key:?}\n{rest}"))?;
    agent.hang_up()?;
    reloaded(&agent, "applied", 1)?;
    let hashes = prefixes.hashes(agent.config())?;
    storm(&mut connection, &prefixes.failing, &hashes[3], &hook)?;
    poll::until_true(
        "the incident is written, and the alert is told",
        RECORDED_WITHIN,
        || {
            let (_, body) = agent.get("/api/v1/incidents")?;
            Ok(body.contains("error_burst") && !manager.received().is_empty())
        },
    )?;

    let mut written = texts(&agent)?;
    let bodies = |name: &str, receiver: &Receiver| {
        let received = receiver.received().into_iter();
        let bodies = received.map(|request| String::from_utf8_lossy(&request.bytes).into_owned());
        (name.to_owned(), bodies.collect::<String>())
    };
    written.extend([bodies("webhook", &hook), bodies("alertmanager", &manager)]);
    written.extend(files(&folder(&agent)?)?);
    prefixes.assert_not_in(&written);
    for hash in &hashes {
        has(&written, "/metrics", &format!("prefix=\"{hash}\""))?;
    }
    let failing = &hashes[3];
    for place in [
        "/",
        "/api/v1/tenants",
        "/api/v1/storms",
        "/api/v1/incidents/",
        "/incidents/",
        "webhook",
        "alertmanager",
        "tenants",
        "storms",
        "incidents show",
        "incidents export",
    ] {
        has(&written, place, failing)?;
    }
    has(&written, "/metrics", "prefix=\"(keyless)\"")?;
    has(&written, "log", &first[3])?;
    has(&written, "log", "prefix (hidden) can never match")?;

    let finished = command(&["tenants", "--suggest"], Some(agent.config()))?;
    ensure!(!finished.status.success(), "{finished:?}");
    ensure!(finished.stderr.contains("stormglass hash-prefix"), "{finished:?}");
    prefixes.assert_not_in(&[("suggest".into(), finished.stdout + &finished.stderr)]);

    let (_, finished) = agent.terminate()?;
    prefixes.assert_not_in(&[("log".into(), finished.stdout + &finished.stderr)]);
    Ok(())
}

/// Bytes and commands of a tenant.
fn tenant(scrape: &Scrape, server: &Server, tenant: &str) -> (u64, u64) {
    let traffic = scrape.tenant(&server.label(), tenant);
    (traffic.commands, traffic.bytes_in + traffic.bytes_out)
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_switch_by_a_reload_renames_rows_and_every_byte_stays_where_it_was_counted() -> Result<()> {
    let prefixes = Prefixes::new();
    let agent = Agent::start_with(&prefixes.rules())?;
    let server = Plan::valkey()?.start()?;
    agent.sees(&server.label())?;
    let mut connection = server.connect()?;
    let mut had = (0, 0);
    for (round, switch) in ["", HASHED, "", HASHED].into_iter().enumerate() {
        if round > 0 {
            agent.rewrite(&format!("{switch}{}", prefixes.rules()))?;
            agent.hang_up()?;
            reloaded(&agent, "applied", round as u64)?;
        }
        prefixes.ask(&mut connection, 25)?;
        let account = Account::from_the_start(&agent, &server)?;
        account.assert_all_attributed();
        let names: Vec<String> = if switch.is_empty() {
            prefixes.all().map(String::from).to_vec()
        } else {
            prefixes.assert_not_in(&[("/metrics".into(), agent.metrics()?)]);
            prefixes.hashes(agent.config())?
        };
        let asked = 25 * (round as u64 + 1);
        let counted = |name: &String| account.counted.commands(name);
        let counted: Vec<_> = names.iter().map(counted).collect();
        // One key of the declared prefix each time is another row.
        assert_eq!(counted, [asked, asked, asked, asked], "{:#?}", account.counted);
        let now = tenant(&agent.scrape()?, &server, "checkout");
        ensure!(now.0 == 2 * asked + round as u64 + 1, "{now:?}");
        ensure!(now > had && now.1 > had.1, "{now:?} after {had:?}");
        had = now;
    }
    // The first search finds what is to be found.
    agent.rewrite(&prefixes.rules())?;
    agent.hang_up()?;
    agent.scrape_until("plain prefixes", |scrape| {
        let of = [("server", &*server.label()), ("prefix", &prefixes.exact)];
        scrape.count("stormglass_prefix_commands_total", &of) == 100
    })?;
    ensure!(!prefixes.secrets.traces_in_text(&agent.metrics()?).is_empty());
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn hashes_are_the_same_after_a_restart_and_on_every_node_with_the_same_key() -> Result<()> {
    let prefixes = Prefixes::new();
    let agent = Agent::start_with(HASHED)?;
    let key = folder(&agent)?.join("alerts/prefix.key");
    let mode = fs::metadata(&key)
        .context("no key was made")?
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let first = prefixes.hashes(agent.config())?;
    let agent = agent.start_again(Duration::ZERO)?;
    assert_eq!(prefixes.hashes(agent.config())?, first);

    let others = ConfigFile::new(HASHED)?;
    let finished = command(&["hash-prefix", "cart"], Some(&others))?;
    ensure!(
        finished.status.success() || finished.stderr.contains("there is no key"),
        "{finished:?}"
    );
    let same = ConfigFile::new(&format!("{HASHED}hash_key_file = {key:?}\n"))?;
    assert_eq!(prefixes.hashes(&same)?, first);
    let server = Plan::valkey()?.start()?;
    let other = Agent::start_with(&format!("{HASHED}hash_key_file = {key:?}\n"))?;
    other.sees(&server.label())?;
    server
        .connect()?
        .ask(&[b"SET", format!("{}:1", prefixes.nobodys).as_bytes(), b"x"])?;
    for agent in [&agent, &other] {
        let of = [("server", &*server.label()), ("prefix", &*first[2])];
        let scrape = agent.sees(&server.label())?;
        assert_eq!(scrape.count("stormglass_prefix_commands_total", &of), 1);
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_bad_key_keeps_the_agent_from_starting_and_a_reload_from_being_put_in_force() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let key = dir.path().join("key");
    let tables = format!("{HASHED}hash_key_file = {key:?}\n");
    for (content, reason) in [(None, "No such file"), (Some("short\n"), "holds 5 bytes")] {
        if let Some(content) = content {
            fs::write(&key, content)?;
        }
        let config = ConfigFile::new(&tables)?;
        let finished = command(&["run"], Some(&config))?;
        let place = format!("{}:3:17: ", config.path().display());
        ensure!(!finished.status.success(), "{finished:?}");
        ensure!(
            finished.stderr.contains(&place) && finished.stderr.contains(reason),
            "{finished:?}"
        );
        // Where it is checked may be another host.
        let finished = command(&["check-config"], Some(&config))?;
        ensure!(
            finished.status.success() && finished.stdout.contains(reason),
            "{finished:?}"
        );
    }
    fs::write(&key, "a key that is long enough\n")?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
    let agent = Agent::start_with(&tables)?;
    ensure!(agent.log().contains("others may read"), "{}", agent.log());
    let hash = |agent: &Agent| -> Result<String> {
        let finished = command(&["hash-prefix", "cart"], Some(agent.config()))?;
        Ok(finished.stdout)
    };
    let server = Plan::valkey()?.start()?;
    agent.sees(&server.label())?;
    server.connect()?.ask(&[b"SET", b"cart:1", b"x"])?;
    let shown = |hash: &str| -> Result<u64> {
        let hash = hash.split_whitespace().next().unwrap_or_default();
        let of = [("server", &*server.label()), ("prefix", hash)];
        Ok(agent.scrape()?.count("stormglass_prefix_commands_total", &of))
    };
    let first = hash(&agent)?;
    assert_eq!(shown(&first)?, 1);

    fs::write(&key, "short")?;
    agent.hang_up()?;
    reloaded(&agent, "refused", 1)?;
    assert_eq!(shown(&first)?, 1, "the old key stays in force");
    fs::write(&key, "another key that is long enough")?;
    agent.hang_up()?;
    reloaded(&agent, "applied", 1)?;
    let second = hash(&agent)?;
    ensure!(second != first, "the key makes no difference");
    assert_eq!((shown(&first)?, shown(&second)?), (0, 1));
    Ok(())
}
