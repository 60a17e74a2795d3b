//! All detectors at all servers, and what becomes of their findings: one storm per server at a time, with a beginning and an
//! end, however ragged it is and however many kinds it has.

use std::collections::{BTreeMap, VecDeque};

use super::accept_queue_saturation::AcceptQueueSaturation;
use super::changes::{Changes, Quiet, duration, sentence};
use super::cold_reconnect::ColdReconnect;
use super::connection_growth::ConnectionGrowth;
use super::course::{Course, Tick};
use super::expectation::Expectation;
use super::finding::{Detector, Finding, Scene};
use super::maxclients_rejection::MaxclientsRejection;
use super::observation::{Detail, Observation};
use super::reconnect_churn::ReconnectChurn;
use super::storm::{Culprit, Kind, Moment, Storm};
use crate::config::Storms;

/// A storm is over when nothing was found for so long: what begins again before is the same one.
const HOLD_MILLISECONDS: u64 = 10_000;

/// How long the clients of a suspected server are not looked at again: first, and once that has lasted for a while.
const DETAIL_MILLISECONDS: u64 = 300;
const LATER_DETAIL_MILLISECONDS: u64 = 2_000;
const A_WHILE_MILLISECONDS: u64 = 3_000;

/// After so long, what goes on is learned as usual: somebody has had the time to see it.
const NEW_USUAL_MILLISECONDS: u64 = 900_000;

/// How often the figures of a storm that goes on are told.
const PROGRESS_MILLISECONDS: u64 = 10_000;

/// Storms that are over and still shown, over all servers.
const MEMORY: usize = 100;

/// What has become of a storm.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It was found.
    Started(Storm),
    /// Another kind joined, it got worse, somebody else leads, or ten seconds have passed.
    Changed(Storm),
    /// It is over.
    Ended(Storm),
}

impl Event {
    /// The storm, as it is now.
    #[must_use]
    pub const fn storm(&self) -> &Storm {
        match self {
            Self::Started(storm) | Self::Changed(storm) | Self::Ended(storm) => storm,
        }
    }
}

/// Every server's detectors.
#[derive(Debug, Default)]
pub struct Engine {
    settings: Storms,
    servers: BTreeMap<String, Server>,
    expectations: Vec<Expectation>,
    /// The latest last.
    over: VecDeque<Storm>,
    counts: BTreeMap<(String, Kind), u64>,
    number: u64,
}

#[derive(Debug)]
struct Server {
    course: Course,
    quiet: Quiet,
    detectors: Vec<Box<dyn Detector>>,
    changes: Option<Changes>,
    /// Since when something is suspected, and when the clients were looked at.
    suspected: Option<Moment>,
    looked: Option<Moment>,
    storm: Option<Active>,
}

#[derive(Debug)]
struct Active {
    storm: Storm,
    last_found: Moment,
    told: Moment,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            course: Course::default(),
            quiet: Quiet::default(),
            // In the order of `Kind::ALL`: those that lead are asked first, and others heed what they found.
            detectors: vec![
                Box::new(ReconnectChurn::default()),
                Box::new(ColdReconnect::default()),
                Box::new(MaxclientsRejection::default()),
                Box::new(AcceptQueueSaturation::default()),
                Box::new(ConnectionGrowth::default()),
            ],
            changes: None,
            suspected: None,
            looked: None,
            storm: None,
        }
    }
}

impl Engine {
    /// Has seen nothing yet.
    #[must_use]
    pub const fn new(settings: Storms) -> Self {
        Self {
            settings,
            servers: BTreeMap::new(),
            expectations: Vec::new(),
            over: VecDeque::new(),
            counts: BTreeMap::new(),
            number: 0,
        }
    }

    /// Other thresholds from now on; what was learned stays.
    pub const fn configure(&mut self, settings: Storms) {
        self.settings = settings;
    }

    /// Storms found from now on that one of these covers are expected.
    pub fn expect(&mut self, expectations: Vec<Expectation>) {
        self.expectations = expectations;
    }

    /// The clients of a server, looked at because it was time to; every ten seconds or so. What they are while something is
    /// suspected is not taken for usual.
    pub fn remember(&mut self, server: &str, now: Moment, detail: &Detail) {
        if let Some(server) = self
            .servers
            .get_mut(server)
            .filter(|server| server.suspected.is_none())
        {
            server.quiet.remember(now, detail);
        }
    }

