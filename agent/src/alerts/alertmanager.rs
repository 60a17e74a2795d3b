//! What an Alertmanager is to be told at a moment: every alert that fires, again and again, and those that have ended once.
//!
//! An alert is its labels, and `kind` and `severity` are among them, for routes and pages depend on both. A storm has one alert at a
//! time all the same: when it gets worse, or another kind leads, the request that brings the new alert resolves the old one.

use std::collections::BTreeMap;

use serde::Serialize;

use super::book::{Book, Firing, Labels, Manager, Shape};
use super::notice::Told;
use super::text::{self, Identity};
use crate::storms::{Moment, Storm};
use crate::time::utc_milliseconds;

/// An alert that is not sent again is resolved by Alertmanager after so many intervals: what Prometheus does.
const LIFE_IN_INTERVALS: u64 = 4;

/// Name of every alert.
const NAME: &str = "StormglassStorm";

/// How an Alertmanager is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Alerts that go on are sent again after so many milliseconds.
    pub(super) resend: u64,
    /// Alerts stay for so many milliseconds, at least, after they were taken: Alertmanager never tells of one that has ended before
    /// its `group_wait` is over.
    pub(super) min_firing: u64,
}

/// What it was told last.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sent {
    at: Moment,
    firing: Vec<(Labels, Revision)>,
}

/// Which storms an alert tells of, and the last notice of each.
type Revision = Vec<(String, u32)>;

/// A request to make.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Post {
    pub(super) alerts: Vec<Alert>,
    /// What fires there once it is taken.
    pub(super) firing: Vec<Firing>,
    /// What to remember then.
    pub(super) sent: Sent,
}

/// As `POST /api/v2/alerts` takes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Alert {
    labels: Labels,
    annotations: BTreeMap<&'static str, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
}

/// What to post now, or when to look again unless something changes; `None`: only then.
pub(super) fn due(
    book: &Book,
    name: &str,
    identity: &Identity,
    pace: Pace,
    sent: Option<&Sent>,
    now: Moment,
) -> Result<Post, Option<Moment>> {
    let manager = book.manager(name);
    let wanted = wanted(book, &manager, identity, pace, now);
    let firing: Vec<(Labels, Revision)> = wanted
        .iter()
        .map(|(labels, storms)| (labels.clone(), revision(storms)))
        .collect();
    let resolved = manager
        .firing
        .iter()
        .filter(|alert| !wanted.contains_key(&alert.labels));
    let resolved: Vec<_> = resolved.collect();
    let unchanged = sent.is_some_and(|sent| sent.firing == firing && now.since(sent.at) < pace.resend);
    if resolved.is_empty() && (unchanged || firing.is_empty()) {
        return Err(later(
            book,
            &manager,
            pace,
            sent.filter(|_| !firing.is_empty()),
            now,
        ));
    }
    let ends = Moment(now.0 + pace.resend * LIFE_IN_INTERVALS);
    let fires = wanted.iter().filter_map(|(labels, storms)| {
        let shown = storms.first()?;
        Some(alert(labels, &shown.storm, identity, ends))
    });
    let ended = resolved.iter().map(|gone| over(gone, book, identity, now));
    Ok(Post {
        alerts: fires.chain(ended).collect(),
        firing: wanted
            .iter()
            .map(|(labels, storms)| record(labels, storms))
            .collect(),
        sent: Sent { at: now, firing },
    })
}

/// The alerts that are to fire, each with its storms: those that go on first, then the latest first.
fn wanted<'a>(
    book: &'a Book,
    manager: &Manager,
    identity: &Identity,
    pace: Pace,
    now: Moment,
) -> BTreeMap<Labels, Vec<&'a Told>> {
    let mut wanted: BTreeMap<Labels, Vec<&Told>> = BTreeMap::new();
    let told = book.storms().filter(|told| identity.is_to_be_sent(&told.storm));
    for told in told.filter(|told| fires(&told.storm, manager, pace, now)) {
        wanted
            .entry(labels(&told.storm, identity))
            .or_default()
            .push(told);
    }
    for storms in wanted.values_mut() {
        storms.sort_by_key(|told| (told.storm.ended.is_some(), std::cmp::Reverse(told.storm.found)));
    }
    wanted
}

