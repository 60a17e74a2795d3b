//! Instances times pooled connections: the shape of a service that talks to Valkey.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use redis::RedisResult;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::connection::{Connection, Identity};
use crate::ledger::{Account, Ledger};
use crate::pace::Pace;
use crate::traffic::{Mix, Traffic};

/// How long a connection that failed waits before it tries again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// A service: `instances` with a source address each, every one with `connections` to every target.
pub(crate) struct Fleet {
    pub(crate) name: String,
    pub(crate) targets: Vec<SocketAddr>,
    pub(crate) first_source: Ipv4Addr,
    pub(crate) instances: u32,
    pub(crate) connections: u32,
    /// Of the whole fleet.
    pub(crate) commands_per_second: u32,
    pub(crate) life: Life,
    pub(crate) resp3: bool,
    pub(crate) mix: Mix,
    pub(crate) seed: u64,
}

/// How long an instance lives before its successor opens all connections anew.
pub(crate) enum Life {
    /// Until the fleet ends.
    Endless,
    /// Between half and one and a half times as long.
    Mean(Duration),
}

/// Runs the fleet until `end`. Every command that was sent has its reply, and every socket is closed, when this returns.
pub(crate) async fn run(fleet: Arc<Fleet>, ledger: Arc<Ledger>, end: impl Future<Output = ()>) {
    let (ending, ended) = watch::channel(false);
    let mut instances = JoinSet::new();
    for number in 0..fleet.instances {
        let ledger = Arc::clone(&ledger);
        instances.spawn(live(Arc::clone(&fleet), number, ledger, ended.clone()));
    }
    end.await;
    // Nobody listens any more only if every instance has ended.
    let _ = ending.send(true);
    instances.join_all().await;
}

/// One instance and its successors, which have its address.
async fn live(fleet: Arc<Fleet>, instance: u32, ledger: Arc<Ledger>, ended: watch::Receiver<bool>) {
    let mut rng = Rng::with_seed(mixed(fleet.seed, instance));
    while !*ended.borrow() {
        let until = fleet.life.end(&mut rng);
        let mut pool = JoinSet::new();
        for (target, _) in fleet.targets.iter().enumerate() {
            for _ in 0..fleet.connections {
                let member = Member {
                    fleet: Arc::clone(&fleet),
                    ledger: Arc::clone(&ledger),
                    instance,
                    target,
                    until,
                    ended: ended.clone(),
                };
                pool.spawn(member.run(rng.fork()));
            }
        }
        pool.join_all().await;
    }
}

/// One place in an instance's pool.
struct Member {
    fleet: Arc<Fleet>,
    ledger: Arc<Ledger>,
    instance: u32,
    target: usize,
    until: Option<Instant>,
    ended: watch::Receiver<bool>,
}

impl Member {
    async fn run(mut self, mut rng: Rng) {
        let mut pace = Pace::new(self.fleet.seconds_per_command(), &mut rng);
        let mut traffic = Traffic::new(&self.fleet.mix, rng);
        while let Err(error) = self.one_connection(&mut traffic, &mut pace).await {
            self.ledger.failed(self.target, &error);
            if self.over(Instant::now() + RETRY_AFTER).await {
                return;
            }
        }
    }

    /// Connects, sends until the instance's life is over, and closes.
    async fn one_connection(&mut self, traffic: &mut Traffic, pace: &mut Pace) -> RedisResult<()> {
        let fleet = Arc::clone(&self.fleet);
        let identity = Identity {
            source: fleet.source(self.instance),
            name: format!("{}-{}", fleet.name, self.instance + 1),
            resp3: fleet.resp3,
        };
        let ledger = Arc::clone(&self.ledger);
        let account = ledger.account(self.target);
        let mut connection = Connection::open(fleet.targets[self.target], &identity, account).await?;
        let worked = self.work(&mut connection, traffic, pace, account).await;
        connection.close(account).await;
        worked
    }

    async fn work(
        &mut self,
        connection: &mut Connection,
        traffic: &mut Traffic,
        pace: &mut Pace,
        account: &Account,
    ) -> RedisResult<()> {
        while !self.over(pace.next()).await {
            let batch = traffic.next_batch();
            pace.spend(batch.commands, Instant::now());
            connection.send(&batch.pipeline).await?;
            account.commands(u64::from(batch.commands));
        }
        Ok(())
    }

    /// Waits until `next`; whether the instance's or the fleet's end came first.
    async fn over(&mut self, next: Instant) -> bool {
        let until = self.until;
        let end_of_life = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.ended.wait_for(|ended| *ended) => true,
            () = end_of_life => true,
            () = sleep_until(next) => false,
        }
    }
}

impl Fleet {
    fn source(&self, instance: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first_source).wrapping_add(instance))
    }

    /// Time between two commands of one connection.
    fn seconds_per_command(&self) -> f64 {
        let connections = f64::from(self.instances) * f64::from(self.connections) * self.targets.len() as f64;
        connections / f64::from(self.commands_per_second)
    }
}

impl Life {
    fn end(&self, rng: &mut Rng) -> Option<Instant> {
        match self {
            Self::Endless => None,
            Self::Mean(mean) => Some(Instant::now() + mean.mul_f64(0.5 + rng.f64())),
        }
    }
}

/// A seed of its own for every instance.
fn mixed(seed: u64, instance: u32) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(instance).wrapping_mul(0xd1b5_4a32_d192_ed03)
}
