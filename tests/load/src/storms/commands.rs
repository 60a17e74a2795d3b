//! Storms of commands and bytes.

use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use nix::unistd::Pid;

use super::stage::{Noted, Place, Stage, Stopped, Usual};
use super::{Course, Kind, Scene, drawn};
use crate::crowd::Crowd;

/// What a server usually has: two hundred commands a second, of few bytes each.
const USUAL: Usual = Usual {
    instances: 10,
    each: 2,
    every: Some(Duration::from_millis(100)),
};

const KIB: u32 = 1 << 10;

/// A command as it goes over the wire.
fn command(words: &[&str]) -> Vec<u8> {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(word);
    }
    command.get_packed_command()
}

/// A crowd that asks on all its connections, `rage`s for so long, and leaves.
fn rage(kind: Kind, stage: &mut Stage, mut more: Crowd, lasts: Duration) -> Result<Course> {
    let noted = Noted::onset(kind, 0);
    more.open(1)?;
    more.spread(&mut stage.dice);
    stage.pass(lasts, &mut [&mut more])?;
    Ok(noted.over(more.opened()))
}

fn lasts(dice: &mut Option<Rng>) -> Duration {
    Duration::from_millis(drawn(dice, 4_000, 4_000..=6_000).into())
}

/// Commands that fail.
pub(super) struct Errors {
    clients: u16,
    per_second: u32,
    lasts: Duration,
}

impl Errors {
    /// The known one: a thousand a second.
    pub(super) fn draw(dice: &mut Option<Rng>) -> Self {
        Self {
            clients: drawn(dice, 10, 8..=20) as u16,
            per_second: drawn(dice, 1_000, 500..=1_500),
            lasts: lasts(dice),
        }
    }
}

impl Scene for Errors {
    fn usual(&self) -> Usual {
        USUAL
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        place.holds("search:1", b"no list")
    }

    fn rage(&self, stage: &mut Stage) -> Result<Course> {
        let every = Duration::from_secs(1) * self.clients.into() / self.per_second;
        let more = stage
            .besides(self.clients)
            .asking(command(&["LPUSH", "search:1", "x"]), 1)
            .every(every);
        rage(Kind::ErrorBurst, stage, more, self.lasts)
    }
}

/// Large values where the usual ones have a few bytes.
pub(super) struct Large {
    bytes: u32,
    per_second: u32,
    lasts: Duration,
}

impl Large {
    /// The known one: twenty values of a mebibyte a second.
    pub(super) fn draw(dice: &mut Option<Rng>) -> Self {
        Self {
            bytes: KIB * drawn(dice, 1_000, 550..=1_000),
            per_second: drawn(dice, 20, 20..=30),
            lasts: lasts(dice),
        }
    }
}

impl Scene for Large {
    fn usual(&self) -> Usual {
        USUAL
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        place.holds("promo:big", &vec![b'x'; self.bytes as usize])
    }

    fn rage(&self, stage: &mut Stage) -> Result<Course> {
        let more = stage
            .besides(1)
            .asking(command(&["GET", "promo:big"]), 1)
            .every(Duration::from_secs(1) / self.per_second);
        rage(Kind::OversizedValues, stage, more, self.lasts)
    }
}

/// More bytes than the link carries, in values of a usual size.
pub(super) struct Flood {
    value_bytes: u32,
    bytes_per_second: u32,
    lasts: Duration,
}

/// Replies that a client of [`Flood`] waits for at once.
const DEPTH: u32 = 20;

impl Flood {
    /// The known one: 80 MB a second, of what [`super::CONFIG`] allows 60.
    pub(super) fn draw(dice: &mut Option<Rng>) -> Self {
        Self {
            value_bytes: drawn(dice, 100_000, 50_000..=200_000),
            bytes_per_second: drawn(dice, 80_000_000, 75_000_000..=110_000_000),
            lasts: lasts(dice),
        }
    }
}

impl Scene for Flood {
    fn usual(&self) -> Usual {
        USUAL
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        place.holds("search:page", &vec![b'x'; self.value_bytes as usize])
    }

    fn rage(&self, stage: &mut Stage) -> Result<Course> {
        let every = f64::from(self.value_bytes * DEPTH) / f64::from(self.bytes_per_second);
        let more = stage
            .besides(1)
            .asking(
                command(&["GET", "search:page"]).repeat(DEPTH as usize),
                DEPTH as usize,
            )
            .every(Duration::from_secs_f64(every));
        rage(Kind::BandwidthSaturation, stage, more, self.lasts)
    }
}

/// Clients that count the bits of a mebibyte, many times in a row and again, while the others wait.
pub(super) struct Hot {
    clients: u16,
    depth: u32,
    lasts: Duration,
}

impl Hot {
    /// The known one: three clients, forty times in a row.
    pub(super) fn draw(dice: &mut Option<Rng>) -> Self {
        Self {
            clients: drawn(dice, 3, 3..=5) as u16,
            depth: drawn(dice, 40, 40..=60),
            lasts: lasts(dice),
        }
    }
}

impl Scene for Hot {
    fn usual(&self) -> Usual {
        USUAL
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        let mut bits = redis::cmd("SETBIT");
        place.ask(bits.arg("promo:bits").arg(8_000_000).arg(1))
    }

    fn rage(&self, stage: &mut Stage) -> Result<Course> {
        let more = stage
            .besides(self.clients)
            .asking(
                command(&["BITCOUNT", "promo:bits"]).repeat(self.depth as usize),
                self.depth as usize,
            )
            .every(Duration::ZERO);
        rage(Kind::HotPrefix, stage, more, self.lasts)
    }
}

/// A stopped server, and clients that ask the same again and again without waiting.
pub(super) struct Retries {
    process: Pid,
    clients: u16,
    /// Commands in one go of a client.
    depth: u32,
    per_second: u32,
    lasts: Duration,
}

/// How long the server then takes, at most, to answer all of it.
const RECOVERY: Duration = Duration::from_millis(500);

impl Retries {
    /// The known one: 1,600 commands a second.
    pub(super) fn draw(place: &Place, dice: &mut Option<Rng>) -> Result<Self> {
        Ok(Self {
            process: place.process()?,
            clients: drawn(dice, 8, 4..=16) as u16,
            depth: drawn(dice, 4, 1..=6),
            per_second: drawn(dice, 1_600, 1_200..=3_000),
            lasts: Duration::from_millis(drawn(dice, 4_000, 3_000..=4_000).into()),
        })
    }
}

impl Scene for Retries {
    fn usual(&self) -> Usual {
        USUAL
    }

    fn rage(&self, stage: &mut Stage) -> Result<Course> {
        let question = command(&["GET", "session:1"]).repeat(self.depth as usize);
        let mut more = stage.besides(self.clients).asking(question, self.depth as usize);
        let stopped = Stopped::stop(self.process)?;
        let mut noted = Noted::onset(Kind::RetryAmplification, 0);
        more.open(1)?;
        let rounds = self.lasts.as_secs_f64() * f64::from(self.per_second)
            / f64::from(u32::from(self.clients) * self.depth);
        for _ in 0..rounds as u32 {
            more.insist();
            stage.pass(self.lasts.div_f64(rounds), &mut [&mut more])?;
        }
        stopped.go_on(&mut noted);
        let course = noted.over(more.opened());
        stage.pass(RECOVERY, &mut [&mut more])?;
        Ok(course)
    }
}
