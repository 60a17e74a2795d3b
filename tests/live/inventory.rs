//! What runs where, and who uses it: `/api/v1/servers` and `stormglass servers`.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use stormglass_tests::agent::{Agent, ConfigFile, command, command_at};
use stormglass_tests::cgroup;
use stormglass_tests::poll;
use stormglass_tests::server::{Plan, Server};

const TENANT: &str = "[[tenant]]\nname = \"checkout\"\nowner = \"team-checkout\"\nprefixes = [\"cart\"]\n";
const POD: &str = "dd1bf9d1-241d-47f5-8e25-12de83135812";
const CONTAINER: &str = "f45298cd514d1930c4fe3afc4412e59547f7e3148fddd22ca33cefce046eb830";

/// Longer than a rate looks back.
const RATE_WITHIN: Duration = Duration::from_secs(15);

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_server_of_a_pod_and_a_plain_one_are_told_with_all_that_is_known_of_them() -> Result<()> {
    let plain = Plan::redis()?.config("maxclients 99\n").start()?;
    let agent = Agent::start_with(TENANT)?;
    let (_outer, cgroup) = cgroup::of_pod(POD, CONTAINER)?;
    let in_pod = Plan::valkey_8_0()?
        .cgroup(&cgroup)
        .config("maxclients 321\n")
        .start()?;
    agent.sees(&in_pod.label())?;
    let mut client = in_pod.connect()?;
    client.ask(&[b"SET", b"cart:1", b"value"])?;

    let shown = shown_when(&agent, &in_pod, "all facts", |server| {
        !server["version"].is_null() && server["connections"] == 1
    })?;
    assert_eq!(shown["version"], json!(version_by_itself(&in_pod)?));
    assert_eq!(shown["process"], "valkey-server");
    assert_eq!(shown["pid"], in_pod.id().as_raw());
    assert_eq!(shown["ports"], json!([in_pod.port()]));
    assert_eq!(shown["listeners"], json!([in_pod.address().to_string()]));
    assert_eq!(
        shown["container"],
        json!({"id": CONTAINER, "runtime": "containerd"})
    );
    // More than the cgroup says is the API server's to know.
    assert_eq!(
        shown["pod"],
        json!({"uid": POD, "qos": "Burstable", "namespace": null, "name": null, "owner": null, "node": null, "labels": null})
    );
    let path = shown["cgroup"].as_str().unwrap_or_default();
    assert!(cgroup.path().to_string_lossy().ends_with(path), "{path}");
    assert_eq!(
        (
            &shown["maxclients"],
            &shown["maxclients_source"],
            &shown["clients_at_most"]
        ),
        (&json!(321), &json!("config_file"), &json!(321))
    );
    let radius = &shown["blast_radius"];
    assert_eq!(radius["tenants"][0]["tenant"], "checkout", "{radius}");
    assert_eq!(radius["tenants"][0]["owner"], "team-checkout");
    let shares: f64 = radius["tenants"]
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(|tenant| tenant["share_of_bytes"].as_f64())
        .sum();
    assert!((shares - 1.0).abs() < 0.001, "{radius}");
    assert_eq!(radius["largest_clients"][0]["client"], "127.0.0.1");

    // It was there before the agent: what it was started with cannot be told any more, and is not guessed.
    let shown = shown_when(&agent, &plain, "its version", |server| {
        !server["version"].is_null()
    })?;
    assert_eq!(shown["version"], json!(version_by_itself(&plain)?));
    assert_eq!(
        (&shown["container"], &shown["pod"], &shown["maxclients"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    let soft = soft_descriptor_limit(&plain)?;
    assert_eq!(shown["file_descriptors"]["soft"], soft);
    assert_eq!(shown["clients_at_most"], soft - 32);
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn each_version_is_what_the_server_says_itself_also_behind_a_root_of_its_own() -> Result<()> {
    let agent = Agent::start()?;
    for plan in [
        Plan::valkey()?,
        Plan::valkey_8_0()?,
        Plan::valkey_8_1()?,
        Plan::redis()?,
    ] {
        let server = plan.start()?;
        agent.sees(&server.label())?;
        let shown = shown_when(&agent, &server, "its version", |server| {
            !server["version"].is_null()
        })?;
        assert_eq!(shown["version"], json!(version_by_itself(&server)?));
        // Without an agent, the command looks for itself.
        let alone = command(&["servers", "--json"], Some(&ConfigFile::new(NOBODY_THERE)?))?;
        let alone = find(&serde_json::from_str(&alone.stdout)?, &server).context("not found alone")?;
        assert_eq!(alone["version"], shown["version"]);
        assert_eq!(alone["pid"], shown["pid"]);
    }
    Ok(())
}

const NOBODY_THERE: &str = "[http]\nlisten = \"127.0.0.1:1\"\n";

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn the_table_fits_the_terminal_and_shows_more_where_there_is_room() -> Result<()> {
    let agent = Agent::start_with(TENANT)?;
    let (_outer, cgroup) = cgroup::of_pod(POD, CONTAINER)?;
    let in_pod = Plan::valkey_8_0()?.cgroup(&cgroup).start()?;
    let plain = Plan::redis()?.start()?;
    agent.sees(&plain.label())?;
    agent.sees(&in_pod.label())?;
    for server in [&in_pod, &plain] {
        shown_when(&agent, server, "its version", |server| {
            !server["version"].is_null()
        })?;
    }
    let table = |columns: u16| -> Result<String> {
        let finished = command_at(Some(columns), &["servers"], Some(agent.config()))?;
        assert!(finished.status.success(), "{finished:?}");
        let widest = finished.stdout.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(columns.into()), "{}", finished.stdout);
        Ok(finished.stdout)
    };
    let (narrow, wide) = (table(80)?, table(160)?);
    println!("{narrow}\n{wide}");
    for server in [&in_pod, &plain] {
        let line = |table: &str| {
            let found = table.lines().find(|line| line.starts_with(&server.label()));
            found
                .map(str::to_owned)
                .with_context(|| format!("not in\n{table}"))
        };
        let version = version_by_itself(server)?;
        assert!(line(&narrow)?.contains(&version), "{narrow}");
        assert!(line(&wide)?.contains(&server.id().to_string()), "{wide}");
    }
    for what in ["POD", POD, &format!("containerd:{}", &CONTAINER[..12])] {
        assert!(!narrow.contains(what), "{narrow}");
        assert!(wide.contains(what), "{wide}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn a_restart_begins_the_uptime_anew_and_keeps_the_label() -> Result<()> {
    let agent = Agent::start()?;
    let first = Plan::valkey()?.start()?;
    agent.sees(&first.label())?;
    let before = shown_when(&agent, &first, "three seconds of uptime", |server| {
        server["uptime_seconds"].as_u64() >= Some(3)
    })?;
    let second = first.stop()?.start()?;
    let after = shown_when(&agent, &second, "the new process", |server| {
        server["pid"] != before["pid"]
    })?;
    assert_eq!(after["server"], before["server"]);
    assert_eq!(after["pid"], second.id().as_raw());
    assert!(after["uptime_seconds"].as_u64() < Some(3), "{after}");
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn bytes_per_second_are_those_of_the_last_seconds() -> Result<()> {
    let agent = Agent::start()?;
    let server = Plan::valkey()?.start()?;
    agent.sees(&server.label())?;
    let mut client = server.connect()?;
    // 28 + 1000 bytes in and 5 out, a hundred times a second, for longer than the rate looks back.
    let value = vec![b'x'; 1000];
    let mut shown = Value::Null;
    for second in 0..RATE_WITHIN.as_secs() {
        let begun = std::time::Instant::now();
        for _ in 0..100 {
            client.ask(&[b"SET", b"a:1", &value])?;
        }
        if second > 1 {
            shown = find(&api(&agent)?, &server).context("not shown")?;
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    let rate = &shown["bytes_per_second"];
    let (bytes_in, bytes_out) = (rate["in"].as_f64(), rate["out"].as_f64());
    // Five to ten whole seconds and a piece of one.
    assert!(bytes_in > Some(85_000.0) && bytes_in < Some(125_000.0), "{rate}");
    assert!(bytes_out > Some(400.0) && bytes_out < Some(700.0), "{rate}");
    shown_when(&agent, &server, "the rate of an idle server", |server| {
        server["bytes_per_second"]["in"] == 0.0
    })?;
    Ok(())
}

fn api(agent: &Agent) -> Result<Value> {
    Ok(serde_json::from_str(&agent.get("/api/v1/servers")?.1)?)
}

fn find(servers: &Value, server: &Server) -> Option<Value> {
    let label = server.label();
    let mut servers = servers["servers"].as_array()?.iter();
    servers.find(|shown| shown["server"] == *label).cloned()
}

/// The server in `/api/v1/servers`, once it satisfies the condition.
fn shown_when(
    agent: &Agent,
    server: &Server,
    what: &str,
    condition: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let mut last = Value::Null;
    let found = poll::until(what, RATE_WITHIN, || {
        let Some(shown) = find(&api(agent)?, server) else {
            return Ok(None);
        };
        last = shown.clone();
        Ok(condition(&shown).then_some(shown))
    });
    found.with_context(|| format!("the last answer: {last:#}"))
}

fn version_by_itself(server: &Server) -> Result<String> {
    let info = server.control()?.info("server")?;
    let of = |name| info.lines().find_map(|line| line.strip_prefix(name));
    let version = of("valkey_version:").or_else(|| of("redis_version:"));
    version
        .map(|version| version.trim().to_owned())
        .context("no version in INFO")
}

fn soft_descriptor_limit(server: &Server) -> Result<u64> {
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id()))?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line
        .and_then(|line| line.split_whitespace().next())
        .context("no such limit")?;
    Ok(soft.parse()?)
}
