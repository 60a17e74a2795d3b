//! What was told, and what was not: for the metrics.

use super::client::Reason;
use super::desk::{Desk, Loss, Sink};

/// Everything that is counted of alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertsStatus {
    /// Every receiver of the configuration.
    pub receivers: Vec<ReceiverStatus>,
    /// Times that the journal could not be written or was damaged.
    pub journal_errors: u64,
    /// Announced restarts that are good now.
    pub announced: u64,
}

/// One receiver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceiverStatus {
    /// Label `sink`.
    pub sink: &'static str,
    /// Label `receiver`.
    pub receiver: String,
    /// Requests that it has taken.
    pub sent: u64,
    /// Requests that it has not, by reason; each reason is there.
    pub failed: Vec<(&'static str, u64)>,
    /// What it will never be told, by reason; each reason is there.
    pub dropped: Vec<(&'static str, u64)>,
    /// What it is still to be told.
    pub queued: u64,
}

/// `send_expected`: whether announced storms are told.
pub(super) fn receiver(desk: &Desk, sink: Sink, name: &str, send_expected: bool) -> ReceiverStatus {
    let counts = desk.counts(sink, name);
    let queued = match sink {
        Sink::Webhook => desk.read(|book| book.waiting(name)),
        Sink::Alertmanager => desk.read(|book| {
            let manager = book.manager(name);
            let wanted = book.storms().filter(|told| send_expected || !told.storm.expected);
            wanted.filter(|told| manager.has(&told.storm).is_none()).count()
        }),
    };
    let failed = Reason::ALL.map(|reason| (reason.label(), counts.failed.get(&reason).copied().unwrap_or(0)));
    let dropped = Loss::ALL.map(|loss| (loss.label(), counts.dropped.get(&loss).copied().unwrap_or(0)));
    ReceiverStatus {
        sink: sink.label(),
        receiver: name.to_owned(),
        sent: counts.sent,
        failed: failed.into(),
        dropped: dropped.into(),
        queued: queued as u64,
    }
}
