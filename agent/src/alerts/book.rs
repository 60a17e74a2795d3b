//! The book of alerts: what is to be told to whom, and what they have. Pure; each change is an [`Entry`], and the same entries in
//! the same order make the same book, so that a journal of them brings it back.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::notice::{self, Happening, Notice, Told, Unseen};
use crate::storms::{Kind, Moment, Severity, Storm};

/// Notices that wait for a webhook, at most. Of a storm no more than three wait: 300 storms and more fit.
pub(super) const QUEUE: usize = 1_000;

/// Storms that are over and that an Alertmanager does not have yet, at most.
pub(super) const STORMS: usize = 1_000;

/// What could not be told for so long, in milliseconds, is not told any more: nobody acts on it.
pub(super) const GIVE_UP_MILLISECONDS: u64 = 24 * 3_600_000;

/// A storm that went on when the agent ended is found again within so many milliseconds after the start of the next one, or it
/// is over: detectors need some seconds to know what is usual.
pub(super) const REFOUND_MILLISECONDS: u64 = 60_000;

/// Names of labels, and their values.
pub(super) type Labels = BTreeMap<String, String>;

/// A change of the book.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub(super) enum Entry {
    /// Everything, as it was.
    Book {
        /// The book.
        book: Box<Book>,
    },
    /// Something is to be told: to these webhooks, and to every Alertmanager.
    Notice {
        /// What.
        notice: Box<Notice>,
        /// To whom.
        webhooks: Vec<String>,
    },
    /// A webhook has a notice, or will never have it.
    Done {
        /// Its name.
        webhook: String,
        /// Id of the storm.
        storm: String,
        /// Number of the notice.
        sequence: u32,
    },
    /// An Alertmanager has taken alerts.
    Taken {
        /// Its name.
        manager: String,
        /// When.
        at: Moment,
        /// Those that fire: all that do at this Alertmanager from now on.
        firing: Vec<Firing>,
    },
    /// Nobody waits for anything of this storm.
    Forgotten {
        /// Its id.
        storm: String,
    },
}

/// An alert that fires at an Alertmanager.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Firing {
    pub(super) labels: Labels,
    /// When the storm began.
    pub(super) starts: Moment,
    /// The storms that it tells of, with what it says of each.
    pub(super) storms: Vec<(String, Shape)>,
}

/// What of a storm is in the labels of its alert, and changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    pub(super) severity: Severity,
}

