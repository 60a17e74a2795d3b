//! Storms of commands and bytes.

use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use nix::unistd::Pid;

use super::stage::{Noted, Stage, Usual, now_ms};
use super::{Course, Kind, Scene, drawn};
use crate::place::{Place, set};
use crate::slow::Stopped;

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

fn lasts(dice: &mut Option<Rng>) -> Duration {
    Duration::from_millis(drawn(dice, 4_000, 4_000..=6_000).into())
}

/// Clients who come besides and ask for something, each with one connection.
pub(super) struct Demand {
    kind: Kind,
    /// What the server has to have been told.
    before: redis::Cmd,
    clients: u16,
    question: Vec<u8>,
    /// How many times it is asked in one go.
    depth: usize,
    every: Duration,
    lasts: Duration,
}

impl Demand {
    /// Commands that fail. The known ones: a thousand a second.
    pub(super) fn errors(dice: &mut Option<Rng>) -> Self {
        let clients = drawn(dice, 10, 8..=20);
        let per_second = drawn(dice, 1_000, 500..=1_500);
        Self {
            kind: Kind::ErrorBurst,
            before: set("search:1", b"no list"),
            clients: clients as u16,
            question: command(&["LPUSH", "search:1", "x"]),
            depth: 1,
            every: Duration::from_secs(1) * clients / per_second,
            lasts: lasts(dice),
        }
    }

    /// Large values where the usual ones have a few bytes. The known ones: twenty of a mebibyte a second.
    pub(super) fn large(dice: &mut Option<Rng>) -> Self {
        let bytes = KIB * drawn(dice, 1_000, 550..=1_000);
        let per_second = drawn(dice, 20, 20..=30);
        Self {
            kind: Kind::OversizedValues,
            before: set("promo:big", &vec![b'x'; bytes as usize]),
            clients: 1,
            question: command(&["GET", "promo:big"]),
            depth: 1,
            every: Duration::from_secs(1) / per_second,
            lasts: lasts(dice),
        }
    }

    /// More bytes than the link carries, in values of a usual size. The known ones: 80 MB a second, of what [`super::CONFIG`] allows
    /// 60.
    pub(super) fn flood(dice: &mut Option<Rng>) -> Self {
        const DEPTH: u32 = 20;
        let value_bytes = drawn(dice, 100_000, 50_000..=200_000);
        let bytes_per_second = drawn(dice, 80_000_000, 75_000_000..=110_000_000);
        Self {
            kind: Kind::BandwidthSaturation,
            before: set("search:page", &vec![b'x'; value_bytes as usize]),
            clients: 1,
            question: command(&["GET", "search:page"]),
            depth: DEPTH as usize,
            every: Duration::from_secs_f64(f64::from(value_bytes * DEPTH) / f64::from(bytes_per_second)),
            lasts: lasts(dice),
        }
    }

    /// Clients that count the bits of a mebibyte, many times in a row and again, while the others wait. The known ones: three, forty
    /// times in a row.
    pub(super) fn hot(dice: &mut Option<Rng>) -> Self {
        let mut bits = redis::cmd("SETBIT");
        bits.arg("promo:bits").arg(8_000_000).arg(1);
        Self {
            kind: Kind::HotPrefix,
            before: bits,
            clients: drawn(dice, 3, 3..=5) as u16,
            question: command(&["BITCOUNT", "promo:bits"]),
            depth: drawn(dice, 40, 40..=60) as usize,
            every: Duration::ZERO,
            lasts: lasts(dice),
        }
    }
}

impl Scene for Demand {
    fn usual(&self) -> Usual {
        USUAL
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        place.ask(&self.before)
    }

    fn rage(&self, stage: &mut Stage) -> Result<Course> {
        let mut more = stage
            .besides(self.clients)
            .asking(self.question.repeat(self.depth), self.depth)
            .every(self.every);
        let noted = Noted::onset(self.kind, 0);
        more.open(1)?;
        more.spread(&mut stage.dice);
        stage.pass(self.lasts, &mut [&mut more])?;
        Ok(noted.over(more.opened()))
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
        let since = now_ms();
        let mut noted = Noted::onset(Kind::RetryAmplification, 0);
        more.open(1)?;
        let rounds = self.lasts.as_secs_f64() * f64::from(self.per_second)
            / f64::from(u32::from(self.clients) * self.depth);
        for _ in 0..rounds as u32 {
            more.insist();
            stage.pass(self.lasts.div_f64(rounds), &mut [&mut more])?;
        }
        drop(stopped);
        noted.mute_since(since);
        let course = noted.over(more.opened());
        stage.pass(RECOVERY, &mut [&mut more])?;
        Ok(course)
    }
}
