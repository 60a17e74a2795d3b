//! Where a storm is played: the server, whoever is there on any day, and time that passes.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Course, Kind};
use crate::crowd::Crowd;
use crate::place::Place;

/// Addresses of whoever is there on any day: `127.71.0.0/16`, or of another first byte as the server.
const USUAL: u8 = 71;

/// Addresses of whoever comes besides, likewise: `127.72.0.0/16`.
const BESIDES: u8 = 72;

/// Between two looks at all sockets.
const TICK: Duration = Duration::from_millis(2);

/// Whoever is at a server on any day.
pub(super) struct Usual {
    pub(super) instances: u16,
    /// Connections of each.
    pub(super) each: usize,
    /// Between two questions of a connection; `None`: nobody asks.
    pub(super) every: Option<Duration>,
}

pub(super) struct Stage {
    pub(super) place: Place,
    pub(super) company: Crowd,
    pub(super) dice: Rng,
}

impl Stage {
    /// Lets the usual clients arrive.
    pub(super) fn set(place: Place, usual: &Usual, seed: u64) -> Result<Self> {
        raise_file_limit()?;
        let mut dice = Rng::with_seed(seed);
        let mut company = Crowd::at(&place, USUAL, usual.instances)
            .asking(b"*2\r\n$3\r\nGET\r\n$9\r\nprofile:1\r\n".to_vec(), 1);
        if let Some(every) = usual.every {
            company = company.every(every);
        }
        company.arrive_silently(usual.each)?;
        company.spread(&mut dice);
        Ok(Self { place, company, dice })
    }

    /// Somebody who comes besides, from so many addresses.
    pub(super) fn besides(&self, instances: u16) -> Crowd {
        Crowd::at(&self.place, BESIDES, instances)
    }

    /// Everybody lives, for so long.
    pub(super) fn pass(&mut self, how_long: Duration, others: &mut [&mut Crowd]) -> Result<()> {
        self.pass_while(how_long, others, |_| Ok(()))
    }

    /// Everybody lives, for so long, and something is done again and again, at the speed of the sockets.
    pub(super) fn pass_while(
        &mut self,
        how_long: Duration,
        others: &mut [&mut Crowd],
        mut what: impl FnMut(&mut Crowd) -> Result<()>,
    ) -> Result<()> {
        let until = Instant::now() + how_long;
        while Instant::now() < until {
            self.company.live();
            for other in &mut *others {
                other.live();
            }
            what(&mut self.company)?;
            sleep(TICK);
        }
        Ok(())
    }
}

/// Begins to note how a storm goes.
pub(super) struct Noted {
    course: Course,
    opened_before: u64,
}

impl Noted {
    /// It begins now.
    pub(super) fn onset(kind: Kind, opened_before: u64) -> Self {
        let now = now_ms();
        Self {
            course: Course {
                kind,
                onset_ms: now,
                over_ms: now,
                mute_ms: None,
                opened: 0,
            },
            opened_before,
        }
    }

    /// Since then nobody was answered, until now.
    pub(super) fn mute_since(&mut self, since_ms: u64) {
        self.course.mute_ms = Some((since_ms, now_ms()));
    }

    /// It is over.
    pub(super) fn over(mut self, opened: u64) -> Course {
        self.course.over_ms = now_ms();
        self.course.opened = opened - self.opened_before;
        self.course
    }
}

/// Milliseconds since 1970 began, as the agent counts them.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Every connection is an open file.
fn raise_file_limit() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise the limit of open files")
}
