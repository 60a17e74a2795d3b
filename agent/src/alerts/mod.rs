//! Telling of storms: Alertmanager, webhooks, the log. docs/ALERTS.md says what receivers can rely on.
//!
//! | file | what it knows |
//! |---|---|
//! | `notice` | when there is something to tell of a storm |
//! | `book` | what is to be told to whom, and what they have |
//! | `journal` | the book on disk |
//! | `alertmanager` | what an Alertmanager is to be told now |
//! | `webhook` | what a webhook is sent |
//! | `text` | words for people |
//! | `backoff` | how long to wait after a failure |
//! | `client`, `tasks` | requests, and who makes them |
//! | `desk` | what the tasks share |
//! | `announced` | restarts that somebody has announced |
//! | `aside` | files that are replaced as a whole |
//!
//! `notice`, `book`, `alertmanager`, `text` and `backoff` are pure: a moment comes in, no clock, no I/O.
#![forbid(unsafe_code)]

mod alertmanager;
mod announced;
mod aside;
mod backoff;
mod book;
mod client;
mod desk;
mod journal;
mod notice;
pub mod runbooks;
mod status;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod text;
mod webhook;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::book::{Entry, REFOUND_MILLISECONDS};
use self::desk::{Desk, Loss, Sink};
use self::notice::{Happening, Notice};
use self::text::Identity;
use crate::storms::{Moment, Severity, Storm};
use crate::{config, privileges};

pub use self::announced::{Announcement, Announcements, LONGEST, Refused};
pub use self::status::{AlertsStatus, ReceiverStatus};

/// What may wait for the thread of alerts: it writes to the disk between two.
const WAITING: usize = 4096;

/// How often the book is looked through for what is over.
const TIDY: Duration = Duration::from_secs(1);

/// How long requests under way may take when the agent ends.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Name of this host, as the kernel has it.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// Name of this host; empty if there is none to be read.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string(HOSTNAME).unwrap_or_default();
    name.trim().to_owned()
}

/// Takes storms and tells of them. Clones are the same.
#[derive(Debug, Clone)]
pub struct Alerts {
    commands: mpsc::Sender<Command>,
    desk: Arc<Desk>,
    announcements: Arc<Announcements>,
    /// For the metrics: who is told now.
    settings: Arc<Mutex<config::Alerts>>,
}

/// The thread that tells.
#[derive(Debug)]
pub struct Teller {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
enum Command {
    Tell(Box<Storm>, Moment),
    Reload(Box<config::Alerts>),
}

impl Alerts {
    /// Starts telling. `listen`: where the agent's own pages are.
    ///
    /// # Errors
    ///
    /// There is no thread to be had. A journal that cannot be written is no error: it is logged and counted.
    pub fn start(settings: &config::Alerts, listen: SocketAddr) -> io::Result<(Self, Teller)> {
        let desk = Arc::new(Desk::new());
        let (commands, inbox) = mpsc::channel(WAITING);
        let (stop, stopped) = oneshot::channel();
        let alerts = Self {
            commands,
            announcements: Arc::new(Announcements::open(&settings.dir, desk.now())),
            desk: Arc::clone(&desk),
            settings: Arc::new(Mutex::new(settings.clone())),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut office = Office::new(desk, settings.clone(), listen);
        let thread = thread::Builder::new()
            .name("alerts".into())
            .spawn(privileges::without(move || {
                runtime.block_on(office.run(inbox, stopped));
            }))?;
        Ok((alerts, Teller { stop, thread }))
    }

    /// Takes a storm that began, went on or ended. Never waits.
    pub fn tell(&self, storm: &Storm, now: Moment) {
        let command = Command::Tell(Box::new(storm.clone()), now);
        if let Err(error) = self.commands.try_send(command) {
            tracing::error!(storm = storm.id, %error, "a storm is not told");
            self.for_receivers(|sink, name| self.desk.lose(sink, name, Loss::QueueFull, 1));
        }
    }

    /// Other receivers from now on.
    pub fn reload(&self, settings: &config::Alerts) {
        let mut known = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == *settings {
            return;
        }
        known.clone_from(settings);
        drop(known);
        if self
            .commands
            .try_send(Command::Reload(Box::new(settings.clone())))
            .is_err()
        {
            tracing::error!("the receivers of alerts stay as they were: reload again");
        }
    }

    /// Restarts that somebody has announced.
    #[must_use]
    pub fn announcements(&self) -> &Arc<Announcements> {
        &self.announcements
    }

    /// The moment that was `then`, on the clock of storms and announcements: that of the wall at the start, which never steps back.
    #[must_use]
    pub fn moment(&self, then: Instant) -> Moment {
        self.desk.moment(then)
    }

    /// The moment, on the same clock.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.desk.now()
    }

