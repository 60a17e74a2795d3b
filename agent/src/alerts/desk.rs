//! What the tasks of the receivers share: the book with its journal, and what is counted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::book::{Book, Entry};
use super::client::Reason;
use super::journal::Journal;
use crate::storms::Moment;

/// What kind of receiver; label `sink`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sink {
    Alertmanager,
    Webhook,
}

impl Sink {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Alertmanager => "alertmanager",
            Self::Webhook => "webhook",
        }
    }
}

/// Why something will never be told; label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loss {
    /// Too much waited.
    QueueFull,
    /// The receiver will not take it.
    Refused,
    /// It could not be told for a day.
    TooOld,
    /// The receiver has left the configuration.
    ReceiverRemoved,
}

impl Loss {
    pub(super) const ALL: [Self; 4] = [
        Self::QueueFull,
        Self::Refused,
        Self::TooOld,
        Self::ReceiverRemoved,
    ];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Refused => "refused",
            Self::TooOld => "too_old",
            Self::ReceiverRemoved => "receiver_removed",
        }
    }
}

/// What was counted for a receiver since the agent began.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) failed: BTreeMap<Reason, u64>,
    pub(super) dropped: BTreeMap<Loss, u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    clock: Clock,
    kept: Mutex<Kept>,
    counts: Mutex<BTreeMap<(Sink, String), Counts>>,
    changes: watch::Sender<u64>,
    /// Held while a receiver is spoken to: after a reload its old task may still be.
    speaking: Mutex<BTreeMap<(Sink, String), Turn>>,
}

/// The right to speak to a receiver: whoever holds the lock has it.
type Turn = Arc<tokio::sync::Mutex<()>>;

#[derive(Debug)]
struct Kept {
    book: Book,
    journal: Option<Journal>,
    errors: u64,
}

/// The wall clock at the start, and the monotonic one since.
#[derive(Debug)]
struct Clock {
    started: Instant,
    at_start: Duration,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            clock: Clock {
                started: Instant::now(),
                at_start: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            },
            kept: Mutex::new(Kept {
                book: Book::default(),
                journal: None,
                errors: 0,
            }),
            counts: Mutex::default(),
            changes: watch::Sender::new(0),
            speaking: Mutex::default(),
        }
    }

    /// Time since 1970 began; it never steps back.
    pub(super) fn since_1970(&self) -> Duration {
        self.clock.at_start + self.clock.started.elapsed()
    }

    pub(super) fn now(&self) -> Moment {
        self.moment(Instant::now())
    }

    /// The moment that was `then`.
    pub(super) fn moment(&self, then: Instant) -> Moment {
        let since = self.clock.at_start + then.saturating_duration_since(self.clock.started);
        Moment(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Takes up the journal of a folder, once. Returns the storms that went on when the last agent ended.
    pub(super) fn open(&self, dir: &Path) -> Vec<String> {
        let mut kept = lock(&self.kept);
        if kept.journal.is_some() {
            return Vec::new();
        }
        match Journal::open(dir) {
            Ok(found) => {
                if found.damaged > 0 {
                    kept.errors += found.damaged as u64;
                    tracing::error!(
                        lines = found.damaged,
                        dir = %dir.display(),
                        "lines of the journal of alerts are damaged: what they said may be told twice, or not at all"
                    );
                }
                kept.book = found.book;
                kept.journal = Some(found.journal);
                kept.book.going_on()
            }
            Err(error) => {
                kept.errors += 1;
                tracing::error!(
                    dir = %dir.display(),
                    %error,
                    "cannot keep the journal of alerts: what is not told yet when the agent ends is lost; \
                     let stormglass write there, or change `alerts.dir`"
                );
                Vec::new()
            }
        }
    }

    /// Lets go of the journal: another agent may take it up.
    pub(super) fn close(&self) {
        lock(&self.kept).journal = None;
    }

    /// Makes a change, keeps it, and wakes whoever waits for one.
    pub(super) fn enter(&self, entry: &Entry) {
        let mut kept = lock(&self.kept);
        let Kept {
            book,
            journal,
            errors,
        } = &mut *kept;
        let full = book.apply(entry.clone());
        if let Some(Err(error)) = journal.as_mut().map(|journal| journal.add(entry, book)) {
            *errors += 1;
            tracing::error!(%error, "cannot write the journal of alerts");
        }
        drop(kept);
        for webhook in full {
            self.lose(Sink::Webhook, &webhook, Loss::QueueFull, 1);
        }
        self.changes.send_modify(|change| *change += 1);
    }

    /// Leaves out receivers that the configuration has no more.
    pub(super) fn keep_only(&self, webhooks: &[String], managers: &[String]) {
        let mut kept = lock(&self.kept);
        let Kept {
            book,
            journal,
            errors,
        } = &mut *kept;
        let before = book.clone();
        let lost = book.keep_only(webhooks, managers);
        if *book != before
            && let Some(Err(error)) = journal.as_mut().map(|journal| journal.rewrite(book))
        {
            *errors += 1;
            tracing::error!(%error, "cannot write the journal of alerts");
        }
        drop(kept);
        for (webhook, count) in lost {
            self.lose(Sink::Webhook, &webhook, Loss::ReceiverRemoved, count as u64);
        }
    }

    /// Looks at the book.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&lock(&self.kept).book)
    }

    pub(super) fn journal_errors(&self) -> u64 {
        lock(&self.kept).errors
    }

    /// Tells of every change of the book.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The right to speak to a receiver.
    pub(super) fn speaking(&self, sink: Sink, name: &str) -> Turn {
        let mut speaking = lock(&self.speaking);
        Arc::clone(speaking.entry((sink, name.to_owned())).or_default())
    }

    pub(super) fn counts(&self, sink: Sink, name: &str) -> Counts {
        let counts = lock(&self.counts);
        counts.get(&(sink, name.to_owned())).cloned().unwrap_or_default()
    }

    pub(super) fn sent(&self, sink: Sink, name: &str) {
        self.count(sink, name, |counts| counts.sent += 1);
    }

    pub(super) fn failed(&self, sink: Sink, name: &str, reason: Reason) {
        self.count(sink, name, |counts| {
            *counts.failed.entry(reason).or_default() += 1;
        });
    }

    pub(super) fn lose(&self, sink: Sink, name: &str, loss: Loss, count: u64) {
        tracing::error!(
            sink = sink.label(),
            receiver = name,
            reason = loss.label(),
            count,
            "alerts are lost"
        );
        self.count(sink, name, |counts| {
            *counts.dropped.entry(loss).or_default() += count;
        });
    }

    fn count(&self, sink: Sink, name: &str, change: impl FnOnce(&mut Counts)) {
        change(lock(&self.counts).entry((sink, name.to_owned())).or_default());
    }
}

/// A panic elsewhere leaves the book as it was before, or after, a whole change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
