//! `stormglass tenants` and `clients` beside the API they show, the rules that are suggested, and the API's description.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use stormglass_tests::agent::{Agent, ConfigFile, command};
use stormglass_tests::resp::Connection;
use stormglass_tests::server::Plan;

const TENANTS: &str = r#"
[[tenant]]
name = "checkout"
owner = "team-checkout"
prefixes = ["cart"]
labels = { tier = "1" }

[[tenant]]
name = "search"
prefixes = ["index"]
"#;

/// Prefixes that no rule has, with the tenant that is suggested for them.
const WITHOUT_RULE: &[(&[u8], &str)] = &[
    (b"mail-eu", "mail"),
    (b"mail-us", "mail"),
    (b"queue1", "queue"),
    (b"queue2", "queue"),
    (b"session", "session"),
    (b"odd*", "odd_"),
    (b"\xff\xfe", "_xff_xfe"),
];

const KEYS: u64 = 10;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn what_no_rule_matches_is_named_and_the_suggested_rules_leave_none_of_it() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with(TENANTS)?;
    agent.sees(&server.label())?;
    traffic(&mut server.connect()?)?;

    let table = people(&agent, &["tenants", "--server", &server.label()])?;
    let row = row(&table, "checkout")?;
    // Ten SETs, ten GETs that hit, one that misses, and a list's command on a string.
    assert_eq!(
        (row[1], row[2], row[5], row[6]),
        ("team-checkout", "22", "90.9 %", "1"),
        "{table}"
    );
    assert_eq!(self::row(&table, "mail-us")?[1], "10", "{table}");
    let shown = programs(&agent, &["tenants", "--json", "--server", &server.label()])?;
    assert_eq!(
        shown,
        of_api(&agent, &format!("/api/v1/tenants?server={}", server.label()))?
    );
    let checkout = &shown["tenants"][0];
    assert_eq!(
        (&checkout["owner"], &checkout["labels"], &checkout["errors"]),
        (
            &json!("team-checkout"),
            &json!({"tier": "1"}),
            &json!({"WRONGTYPE": 1})
        )
    );
    assert_eq!(ordinary_prefixes(&shown).len(), WITHOUT_RULE.len());

    let suggestion = people(&agent, &["tenants", "--suggest"])?;
    drop(agent);
    let tables = format!("{TENANTS}\n{suggestion}");
    let checked = command(&["check-config"], Some(&ConfigFile::new(&tables)?))?;
    assert!(checked.status.success(), "{checked:?}\n{suggestion}");
    assert!(!checked.stdout.contains("warning"), "{checked:?}\n{suggestion}");

    let agent = Agent::start_with(&tables)?;
    agent.sees(&server.label())?;
    traffic(&mut server.connect()?)?;
    let shown = programs(&agent, &["tenants", "--json", "--server", &server.label()])?;
    assert_eq!(ordinary_prefixes(&shown), Vec::<&str>::new(), "{suggestion}");
    for (prefix, tenant) in WITHOUT_RULE {
        let same = WITHOUT_RULE.iter().filter(|(_, other)| other == tenant).count() as u64;
        let counted = tenant_of(&shown, tenant).context("a suggested tenant is missing")?;
        assert_eq!(counted["commands"], json!(same * KEYS), "{tenant} for {prefix:?}");
    }
    assert!(people(&agent, &["tenants", "--suggest"])?.starts_with("# Every prefix"));
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn the_commands_show_rates_and_clients_and_refuse_with_words() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with(TENANTS)?;
    agent.sees(&server.label())?;
    let mut connection = server.connect()?;
    let table = std::thread::scope(|scope| {
        let sender = scope.spawn(|| until_later(&mut connection, Duration::from_secs(3)));
        let table = people(&agent, &["tenants", "--interval", "1s"]);
        sender
            .join()
            .map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        table
    })?;
    let commands: f64 = row(&table, "checkout")?[2].parse()?;
    assert!((1.0..2_000_000.0).contains(&commands), "{table}");
    assert!(table.starts_with("TENANT "), "{table}");

    let others: Vec<Connection> = (0..4).map(|_| server.connect()).collect::<Result<_>>()?;
    let clients = programs(&agent, &["clients", "--json", "--server", &server.label()])?;
    assert_eq!(
        clients,
        of_api(&agent, &format!("/api/v1/clients?server={}", server.label()))?
    );
    let table = people(&agent, &["clients", "--server", &server.label()])?;
    let client = row(&table, &server.label())?;
    assert_eq!(client[1], "127.0.0.1", "{table}");
    assert!(client[2].parse::<usize>()? > others.len(), "{table}");

    for (arguments, words) in [
        (
            &["tenants", "--server", "nobody:1"][..],
            "no server \"nobody:1\" here",
        ),
        (
            &["clients", "--url", "http://127.0.0.1:1"],
            "no agent answers at http://127.0.0.1:1",
        ),
        (&["clients", "--url", "ftp://a"], "write an address"),
        (&["tenants", "--interval", "2"], "write a time"),
    ] {
        let refused = command(arguments, Some(agent.config()))?;
        assert!(!refused.status.success(), "{arguments:?}");
        assert!(
            refused.stderr.contains(words),
            "{arguments:?}: {}",
            refused.stderr
        );
    }
    // A server that speaks no HTTP at all.
    let url = format!("http://127.0.0.1:{}", server.port());
    let refused = command(&["tenants", "--url", &url], None)?;
    assert!(
        !refused.status.success() && refused.stderr.contains(&url),
        "{refused:?}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn real_answers_are_as_the_description_of_the_api_says() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with(TENANTS)?;
    agent.sees(&server.label())?;
    traffic(&mut server.connect()?)?;
    let description = of_api(&agent, "/api/v1/openapi.json")?;
    let paths = description["paths"].as_object().context("no paths")?;
    assert!(paths.len() > 3, "{description}");
    // Of what has an id in its path there is none here.
    for (path, page) in paths.iter().filter(|(path, _)| !path.contains('{')) {
        let mut schema = page["get"]["responses"]["200"]["content"]["application/json"]["schema"].clone();
        schema["components"] = description["components"].clone();
        let answer = of_api(&agent, path)?;
        let faults: Vec<String> = jsonschema::validator_for(&schema)?
            .iter_errors(&answer)
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect();
        assert_eq!(faults, Vec::<String>::new(), "{path}");
    }
    Ok(())
}

