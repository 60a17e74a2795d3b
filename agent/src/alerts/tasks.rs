//! The tasks that talk to receivers, one for each.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use tokio::sync::watch;
use tokio::time::sleep;

use super::alertmanager::{self, Pace, Post, Sent};
use super::backoff::Backoff;
use super::book::{Entry, GIVE_UP_MILLISECONDS};
use super::client::{Client, Failure, Reason};
use super::desk::{Desk, Loss, Sink};
use super::notice::Notice;
use super::text::Identity;
use super::webhook;
use crate::config::{Alertmanager, Webhook};

/// Where Alertmanager takes alerts, behind its base.
const ALERTS_PATH: &str = "/api/v2/alerts";

/// Told when a task is to end: between two requests.
pub(super) type Stop = watch::Receiver<bool>;

/// Tells a webhook everything in order.
pub(super) async fn webhook(desk: Arc<Desk>, webhook: Webhook, identity: Identity, mut stop: Stop) {
    let name = &webhook.receiver.name;
    let speaking = desk.speaking(Sink::Webhook, name);
    let mut changes = desk.changes();
    let mut backoff = Backoff::default();
    let mut client = None;
    while !*stop.borrow() {
        changes.mark_unchanged();
        let Some(notice) = desk.read(|book| book.next(name).cloned()) else {
            tokio::select! {
                _ = changes.changed() => {}
                _ = stop.changed() => {}
            }
            continue;
        };
        let spoken = speaking.lock().await;
        // A task from before a reload may have told it meanwhile.
        if desk.read(|book| book.next(name) != Some(&notice)) {
            continue;
        }
        let told = match opened(&mut client, || Client::new(&webhook.receiver)) {
            Ok(client) => webhook::send(client, &webhook, &notice, &identity, desk.since_1970()).await,
            Err(failure) => Err(failure),
        };
        let wait = match told {
            Ok(()) => {
                desk.sent(Sink::Webhook, name);
                backoff.succeeded();
                desk.enter(&done(name, &notice));
                continue;
            }
            Err(failure) => {
                failed(&desk, Sink::Webhook, name, &failure);
                if let Some(loss) = lost(&desk, &notice, &failure) {
                    desk.lose(Sink::Webhook, name, loss, 1);
                    desk.enter(&done(name, &notice));
                    continue;
                }
                backoff.failed(fastrand::f64(), failure.retry_after)
            }
        };
        drop(spoken);
        tokio::select! {
            () = sleep(wait) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Keeps an Alertmanager in the picture.
pub(super) async fn manager(desk: Arc<Desk>, manager: Alertmanager, identity: Identity, mut stop: Stop) {
    let name = &manager.receiver.name;
    let speaking = desk.speaking(Sink::Alertmanager, name);
    let pace = Pace {
        resend: manager.resend_seconds.get() as u64 * 1000,
        min_firing: manager.min_firing_seconds.get() as u64 * 1000,
    };
    let mut changes = desk.changes();
    let mut backoff = Backoff::default();
    let mut client = None;
    let mut sent: Option<Sent> = None;
    while !*stop.borrow() {
        changes.mark_unchanged();
        let spoken = speaking.lock().await;
        let now = desk.now();
        let wait = match desk.read(|book| alertmanager::due(book, name, &identity, pace, sent.as_ref(), now))
        {
            Err(next) => next.map(|next| Duration::from_millis(next.since(desk.now()))),
            Ok(post) => {
                let told = match opened(&mut client, || Client::new(&manager.receiver)) {
                    Ok(client) => tell(client, &manager, &post).await,
                    Err(failure) => Err(failure),
                };
                match told {
                    Ok(()) => {
                        desk.sent(Sink::Alertmanager, name);
                        backoff.succeeded();
                        taken(&desk, name, post, &mut sent);
                        continue;
                    }
                    Err(failure) => {
                        failed(&desk, Sink::Alertmanager, name, &failure);
                        drop(spoken);
                        // What comes meanwhile goes with the next attempt.
                        tokio::select! {
                            () = sleep(backoff.failed(fastrand::f64(), failure.retry_after)) => {}
                            _ = stop.changed() => {}
                        }
                        continue;
                    }
                }
            }
        };
        drop(spoken);
        tokio::select! {
            () = sleep(wait.unwrap_or(Duration::MAX)) => {}
            _ = changes.changed() => {}
            _ = stop.changed() => {}
        }
    }
}

async fn tell(client: &Client, manager: &Alertmanager, post: &Post) -> Result<(), Failure> {
    let refused = |words: String| Failure::new(Reason::Refused, words);
    let body = serde_json::to_vec(&post.alerts).map_err(|error| refused(error.to_string()))?;
    let url = manager.receiver.url.join(ALERTS_PATH);
    let url = url.ok_or_else(|| refused("its URL cannot be completed".into()))?;
    client.post(&url, HeaderMap::new(), Bytes::from(body)).await
}

/// Remembers what an Alertmanager has. A resend changes nothing of that.
fn taken(desk: &Desk, name: &str, post: Post, sent: &mut Option<Sent>) {
    let known = desk.read(|book| book.manager(name));
    if known.firing != post.firing {
        desk.enter(&Entry::Taken {
            manager: name.to_owned(),
            at: desk.now(),
            firing: post.firing,
        });
    }
    *sent = Some(post.sent);
}

fn done(webhook: &str, notice: &Notice) -> Entry {
    Entry::Done {
        webhook: webhook.to_owned(),
        storm: notice.storm.id.clone(),
        sequence: notice.sequence,
    }
}

/// Whether there is no point in another attempt.
fn lost(desk: &Desk, notice: &Notice, failure: &Failure) -> Option<Loss> {
    if failure.reason == Reason::Refused {
        Some(Loss::Refused)
    } else if desk.now().since(notice.at) > GIVE_UP_MILLISECONDS {
        Some(Loss::TooOld)
    } else {
        None
    }
}

fn failed(desk: &Desk, sink: Sink, name: &str, failure: &Failure) {
    desk.failed(sink, name, failure.reason);
    tracing::warn!(
        sink = sink.label(),
        receiver = name,
        reason = failure.reason.label(),
        error = failure.words,
        "a receiver of alerts was not told"
    );
}

/// The client, made at the first use: certificates that are not there yet may come.
fn opened(
    client: &mut Option<Client>,
    make: impl FnOnce() -> Result<Client, Failure>,
) -> Result<&Client, Failure> {
    match client {
        Some(client) => Ok(client),
        None => Ok(client.insert(make()?)),
    }
}
