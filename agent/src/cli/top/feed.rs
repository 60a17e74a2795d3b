//! Where the numbers come from: the running agent, or the kernel itself where none runs.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde_json::Value;
use stormglass::config::Configuration;
use stormglass::{daemon, http, privileges};
use tokio::sync::oneshot;

use super::data::{Fault, PAGES, Reading};
use crate::cli::agent::Agent;

/// Answers that may wait to be drawn.
const WAITING: usize = 4;

/// What comes of asking once.
pub(super) type Answer = Result<Reading, Fault>;

/// A thread that asks again and again.
pub(super) struct Feed {
    pub(super) answers: Receiver<Answer>,
    /// Only of one that has something to take down.
    own: Option<(oneshot::Sender<()>, JoinHandle<Result<()>>)>,
}

impl Feed {
    /// Asks the running agent. Nobody waits for the end of the thread: it may be waiting for an answer.
    pub(super) fn of_agent(agent: Agent, interval: Duration) -> Result<Self> {
        let (sender, answers) = sync_channel(WAITING);
        thread::Builder::new()
            .name("feed".into())
            .spawn(privileges::without(move || ask(&agent, &sender, interval)))?;
        Ok(Self { answers, own: None })
    }

    /// Watches this host's servers by itself until [`Self::end`].
    pub(super) fn of_host(configuration: Configuration, interval: Duration) -> Result<Self> {
        let (sender, answers) = sync_channel(WAITING);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = thread::Builder::new().name("feed".into()).spawn(move || {
            let look = async |local: http::Local| look(&local, &sender, stopped, interval).await;
            runtime.block_on(daemon::watch_for(configuration, look))
        })?;
        Ok(Self {
            answers,
            own: Some((stop, thread)),
        })
    }

    /// The first answer, or why there is none and will be none.
    pub(super) fn first(&mut self) -> Result<Answer> {
        match self.answers.recv() {
            Ok(answer) => Ok(answer),
            Err(_) => {
                self.end()?;
                Err(anyhow!("the watching ended before it began"))
            }
        }
    }

    /// Ends it; afterwards nothing of it is attached.
    pub(super) fn end(&mut self) -> Result<()> {
        let Some((stop, thread)) = self.own.take() else {
            return Ok(());
        };
        // It may have ended by itself; its error says why.
        let _ = stop.send(());
        thread
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the watching panicked; this is a defect of stormglass")))
    }
}

fn ask(agent: &Agent, answers: &SyncSender<Answer>, interval: Duration) {
    let started = Instant::now();
    let page = |path: &str| agent.get(path, &[]).map_err(|error| format!("{error:#}"));
    let [servers, tenants, workloads, storms] = PAGES;
    let all = || Ok([page(servers)?, page(tenants)?, page(workloads)?, page(storms)?]);
    loop {
        let asked = Instant::now();
        if answers.send(reading(started, all())).is_err() {
            return;
        }
        thread::sleep(interval.saturating_sub(asked.elapsed()));
    }
}

async fn look(
    local: &http::Local,
    answers: &SyncSender<Answer>,
    mut stopped: oneshot::Receiver<()>,
    interval: Duration,
) {
    let started = Instant::now();
    let page = async |path: &str| {
        let body = local.get(path).await?;
        serde_json::from_slice::<Value>(&body).map_err(|error| error.to_string())
    };
    let [servers, tenants, workloads, storms] = PAGES;
    let mut turns = tokio::time::interval(interval);
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            _ = turns.tick() => {}
        }
        let all = async {
            Ok([
                page(servers).await?,
                page(tenants).await?,
                page(workloads).await?,
                page(storms).await?,
            ])
        };
        // One that is not drawn in time is left out: the next one is newer.
        let _ = answers.try_send(reading(started, all.await));
    }
}

fn reading(started: Instant, pages: Result<[Value; PAGES.len()], String>) -> Answer {
    let at = started.elapsed();
    let understood = |pages| Reading::new(at, pages).map_err(|error| format!("{error:#}"));
    pages.and_then(understood).map_err(|reason| Fault { at, reason })
}
