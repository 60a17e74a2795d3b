//! All detectors at all servers, and what becomes of their findings: one storm per server at a time, with a beginning and an
//! end, however ragged it is and however many kinds it has.

use std::collections::{BTreeMap, VecDeque};

use super::accept_queue_saturation::AcceptQueueSaturation;
use super::bandwidth_saturation::BandwidthSaturation;
use super::changes::{Changes, Quiet};
use super::cold_reconnect::ColdReconnect;
use super::connection_growth::ConnectionGrowth;
use super::course::{Course, Tick};
use super::error_burst::ErrorBurst;
use super::expectation::Expectation;
use super::finding::{Detector, Finding, Measure, Scene, TrafficDetector};
use super::hot_prefix::HotPrefix;
use super::maxclients_rejection::MaxclientsRejection;
use super::observation::{Detail, Observation};
use super::oversized_values::OversizedValues;
use super::reconnect_churn::ReconnectChurn;
use super::retry_amplification::RetryAmplification;
use super::storm::{Culprit, Kind, Moment, Severity, Storm};
use super::traffic::{Second, Traffic, UsualTraffic};
use super::words;
use crate::config::Storms;
use crate::tenants::PrefixNames;

/// A storm is over when nothing of it was seen for so long: what begins again before is the same one.
const HOLD_MILLISECONDS: u64 = 10_000;

/// How long the clients of a suspected server are not looked at again, by how long it has been suspected: in the first second, in
/// which it turns out what it is, they are looked at in every tick; so are those of a storm that nobody is known to have made.
const RESTS_MILLISECONDS: [(u64, u64); 3] = [(1_000, 0), (3_000, 300), (u64::MAX, 2_000)];

/// What is suspected began about so long ago.
const LATELY_MILLISECONDS: u64 = 15_000;

/// After so long, what goes on is learned as usual: somebody has had the time to see it.
const NEW_USUAL_MILLISECONDS: u64 = 900_000;

/// How often the figures of a storm that goes on are told.
const PROGRESS_MILLISECONDS: u64 = 10_000;

/// How long nobody is told that somebody else leads.
const LEADER_MILLISECONDS: u64 = 2_000;

/// How long a storm of which it is not known who it is is told nobody, where it may be a workload's whose restart somebody has
/// announced: the clients are looked at in every tick meanwhile.
const HELD_MILLISECONDS: u64 = 1_000;

/// So much larger a share of the whole takes the lead from whoever has it.
const LEAD: f64 = 0.1;

/// Storms that are over and still shown, over all servers.
const MEMORY: usize = 100;

/// What has become of a storm. Whoever tells people, or keeps a record, lives by these, in their order:
///
/// - Of each storm comes one `Started`, any number of `Changed`, one `Ended`, all with the same [`Storm::id`]. A server has one
///   storm at a time, so its `Ended` comes before the next `Started`.
/// - `Started` comes when the storm is `found`; up to a second later if until then it may turn out that somebody announced it.
/// - Each carries the whole storm as it is then: an event that was missed is made up for by the next one.
/// - `kinds` and `severity` only grow, `onset` only gets earlier, `expected` is never taken back. `kind` may become one that
///   stands before it in [`Kind::ALL`]. `evidence`, `culprits` and `summary` are those of the last finding.
/// - `culprits` may be empty in `Started` (a look at the clients was too expensive to be taken at once); when they are known, that
///   is a `Changed` at once.
/// - The engine forgets storms when the agent ends, without an event: whoever remembers them over a restart ends them.
///
/// They are logged once, where people are told (`alerts`); whoever else takes them logs what it does about them.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It was found, and is told from now on.
    Started(Storm),
    /// Another kind joined, it got worse, culprits became known, somebody else leads (for two seconds and by a tenth of the
    /// whole), it turned out to be expected, or ten seconds have passed.
    Changed(Storm),
    /// It is over: nothing of it was seen for ten seconds, or the server is gone. `ended` is set.
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
    /// Under which names prefixes get into storms. What is learned of them goes by their own.
    names: PrefixNames,
}

#[derive(Debug)]
struct Server {
    course: Course,
    quiet: Quiet,
    detectors: Vec<Box<dyn Detector>>,
    clients: Clients,
    commands: Commands,
    storm: Option<Active>,
}

