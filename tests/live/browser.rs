//! The agent's pages in a real browser, while a storm comes over a real server: `browser/pages.js` is the reader, and this the weather.
//! With `STORMGLASS_PICTURES=FOLDER` pictures are taken afterwards.

mod pictures;

use std::ffi::OsStr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use stormglass_tests::agent::Agent;
use stormglass_tests::lab;
use stormglass_tests::poll;
use stormglass_tests::process::Process;
use stormglass_tests::resp::Connection;
use stormglass_tests::server::{Plan, Server};

use crate::alerts::Crowded;

const CONFIG: &str = "
[clients]
survey_seconds = 1

[[workload]]
name = \"batch\"
addresses = [\"127.72.0.0/16\"]

[[tenant]]
name = \"checkout\"
owner = \"team-checkout\"
prefixes = [\"cart\", \"pay\"]

[[tenant]]
name = \"a_tenant_whose_name_is_as_long_as_names_of_tenants_become_where_platforms_make_them\"
owner = \"team_search_and_recommendations_and_personalisation\"
prefixes = [\"search\"]
";

/// A browser that does not come to its end within this is stuck.
const READ_WITHIN: Duration = Duration::from_secs(90);

/// What somebody would call themselves who wants to run in the page of whoever looks.
const NAMES: [&[&[u8]]; 4] = [
    &[b"CLIENT", b"SETNAME", b"<svg/onload=alert(1)>"],
    &[
        b"CLIENT",
        b"SETINFO",
        b"LIB-NAME",
        b"<img/src=x/onerror=alert(1)>",
    ],
    &[b"CLIENT", b"SETINFO", b"LIB-VER", b"\"><b>1"],
    &[b"SET", b"<script>alert(1)</script>:1", b"value"],
];

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn the_pages_bring_a_storm_to_whoever_reads_them_and_disturb_nobody() -> Result<()> {
    read_through_a_storm()?;
    std::env::var_os("STORMGLASS_PICTURES").map_or(Ok(()), |folder| pictures::take(&folder))
}

fn read_through_a_storm() -> Result<()> {
    let began = Instant::now();
    let (calm, stormy) = (Plan::valkey()?.start()?, Crowded::server()?);
    let agent = Agent::start_with(CONFIG)?;
    agent.sees(&calm.label())?;
    agent.sees(&stormy.label())?;
    let _connections = [life(&calm)?, life(&stormy)?];

    let mut reader = read(&agent, include_str!("browser/pages.js"), stormy.label())?;
    wait_for(&mut reader, "ready for the storm")?;
    let storm = Crowded::begin(stormy)?;
    let finished = reader.finish(READ_WITHIN)?;
    ensure!(finished.status.success(), "{}", finished.stderr);
    println!("read in {:.1} s", began.elapsed().as_secs_f64());
    storm.end()?;
    agent.terminate().map(|_| ())
}

/// Waits until the reader has said something.
fn wait_for(reader: &mut Process, words: &str) -> Result<()> {
    poll::until(words, READ_WITHIN, || {
        let said = reader.stderr().contains(words);
        ensure!(said || reader.is_running()?, "the reader has left");
        Ok(said.then_some(()))
    })
}

/// A script that reads the agent's pages in the browser, and is told of what.
fn read(agent: &Agent, script: &str, of: impl AsRef<OsStr>) -> Result<Process> {
    let mut node = Command::new(lab::node()?);
    node.args(["-", &format!("http://{}", agent.address())])
        .arg(of)
        .env("NODE_PATH", lab::browser_path()?)
        .env("STORMGLASS_LAB_CHROMIUM", lab::chromium()?)
        .env("FONTCONFIG_FILE", lab::fonts()?);
    Process::spawn_with_input("browser", &mut node, script.as_bytes())
}

/// Somebody with a hostile name, and some traffic.
fn life(server: &Server) -> Result<Connection> {
    let mut connection = server.connect()?;
    for words in NAMES {
        connection.call(words)?;
    }
    for (key, size) in [
        ("cart:1", 400),
        ("pay:1", 90),
        ("search:1", 2_000),
        ("session:1", 10),
    ] {
        let value = vec![b'v'; size];
        for _ in 0..20 {
            connection.ask(&[b"SET", key.as_bytes(), &value])?;
            connection.ask(&[b"GET", key.as_bytes()])?;
        }
    }
    Ok(connection)
}
