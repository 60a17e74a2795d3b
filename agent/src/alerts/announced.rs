//! Restarts that somebody has announced: `stormglass expect-restart`. Storms that they cover are expected.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::aside;
use crate::storms::{Expectation, Moment};

/// Longest time ahead: whoever plans for longer announces it again.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Announcements at a time.
const MOST: usize = 100;

/// Longest pattern in bytes.
const PATTERN_BYTES: usize = 256;

const NAME: &str = "announced.json";

/// A restart that somebody has announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Announcement {
    /// Names it, for its cancellation.
    pub id: String,
    /// When it was made.
    pub announced: Moment,
    /// Until when storms are expected.
    pub until: Moment,
    /// At servers with such a label, `*` standing for any text; `None`: at all.
    pub server: Option<String>,
    /// By workloads with such a name, likewise; `None`: by whomever.
    pub workload: Option<String>,
}

impl From<Announcement> for Expectation {
    fn from(announcement: Announcement) -> Self {
        Self {
            until: announcement.until,
            server: announcement.server,
            workload: announcement.workload,
        }
    }
}

/// Why an announcement was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be meant.
    #[error("{0}")]
    Wrong(&'static str),
    /// It cannot be kept over a restart of the agent, and so it is not taken at all.
    #[error("cannot write {path}: {source}; see `alerts.dir` of the configuration")]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Every announcement, in memory and in a file of the state's folder.
#[derive(Debug)]
pub struct Announcements {
    dir: PathBuf,
    current: Mutex<Vec<Announcement>>,
}

impl Announcements {
    /// Reads those that are still good. A file that cannot be read is none, and is logged.
    #[must_use]
    pub fn open(dir: &Path, now: Moment) -> Self {
        let path = dir.join(NAME);
        let mut current = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(path = %path.display(), %error, "announced restarts are lost: announce them again");
                Vec::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot read announced restarts: announce them again");
                Vec::new()
            }
        };
        current.retain(|known: &Announcement| known.until > now);
        Self {
            dir: dir.to_owned(),
            current: Mutex::new(current),
        }
    }

    /// Takes an announcement that is good for so long.
    ///
    /// # Errors
    ///
    /// It cannot be meant, or not be kept.
    pub fn announce(
        &self,
        now: Moment,
        lasts: Duration,
        server: Option<String>,
        workload: Option<String>,
    ) -> Result<Announcement, Refused> {
        if lasts.is_zero() || lasts > LONGEST {
            return Err(Refused::Wrong("a restart is announced for a second to 24 hours"));
        }
        let patterns = [&server, &workload];
        if patterns
            .iter()
            .any(|pattern| pattern.as_ref().is_some_and(|pattern| !is_pattern(pattern)))
        {
            return Err(Refused::Wrong(
                "a pattern is a name of 256 bytes at most, in which `*` stands for any text",
            ));
        }
        let mut current = self.current();
        let mut changed: Vec<_> = current
            .iter()
            .filter(|known| known.until > now)
            .cloned()
            .collect();
        if changed.len() == MOST {
            return Err(Refused::Wrong(
                "100 restarts are announced already; cancel some, or use a pattern for several",
            ));
        }
        let lasts = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        let made = Announcement {
            id: free_id(&changed, now),
            announced: now,
            until: Moment(now.0.saturating_add(lasts)),
            server,
            workload,
        };
        changed.push(made.clone());
        self.write(&changed)?;
        *current = changed;
        Ok(made)
    }

    /// Takes an announcement back. `None`: there is none of this id.
    ///
    /// # Errors
    ///
    /// That cannot be kept; it stays then.
    pub fn cancel(&self, now: Moment, id: &str) -> Result<Option<Announcement>, Refused> {
        let mut current = self.current();
        let good = current.iter().filter(|known| known.until > now);
        let (gone, stay): (Vec<_>, Vec<_>) = good.cloned().partition(|known| known.id == id);
        if !gone.is_empty() {
            self.write(&stay)?;
            *current = stay;
        }
        Ok(gone.into_iter().next())
    }

    /// Those that are good now, in the order in which they were made.
    #[must_use]
    pub fn list(&self, now: Moment) -> Vec<Announcement> {
        let current = self.current();
        current
            .iter()
            .filter(|known| known.until > now)
            .cloned()
            .collect()
    }

    fn current(&self) -> MutexGuard<'_, Vec<Announcement>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, announcements: &[Announcement]) -> Result<(), Refused> {
        let written = || -> io::Result<()> {
            fs::create_dir_all(&self.dir)?;
            aside::replace(&self.dir, NAME, &serde_json::to_vec(announcements)?).map(|_| ())
        };
        written().map_err(|source| Refused::Unwritten {
            path: self.dir.join(NAME),
            source,
        })
    }
}

