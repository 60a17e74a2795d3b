//! What the agent shows over HTTP.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use stormglass_tests::agent::Agent;
use stormglass_tests::lab;
use stormglass_tests::process::Process;
use stormglass_tests::server::Plan;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn promtool_has_nothing_to_say_about_a_scrape() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start_with("[[tenant]]\nname = \"a \\\"b\\\"\"\nprefixes = [\"odd\"]\n")?;
    agent.sees(&server.label())?;
    // Names that need escaping must not break the page.
    let mut connection = server.connect()?;
    for key in [&b"odd:1"[..], b"quote\"\\:1", b"\xff\xfe\n:1", b"{tag}:1", b":1"] {
        connection.ask(&[b"SET", key, b"value"])?;
    }
    let metrics = agent.metrics()?;
    let promtool = Process::spawn_with_input(
        "promtool",
        Command::new(lab::promtool()?).args(["check", "metrics"]),
        metrics.as_bytes(),
    )?;
    let finished = promtool.finish(Duration::from_secs(20))?;
    assert!(
        finished.status.success() && finished.stdout.is_empty() && finished.stderr.is_empty(),
        "{finished:?}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn the_pages_that_others_depend_on_answer() -> Result<()> {
    let server = Plan::valkey()?.start()?;
    let agent = Agent::start()?;
    agent.sees(&server.label())?;
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v1/servers",
        "/api/v1/tenants",
        "/api/v1/clients",
        "/api/v1/storms",
        "/api/v1/openapi.json",
    ] {
        let (status, body) = agent.get(path)?;
        assert_eq!(status, 200, "{path}: {body}");
    }
    let (_, servers) = agent.get("/api/v1/servers")?;
    assert!(servers.contains(&server.label()), "{servers}");
    let (_, open_metrics) = agent.get_as("/metrics", "application/openmetrics-text; version=1.0.0")?;
    assert!(
        open_metrics.ends_with("# EOF\n"),
        "the OpenMetrics page has no end"
    );
    assert_eq!(agent.get("/no-such-page")?.0, 404);
    Ok(())
}
