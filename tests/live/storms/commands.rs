//! Storms of commands and bytes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use stormglass_tests::resp::{Connection, frame};

use super::stage::{Site, Stage, evidence, now_ms};

/// How long each storm lasts.
const STORM: Duration = Duration::from_secs(4);

/// Does something again and again, so often.
fn again(how_long: Duration, every: Duration, mut what: impl FnMut() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < how_long {
        what()?;
        sleep(every);
    }
    Ok(())
}

/// What a server usually has: two hundred commands a second.
fn chat(connection: &mut Connection, how_long: Duration) -> Result<()> {
    again(how_long, Duration::from_millis(20), || {
        (0..4).try_for_each(|_| connection.ask(&[b"GET", b"cart:1"]).map(|_| ()))
    })
}

fn address(server: &Site) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], server.port))
}

/// A server that has been chatted with for as long as the agent learns.
fn learned(stage: &Stage, server: &Site) -> Result<Connection> {
    let mut connection = Connection::open(address(server))?;
    connection.ask(&[b"SET", b"cart:1", b"one"])?;
    chat(&mut connection, stage.until_learned())?;
    stage.assert_silent(server)?;
    Ok(connection)
}

/// A thousand commands a second that fail.
pub(super) fn commands_fail(stage: &Stage, server: &Site) -> Result<()> {
    let mut connection = learned(stage, server)?;
    connection.ask(&[b"SET", b"search:1", b"no list"])?;
    let onset = now_ms();
    again(STORM, Duration::from_millis(20), || {
        (0..20).try_for_each(|_| connection.call(&[b"LPUSH", b"search:1", b"x"]).map(|_| ()))
    })?;
    chat(&mut connection, Duration::from_secs(2))?;
    let storm = stage.over(server, "error_burst", "search", onset)?;
    ensure!(evidence(&storm, "errors_wrongtype")? >= 500.0, "{storm:#}");
    Ok(())
}

/// Twenty values of a mebibyte a second where the usual ones have a few bytes.
pub(super) fn values_are_large(stage: &Stage, server: &Site) -> Result<()> {
    let mut connection = learned(stage, server)?;
    connection.ask(&[b"SET", b"promo:big", &vec![b'x'; (1 << 20) - 100]])?;
    let onset = now_ms();
    again(STORM, Duration::from_millis(50), || {
        connection.ask(&[b"GET", b"promo:big"]).map(|_| ())
    })?;
    chat(&mut connection, Duration::from_secs(2))?;
    let storm = stage.over(server, "oversized_values", "promo", onset)?;
    ensure!(evidence(&storm, "bytes_per_value")? >= 500_000.0, "{storm:#}");
    Ok(())
}

/// Three clients count the bits of a mebibyte, forty times in a row and again, and a fourth one waits.
pub(super) fn one_prefix_takes_the_server(stage: &Stage, server: &Site) -> Result<()> {
    const DEPTH: usize = 40;
    let mut connection = learned(stage, server)?;
    connection.ask(&[b"SETBIT", b"promo:bits", b"8000000", b"1"])?;
    let turn = stage.turn();
    let (onset, over) = (now_ms(), AtomicBool::new(false));
    let hog = || -> Result<()> {
        let mut hog = Connection::open(address(server))?;
        let pipeline = frame(&[b"BITCOUNT", b"promo:bits"]).repeat(DEPTH);
        while !over.load(Ordering::Relaxed) {
            hog.send_bytes(&pipeline)?;
            (0..DEPTH).try_for_each(|_| hog.receive().map(|_| ()))?;
        }
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let hogs: Vec<_> = (0..3).map(|_| scope.spawn(hog)).collect();
        let chatted = chat(&mut connection, STORM);
        over.store(true, Ordering::Relaxed);
        for hog in hogs {
            hog.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        chatted
    })?;
    drop(turn);
    let storm = stage.over(server, "hot_prefix", "promo", onset)?;
    ensure!(evidence(&storm, "others_slower")? >= 2.0, "{storm:#}");
    Ok(())
}

/// A server that stops, and clients that ask the same again and again without waiting.
pub(super) fn clients_ask_again(stage: &Stage, server: &Site) -> Result<()> {
    let mut usual = learned(stage, server)?;
    let mut clients: Vec<Connection> = (0..8)
        .map(|_| Connection::open(address(server)))
        .collect::<Result<_>>()?;
    let question = frame(&[b"GET", b"session:1"]).repeat(4);
    let turn = stage.turn();
    kill(server.id, Signal::SIGSTOP)?;
    let onset = now_ms();
    let asked = again(STORM, Duration::from_millis(20), || {
        clients
            .iter_mut()
            .try_for_each(|client| client.send_bytes(&question))
    });
    kill(server.id, Signal::SIGCONT)?;
    drop(turn);
    asked?;
    for client in &mut clients {
        client.drain(Duration::from_millis(200))?;
    }
    chat(&mut usual, Duration::from_secs(2))?;
    let storm = stage.over(server, "retry_amplification", "login", onset)?;
    ensure!(evidence(&storm, "amplification")? >= 1.3, "{storm:#}");
    Ok(())
}

/// 80 MB a second where 60 are the limit, in values of a usual size.
pub(super) fn the_link_is_full(stage: &Stage, server: &Site) -> Result<()> {
    const DEPTH: usize = 20;
    let mut connection = learned(stage, server)?;
    connection.ask(&[b"SET", b"search:page", &[b'x'; 100_000]])?;
    let question = frame(&[b"GET", b"search:page"]).repeat(DEPTH);
    let turn = stage.turn();
    let (onset, began, mut asked) = (now_ms(), Instant::now(), 0);
    while began.elapsed() < STORM {
        connection.send_bytes(&question)?;
        (0..DEPTH).try_for_each(|_| connection.receive().map(|_| ()))?;
        asked += 1;
        sleep((Duration::from_millis(25) * asked).saturating_sub(began.elapsed()));
    }
    drop(turn);
    chat(&mut connection, Duration::from_secs(2))?;
    let storm = stage.over(server, "bandwidth_saturation", "search", onset)?;
    ensure!(evidence(&storm, "share_of_limit")? >= 0.8, "{storm:#}");
    Ok(())
}
