//! Storms of connections.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fastrand::Rng;
use nix::unistd::Pid;

use super::stage::{Noted, Stage, Usual, now_ms};
use super::{CONNECTIONS_AT_MOST, Course, Kind, Scene, drawn};
use crate::crowd::Crowd;
use crate::place::Place;
use crate::slow::{Stopped, busy};

/// Largest limits that these storms reach.
const CLIENTS_AT_MOST: u32 = CONNECTIONS_AT_MOST as u32;
const BACKLOG_AT_MOST: u32 = 4_096;

/// How often a client of a server asks something.
const ASKS_EVERY: Duration = Duration::from_secs(1);

/// A slow server, whose clients time out, close and open again at once.
pub(super) struct Churn {
    instances: u16,
    each: usize,
    slow: Slow,
    lasts: Duration,
    patience: Duration,
    /// Whether all ask at the moment at which the server stops; else they ask as on any day.
    in_step: bool,
}

/// What makes the server slow.
enum Slow {
    /// Its process is stopped.
    Stopped(Pid),
    /// It runs a script.
    Script,
}

/// Beyond the storm, clients are so much more patient than in it, for so long.
const RECOVERY: Duration = Duration::from_secs(2);

impl Churn {
    /// The reported one: 3 s under 2,000 connections from 200 addresses that time out after half a second.
    pub(super) fn draw(place: &Place, dice: &mut Option<Rng>) -> Self {
        let by_script = drawn(dice, 0, 0..=2) == 2;
        Self {
            instances: drawn(dice, 200, 80..=250) as u16,
            each: drawn(dice, 10, 4..=10) as usize,
            slow: match place.process {
                Some(process) if !by_script => Slow::Stopped(process),
                _ => Slow::Script,
            },
            lasts: Duration::from_millis(drawn(dice, 3_000, 2_000..=4_000).into()),
            patience: Duration::from_millis(drawn(dice, 500, 300..=800).into()),
            in_step: drawn(dice, 1, 0..=1) == 1,
        }
    }

    /// Clients time out and come back for a while. Returns when the first did.
    fn give_up(&self, company: &mut Crowd, how_long: Duration, patience: Duration) -> Result<Option<Noted>> {
        let (began, mut noted) = (Instant::now(), None);
        while began.elapsed() < how_long {
            let (before, now) = (
                company.opened(),
                Noted::onset(Kind::ReconnectChurn, company.opened()),
            );
            company.live();
            company.give_up(patience)?;
            if company.opened() > before {
                noted.get_or_insert(now);
            }
            sleep(Duration::from_millis(10));
        }
        Ok(noted)
    }
}

impl Scene for Churn {
    fn usual(&self) -> Usual {
        Usual {
            instances: self.instances,
            each: self.each,
            every: Some(ASKS_EVERY),
        }
    }

    fn rage(&self, stage: &mut Stage) -> Result<Course> {
        let since = now_ms();
        let (stopped, script) = match self.slow {
            Slow::Stopped(process) => (Some(Stopped::stop(process)?), None),
            Slow::Script => {
                let mut script = stage.besides(1).asking(busy(self.lasts), 1);
                script.open(1)?;
                (None, Some(script))
            }
        };
        if self.in_step {
            stage.company.ask();
        }
        let noted = self.give_up(&mut stage.company, self.lasts, self.patience)?;
        let mut noted = noted.unwrap_or_else(|| Noted::onset(Kind::ReconnectChurn, stage.company.opened()));
        drop(stopped);
        noted.mute_since(since);
        self.give_up(&mut stage.company, RECOVERY, 2 * self.patience)?;
        drop(script);
        Ok(noted.over(stage.company.opened()))
    }
}

/// All connections are replaced within seconds while nobody asks anything.
pub(super) struct Night {
    instances: u16,
    each: usize,
    lasts: Duration,
}

/// Replacements per second.
const NIGHT_STEPS: u32 = 20;

impl Night {
    /// The reported one: 2,000 connections from 100 addresses within 5 s.
    pub(super) fn draw(dice: &mut Option<Rng>) -> Self {
        Self {
            instances: drawn(dice, 100, 50..=150) as u16,
            each: drawn(dice, 20, 8..=20) as usize,
            lasts: Duration::from_millis(drawn(dice, 5_000, 2_000..=5_000).into()),
        }
    }
}

impl Scene for Night {
    fn usual(&self) -> Usual {
        Usual {
            instances: self.instances,
            each: self.each,
            every: None,
        }
    }

    fn rage(&self, stage: &mut Stage) -> Result<Course> {
        let company = &mut stage.company;
        let steps = (self.lasts.as_secs_f64() * f64::from(NIGHT_STEPS)).ceil() as usize;
        let (noted, began) = (
            Noted::onset(Kind::ColdReconnect, company.opened()),
            Instant::now(),
        );
        for step in 0..steps {
            let (from, to) = (company.len() * step / steps, company.len() * (step + 1) / steps);
            company.renew(from, to - from)?;
            sleep((self.lasts.mul_f64((step + 1) as f64 / steps as f64)).saturating_sub(began.elapsed()));
        }
        Ok(noted.over(company.opened()))
    }
}

