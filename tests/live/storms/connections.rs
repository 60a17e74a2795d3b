//! Storms of connections.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use serde_json::json;
use stormglass_tests::crowd::Crowd;

use super::stage::{Site, Stage, check, evidence, live, now_ms};

const STOPPED: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_millis(500);

/// 3 s of SIGSTOP under 2,000 connections from 200 addresses, which time out after half a second and open again.
pub(super) fn clients_of_a_stopped_server_time_out_and_reopen(stage: &Stage, server: &Site) -> Result<()> {
    let mut crowd = Crowd::new(server.port, 71, 200);
    crowd.arrive(10)?;
    stage.learn(server, &mut [&mut crowd])?;
    let turn = stage.turn();
    kill(server.id, Signal::SIGSTOP)?;
    let stopped = Instant::now();
    crowd.ask();
    let (mut first, mut found) = (None, None);
    while stopped.elapsed() < STOPPED {
        let now = now_ms();
        if crowd.give_up(PATIENCE)? > 0 {
            first.get_or_insert(now);
        }
        if found.is_none() && first.is_some() {
            found = stage.active(server)?;
        }
        sleep(Duration::from_millis(50));
    }
    kill(server.id, Signal::SIGCONT)?;
    let found = found.context("nothing was found while the server was stopped")?;
    check(&found, "reconnect_churn", "cart-api")?;
    let calm = Instant::now();
    while calm.elapsed() < Duration::from_secs(2) {
        crowd.give_up(2 * PATIENCE)?;
        sleep(Duration::from_millis(50));
    }
    drop(turn);
    live(&mut [&mut crowd], Duration::from_secs(4));
    let onset = first.context("nobody timed out")?;
    let storm = stage.over(server, "reconnect_churn", "cart-api", onset)?;
    ensure!(
        evidence(&storm, "closes_while_a_command_waited")? >= 1_000.0,
        "{storm:#}"
    );
    ensure!(evidence(&storm, "amplification")? > 0.5, "{storm:#}");
    Ok(())
}

/// By night nobody asks anything: 2,000 connections from 100 addresses are replaced within five seconds.
pub(super) fn all_connections_are_replaced_by_night(stage: &Stage, server: &Site) -> Result<()> {
    let mut crowd = Crowd::new(server.port, 71, 100);
    crowd.arrive(20)?;
    sleep(stage.until_learned());
    crowd.listen();
    stage.assert_silent(server)?;
    let turn = stage.turn();
    let (onset, began) = (now_ms(), Instant::now());
    for step in 0..100_u32 {
        crowd.renew(step as usize * 20, 20)?;
        sleep((Duration::from_millis(50) * (step + 1)).saturating_sub(began.elapsed()));
    }
    drop(turn);
    let storm = stage.over(server, "cold_reconnect", "cart-api", onset)?;
    ensure!(storm["kinds"] == json!(["cold_reconnect"]), "{storm:#}");
    Ok(())
}

/// Handshakes go on while a stopped server accepts nobody.
pub(super) fn a_server_accepts_nobody(stage: &Stage, server: &Site) -> Result<()> {
    sleep(stage.until_learned());
    let turn = stage.turn();
    kill(server.id, Signal::SIGSTOP)?;
    let onset = now_ms();
    let mut crowd = Crowd::new(server.port, 72, 50);
    crowd.open(1)?;
    let found = stage.found(server);
    kill(server.id, Signal::SIGCONT)?;
    drop(turn);
    check(&found?, "accept_queue_saturation", "batch")?;
    let storm = stage.over(server, "accept_queue_saturation", "batch", onset)?;
    ensure!(evidence(&storm, "accept_queue_most")? >= 50.0, "{storm:#}");
    Ok(())
}

/// 20 clients more than the server takes.
pub(super) fn clients_are_refused(stage: &Stage, server: &Site) -> Result<()> {
    let mut usual = Crowd::new(server.port, 71, 20);
    usual.arrive(1)?;
    stage.learn(server, &mut [&mut usual])?;
    let turn = stage.turn();
    let mut more = Crowd::new(server.port, 72, 10);
    let onset = now_ms();
    more.open(4)?;
    stage.found(server)?;
    drop(turn);
    more.leave();
    let storm = stage.over(server, "maxclients_rejection", "batch", onset)?;
    ensure!(evidence(&storm, "clients_limit")? == 40.0, "{storm:#}");
    ensure!(evidence(&storm, "rejections")? >= 15.0, "{storm:#}");
    Ok(())
}

/// A leak of ten connections a second at a server that takes 600.
pub(super) fn connections_leak(stage: &Stage, server: &Site) -> Result<()> {
    let mut usual = Crowd::new(server.port, 71, 100);
    usual.arrive(3)?;
    stage.learn(server, &mut [&mut usual])?;
    let mut leak = Crowd::new(server.port, 72, 1);
    let began = Instant::now();
    let found = loop {
        leak.open_one(0)?;
        sleep(Duration::from_millis(100));
        if leak.len().is_multiple_of(10)
            && let Some(storm) = stage.active(server)?
            && storm["culprits"]
                .as_array()
                .is_some_and(|known| !known.is_empty())
        {
            break storm;
        }
        ensure!(began.elapsed() < Duration::from_secs(28), "not found");
    };
    check(&found, "connection_growth", "batch")?;
    let left = evidence(&found, "time_left")?;
    println!(
        "connection_growth: {left:.0} s before the limit: {}",
        found["summary"]
    );
    ensure!((1.0..60.0).contains(&left), "{found:#}");
    Ok(())
}