impl Shape {
    pub(super) const fn of(storm: &Storm) -> Self {
        Self {
            kind: storm.kind,
            severity: storm.severity,
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Book {
    /// Storms that go on, and those that somebody waits for.
    storms: BTreeMap<String, Known>,
    /// What waits for each webhook, the oldest first.
    queues: BTreeMap<String, VecDeque<Notice>>,
    managers: BTreeMap<String, Manager>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    #[serde(flatten)]
    told: Told,
    /// Webhooks that were told of it.
    webhooks: Vec<String>,
}

/// What an Alertmanager has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Manager {
    pub(super) firing: Vec<Firing>,
    /// Storms that it was told of: how, and since when.
    taken: BTreeMap<String, (Shape, Moment)>,
}

impl Manager {
    /// Since when it has been told of the storm as it is now.
    pub(super) fn has(&self, storm: &Storm) -> Option<Moment> {
        let (shape, since) = self.taken.get(&storm.id)?;
        (*shape == Shape::of(storm)).then_some(*since)
    }
}

impl Book {
    /// Makes a change. Returns the webhooks for whose queue it was too much: each has lost its oldest notice but one.
    pub(super) fn apply(&mut self, entry: Entry) -> Vec<String> {
        match entry {
            Entry::Book { book } => *self = *book,
            Entry::Notice { notice, webhooks } => return self.enqueue(&notice, webhooks),
            Entry::Done {
                webhook,
                storm,
                sequence,
            } => {
                if let Some(queue) = self.queues.get_mut(&webhook) {
                    queue.retain(|notice| notice.storm.id != storm || notice.sequence != sequence);
                }
                self.queues.retain(|_, queue| !queue.is_empty());
            }
            Entry::Taken { manager, at, firing } => self.take(manager, at, firing),
            Entry::Forgotten { storm } => {
                self.storms.remove(&storm);
                for manager in self.managers.values_mut() {
                    manager.taken.remove(&storm);
                }
            }
        }
        Vec::new()
    }

    /// What there is to tell of a storm, given what was told before. `is_quiet`: storms that somebody announced are not told,
    /// except to those that know of them already.
    pub(super) fn notice(
        &self,
        storm: &Storm,
        now: Moment,
        webhooks: &[String],
        is_quiet: bool,
    ) -> Option<Entry> {
        let known = self.storms.get(&storm.id);
        let told = known.map(|known| &known.told);
        let notice = notice::notice(told, storm, now)?;
        Some(self.addressed(notice, webhooks, is_quiet))
    }

    /// Notices that end storms which went on when the agent ended: those at `server`, where another one was found, or all.
    pub(super) fn unseen_ends(
        &self,
        orphans: &[String],
        server: Option<&str>,
        now: Moment,
        ended: Moment,
        webhooks: &[String],
        is_quiet: bool,
    ) -> Vec<Entry> {
        let orphans = orphans.iter().filter_map(|id| self.storms.get(id));
        let here = orphans.filter(|known| {
            known.told.storm.ended.is_none() && server.is_none_or(|server| known.told.storm.server == server)
        });
        let ends = here.map(|known| {
            let mut storm = known.told.storm.clone();
            storm.ended = Some(ended.max(storm.found));
            let notice = Notice {
                sequence: known.told.sequence + 1,
                event: Happening::Ended,
                at: now,
                unseen: Some(Unseen::AgentRestarted),
                storm,
            };
            self.addressed(notice, webhooks, is_quiet)
        });
        ends.collect()
    }

    /// Storms that go on.
    pub(super) fn going_on(&self) -> Vec<String> {
        let on = self
            .storms
            .values()
            .filter(|known| known.told.storm.ended.is_none());
        on.map(|known| known.told.storm.id.clone()).collect()
    }

    /// Every storm of the book.
    pub(super) fn storms(&self) -> impl Iterator<Item = &Told> {
        self.storms.values().map(|known| &known.told)
    }

    /// What an Alertmanager has.
    pub(super) fn manager(&self, name: &str) -> Manager {
        self.managers.get(name).cloned().unwrap_or_default()
    }

    /// The notice that a webhook is to have next.
    pub(super) fn next(&self, webhook: &str) -> Option<&Notice> {
        self.queues.get(webhook)?.front()
    }

    /// How many notices wait for a webhook.
    pub(super) fn waiting(&self, webhook: &str) -> usize {
        self.queues.get(webhook).map_or(0, VecDeque::len)
    }

    /// Leaves out receivers that there are no more. Returns how many notices were lost with each webhook.
    pub(super) fn keep_only(&mut self, webhooks: &[String], managers: &[String]) -> Vec<(String, usize)> {
        let mut lost = Vec::new();
        self.queues.retain(|name, queue| {
            let stays = webhooks.contains(name);
            if !stays {
                lost.push((name.clone(), queue.len()));
            }
            stays
        });
        self.managers.retain(|name, _| managers.contains(name));
        lost
    }

    /// Storms that are over and that every one of these Alertmanagers was told of, as far as `is_wanted` says it is to be; with
    /// them those that are too old, or too many. The latter with the Alertmanagers that never had them.
    pub(super) fn finished(
        &self,
        managers: &[String],
        now: Moment,
        is_wanted: impl Fn(&Storm) -> bool,
    ) -> Vec<(String, Vec<String>)> {
        let mut waiting = Vec::new();
        let mut finished = Vec::new();
        for Told { storm, .. } in self.storms() {
            let Some(ended) = storm.ended else { continue };
            let without = |name: &&String| {
                self.managers
                    .get(*name)
                    .is_none_or(|manager| manager.has(storm).is_none())
            };
            let lacking: Vec<String> = match is_wanted(storm) {
                true => managers.iter().filter(without).cloned().collect(),
                false => Vec::new(),
            };
            let fires = |name: &String| {
                let manager = self.managers.get(name);
                manager.is_some_and(|manager| manager.firing.iter().any(|alert| alert.tells_of(&storm.id)))
            };
            if now.since(ended) > GIVE_UP_MILLISECONDS || (lacking.is_empty() && !managers.iter().any(fires))
            {
                finished.push((storm.id.clone(), lacking));
            } else {
                waiting.push((ended, storm.id.clone(), lacking));
            }
        }
        waiting.sort();
        let too_many = waiting.len().saturating_sub(STORMS);
        let dropped = waiting.drain(..too_many).map(|(_, id, lacking)| (id, lacking));
        finished.into_iter().chain(dropped).collect()
    }

    fn addressed(&self, notice: Notice, webhooks: &[String], is_quiet: bool) -> Entry {
        let known = self.storms.get(&notice.storm.id);
        let knows = |webhook: &&String| known.is_some_and(|known| known.webhooks.contains(webhook));
        let to = webhooks
            .iter()
            .filter(|webhook| !(is_quiet && notice.storm.expected) || knows(webhook));
        Entry::Notice {
            webhooks: to.cloned().collect(),
            notice: Box::new(notice),
        }
    }

    fn enqueue(&mut self, notice: &Notice, webhooks: Vec<String>) -> Vec<String> {
        let mut full = Vec::new();
        for webhook in &webhooks {
            let queue = self.queues.entry(webhook.clone()).or_default();
            // The first one may be on its way. Of the others the new one says all that an earlier change did.
            let mut place = 0;
            queue.retain(|waiting| {
                place += 1;
                place == 1 || waiting.storm.id != notice.storm.id || waiting.event != Happening::Changed
            });
            queue.push_back(notice.clone());
            if queue.len() > QUEUE {
                queue.remove(1);
                full.push(webhook.clone());
            }
        }
        let told = Told {
            storm: notice.storm.clone(),
            sequence: notice.sequence,
            at: notice.at,
        };
        let known = self.storms.remove(&notice.storm.id);
        let mut knowing = known.map(|known| known.webhooks).unwrap_or_default();
        knowing.extend(
            webhooks
                .into_iter()
                .filter(|webhook| !knowing.contains(webhook))
                .collect::<Vec<_>>(),
        );
        let known = Known {
            told,
            webhooks: knowing,
        };
        self.storms.insert(notice.storm.id.clone(), known);
        full
    }

    fn take(&mut self, name: String, at: Moment, firing: Vec<Firing>) {
        let manager = self.managers.entry(name).or_default();
        for (id, shape) in firing.iter().flat_map(|alert| &alert.storms) {
            let known = manager.taken.get(id);
            if known.is_none_or(|(known, _)| known != shape) && self.storms.contains_key(id) {
                manager.taken.insert(id.clone(), (*shape, at));
            }
        }
        manager.firing = firing;
        self.managers
            .retain(|_, manager| !manager.firing.is_empty() || !manager.taken.is_empty());
    }
}

impl Firing {
    fn tells_of(&self, storm: &str) -> bool {
        self.storms.iter().any(|(id, _)| id == storm)
    }
}
