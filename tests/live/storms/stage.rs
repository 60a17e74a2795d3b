//! The stage: an agent, a server for each scene, and what is asked of the agent.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::Pid;
use serde_json::Value;
use stormglass_tests::agent::Agent;
use stormglass_tests::crowd::Crowd;
use stormglass_tests::poll;
use stormglass_tests::server::{Plan, Server};

/// Longer than the agent learns before it judges.
const LEARNING: Duration = Duration::from_secs(14);

/// How long a storm may take to be found and asked for at all.
const FOUND_WITHIN: Duration = Duration::from_secs(20);

/// From onset to finding in milliseconds, on a machine that does much else; the promise is one second for connections, and two
/// for commands and bytes, which are read every second.
const DELAY_AT_MOST: u64 = 2_500;
const DELAY_OF_TRAFFIC_AT_MOST: u64 = 4_000;
const OF_TRAFFIC: [&str; 5] = [
    "retry_amplification",
    "bandwidth_saturation",
    "oversized_values",
    "hot_prefix",
    "error_burst",
];

/// Hold and quiet time of a storm, and some.
const OVER_WITHIN: Duration = Duration::from_secs(40);

/// What happens at one server.
pub(super) struct Scene {
    pub(super) name: &'static str,
    /// Lines of the server's configuration.
    pub(super) server: &'static str,
    pub(super) play: fn(&Stage, &Site) -> Result<()>,
}

/// The server of a scene, as far as threads may know it.
pub(super) struct Site {
    pub(super) port: u16,
    pub(super) id: Pid,
    pub(super) label: String,
}

impl Site {
    fn of(server: &Server) -> Self {
        Self {
            port: server.port(),
            id: server.id(),
            label: server.label(),
        }
    }
}

pub(super) struct Stage {
    agent: Agent,
    since: Instant,
    turn: Mutex<()>,
}

impl Stage {
    pub(super) fn set(config: &str) -> Result<Self> {
        Ok(Self {
            agent: Agent::start_with(config)?,
            since: Instant::now(),
            turn: Mutex::new(()),
        })
    }