/// What is known of a server's traffic.
#[derive(Debug)]
struct Commands {
    usual: UsualTraffic,
    detectors: Vec<Box<dyn TrafficDetector>>,
    /// Since when something is suspected.
    suspected: Option<Moment>,
    /// Connections that had been closed while a command waited.
    given_up_total: u64,
}

/// Who the clients are while something is suspected.
#[derive(Debug, Default)]
struct Clients {
    /// Since when, and when they were looked at.
    suspected: Option<Moment>,
    looked: Option<Moment>,
    changes: Option<Changes>,
}

impl Clients {
    /// Looks at them, unless that was a moment ago and `is_known` who it is.
    fn look(
        &mut self,
        now: Moment,
        onset: Moment,
        is_known: bool,
        quiet: &Quiet,
        detail: &mut dyn FnMut() -> Option<Detail>,
    ) {
        let since = *self.suspected.get_or_insert(now);
        let suspected = now.since(since);
        let rest = RESTS_MILLISECONDS.iter().find(|(until, _)| suspected < *until);
        let rest = rest.filter(|_| is_known).map_or(0, |(_, rest)| *rest);
        if self.looked.is_some_and(|looked| now.since(looked) < rest) {
            return;
        }
        // Without an answer it is asked again in the next tick.
        if let Some(detail) = detail() {
            self.looked = Some(now);
            self.changes = Some(if is_known {
                quiet.changes(now, onset, &detail)
            } else {
                quiet.changes_before(now, onset, &detail)
            });
        }
    }
}

#[derive(Debug)]
struct Active {
    storm: Storm,
    /// The last finding of each kind.
    findings: BTreeMap<Kind, Finding>,
    /// When something of it was seen for the last time.
    last_seen: Moment,
    /// Nobody has been told yet.
    is_held: bool,
    /// When it was told, and as what.
    told_at: Moment,
    told: Told,
}

/// What is news when it changes.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    kinds: usize,
    severity: Severity,
    expected: bool,
    leader: Option<String>,
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
            clients: Clients::default(),
            commands: Commands::default(),
            storm: None,
        }
    }
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            usual: UsualTraffic::default(),
            detectors: vec![
                Box::new(RetryAmplification::default()),
                Box::new(BandwidthSaturation::default()),
                Box::new(OversizedValues::default()),
                Box::new(HotPrefix::default()),
                Box::new(ErrorBurst::default()),
            ],
            suspected: None,
            given_up_total: 0,
        }
    }
}

impl Engine {
    /// Has seen nothing yet.
    #[must_use]
    pub fn new(settings: Storms) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// Other thresholds from now on; what was learned stays.
    pub const fn configure(&mut self, settings: Storms) {
        self.settings = settings;
    }

    /// Other names for prefixes from now on: in storms that go on, too, each of which is told anew. Those that are over and had a
    /// prefix among their culprits are forgotten.
    pub fn show_prefixes_as(&mut self, names: PrefixNames, now: Moment) -> Vec<Event> {
        if names == self.names {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.names, names);
        self.over
            .retain(|storm| !storm.culprits.iter().any(Culprit::is_prefix));
        let storms = self.servers.values_mut();
        let storms = storms.filter_map(|server| server.storm.as_mut());
        storms
            .filter_map(|active| {
                active.rename_prefixes(&before, &self.names).then(|| {
                    active.tell(now);
                    Event::Changed(active.storm.clone())
                })
            })
            .collect()
    }

    /// Storms found from now on that one of these covers are expected.
    pub fn expect(&mut self, expectations: Vec<Expectation>) {
        self.expectations = expectations;
    }