/// More clients than the server takes, who come back when they are refused.
pub(super) struct Refusal {
    usual: u16,
    instances: u16,
    each: usize,
    waves: u32,
}

/// Between two times that the refused come back.
const WAVE: Duration = Duration::from_millis(700);

impl Refusal {
    /// The known one: nine tenths more than fit.
    pub(super) fn draw(place: &Place, dice: &mut Option<Rng>) -> Result<Self> {
        let limit = place.limit("maxclients", CLIENTS_AT_MOST)?;
        let share = |dice: &mut _, known, range| limit * drawn(dice, known, range) / 100;
        let each = drawn(dice, 4, 2..=8);
        Ok(Self {
            usual: share(dice, 50, 30..=70) as u16,
            instances: (share(dice, 90, 80..=150) / each).max(1) as u16,
            each: each as usize,
            waves: drawn(dice, 3, 2..=5),
        })
    }
}

impl Scene for Refusal {
    fn usual(&self) -> Usual {
        Usual {
            instances: self.usual,
            each: 1,
            every: Some(ASKS_EVERY),
        }
    }

    fn rage(&self, stage: &mut Stage) -> Result<Course> {
        let mut more = stage.besides(self.instances);
        let noted = Noted::onset(Kind::MaxclientsRejection, 0);
        more.open(self.each)?;
        for _ in 0..self.waves {
            stage.pass(WAVE, &mut [&mut more])?;
            more.come_back()?;
        }
        stage.pass(WAVE, &mut [&mut more])?;
        Ok(noted.over(more.opened()))
    }
}

/// Handshakes go on while a stopped server accepts nobody.
pub(super) struct Queue {
    process: Pid,
    instances: u16,
    each: usize,
    lasts: Duration,
}

impl Queue {
    /// The known one: four fifths of what the queue holds.
    pub(super) fn draw(place: &Place, dice: &mut Option<Rng>) -> Result<Self> {
        let backlog = place.limit("tcp-backlog", BACKLOG_AT_MOST)?;
        let each = drawn(dice, 1, 1..=4);
        let handshakes = backlog * drawn(dice, 80, 70..=150) / 100;
        Ok(Self {
            process: place.process()?,
            instances: (handshakes / each).max(1) as u16,
            each: each as usize,
            lasts: Duration::from_millis(drawn(dice, 2_000, 2_000..=3_000).into()),
        })
    }
}

impl Scene for Queue {
    fn usual(&self) -> Usual {
        Usual {
            instances: 10,
            each: 2,
            every: Some(ASKS_EVERY),
        }
    }

    fn rage(&self, stage: &mut Stage) -> Result<Course> {
        let mut more = stage.besides(self.instances);
        let stopped = Stopped::stop(self.process)?;
        let since = now_ms();
        let mut noted = Noted::onset(Kind::AcceptQueueSaturation, 0);
        more.open(self.each)?;
        stage.pass(self.lasts, &mut [&mut more])?;
        drop(stopped);
        noted.mute_since(since);
        Ok(noted.over(more.opened()))
    }
}

/// Connections that become more and more, up to the most that the server takes: a leak, or a fleet that creeps up instance by instance.
pub(super) struct Growth {
    limit: usize,
    usual: u16,
    per_second: u32,
    /// How many come at once, from an address of their own; 1: one client leaks.
    each: u32,
    lasts: Duration,
}

/// Connections of one instance on any day.
const USUAL_EACH: u16 = 3;

/// Share of the limit at which it ends: beyond, it is a storm of another kind.
const GROWS_UP_TO: f64 = 0.95;

impl Growth {
    /// The known one: a leak of one connection for every sixty that the server takes, each second.
    pub(super) fn draw(place: &Place, dice: &mut Option<Rng>) -> Result<Self> {
        let limit = place.limit("maxclients", CLIENTS_AT_MOST)?;
        Ok(Self {
            limit: limit as usize,
            usual: (limit * drawn(dice, 50, 50..=60) / 100) as u16,
            per_second: (limit * drawn(dice, 16, 12..=18) / 1_000).max(1),
            lasts: Duration::from_secs(28),
            each: drawn(dice, 1, 1..=6),
        })
    }
}

impl Scene for Growth {
    fn usual(&self) -> Usual {
        Usual {
            instances: self.usual / USUAL_EACH,
            each: USUAL_EACH.into(),
            every: Some(ASKS_EVERY),
        }
    }

    fn rage(&self, stage: &mut Stage) -> Result<Course> {
        ensure!(
            stage.company.len() < self.limit,
            "there are more connections than fit"
        );
        let room = (self.limit as f64 * GROWS_UP_TO) as usize - stage.company.len();
        let mut more = stage.besides(room as u16);
        let (noted, began) = (Noted::onset(Kind::ConnectionGrowth, 0), Instant::now());
        let mut instance = 0;
        while began.elapsed() < self.lasts && more.len() + self.each as usize <= room {
            for _ in 0..self.each {
                more.open_one(instance)?;
            }
            instance += u16::from(self.each > 1);
            stage.pass(
                Duration::from_secs(1) * self.each / self.per_second,
                &mut [&mut more],
            )?;
        }
        Ok(noted.over(more.opened()))
    }
}
