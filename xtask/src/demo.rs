//! `cargo xtask demo`: Stormglass at work on two real servers and three real tenants, and its byte counts held against the
//! servers' own; beside them, a third server with a fleet that reconnects in churn.

mod frame;
mod load;
mod screen;
mod stage;
mod storm;
mod verdict;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use self::frame::Reading;
use self::load::Report;
use self::screen::Screen;
use self::stage::Stage;
use self::verdict::Verdict;
use crate::build;
use crate::lab::{Lab, servers};
use crate::process::Run as _;
use crate::rig::check_host;
use crate::rig::interrupt::Interrupt;

/// How long the servers may take to come to rest after the load.
const QUIET_WITHIN: Duration = Duration::from_secs(10);

/// How soon the end of a process is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What `cargo xtask demo` can be told.
#[derive(Args)]
pub(crate) struct Options {
    /// Length of the show, in seconds; shorter ones than the default have no storm
    #[arg(long, default_value_t = storm::LEAST_SECONDS, value_parser = clap::value_parser!(u64).range(3..=86_400))]
    seconds: u64,
    /// Go on afterwards, under load, until Ctrl-C: time to look around
    #[arg(long)]
    keep: bool,
}

/// Shows Stormglass at work. An error if its counts differ from the servers' own.
pub(crate) fn run(lab: &Lab, options: &Options) -> Result<()> {
    check_host("demo")?;
    servers::ensure_valkey(lab)?;
    build::run(lab)?;
    build::load(lab)?;
    present(lab, options)
}

/// The same as a test, a short one, with what has been built for the other tests.
pub(crate) fn test(lab: &Lab) -> Result<()> {
    const SECONDS: u64 = 5;
    check_host("demo")?;
    present(
        &lab.with_tested_agent(),
        &Options {
            seconds: SECONDS,
            keep: false,
        },
    )
}

fn present(lab: &Lab, options: &Options) -> Result<()> {
    let interrupt = Interrupt::new()?;
    interrupt.settle("demo", show(lab, options, &interrupt))
}

fn show(lab: &Lab, options: &Options, interrupt: &Interrupt) -> Result<()> {
    let mut screen = Screen::new();
    mention_host_servers(lab, &mut screen)?;
    let mut stage = Stage::set(lab, options.seconds >= storm::LEAST_SECONDS, interrupt)?;
    introduce(&stage, &mut screen)?;
    stage.start_load(Duration::from_secs(options.seconds))?;
    stage.start_storm(storm::AFTER)?;
    watch(
        &mut stage,
        &mut screen,
        interrupt,
        Duration::from_secs(options.seconds),
    )?;
    let reports = stage.end_load()?;
    let verdict = compare(&mut stage, interrupt, &reports)?;
    screen.print(&verdict.lines(screen.style()))?;
    storm::tell(&mut stage, &mut screen, interrupt)?;
    if let Some(difference) = verdict.difference() {
        bail!("{difference}");
    }
    if options.keep {
        keep(&mut stage, &mut screen, interrupt)?;
    }
    Ok(())
}

/// The host's own servers are left alone; how they would be watched is worth a line.
fn mention_host_servers(lab: &Lab, screen: &mut Screen) -> Result<()> {
    let agent = lab.agent();
    let Ok(answer) = Command::new(&agent).args(["servers", "--json"]).read() else {
        return Ok(());
    };
    let servers = serde_json::from_str::<Value>(&answer).unwrap_or_default();
    let names: Vec<&str> = servers["servers"]
        .as_array()
        .map(|servers| {
            servers
                .iter()
                .filter_map(|server| server["server"].as_str())
                .collect()
        })
        .unwrap_or_default();
    if let [first, others @ ..] = names.as_slice() {
        let others = match others.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        screen.print(&[
            format!(" This host already runs {first}{others}, which the demo leaves alone."),
            " To watch what is there: target/release/stormglass run".to_owned(),
        ])?;
    }
    Ok(())
}

fn introduce(stage: &Stage, screen: &mut Screen) -> Result<()> {
    let mut lines = vec![
        String::new(),
        format!(
            " Two {} servers in cgroups of their own, three tenants with redis-rs:",
            stage.version()
        ),
        String::new(),
    ];
    lines.extend(load::TENANTS.iter().map(load::Tenant::describe));
    lines.push(String::new());
    if let Some(server) = stage.stormy() {
        lines.extend(storm::announce(&server));
    }
    screen.print(&lines)
}

/// The live table.
fn watch(stage: &mut Stage, screen: &mut Screen, interrupt: &Interrupt, length: Duration) -> Result<()> {
    let started = Instant::now();
    let mut before = Reading::take(stage)?;
    loop {
        let left = length.saturating_sub(started.elapsed());
        pause(stage, interrupt, screen.interval().min(left))?;
        let now = Reading::take(stage)?;
        let storm = storm::line(stage)?;
        screen.draw(&frame::Frame {
            before: &before,
            now: &now,
            servers: stage.labels(),
            storm: storm.as_deref(),
            url: stage.url(),
            elapsed: started.elapsed().min(length),
            length,
        })?;
        if started.elapsed() >= length {
            return Ok(());
        }
        before = now;
    }
}

/// Lets time pass; what ends meanwhile is an error at once, and not only at the next picture.
fn pause(stage: &mut Stage, interrupt: &Interrupt, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        interrupt.sleep(left.min(LOOK_EVERY))?;
        stage.check()?;
        if left <= LOOK_EVERY {
            return Ok(());
        }
    }
}

/// Reads both sides once nothing moves any more.
fn compare(stage: &mut Stage, interrupt: &Interrupt, reports: &[Report]) -> Result<Verdict> {
    wait_until_quiet(stage, interrupt)?;
    let totals = stage.server_totals()?;
    stage.check()?;
    Ok(Verdict::new(&stage.scrape()?, totals, reports))
}

fn wait_until_quiet(stage: &mut Stage, interrupt: &Interrupt) -> Result<()> {
    let started = Instant::now();
    let mut before = None;
    loop {
        stage.check()?;
        let now = verdict::all_bytes(&stage.scrape()?, stage.labels());
        if before == Some(now) {
            return Ok(());
        }
        if started.elapsed() > QUIET_WITHIN {
            bail!("the demo's servers do not come to rest; does somebody else use them?");
        }
        before = Some(now);
        interrupt.sleep(Duration::from_millis(300))?;
    }
}

/// Load and agent go on until Ctrl-C, which is the expected end.
fn keep(stage: &mut Stage, screen: &mut Screen, interrupt: &Interrupt) -> Result<()> {
    stage.start_load(load::LONGEST)?;
    let url = stage.url();
    screen.print(&[
        String::new(),
        " The load goes on. Look around; Ctrl-C ends it.".to_owned(),
        String::new(),
        format!("   {url}/                  status page"),
        format!("   {url}/metrics           what Prometheus reads"),
        format!("   {url}/api/v1/servers    and tenants, and clients"),
        "   target/release/stormglass servers \\".to_owned(),
        format!("     --config {}", stage.config().display()),
        String::new(),
    ])?;
    while interrupt.sleep(Duration::from_secs(1)).is_ok() {
        stage.check()?;
    }
    screen.print(&[String::new()])
}
