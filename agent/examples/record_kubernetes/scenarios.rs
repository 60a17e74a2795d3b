//! What is recorded.

use std::path::Path;

use anyhow::Result;
use nix::sys::signal::Signal;
use serde_json::json;
use stormglass_tests::kubernetes::{
    cluster::Programs,
    recording::{End, Exchange},
};

use crate::{
    pods::{FIRST, HEIR, LATER},
    stage::{Stage, is_open_watch},
};

type Record = fn(&Programs, &Path) -> Result<()>;

/// All recordings, by name.
pub(crate) const ALL: &[(&str, Record)] = &[
    ("pods", pods),
    ("restart", restart),
    ("compaction", compaction),
    ("refusals", refusals),
    ("node", node),
];

/// Places in [`FIRST`].
const CACHE: usize = 2;
const DEBUG: usize = 3;
const NIGHTLY: usize = 5;
const IMPORT: usize = 6;
const CANARY: usize = 7;

fn pods(programs: &Programs, file: &Path) -> Result<()> {
    let title = "pods come, change and go; bookmarks, a watch's time is over, connections break";
    let mut stage = Stage::new(programs, file, title, &[], FIRST)?;
    stage.recorder.shorten(4, 75);
    stage.watch(true);
    let mut known = FIRST.len() as u64;
    stage.knows(known)?;
    stage.run(&LATER)?;
    known += 1;
    stage.knows(known)?;
    stage.label(&FIRST[CACHE], "back")?;
    // Its container starts again.
    stage.status(&FIRST[CACHE], &FIRST[CACHE].running("b2"))?;
    stage.status(&FIRST[NIGHTLY], &json!({"status": {"phase": "Succeeded"}}))?;
    stage.act("DELETE", &FIRST[CANARY].path(), None)?;
    stage.kill(&FIRST[CANARY])?;
    known -= 2;
    stage.knows(known)?;

    // Something else than a pod; a list by somebody else lets the watch cache notice how far etcd is.
    stage.act(
        "POST",
        "/api/v1/namespaces/shop/configmaps",
        Some(&json!({"metadata": {"name": "other"}})),
    )?;
    stage.act("GET", "/api/v1/pods", None)?;
    // The first bookmark comes after a minute, the last shortly before the watch's time is over.
    let asked = stage.recorder.asked();
    stage.recorder.until("a watch behind a bookmark", |exchanges| {
        exchanges.len() > asked && is_open_watch(&exchanges[asked])
    })?;

    stage
        .recorder
        .done("the connection breaks inside of an event, and there is none for a while")?;
    stage.recorder.hold("");
    stage.recorder.cut_inside_next(700);
    stage.label(&FIRST[IMPORT], "batch")?;
    stage
        .recorder
        .until("a broken watch", |exchanges| exchanges[asked].end == End::Broken)?;
    stage.kill(&FIRST[DEBUG])?;
    stage.run(&HEIR)?;
    stage
        .recorder
        .until("a new request", |exchanges| exchanges.len() > asked + 1)?;
    stage.recorder.release();
    stage.recorder.until("what was missed", |exchanges| {
        exchanges[asked + 1].body().contains(r#""podIP":"10.1.0.14""#)
    })?;
    stage.knows(known)?;

    stage.recorder.done("the connection breaks between two events")?;
    stage.recorder.cut();
    stage.recorder.until("a new watch", |exchanges| {
        exchanges.len() > asked + 2 && exchanges.last().is_some_and(is_open_watch)
    })?;
    stage.kill(&LATER)?;
    stage.knows(known - 1)?;
    stage.finish()
}

fn restart(programs: &Programs, file: &Path) -> Result<()> {
    let title = "the API server is killed and started again, then told to end and started again";
    let mut stage = Stage::new(programs, file, title, &[], &FIRST[..4])?;
    stage.watch(true);
    stage.knows(4)?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        stage.recorder.done(&format!("{signal} to the API server"))?;
        stage.cluster.stop_server(signal)?;
        stage.recorder.until("refused connections", |exchanges| {
            exchanges
                .last()
                .is_some_and(|exchange| exchange.end == End::Refused)
        })?;
        // One refusal is enough.
        stage.recorder.hold("");
        stage.recorder.done("the API server starts")?;
        stage.cluster.start_server()?;
        stage.cluster.is_ready()?;
        stage.recorder.release();
        if signal == Signal::SIGKILL {
            stage.kill(&FIRST[DEBUG])?;
            stage.knows(3)?;
        } else {
            stage.run(&LATER)?;
            stage.knows(4)?;
        }
    }
    stage.finish()
}

fn compaction(programs: &Programs, file: &Path) -> Result<()> {
    let title =
        "etcd forgets what was: between two pages of a list, and while nobody watches; no watch cache";
    let mut stage = Stage::new(programs, file, title, &["--watch-cache=false"], &FIRST[..6])?;
    stage.recorder.shorten(3, 60);
    stage.recorder.hold("continue=");
    stage.watch(true);
    stage
        .recorder
        .until("the second page", |exchanges| exchanges.len() == 2)?;
    stage.kill(&FIRST[0])?;
    forget(&stage)?;
    stage.recorder.release();
    stage.knows(5)?;

    stage.recorder.done("the connection breaks")?;
    stage.recorder.hold("");
    stage.recorder.cut();
    let asked = stage.recorder.asked();
    stage
        .recorder
        .until("a new request", |exchanges| exchanges.len() > asked)?;
    stage.kill(&FIRST[DEBUG])?;
    stage.kill(&FIRST[CACHE])?;
    stage.run(&LATER)?;
    forget(&stage)?;
    stage.recorder.release();
    stage.knows(4)?;
    stage.label(&LATER, "front")?;
    stage.recorder.until("the change", |exchanges| {
        exchanges
            .last()
            .is_some_and(|exchange| exchange.body().contains(r#""tier":"front""#))
    })?;
    stage.finish()
}

fn forget(stage: &Stage) -> Result<()> {
    stage.recorder.done("compaction of etcd")?;
    stage.cluster.compact()
}

fn refusals(programs: &Programs, file: &Path) -> Result<()> {
    let title = "the rights are missing at first; later the account is deleted, and made again";
    let mut stage = Stage::without_rights(programs, file, title, &[], &FIRST[..2])?;
    // A watch that is open stays so when the account is gone.
    stage.recorder.shorten(250, 8);
    stage.watch(true);
    stage
        .recorder
        .until("403", |exchanges| count(exchanges, 403) > 1)?;
    stage.grant()?;
    stage.knows(2)?;
    stage.delete_account()?;
    stage
        .recorder
        .until("401", |exchanges| count(exchanges, 401) > 1)?;
    stage.create_account()?;
    stage.knows(2)?;
    stage.run(&LATER)?;
    stage.knows(3)?;
    stage.finish()
}

fn count(exchanges: &[Exchange], status: u16) -> usize {
    let heads = exchanges.iter().filter_map(|exchange| exchange.head.as_ref());
    heads.filter(|head| head.status == status).count()
}

fn node(programs: &Programs, file: &Path) -> Result<()> {
    let title = "only the pods of one node are asked for: they come when they are scheduled there";
    let mut stage = Stage::new(programs, file, title, &[], &FIRST[..4])?;
    stage.watch(false);
    stage.knows(2)?;
    stage.run(&HEIR)?;
    stage.run(&LATER)?;
    stage.knows(3)?;
    stage.kill(&FIRST[0])?;
    stage.knows(2)?;
    stage.finish()
}
