//! The unit that is shipped, started by systemd: the agent is confined as it says, counts, reads its configuration again, comes back
//! after a crash, and leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use stormglass_tests::agent::page;
use stormglass_tests::bpf::Loaded;
use stormglass_tests::exposition::Scrape;
use stormglass_tests::ledger::Counted;
use stormglass_tests::poll;
use stormglass_tests::process::read_output;
use stormglass_tests::server::{Plan, Server};

use crate::books::Client;

const UNIT: &str = "stormglass.service";
const PROGRAM: &str = "/usr/local/bin/stormglass";
const CONFIG: &str = "/etc/stormglass/stormglass.toml";
const STATE: &str = "/var/lib/stormglass";

/// A tenant, and somebody who is told of storms.
const RULES: &str = "[[tenant]]\nname = \"checkout\"\nprefixes = [\"pay\"]\n\n\
                     [[alerts.webhook]]\nurl = \"http://127.0.0.1:9/\"\n";

/// Where its words go in this machine.
const LOG: &str = "/run/stormglass.log";

/// Where it listens if nobody says.
const PORT: u16 = 9466;

/// Six, by their bits (linux/capability.h): `DAC_READ_SEARCH`, `NET_ADMIN`, `SYS_PTRACE`, `SYS_ADMIN`, `PERFMON`, `BPF`.
const CAPABILITIES: u64 = 1 << 2 | 1 << 12 | 1 << 19 | 1 << 21 | 1 << 38 | 1 << 39;

/// Loading the programs takes long in an emulated machine.
const WITHIN: Duration = Duration::from_secs(90);

const ROUNDS: usize = 50;

#[test]
#[ignore = "needs a machine whose first process is systemd: cargo xtask test --vm"]
fn the_shipped_unit_runs_the_agent_confined_and_it_counts_comes_back_and_leaves() -> Result<()> {
    let before = Loaded::now()?;
    let server = Plan::valkey()?.start()?;
    systemctl(&["start", UNIT])?;
    lives(&server)
        .and_then(|()| leaves(&before))
        .with_context(|| format!("it said:\n{}", fs::read_to_string(LOG).unwrap_or_default()))
}

fn lives(server: &Server) -> Result<()> {
    let first = wait_until_seen(server)?;
    assert_confined(&first)?;
    counts(server, "cart")?;
    let servers = read_output("stormglass", Command::new(PROGRAM).arg("servers"), WITHIN)?;
    ensure!(servers.contains(&server.label()), "{servers}");

    fs::write(CONFIG, RULES)?;
    systemctl(&["reload", UNIT])?;
    poll::until_true("the new configuration", WITHIN, || {
        converse(server, "pay")?;
        Ok(scrape()?.tenant(&server.label(), "checkout").commands > 0)
    })?;

    Command::new("kill").args(["-9", &first]).status()?;
    poll::until_true("another process", WITHIN, || {
        let now = main_pid()?;
        Ok(now != first && now != "0")
    })?;
    wait_until_seen(server)?;
    counts(server, "again")?;

    let mode = fs::metadata(STATE)?.permissions().mode() & 0o777;
    ensure!(mode == 0o750, "{STATE} has mode {mode:o}");
    // Whom it has to tell it remembers over a restart.
    let remembers = || Ok(Path::new(STATE).join("alerts").is_dir());
    poll::until_true("what it writes", WITHIN, remembers)
}

fn leaves(before: &Loaded) -> Result<()> {
    systemctl(&["stop", UNIT])?;
    let result = systemctl(&["show", "--property", "Result", "--value", UNIT])?;
    ensure!(result.trim() == "success", "stopped: {result}");
    let gone = || Ok(Loaded::now()?.beyond(before).is_empty());
    poll::until_true("nothing is left in the kernel", WITHIN, gone)
}

/// Waits until it is ready and watches the server; its process.
fn wait_until_seen(server: &Server) -> Result<String> {
    poll::until_true("an agent that watches the server", WITHIN, || {
        let is_ready = matches!(page(PORT, "/readyz", "*/*"), Ok((200, _)));
        Ok(is_ready && scrape()?.mentions(&server.label()))
    })?;
    main_pid()
}

fn main_pid() -> Result<String> {
    let id = systemctl(&["show", "--property", "MainPID", "--value", UNIT])?;
    Ok(id.trim().to_owned())
}

/// Six capabilities at most and none in force, no new ones, a filter of system calls, and a root that it cannot write to.
fn assert_confined(process: &str) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
            .with_context(|| format!("no {name} in {status}"))
    };
    let may = u64::from_str_radix(field("CapBnd:")?, 16)?;
    ensure!(may == CAPABILITIES, "it may have {may:x}");
    let has = u64::from_str_radix(field("CapEff:")?, 16)?;
    ensure!(has == 0, "it still has {has:x} after loading");
    ensure!(field("NoNewPrivs:")? == "1", "{status}");
    ensure!(field("Seccomp:")? == "2", "{status}");
    let mounts = fs::read_to_string(format!("/proc/{process}/mounts"))?;
    let root = mounts
        .lines()
        .find(|line| line.split(' ').nth(1) == Some("/"))
        .context("no root")?;
    let options = root.split(' ').nth(3).unwrap_or_default();
    ensure!(options.split(',').any(|option| option == "ro"), "{root}");
    Ok(())
}

/// A new connection is counted to the byte.
fn counts(server: &Server, prefix: &'static str) -> Result<()> {
    let client = converse(server, prefix)?;
    let label = server.label();
    let expected = client.books()[prefix];
    poll::until_true("every byte", WITHIN, || {
        let counted = Counted::of(&scrape()?, &label);
        Ok(counted.prefixes.get(prefix) == Some(&expected))
    })
    .with_context(|| format!("expected {expected:?}"))
}

fn converse(server: &Server, prefix: &'static str) -> Result<Client> {
    let key = format!("{prefix}:1");
    let mut client = Client::open(server)?;
    for _ in 0..ROUNDS {
        client.ask(prefix, &[b"SET", key.as_bytes(), b"value"])?;
        client.ask(prefix, &[b"GET", key.as_bytes()])?;
    }
    Ok(client)
}

fn scrape() -> Result<Scrape> {
    let (status, body) = page(PORT, "/metrics", "*/*")?;
    ensure!(status == 200, "/metrics answers {status}: {body}");
    Scrape::parse(&body)
}

fn systemctl(arguments: &[&str]) -> Result<String> {
    read_output("systemctl", Command::new("systemctl").args(arguments), WITHIN)
}