    /// The clients of a server, looked at because it was time to; every ten seconds or so. What they are while something is
    /// suspected is not taken for usual.
    pub fn remember(&mut self, server: &str, now: Moment, detail: &Detail) {
        if let Some(server) = self.servers.get_mut(server).filter(|server| server.is_quiet()) {
            server.remember(now, detail);
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
        // Whoever is there when the server is met is its usual company until more is known.
        let tick = server.course.advance(now, seen);
        if !server.quiet.has_looked() {
            server.get_to_know(now, detail);
        }
        let Some(tick) = tick else {
            return Vec::new();
        };
        let was_warm = server.course.usual.is_warm();
        let findings = server.look(now, &tick, &self.settings, detail);
        if !was_warm && server.course.usual.is_warm() {
            server.get_to_know(now, detail);
        }
        let event = self.judge(label, now, &findings);
        if let (Some(Event::Ended(_)), Some(server)) = (&event, self.servers.get_mut(label)) {
            // What was done in this storm is nothing that somebody did in the next one.
            server.get_to_know(now, detail);
        }
        event.into_iter().collect()
    }

    /// Takes what the commands of a server have come to, every second.
    pub fn observe_traffic(&mut self, label: &str, now: Moment, traffic: &Traffic) -> Vec<Event> {
        if traffic.milliseconds == 0 {
            return Vec::new();
        }
        if !self.servers.contains_key(label) {
            self.servers.insert(label.to_owned(), Server::default());
        }
        let Some(server) = self.servers.get_mut(label) else {
            return Vec::new();
        };
        let seen = server.course.counted().copied().unwrap_or_default();
        let findings = server.commands.look(now, traffic, &seen, &self.settings);
        self.judge(label, now, &findings).into_iter().collect()
    }

    /// A server is gone. A storm of it is over.
    pub fn forget(&mut self, label: &str, now: Moment) -> Vec<Event> {
        let storm = self.servers.remove(label).and_then(|server| server.storm);
        self.counts.retain(|(server, _), _| server != label);
        let Some(active) = storm else {
            return Vec::new();
        };
        let started = active.is_held.then(|| Event::Started(active.storm.clone()));
        started.into_iter().chain([self.end(active, now)]).collect()
    }

    /// Storms that go on and have been told, by server.
    pub fn active(&self) -> impl Iterator<Item = &Storm> {
        let storms = self.servers.values().filter_map(|server| server.storm.as_ref());
        storms
            .filter(|active| !active.is_held)
            .map(|active| &active.storm)
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

    fn judge(&mut self, label: &str, now: Moment, findings: &[Finding]) -> Option<Event> {
        if !findings.is_empty() {
            return self.found(label, now, findings);
        }
        let storm = &mut self.servers.get_mut(label)?.storm;
        if let Some(active) = storm.as_mut().filter(|active| active.is_held) {
            return active.begin_to_tell(now, &self.expectations);
        }
        let active = storm.take_if(|active| now.since(active.last_seen) >= HOLD_MILLISECONDS)?;
        let last_seen = active.last_seen;
        Some(self.end(active, last_seen))
    }

    /// Findings begin a storm, or go into the one that there is.
    fn found(&mut self, label: &str, now: Moment, findings: &[Finding]) -> Option<Event> {
        let server = self.servers.get_mut(label)?;
        let active = server.storm.get_or_insert_with(|| {
            self.number += 1;
            Active::begun(label, now, self.number)
        });
        let new = active.merge(findings, server.clients.changes.as_ref(), &self.names);
        active.storm.expected |= covers(&self.expectations, &active.storm);
        for kind in new {
            *self.counts.entry((label.to_owned(), kind)).or_default() += 1;
        }
        if active.is_held {
            return active.begin_to_tell(now, &self.expectations);
        }
        active.is_news(now).then(|| {
            active.tell(now);
            Event::Changed(active.storm.clone())
        })
    }

    fn end(&mut self, active: Active, at: Moment) -> Event {
        let mut storm = active.storm;
        storm.expected |= covers(&self.expectations, &storm);
        storm.ended = Some(at);
        self.over.push_back(storm.clone());
        if self.over.len() > MEMORY {
            self.over.pop_front();
        }
        Event::Ended(storm)
    }
}

/// A storm is expected once somebody's announcement covers it; who leads may be known later than the storm.
fn covers(expectations: &[Expectation], storm: &Storm) -> bool {
    expectations.iter().any(|expectation| expectation.covers(storm))
}

impl Active {
    fn begun(label: &str, now: Moment, number: u64) -> Self {
        let storm = begun(label, now, number);
        Self {
            last_seen: Moment::default(),
            is_held: true,
            told_at: now,
            told: Told::of(&storm),
            storm,
            findings: BTreeMap::new(),
        }
    }

    /// Takes findings into the storm. Returns the kinds that are new to it. The leading kind is the first of all it has had; its
    /// figures, and those of the others behind it, are the last ones found.
    fn merge(&mut self, findings: &[Finding], changes: Option<&Changes>, names: &PrefixNames) -> Vec<Kind> {
        let storm = &mut self.storm;
        let mut new = Vec::new();
        for finding in findings {
            storm.severity = storm.severity.max(finding.severity);
            storm.onset = storm.onset.min(finding.onset);
            self.last_seen = self.last_seen.max(finding.seen);
            if self.findings.insert(finding.kind, finding.clone()).is_none() {
                new.push(finding.kind);
            }
        }
        storm.kinds = self.findings.keys().copied().collect();
        let Some(lead) = self.findings.values().next() else {
            return new;
        };
        storm.kind = lead.kind;
        storm.evidence.clone_from(&lead.evidence);
        for figure in self.findings.values().flat_map(|finding| &finding.evidence) {
            if !storm.evidence.iter().any(|known| known.name == figure.name) {
                storm.evidence.push(figure.clone());
            }
        }
        if findings.iter().any(|finding| finding.kind == lead.kind) {
            let culprits = match &lead.measure {
                Measure::Traffic(culprits) => culprits.iter().map(|of| of.shown_as(names)).collect(),
                of_clients => changes
                    .map(|changes| changes.culprits(of_clients, lead.amount))
                    .unwrap_or_default(),
            };
            if !culprits.is_empty() {
                storm.culprits = keep_leader(&storm.culprits, culprits);
            }
            storm.summary = words::summary(lead, &storm.culprits);
        }
        new
    }

    /// Gives prefixes among the culprits their new names, by what was found of them. Returns whether there are some.
    fn rename_prefixes(&mut self, before: &PrefixNames, now: &PrefixNames) -> bool {
        let storm = &mut self.storm;
        if !storm.culprits.iter().any(Culprit::is_prefix) {
            return false;
        }
        let found = self.findings.values().flat_map(|finding| match &finding.measure {
            Measure::Traffic(culprits) => culprits.as_slice(),
            _ => &[],
        });
        let known: Vec<&Culprit> = found.filter(|culprit| culprit.is_prefix()).collect();
        storm.culprits.retain_mut(|culprit| {
            if !culprit.is_prefix() {
                return true;
            }
            let plain = known.iter().find(|known| before.of(&known.name) == culprit.name);
            plain.is_some_and(|plain| {
                culprit.name = now.of(&plain.name).into_owned();
                true
            })
        });
        if let Some(lead) = self.findings.values().next() {
            storm.summary = words::summary(lead, &storm.culprits);
        }
        true
    }

    /// Tells that there is a storm, unless it may still turn out to have been announced.
    fn begin_to_tell(&mut self, now: Moment, expectations: &[Expectation]) -> Option<Event> {
        let storm = &self.storm;
        let may_be_expected = || {
            expectations
                .iter()
                .any(|expectation| expectation.may_cover(storm))
        };
        if !storm.expected && now.since(storm.found) < HELD_MILLISECONDS && may_be_expected() {
            return None;
        }
        self.is_held = false;
        self.tell(now);
        Some(Event::Started(self.storm.clone()))
    }

    fn tell(&mut self, now: Moment) {
        (self.told_at, self.told) = (now, Told::of(&self.storm));
    }

    fn is_news(&self, now: Moment) -> bool {
        let (before, after) = (&self.told, Told::of(&self.storm));
        let silent = now.since(self.told_at);
        let somebody_else = before.leader != after.leader;
        let known_at_last = somebody_else && before.leader.is_none();
        (before.kinds, before.severity, before.expected) != (after.kinds, after.severity, after.expected)
            || known_at_last
            || (somebody_else && silent >= LEADER_MILLISECONDS)
            || silent >= PROGRESS_MILLISECONDS
    }
}

impl Told {
    fn of(storm: &Storm) -> Self {
        Self {
            kinds: storm.kinds.len(),
            severity: storm.severity,
            expected: storm.expected,
            leader: storm.culprits.first().map(|culprit| culprit.name.clone()),
        }
    }
}

impl Server {
    fn remember(&mut self, now: Moment, detail: &Detail) {
        let opened_total = self.course.counted().map_or(0, |seen| seen.opened_total);
        self.quiet.remember(now, opened_total, detail);
    }

    /// Looks at its clients for no other reason than to know them.
    fn get_to_know(&mut self, now: Moment, detail: &mut dyn FnMut() -> Option<Detail>) {
        if self.is_quiet()
            && let Some(detail) = detail()
        {
            self.remember(now, &detail);
        }
    }

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
            let onset = storm.map_or(Moment(now.0.saturating_sub(LATELY_MILLISECONDS)), |storm| {
                storm.onset
            });
            let is_known = storm.is_none_or(|storm| !storm.culprits.is_empty());
            self.clients.look(now, onset, is_known, &self.quiet, detail);
        } else if self.storm.is_none() {
            self.clients = Clients::default();
        }
        scene.changes = self.clients.changes.as_ref();
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
        if let Some(first) = findings.first().filter(|_| self.clients.suspected.is_none()) {
            // Nobody had suspected it. Whoever is told wants to know who it is.
            self.clients.look(now, first.onset, false, &self.quiet, detail);
        }
        let long = self
            .clients
            .suspected
            .is_some_and(|since| now.since(since) > NEW_USUAL_MILLISECONDS);
        let unusual = !findings.is_empty() || !self.is_quiet();
        self.course.usual.learn(tick, unusual && !long);
        findings
    }