    /// What was told, and what was not.
    #[must_use]
    pub fn status(&self) -> AlertsStatus {
        let send_expected = self
            .settings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .send_expected;
        let mut receivers = Vec::new();
        self.for_receivers(|sink, name| {
            receivers.push(status::receiver(&self.desk, sink, name, send_expected));
        });
        AlertsStatus {
            receivers,
            journal_errors: self.desk.journal_errors(),
            announced: self.announcements.list(self.now()).len() as u64,
        }
    }

    fn for_receivers(&self, mut each: impl FnMut(Sink, &str)) {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        for manager in &settings.alertmanagers {
            each(Sink::Alertmanager, &manager.receiver.name);
        }
        for webhook in &settings.webhooks {
            each(Sink::Webhook, &webhook.receiver.name);
        }
    }
}

impl Teller {
    /// Ends it. What was not told yet is told after the next start.
    pub fn stop(self) {
        // It may have ended by itself.
        _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the thread of alerts panicked; this is a defect of stormglass");
        }
    }
}

/// What the thread of alerts works with.
struct Office {
    desk: Arc<Desk>,
    settings: config::Alerts,
    listen: SocketAddr,
    host: String,
    identity: Identity,
    webhooks: Vec<String>,
    managers: Vec<String>,
    /// Storms that went on when the last agent ended.
    orphans: Vec<String>,
    started: Moment,
    tasks: JoinSet<()>,
    stop_tasks: watch::Sender<bool>,
}

impl Office {
    fn new(desk: Arc<Desk>, settings: config::Alerts, listen: SocketAddr) -> Self {
        let host = host_name();
        Self {
            identity: Identity::new(&settings, &host, listen),
            started: desk.now(),
            desk,
            settings,
            listen,
            host,
            webhooks: Vec::new(),
            managers: Vec::new(),
            orphans: Vec::new(),
            tasks: JoinSet::new(),
            stop_tasks: watch::Sender::new(false),
        }
    }