/// Ten commands to each prefix, hits, a miss and an error for the tenants of the rules.
fn traffic(connection: &mut Connection) -> Result<()> {
    for number in 0..KEYS {
        let key = format!("cart:{number}");
        connection.ask(&[b"SET", key.as_bytes(), b"value"])?;
        connection.ask(&[b"GET", key.as_bytes()])?;
        connection.ask(&[b"SET", format!("index:{number}").as_bytes(), b"value"])?;
        for (prefix, _) in WITHOUT_RULE {
            let key = [prefix, format!(":{number}").as_bytes()].concat();
            connection.ask(&[b"SET", &key, b"value"])?;
        }
    }
    connection.ask(&[b"GET", b"cart:none"])?;
    connection.call(&[b"LPUSH", b"cart:0", b"value"])?;
    Ok(())
}

/// Commands of one tenant, until so much time has passed.
fn until_later(connection: &mut Connection, time: Duration) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < time {
        connection.ask(&[b"SET", b"cart:1", b"value"])?;
    }
    Ok(())
}

/// What a command prints for people.
fn people(agent: &Agent, arguments: &[&str]) -> Result<String> {
    let finished = command(arguments, Some(agent.config()))?;
    ensure!(finished.status.success(), "{arguments:?}: {finished:?}");
    Ok(finished.stdout)
}

/// What it prints for programs.
fn programs(agent: &Agent, arguments: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&people(agent, arguments)?)?)
}

fn of_api(agent: &Agent, path: &str) -> Result<Value> {
    let (status, body) = agent.get(path)?;
    ensure!(status == 200, "{path} answers {status}: {body}");
    Ok(serde_json::from_str(&body)?)
}

/// The cells of a table's row, by its first one.
fn row<'a>(table: &'a str, first: &str) -> Result<Vec<&'a str>> {
    let mut rows = table.lines().map(|line| {
        let cells = line.split("  ").map(str::trim);
        cells.filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
    });
    rows.find(|row| row.first() == Some(&first))
        .with_context(|| format!("no row {first} in\n{table}"))
}

fn tenant_of<'a>(answer: &'a Value, name: &str) -> Option<&'a Value> {
    answer["tenants"]
        .as_array()?
        .iter()
        .find(|tenant| tenant["tenant"] == name)
}

/// The prefixes without a rule that are no special rows.
fn ordinary_prefixes(answer: &Value) -> Vec<&str> {
    let prefixes =
        tenant_of(answer, "(unassigned)").and_then(|tenant| tenant["unassigned"]["prefixes"].as_array());
    let ordinary = prefixes
        .into_iter()
        .flatten()
        .filter(|prefix| prefix["special"] == false);
    ordinary.filter_map(|prefix| prefix["prefix"].as_str()).collect()
}