    /// Takes the counters of a server, every 100 ms. `detail` tells who its clients are; it is called when that is needed, and
    /// may have no answer.
    pub fn observe(
        &mut self,
        label: &str,
        now: Moment,
        seen: &Observation,
        detail: &mut dyn FnMut() -> Option<Detail>,
    ) -> Vec<Event> {
        if !self.servers.contains_key(label) {
            self.servers.insert(label.to_owned(), Server::default());
        }
        let Some(server) = self.servers.get_mut(label) else {
            return Vec::new();
        };
        let Some(tick) = server.course.advance(now, seen) else {
            return Vec::new();
        };
        let findings = server.look(now, &tick, &self.settings, detail);
        let mut events = self.judge(label, now, &findings);
        self.mark_expected(&mut events);
        events
    }

    /// A server is gone. A storm of it is over.
    pub fn forget(&mut self, label: &str, now: Moment) -> Vec<Event> {
        let storm = self.servers.remove(label).and_then(|server| server.storm);
        let ended = storm.map(|active| self.end(active, now));
        self.counts.retain(|(server, _), _| server != label);
        ended.into_iter().collect()
    }

    /// Storms that go on, by server.
    pub fn active(&self) -> impl Iterator<Item = &Storm> {
        self.servers
            .values()
            .filter_map(|server| Some(&server.storm.as_ref()?.storm))
    }

    /// Storms that are over, the latest first; the last hundred.
    pub fn over(&self) -> impl Iterator<Item = &Storm> {
        self.over.iter().rev()
    }

    /// How many storms of each kind a server has had.
    #[must_use]
    pub fn count(&self, server: &str, kind: Kind) -> u64 {
        self.counts.get(&(server.to_owned(), kind)).copied().unwrap_or(0)
    }

    fn judge(&mut self, label: &str, now: Moment, findings: &[Finding]) -> Vec<Event> {
        let Some(server) = self.servers.get_mut(label) else {
            return Vec::new();
        };
        let Some(active) = &mut server.storm else {
            if findings.is_empty() {
                return Vec::new();
            }
            self.number += 1;
            let mut storm = begun(label, now, self.number);
            let new = merge(&mut storm, now, findings, server.changes.as_ref());
            server.storm = Some(Active {
                storm: storm.clone(),
                last_found: now,
                told: now,
            });
            self.count_kinds(label, &new);
            return vec![Event::Started(storm)];
        };
        if findings.is_empty() {
            if now.since(active.last_found) < HOLD_MILLISECONDS {
                return Vec::new();
            }
            let Some(active) = server.storm.take() else {
                return Vec::new();
            };
            let ended = active.last_found;
            return vec![self.end(active, ended)];
        }
        active.last_found = now;
        let before = (active.storm.severity, leader(&active.storm.culprits).cloned());
        let new = merge(&mut active.storm, now, findings, server.changes.as_ref());
        let after = (active.storm.severity, leader(&active.storm.culprits).cloned());
        let somebody_else = match (&before.1, &after.1) {
            (Some(before), Some(after)) => before.name != after.name,
            (before, after) => before.is_some() != after.is_some(),
        };
        let is_news = !new.is_empty() || before.0 != after.0 || somebody_else;
        if !is_news && now.since(active.told) < PROGRESS_MILLISECONDS {
            return Vec::new();
        }
        active.told = now;
        let storm = active.storm.clone();
        self.count_kinds(label, &new);
        vec![Event::Changed(storm)]
    }

    fn count_kinds(&mut self, label: &str, kinds: &[Kind]) {
        for kind in kinds {
            *self.counts.entry((label.to_owned(), *kind)).or_default() += 1;
        }
    }

    fn end(&mut self, active: Active, at: Moment) -> Event {
        let mut storm = active.storm;
        storm.ended = Some(at);
        self.over.push_back(storm.clone());
        if self.over.len() > MEMORY {
            self.over.pop_front();
        }
        Event::Ended(storm)
    }

    /// A storm is expected once somebody's announcement covers it; who leads may be known later than the storm.
    fn mark_expected(&mut self, events: &mut [Event]) {
        for event in events {
            let (Event::Started(storm) | Event::Changed(storm) | Event::Ended(storm)) = event;
            storm.expected |= self
                .expectations
                .iter()
                .any(|expectation| expectation.covers(storm));
            let active = self
                .servers
                .get_mut(&storm.server)
                .and_then(|server| server.storm.as_mut());
            if let Some(active) = active.filter(|active| active.storm.id == storm.id) {
                active.storm.expected = storm.expected;
            }
        }
    }
}