    async fn run(&mut self, mut inbox: mpsc::Receiver<Command>, mut stopped: oneshot::Receiver<()>) {
        self.employ();
        let mut tidy = interval(TIDY);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = &mut stopped => break,
                command = inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                _ = tidy.tick() => self.tidy(),
                Some(_) = self.tasks.join_next() => {}
            }
        }
        // What has come is kept; it is told by the next agent if not at once.
        while let Ok(command) = inbox.try_recv() {
            self.obey(command);
        }
        self.stop_tasks.send_replace(true);
        _ = timeout(LAST_WORDS, async {
            while self.tasks.join_next().await.is_some() {}
        })
        .await;
        self.tasks.abort_all();
        self.desk.close();
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Tell(storm, now) => self.tell(&storm, now),
            Command::Reload(settings) => {
                self.settings = *settings;
                self.identity = Identity::new(&self.settings, &self.host, self.listen);
                self.employ();
            }
        }
    }

    /// A task for each receiver of the configuration, instead of those that there are.
    fn employ(&mut self) {
        let names = |receivers: Vec<&config::Receiver>| {
            receivers.iter().map(|receiver| receiver.name.clone()).collect()
        };
        self.webhooks = names(
            self.settings
                .webhooks
                .iter()
                .map(|webhook| &webhook.receiver)
                .collect(),
        );
        self.managers = names(
            self.settings
                .alertmanagers
                .iter()
                .map(|manager| &manager.receiver)
                .collect(),
        );
        if !self.webhooks.is_empty() || !self.managers.is_empty() {
            self.orphans.extend(self.desk.open(&self.settings.dir));
        }
        self.desk.keep_only(&self.webhooks, &self.managers);
        // Old ones end after the request that they are making.
        self.stop_tasks.send_replace(true);
        self.stop_tasks = watch::Sender::new(false);
        for webhook in self.settings.webhooks.clone() {
            let (identity, stop) = (self.identity.clone(), self.stop_tasks.subscribe());
            self.tasks
                .spawn(tasks::webhook(Arc::clone(&self.desk), webhook, identity, stop));
        }
        for manager in self.settings.alertmanagers.clone() {
            let (identity, stop) = (self.identity.clone(), self.stop_tasks.subscribe());
            self.tasks
                .spawn(tasks::manager(Arc::clone(&self.desk), manager, identity, stop));
        }
    }

    fn tell(&mut self, storm: &Storm, now: Moment) {
        let quiet = self.identity.is_quiet();
        let entry = self
            .desk
            .read(|book| book.notice(storm, now, &self.webhooks, quiet));
        let Some(entry) = entry else { return };
        // What went on here before the restart is this one.
        if matches!(&entry, Entry::Notice { notice, .. } if notice.event == Happening::Started) {
            self.end_unseen(Some(&storm.server));
        }
        self.enter(&entry);
    }

    fn enter(&self, entry: &Entry) {
        if let Entry::Notice { notice, .. } = entry {
            log(notice);
        }
        self.desk.enter(entry);
    }

    /// Ends the storms from before the restart, at a server or all.
    fn end_unseen(&mut self, server: Option<&str>) {
        if self.orphans.is_empty() {
            return;
        }
        let (now, quiet) = (self.desk.now(), self.identity.is_quiet());
        let ends = self
            .desk
            .read(|book| book.unseen_ends(&self.orphans, server, now, self.started, &self.webhooks, quiet));
        for end in ends {
            self.enter(&end);
        }
        let on = self.desk.read(book::Book::going_on);
        self.orphans.retain(|id| on.contains(id));
    }

    fn tidy(&mut self) {
        let now = self.desk.now();
        if now.since(self.started) >= REFOUND_MILLISECONDS {
            self.end_unseen(None);
        }
        let wanted = |storm: &Storm| self.identity.is_to_be_sent(storm);
        let finished = self.desk.read(|book| book.finished(&self.managers, now, wanted));
        for (storm, lacking) in finished {
            for manager in lacking {
                self.desk.lose(Sink::Alertmanager, &manager, Loss::TooOld, 1);
            }
            self.desk.enter(&Entry::Forgotten { storm });
        }
    }
}

/// The line of the log that a notice is: a warning for a beginning and for what gets worse, unless somebody announced it.
fn log(notice: &Notice) {
    let storm = &notice.storm;
    let kinds: Vec<_> = storm.kinds.iter().map(|kind| kind.label()).collect();
    let culprits: Vec<_> = storm
        .culprits
        .iter()
        .map(|culprit| culprit.name.as_str())
        .collect();
    let (kinds, culprits) = (kinds.join(","), culprits.join(","));
    let until = storm.ended.unwrap_or(notice.at);
    // The level is part of what a line is to tracing: one macro for each.
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                id = storm.id,
                sequence = notice.sequence,
                event = notice.event.label(),
                server = storm.server,
                kind = storm.kind.label(),
                kinds,
                severity = storm.severity.label(),
                expected = storm.expected,
                culprits,
                seconds = until.since(storm.onset) as f64 / 1e3,
                "storm {}: {}",
                notice.event.label(),
                storm.summary
            )
        };
    }
    if notice.event == Happening::Ended || storm.expected || storm.severity == Severity::Info {
        line!(info);
    } else {
        line!(warn);
    }
}
