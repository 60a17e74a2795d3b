//! What happens every day and is no storm.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::stage::{Stage, Usual, now_ms};
use crate::crowd::Crowd;
use crate::place::{Place, set};

/// Whoever is there: a fleet that asks more by day than by night.
const INSTANCES: u16 = 30;
const EACH: usize = 20;

/// A day and a night.
const DAY: Duration = Duration::from_secs(600);

/// Between two questions of a connection, by day and by night.
const BY_DAY: Duration = Duration::from_millis(500);
const BY_NIGHT: Duration = Duration::from_secs(5);

/// Between two things that happen, in seconds.
const PAUSE: std::ops::RangeInclusive<u32> = 2..=6;

/// Addresses of clients that open a connection for each question, by design: `127.73.0.0/16`.
const SHORT: u8 = 73;

/// So many of them, each once in this time.
const SHORT_CLIENTS: u16 = 5;
const SHORT_EVERY: Duration = Duration::from_millis(500);

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// When it began, in milliseconds since 1970 began.
    pub at_ms: u64,
    /// What it was.
    pub what: &'static str,
}

/// Normal life at a server: days and nights of ten minutes, deploys pod by pod, autoscaling, batches, backups, clients with short
/// connections by design, and a replica that fails over.
pub struct Life {
    stage: Stage,
    short: Crowd,
    short_next: Instant,
    began: Instant,
    replica: Option<SocketAddrV4>,
    happened: Vec<Event>,
}

/// Something that happens, and passes.
type Routine = fn(&mut Life) -> Result<()>;

/// What may happen.
const ROUTINES: [(&str, Routine); 5] = [
    ("a deploy, pod by pod", Life::deploy),
    ("autoscaling, and back", Life::scale),
    ("a batch", Life::batch),
    ("a backup", Life::back_up),
    ("a replica that fails over", Life::fail_over),
];

impl Life {
    /// Lets whoever is there arrive. `replica` is another server, which is made a replica of this one now and then.
    pub fn begin(place: Place, replica: Option<SocketAddrV4>, seed: u64) -> Result<Self> {
        let usual = Usual {
            instances: INSTANCES,
            each: EACH,
            every: Some(BY_DAY),
        };
        place.holds("profile:1", b"one")?;
        Ok(Self {
            short: Crowd::at(&place, SHORT, SHORT_CLIENTS),
            stage: Stage::set(place, &usual, seed)?,
            short_next: Instant::now(),
            began: Instant::now(),
            replica,
            happened: Vec::new(),
        })
    }

    /// Nothing happens but that clients ask, for so long.
    pub fn live(&mut self, how_long: Duration) -> Result<()> {
        self.pass(how_long, &mut [])
    }

    /// Everything that may happen does, one after the other in an order of the seed's, again and again for so long; once at least.
    /// Returns what did.
    pub fn go_on(&mut self, how_long: Duration) -> Result<Vec<Event>> {
        let began = Instant::now();
        loop {
            let mut routines = ROUTINES;
            self.stage.dice.shuffle(&mut routines);
            for (what, routine) in routines {
                self.happened.push(Event {
                    at_ms: now_ms(),
                    what,
                });
                routine(self).with_context(|| format!("{what} failed"))?;
                let pause = self.stage.dice.u32(PAUSE);
                self.live(Duration::from_secs(pause.into()))?;
            }
            if began.elapsed() >= how_long {
                return Ok(std::mem::take(&mut self.happened));
            }
        }
    }

    /// Half of the pods are replaced, one after the other.
    fn deploy(&mut self) -> Result<()> {
        let pods = usize::from(INSTANCES) / 2;
        let first = self.stage.dice.usize(..=pods);
        for pod in first..first + pods {
            self.stage.company.renew(EACH * pod, EACH)?;
            let next = self.stage.dice.u32(1_500..=3_000);
            self.live(Duration::from_millis(next.into()))?;
        }
        Ok(())
    }

