//! What is told of a storm, and when there is something to tell.

use serde::{Deserialize, Serialize};

use crate::storms::{Moment, Storm, Subject};

/// A storm whose leading culprit changes to and fro is told again so often at most, in milliseconds.
const CULPRIT_MILLISECONDS: u64 = 10_000;

/// What has become of a storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Happening {
    /// It was found.
    Started,
    /// It got worse, has another kind or another leading culprit, or was announced by somebody; or it is known now who it is.
    Changed,
    /// It is over.
    Ended,
}

impl Happening {
    /// As webhooks and the log have it.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Changed => "changed",
            Self::Ended => "ended",
        }
    }
}

/// Why a storm is told to be over although nobody saw its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unseen {
    /// The agent began anew while it went on. If it still does, it is found again, under another id.
    AgentRestarted,
}

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Notice {
    /// From 1 on, for each storm. With the storm's id it names the notice for ever.
    pub(super) sequence: u32,
    /// What has become of the storm.
    pub(super) event: Happening,
    /// When.
    pub(super) at: Moment,
    /// Set if the end was not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unseen: Option<Unseen>,
    /// The storm, as it was then.
    pub(super) storm: Storm,
}

impl Notice {
    /// What tells it from any other: receivers that have seen it may ignore it.
    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.storm.id, self.sequence)
    }
}

/// A storm of which something was told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    /// What was told last.
    pub(super) storm: Storm,
    pub(super) sequence: u32,
    pub(super) at: Moment,
}

/// What is to be told of `storm` at `now`, after what was `told` of it before; `None` if nothing that matters has changed.
pub(super) fn notice(told: Option<&Told>, storm: &Storm, now: Moment) -> Option<Notice> {
    let event = match (told, storm.ended) {
        (Some(before), _) if before.storm.ended.is_some() => return None,
        (_, Some(_)) => Happening::Ended,
        (None, None) => Happening::Started,
        (Some(before), None) if is_news(before, storm, now) => Happening::Changed,
        (Some(_), None) => return None,
    };
    Some(Notice {
        sequence: told.map_or(1, |before| before.sequence + 1),
        event,
        at: now,
        unseen: None,
        storm: storm.clone(),
    })
}

fn is_news(before: &Told, storm: &Storm, now: Moment) -> bool {
    let known = &before.storm;
    let other_culprit = leader(known) != leader(storm);
    known.kind != storm.kind
        || known.kinds != storm.kinds
        || known.severity != storm.severity
        || known.expected != storm.expected
        || (other_culprit && (leader(known).is_none() || now.since(before.at) >= CULPRIT_MILLISECONDS))
}

fn leader(storm: &Storm) -> Option<(Subject, &str)> {
    let first = storm.culprits.first()?;
    Some((first.subject, &first.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::testing::{culprit, storm};
    use crate::storms::{Kind, Severity};

    /// Tells them in order and returns what was news: sequence and event.
    fn news(storms: &[(u64, Storm)]) -> Vec<(u32, &'static str)> {
        let mut told = None;
        let mut news = Vec::new();
        for (at, storm) in storms {
            if let Some(notice) = notice(told.as_ref(), storm, Moment(*at)) {
                news.push((notice.sequence, notice.event.label()));
                told = Some(Told {
                    storm: notice.storm,
                    sequence: notice.sequence,
                    at: notice.at,
                });
            }
        }
        news
    }

    #[test]
    fn a_storm_is_told_when_it_starts_and_when_it_ends_and_not_for_its_figures() {
        let begun = storm("a");
        let mut worse = begun.clone();
        worse.evidence[0].value *= 2.0;
        worse.summary = "more of it".into();
        let mut over = worse.clone();
        over.ended = Some(Moment(5));
        let told = news(&[
            (1, begun),
            (2, worse.clone()),
            (3, worse),
            (5, over.clone()),
            (6, over),
        ]);
        assert_eq!(told, [(1, "started"), (2, "ended")]);
    }

    #[test]
    fn what_a_person_would_act_on_is_told_at_once() {
        let begun = storm("a");
        let mut nobodys = begun.clone();
        nobodys.culprits.clear();
        let mut critical = begun.clone();
        critical.severity = Severity::Critical;
        let mut joined = critical.clone();
        joined.kinds.push(Kind::AcceptQueueSaturation);
        let mut announced = joined.clone();
        announced.expected = true;
        let told = news(&[
            (0, nobodys),
            (1, begun),
            (2, critical),
            (3, joined),
            (4, announced),
        ]);
        assert_eq!(
            told,
            [
                (1, "started"),
                (2, "changed"),
                (3, "changed"),
                (4, "changed"),
                (5, "changed")
            ]
        );
    }

    #[test]
    fn culprits_that_take_turns_are_told_every_ten_seconds() {
        let begun = storm("a");
        let mut other = begun.clone();
        other.culprits = vec![culprit("search-api", 0.6)];
        let turns: Vec<_> = (0..300_u64)
            .map(|tick| {
                let storm = if tick % 2 == 0 { &begun } else { &other };
                (tick * 100, storm.clone())
            })
            .collect();
        let told = news(&turns);
        assert_eq!(told.len(), 3, "{told:?}");
        // Once it stays with the other, that is told.
        let stays = [(0, begun), (9_999, other.clone()), (10_000, other)];
        assert_eq!(news(&stays), [(1, "started"), (2, "changed")]);
    }

    #[test]
    fn an_end_without_a_beginning_is_told() {
        let mut over = storm("a");
        over.ended = Some(Moment(5));
        assert_eq!(news(&[(5, over)]), [(1, "ended")]);
    }
}