    /// Whether what is seen now is taken for usual. While it warms up, suspicion is no reason against it: connections from before
    /// the server was met are being counted, or its clients come for the first time.
    fn is_quiet(&self) -> bool {
        self.storm.is_none() && (self.clients.suspected.is_none() || !self.course.usual.is_warm())
    }
}

impl Commands {
    /// What every detector finds in this second.
    fn look(
        &mut self,
        now: Moment,
        traffic: &Traffic,
        seen: &Observation,
        settings: &Storms,
    ) -> Vec<Finding> {
        let given_up_total = seen.closed_waiting_total;
        let given_up_before = std::mem::replace(&mut self.given_up_total, given_up_total);
        let second = Second {
            now,
            traffic,
            usual: &self.usual,
            settings,
            connections: seen.connections,
            given_up: given_up_total.saturating_sub(given_up_before),
        };
        let (mut findings, mut suspicious) = (Vec::new(), false);
        for detector in &mut self.detectors {
            if settings.is_enabled(detector.kind()) {
                findings.extend(detector.judge(&second));
                suspicious |= detector.is_suspicious();
            }
        }
        if !suspicious {
            self.suspected = None;
        }
        let since = suspicious.then(|| *self.suspected.get_or_insert(now));
        let long = since.is_some_and(|since| now.since(since) > NEW_USUAL_MILLISECONDS);
        if !suspicious || long || !self.usual.is_warm() {
            self.usual
                .learn(now, traffic, settings.oversized_values.bytes.get() as u64);
        }
        findings
    }
}

fn begun(label: &str, now: Moment, number: u64) -> Storm {
    Storm {
        id: format!("{}-{number}", now.0),
        server: label.to_owned(),
        kind: Kind::ErrorBurst,
        kinds: Vec::new(),
        severity: Severity::Info,
        onset: now,
        found: now,
        ended: None,
        expected: false,
        summary: String::new(),
        evidence: Vec::new(),
        culprits: Vec::new(),
    }
}

/// Whoever leads goes on leading until somebody is well ahead: two with equal parts do not take turns.
fn keep_leader(before: &[Culprit], mut now: Vec<Culprit>) -> Vec<Culprit> {
    let (Some(leader), Some(first)) = (before.first(), now.first()) else {
        return now;
    };
    let still = now.iter().position(|culprit| {
        (culprit.subject, &culprit.name) == (leader.subject, &leader.name)
            && culprit.share > first.share - LEAD
    });
    if let Some(place) = still {
        now[..=place].rotate_right(1);
    }
    now
}