    /// A third more instances come, stay a while, and go.
    fn scale(&mut self) -> Result<()> {
        let mut more = self.stage.besides(INSTANCES / 3).every(BY_DAY);
        more.open(EACH)?;
        more.spread(&mut self.stage.dice);
        let stay = self.stage.dice.u32(10..=25);
        self.pass(Duration::from_secs(stay.into()), &mut [&mut more])?;
        more.leave();
        Ok(())
    }

    /// Workers come, write much, and go.
    fn batch(&mut self) -> Result<()> {
        let (workers, stay) = (self.stage.dice.u32(5..=30), self.stage.dice.u32(5..=15));
        let write = set("search:report", &[b'r'; 2_000]);
        let mut batch = self
            .stage
            .besides(workers as u16)
            .asking(write.get_packed_command(), 1)
            .every(Duration::from_millis(100));
        batch.open(4)?;
        batch.spread(&mut self.stage.dice);
        self.pass(Duration::from_secs(stay.into()), &mut [&mut batch])?;
        batch.leave();
        Ok(())
    }

    /// The server writes its data to disk, which it forks for, and somebody reads page after page.
    fn back_up(&mut self) -> Result<()> {
        let saved: redis::RedisResult<String> =
            self.stage.place.try_ask(redis::cmd("BGSAVE").arg("SCHEDULE"))?;
        // A server that is saving already says so.
        if let Err(error) = saved
            && !error.to_string().contains("in progress")
        {
            return Err(error).context("the server refused to save");
        }
        self.stage.place.holds("profile:page", &[b'p'; 50_000])?;
        let mut read = redis::cmd("GET");
        let mut reader = self
            .stage
            .besides(1)
            .asking(read.arg("profile:page").get_packed_command(), 1)
            .every(Duration::from_millis(20));
        reader.open(1)?;
        let lasts = self.stage.dice.u32(5..=10);
        self.pass(Duration::from_secs(lasts.into()), &mut [&mut reader])
    }

    /// The replica takes all data, then becomes a server of its own again.
    fn fail_over(&mut self) -> Result<()> {
        let Some(replica) = self.replica else {
            return Ok(());
        };
        let replica = Place {
            address: replica,
            process: None,
            namespace: self.stage.place.namespace.clone(),
        };
        let primary = self.stage.place.address;
        let mut follow = redis::cmd("REPLICAOF");
        replica.ask::<()>(follow.arg(primary.ip().to_string()).arg(primary.port()))?;
        self.live(Duration::from_secs(5))?;
        replica.ask::<()>(redis::cmd("REPLICAOF").arg("NO").arg("ONE"))
    }

    fn pass(&mut self, how_long: Duration, others: &mut [&mut Crowd]) -> Result<()> {
        let (began, short, next) = (self.began, &mut self.short, &mut self.short_next);
        self.stage.pass_while(how_long, others, |company| {
            company.asks_every(asks_every(began.elapsed()));
            let now = Instant::now();
            if now >= *next {
                short.leave();
                short.open(1)?;
                *next = now + SHORT_EVERY;
            }
            short.listen();
            Ok(())
        })
    }
}

/// Between two questions of a connection, at this time since the first noon.
fn asks_every(since: Duration) -> Duration {
    let angle = since.as_secs_f64() / DAY.as_secs_f64() * std::f64::consts::TAU;
    let day = f64::midpoint(angle.cos(), 1.0);
    // The rate changes evenly, not the time between.
    let rate = day / BY_DAY.as_secs_f64() + (1.0 - day) / BY_NIGHT.as_secs_f64();
    Duration::from_secs_f64(1.0 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nights_are_ten_times_as_quiet_as_days() {
        assert_eq!(asks_every(Duration::ZERO), BY_DAY);
        assert_eq!(asks_every(DAY / 2), BY_NIGHT);
        let evening = asks_every(DAY / 4);
        assert!(BY_DAY < evening && evening < BY_NIGHT, "{evening:?}");
    }
}