/// A storm fires while it goes on; one that is over until the Alertmanager has had it for a while.
fn fires(storm: &Storm, manager: &Manager, pace: Pace, now: Moment) -> bool {
    storm.ended.is_none()
        || manager
            .has(storm)
            .is_none_or(|since| now.since(since) < pace.min_firing)
}

/// When something is due without anything new: a resend, or the end of an alert that was held.
fn later(book: &Book, manager: &Manager, pace: Pace, sent: Option<&Sent>, now: Moment) -> Option<Moment> {
    let ended = book.storms().filter(|told| told.storm.ended.is_some());
    let held = ended.filter_map(|told| Some(Moment(manager.has(&told.storm)?.0 + pace.min_firing)));
    let resend = sent.map(|sent| Moment(sent.at.0 + pace.resend));
    held.filter(|until| *until > now).chain(resend).min()
}

fn revision(storms: &[&Told]) -> Revision {
    let revisions = storms.iter().map(|told| (told.storm.id.clone(), told.sequence));
    revisions.collect()
}

fn record(labels: &Labels, storms: &[&Told]) -> Firing {
    let starts = storms.iter().map(|told| told.storm.onset).min();
    Firing {
        labels: labels.clone(),
        starts: starts.unwrap_or_default(),
        storms: storms
            .iter()
            .map(|told| (told.storm.id.clone(), Shape::of(&told.storm)))
            .collect(),
    }
}

fn labels(storm: &Storm, identity: &Identity) -> Labels {
    let mut labels = identity.labels.clone();
    labels.extend([
        ("alertname".into(), NAME.into()),
        ("kind".into(), storm.kind.label().into()),
        ("node".into(), identity.node.clone()),
        ("server".into(), storm.server.clone()),
        ("severity".into(), storm.severity.label().into()),
    ]);
    labels
}

fn alert(labels: &Labels, storm: &Storm, identity: &Identity, ends: Moment) -> Alert {
    let mut annotations = BTreeMap::from([
        ("summary", storm.summary.clone()),
        ("description", text::description(storm)),
        ("runbook_url", identity.runbook(storm.kind)),
        ("storm_id", storm.id.clone()),
    ]);
    if storm.expected {
        annotations.insert("expected", "somebody announced it".into());
    }
    Alert {
        labels: labels.clone(),
        annotations,
        starts_at: utc_milliseconds(storm.onset.0),
        ends_at: utc_milliseconds(ends.0),
        generator_url: identity.generator(&storm.id),
    }
}

/// The end of an alert. Its storm ended then, or tells of itself by another alert from now on.
fn over(gone: &Firing, book: &Book, identity: &Identity, now: Moment) -> Alert {
    let told = gone
        .storms
        .iter()
        .find_map(|(id, _)| book.storms().find(|told| told.storm.id == *id));
    let shaped = told.filter(|told| labels(&told.storm, identity) == gone.labels);
    let ended = shaped.and_then(|told| told.storm.ended).unwrap_or(now);
    // An alert that ends before it starts is refused, and one that ends in the future goes on.
    let ends = ended.min(now).max(Moment(gone.starts.0 + 1));
    let (annotations, generator_url) = match told {
        Some(told) => {
            let shown = alert(&gone.labels, &told.storm, identity, ends);
            (shown.annotations, shown.generator_url)
        }
        None => (BTreeMap::new(), String::new()),
    };
    Alert {
        labels: gone.labels.clone(),
        annotations,
        starts_at: utc_milliseconds(gone.starts.0),
        ends_at: utc_milliseconds(ends.0),
        generator_url,
    }
}
