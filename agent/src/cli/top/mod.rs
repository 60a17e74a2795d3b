//! `stormglass top`.

mod data;
mod feed;
mod grid;
mod state;
mod table;
mod view;

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _};
use std::mem;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stormglass::{config::Configuration, kernel, privileges, storms::Moment};
use tokio::signal::unix::{SignalKind, signal};

use self::data::PAGES;
use self::feed::Feed;
use self::state::{Flow, Top};
use super::agent::{Agent, AgentArguments};
use super::{doctor, list};

/// How often signals and answers are looked for.
const TURN: Duration = Duration::from_millis(100);

/// Keys that may wait to be obeyed.
const WAITING_KEYS: usize = 64;

/// How long the screen may stay as it is: times of storms go on.
const REDRAW: u32 = 10;

#[derive(Debug, Args)]
pub(super) struct TopArguments {
    #[command(flatten)]
    agent: AgentArguments,
    /// How often the agent is asked (500ms, 2s, 1m).
    #[arg(long, value_name = "TIME", value_parser = list::interval, default_value = "1s")]
    interval: Duration,
}

pub(super) fn run(arguments: &TopArguments) -> Result<ExitCode> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("top needs a terminal; `stormglass servers`, `tenants` and `workloads` print once");
    }
    privileges::seal().context("cannot forbid new privileges")?;
    let ended = Arc::new(AtomicBool::new(false));
    let signals = Arc::clone(&ended);
    thread::Builder::new()
        .name("signals".into())
        .spawn(privileges::without(move || wait_for_signal(&signals)))?;
    let (source, mut feed) = source(arguments)?;
    // Only now: a thread starts with what the thread that starts it has.
    privileges::give_up().context("cannot give up capabilities")?;
    let mut top = Top::new(source);
    match feed.first()? {
        Err(fault) => {
            feed.end()?;
            bail!(fault.reason);
        }
        first => top.take(first),
    }
    // From here on a panic, too, leaves the terminal as it was: that is part of `init`.
    let mut terminal = ratatui::try_init().context("cannot take the terminal")?;
    let shown = keys().and_then(|keys| show(&mut terminal, &mut top, &feed, &keys, &ended));
    give_back(terminal);
    feed.end().and(shown)?;
    Ok(ExitCode::SUCCESS)
}

/// Without a word where it cannot be done: a terminal that is gone takes neither this nor a complaint.
fn give_back(mut terminal: DefaultTerminal) {
    let _ = terminal.show_cursor();
    let _ = ratatui::try_restore();
    // Its end would complain.
    mem::forget(terminal);
}

/// The running agent; without one, the kernel. Never both: packets would be counted twice.
fn source(arguments: &TopArguments) -> Result<(String, Feed)> {
    let agent = arguments.agent.agent()?;
    let error = match agent.get(PAGES[0], &[]) {
        Ok(_) => {
            let source = agent.address().to_owned();
            return Ok((source, Feed::of_agent(agent, arguments.interval)?));
        }
        Err(error) if arguments.agent.names_url() || !Agent::is_nobody_there(&error) => return Err(error),
        Err(error) => error,
    };
    let configuration = alone(arguments, &agent).map_err(|reason| {
        reason.context(format!(
            "{error:#}\nwithout an agent, top reads the kernel itself"
        ))
    })?;
    Ok((
        "this host, no agent".into(),
        Feed::of_host(configuration, arguments.interval)?,
    ))
}

/// By which configuration this host can be watched without an agent, or why it cannot.
fn alone(arguments: &TopArguments, agent: &Agent) -> Result<Configuration> {
    let unmet = doctor::unmet(&kernel::check_requirements());
    if !unmet.is_empty() {
        bail!(
            "that cannot be done here; be root (`sudo stormglass top`), or start the agent\n{}",
            unmet.join("\n")
        );
    }
    if kernel::is_watched()? {
        bail!(
            "an agent watches this host already and is not at {}: say where by --url, or by the --config that it runs with",
            agent.address()
        );
    }
    Ok(Configuration::load(arguments.agent.config.config.as_deref())?)
}

/// Reads in a thread of its own, which nobody waits for: of a terminal that goes while it reads, crossterm reads forever.
fn keys() -> Result<Receiver<Event>> {
    let (sender, keys) = sync_channel(WAITING_KEYS);
    thread::Builder::new()
        .name("keys".into())
        .spawn(move || while !is_gone(PollFlags::IN, TURN) && pass_on(&sender).is_some() {})?;
    Ok(keys)
}

/// Passes on what has been typed. `None`: nothing can be read any more, or nobody wants it.
fn pass_on(keys: &SyncSender<Event>) -> Option<()> {
    while event::poll(Duration::ZERO).ok()? {
        keys.send(event::read().ok()?).ok()?;
    }
    Some(())
}

/// Until a key, a signal or the end of the terminal ends it.
fn show(
    terminal: &mut DefaultTerminal,
    top: &mut Top,
    feed: &Feed,
    keys: &Receiver<Event>,
    ended: &AtomicBool,
) -> Result<()> {
    let mut unchanged = REDRAW;
    while !ended.load(Ordering::Relaxed) && !is_gone(PollFlags::empty(), Duration::ZERO) {
        if unchanged >= REDRAW {
            match terminal.draw(|frame| view::draw(top, Moment::now(), frame)) {
                Err(_) if is_gone(PollFlags::empty(), Duration::ZERO) => return Ok(()),
                drawn => drawn.context("cannot write to the terminal")?,
            };
            unchanged = 0;
        }
        unchanged += 1;
        match keys.recv_timeout(TURN) {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release && top.press(key) == Flow::Quit => {
                return Ok(());
            }
            Ok(_) => unchanged = REDRAW,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        while let Ok(answer) = feed.answers.try_recv() {
            top.take(answer);
            unchanged = REDRAW;
        }
    }
    Ok(())
}

/// Whether the terminal has hung up, waiting until it has, or has what is asked for, or time is up. The signal of a hang-up may
/// go to others: a terminal tells the session that it controls.
fn is_gone(asked: PollFlags, within: Duration) -> bool {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(&stdin, asked)];
    let within = Timespec::try_from(within).unwrap_or_default();
    // Interrupted, it says nothing.
    let _ = poll(&mut polled, Some(&within));
    let end = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    polled[0].revents().intersects(end)
}

/// A terminal that goes away (SSH) hangs up.
fn wait_for_signal(ended: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
        ];
        let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hang_up)] = kinds.map(signal) else {
            return;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
        ended.store(true, Ordering::Relaxed);
    });
}