fn is_pattern(text: &str) -> bool {
    !text.is_empty() && text.len() <= PATTERN_BYTES && !text.contains(char::is_control)
}

/// Short, for people to type: the moment in base 36, or a later one.
fn free_id(taken: &[Announcement], now: Moment) -> String {
    let mut moment = now.0;
    loop {
        let id = base_36(moment);
        if taken.iter().all(|known| known.id != id) {
            return id;
        }
        moment += 1;
    }
}

fn base_36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.extend(char::from_digit((number % 36) as u32, 36));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1_795_412_506_100);
    const MINUTE: Duration = Duration::from_secs(60);

    fn after(seconds: u64) -> Moment {
        Moment(NOW.0 + seconds * 1000)
    }

    #[test]
    fn an_announcement_outlives_the_agent_and_ends_by_itself() {
        let dir = tempfile::tempdir().expect("a folder");
        let announced = Announcements::open(dir.path(), NOW);
        let made = announced
            .announce(NOW, MINUTE, Some("valkey-*".into()), Some("cart-api".into()))
            .expect("taken");
        assert_eq!(made.until, after(60));
        drop(announced);
        let again = Announcements::open(dir.path(), after(59));
        assert_eq!(again.list(after(59)), [made]);
        assert_eq!(again.list(after(60)), []);
        assert_eq!(Announcements::open(dir.path(), after(60)).list(after(59)), []);
    }

    #[test]
    fn an_announcement_is_cancelled_by_its_id_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let announced = Announcements::open(dir.path(), NOW);
        let first = announced.announce(NOW, MINUTE, None, None).expect("taken");
        let second = announced.announce(NOW, MINUTE, None, None).expect("taken");
        assert_ne!(first.id, second.id, "made in the same millisecond");
        assert_eq!(announced.cancel(NOW, "nobody").expect("written"), None);
        assert_eq!(announced.cancel(NOW, &first.id).expect("written"), Some(first));
        let again = Announcements::open(dir.path(), NOW);
        assert_eq!(again.list(NOW), [second]);
    }

    #[test]
    fn what_cannot_be_meant_or_kept_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let announced = Announcements::open(dir.path(), NOW);
        let long = Duration::from_secs(24 * 3600 + 1);
        for (lasts, server) in [
            (Duration::ZERO, None),
            (long, None),
            (MINUTE, Some(String::new())),
            (MINUTE, Some("a\nb".into())),
            (MINUTE, Some("a".repeat(257))),
        ] {
            let refused = announced.announce(NOW, lasts, server.clone(), None);
            assert!(matches!(refused, Err(Refused::Wrong(_))), "{lasts:?} {server:?}");
        }
        for _ in 0..MOST {
            announced.announce(NOW, MINUTE, None, None).expect("taken");
        }
        assert!(announced.announce(NOW, MINUTE, None, None).is_err(), "too many");
        assert!(
            announced.announce(after(60), MINUTE, None, None).is_ok(),
            "they are over"
        );

        let file = dir.path().join("file");
        fs::write(&file, "").expect("written");
        let nowhere = Announcements::open(&file, NOW);
        let refused = nowhere.announce(NOW, MINUTE, None, None).expect_err("no folder");
        assert!(refused.to_string().contains("`alerts.dir`"), "{refused}");
        assert_eq!(nowhere.list(NOW), [], "what would be forgotten is not taken");
    }
}