    /// Plays the scenes, each at a server of its own.
    pub(super) fn play(mut self, scenes: &[Scene]) -> Result<()> {
        let wanted = std::env::var("STORMGLASS_SCENES").ok();
        let is_wanted = |scene: &&Scene| {
            let wanted = wanted.as_ref();
            wanted.is_none_or(|wanted| wanted.split(',').any(|name| name == scene.name))
        };
        let (mut set, mut servers) = (Vec::new(), Vec::new());
        for scene in scenes.iter().filter(is_wanted) {
            let server = Plan::valkey()?.config(scene.server).start()?;
            self.agent.sees(&server.label())?;
            set.push((scene, Site::of(&server)));
            servers.push(server);
        }
        ensure!(!set.is_empty(), "no such scene: {wanted:?}");
        self.since = Instant::now();
        let stage = &self;
        let failures: Vec<String> = thread::scope(|scope| {
            let playing: Vec<_> = set
                .iter()
                .map(|(scene, site)| (scene.name, scope.spawn(move || (scene.play)(stage, site))))
                .collect();
            let ends = playing.into_iter().map(|(name, thread)| (name, thread.join()));
            ends.filter_map(|(name, end)| match end {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{name}: {error:#}")),
                Err(_) => Some(format!("{name}: panicked")),
            })
            .collect()
        });
        if failures.is_empty() {
            return Ok(());
        }
        bail!("{}\nthe agent's log:\n{}", failures.join("\n"), self.agent.log());
    }

    /// Lets the crowds live until the agent has learned what is usual: everybody asks five times a second.
    pub(super) fn learn(&self, server: &Site, crowds: &mut [&mut Crowd]) -> Result<()> {
        live(crowds, self.until_learned());
        self.assert_silent(server)
    }

    /// How long the agent still learns.
    pub(super) fn until_learned(&self) -> Duration {
        LEARNING.saturating_sub(self.since.elapsed())
    }

    /// What takes much of the machine waits for its turn.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The storm that goes on at a server.
    pub(super) fn active(&self, server: &Site) -> Result<Option<Value>> {
        Ok(self.storms(server, "active")?.into_iter().next())
    }

    /// Waits for a storm at a server.
    pub(super) fn found(&self, server: &Site) -> Result<Value> {
        poll::until("a storm", FOUND_WITHIN, || {
            thread::sleep(Duration::from_millis(50));
            self.active(server)
        })
    }

    /// The only storm there has been, once it is over; what it has to be, and how soon it had to be found.
    pub(super) fn over(&self, server: &Site, kind: &str, culprit: &str, onset: u64) -> Result<Value> {
        let over = poll::until("the storm is over", OVER_WITHIN, || {
            thread::sleep(Duration::from_millis(200));
            let over = self.storms(server, "ended")?;
            Ok((!over.is_empty()).then_some(over))
        })?;
        let active = self.storms(server, "active")?;
        ensure!(over.len() == 1 && active.is_empty(), "{over:#?} {active:#?}");
        let storm = over[0].clone();
        check(&storm, kind, culprit)?;
        let found = storm["found"].as_u64().context("no moment")?;
        let delay = found.saturating_sub(onset);
        println!("{kind}: found {delay} ms after the onset: {}", storm["summary"]);
        let at_most = if OF_TRAFFIC.contains(&kind) {
            DELAY_OF_TRAFFIC_AT_MOST
        } else {
            DELAY_AT_MOST
        };
        ensure!(delay <= at_most, "found after {delay} ms: {storm:#}");
        self.check_metrics(server, kind)?;
        Ok(storm)
    }

    /// Nothing has been found at a server.
    pub(super) fn assert_silent(&self, server: &Site) -> Result<()> {
        let found = [self.storms(server, "active")?, self.storms(server, "ended")?].concat();
        ensure!(found.is_empty(), "{found:#?}");
        Ok(())
    }

    fn check_metrics(&self, server: &Site, kind: &str) -> Result<()> {
        let (scrape, labels) = (
            self.agent.metrics()?,
            format!("{{server=\"{}\",kind=\"{kind}\"}}", server.label),
        );
        for line in [
            format!("stormglass_storms_total{labels} 1\n"),
            format!("stormglass_storm_active{labels} 0\n"),
        ] {
            ensure!(scrape.contains(&line), "no {line} in {scrape}");
        }
        Ok(())
    }

    fn storms(&self, server: &Site, which: &str) -> Result<Vec<Value>> {
        let (status, body) = self
            .agent
            .get(&format!("/api/v1/storms?server={}", server.label))?;
        ensure!(status == 200, "{status}: {body}");
        let page: Value = serde_json::from_str(&body)?;
        page[which].as_array().cloned().context("no list of storms")
    }
}

/// Lets crowds live for a while: everybody asks five times a second.
pub(super) fn live(crowds: &mut [&mut Crowd], how_long: Duration) {
    let began = Instant::now();
    while began.elapsed() < how_long {
        for crowd in &mut *crowds {
            crowd.ask();
        }
        thread::sleep(Duration::from_millis(200));
        for crowd in &mut *crowds {
            crowd.listen();
        }
    }
}

/// What leads, and who.
pub(super) fn check(storm: &Value, kind: &str, culprit: &str) -> Result<()> {
    ensure!(storm["kind"] == kind, "not {kind}: {storm:#}");
    ensure!(
        storm["culprits"][0]["name"] == culprit,
        "{culprit} does not lead: {storm:#}"
    );
    Ok(())
}

/// A number of a storm's evidence.
pub(super) fn evidence(storm: &Value, name: &str) -> Result<f64> {
    let figures = storm["evidence"].as_array().context("no evidence")?;
    let figure = figures.iter().find(|figure| figure["name"] == name);
    let figure = figure.with_context(|| format!("no {name} in {storm:#}"))?;
    figure["value"].as_f64().context("no number")
}

/// Milliseconds since 1970, as the agent counts them.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