impl Server {
    /// What every detector finds in this tick.
    fn look(
        &mut self,
        now: Moment,
        tick: &Tick,
        settings: &Storms,
        detail: &mut dyn FnMut() -> Option<Detail>,
    ) -> Vec<Finding> {
        let storm = self.storm.as_ref().map(|active| &active.storm);
        let mut scene = Scene {
            now,
            tick,
            course: &self.course,
            changes: None,
            settings,
            found: storm.map(|storm| storm.kinds.clone()).unwrap_or_default(),
        };
        let mut suspicious = false;
        for detector in &mut self.detectors {
            suspicious |= settings.is_enabled(detector.kind()) && detector.note(&scene);
        }
        if suspicious {
            let since = *self.suspected.get_or_insert(now);
            let rest = if now.since(since) < A_WHILE_MILLISECONDS {
                DETAIL_MILLISECONDS
            } else {
                LATER_DETAIL_MILLISECONDS
            };
            if self.looked.is_none_or(|looked| now.since(looked) >= rest) {
                self.looked = Some(now);
                if let Some(detail) = detail() {
                    self.changes = Some(self.quiet.changes(now, &detail));
                }
            }
        } else if self.storm.is_none() {
            (self.suspected, self.looked, self.changes) = (None, None, None);
        }
        scene.changes = self.changes.as_ref();
        let mut findings = Vec::new();
        for detector in &mut self.detectors {
            if !settings.is_enabled(detector.kind()) {
                continue;
            }
            if let Some(finding) = detector.judge(&scene) {
                scene.found.push(finding.kind);
                findings.push(finding);
            }
        }
        let long = self
            .suspected
            .is_some_and(|since| now.since(since) > NEW_USUAL_MILLISECONDS);
        let unusual = suspicious || self.storm.is_some() || !findings.is_empty();
        self.course.usual.learn(tick, unusual && !long);
        findings
    }
}

fn begun(label: &str, now: Moment, number: u64) -> Storm {
    Storm {
        id: format!("{}-{number}", now.0),
        server: label.to_owned(),
        kind: Kind::ErrorBurst,
        kinds: Vec::new(),
        severity: super::Severity::Info,
        onset: now,
        found: now,
        ended: None,
        expected: false,
        summary: String::new(),
        evidence: Vec::new(),
        culprits: Vec::new(),
    }
}

/// Takes findings into a storm. Returns the kinds that are new to it. The leading kind is the first of all it has had; its
/// figures, and those of the others behind it, are the last ones found.
fn merge(storm: &mut Storm, now: Moment, findings: &[Finding], changes: Option<&Changes>) -> Vec<Kind> {
    let new: Vec<Kind> = findings
        .iter()
        .map(|finding| finding.kind)
        .filter(|kind| !storm.kinds.contains(kind))
        .collect();
    storm.kinds.extend(&new);
    storm.kinds.sort_unstable();
    if let Some(leading) = storm.kinds.first() {
        storm.kind = *leading;
    }
    for finding in findings {
        storm.severity = storm.severity.max(finding.severity);
        storm.onset = storm.onset.min(finding.onset);
    }
    // While the leading kind pauses, its last figures stand.
    let Some(lead) = findings.iter().find(|finding| finding.kind == storm.kind) else {
        return new;
    };
    storm.evidence.clone_from(&lead.evidence);
    for figure in findings.iter().flat_map(|finding| &finding.evidence) {
        if !storm.evidence.iter().any(|known| known.name == figure.name) {
            storm.evidence.push(figure.clone());
        }
    }
    let culprits = changes
        .map(|changes| changes.culprits(lead.measure))
        .unwrap_or_default();
    if !culprits.is_empty() {
        storm.culprits = culprits;
    }
    let seconds = now.since(lead.onset) as f64 / 1e3;
    let told = sentence(lead.noun, lead.amount, seconds, &storm.culprits);
    storm.summary = format!("{}: {told}", named(lead));
    new
}

/// The kind in words, with what a person asks first.
fn named(finding: &Finding) -> String {
    let words = finding.kind.label().replace('_', " ");
    let time_left = finding.evidence.iter().find(|figure| figure.name == "time_left");
    match time_left {
        Some(left) => format!("{words}, {} left", duration(left.value)),
        None => words,
    }
}

fn leader(culprits: &[Culprit]) -> Option<&Culprit> {
    culprits.first()
}
