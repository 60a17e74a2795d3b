//! The stage: an agent, somebody whom it tells, a server for each scene, and what has to be said of each.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use stormglass_load::place::{Namespace, Place};
use stormglass_load::storms::{Course, Kind, Life, Storm};
use stormglass_tests::agent::Agent;
use stormglass_tests::netns::Netns;
use stormglass_tests::receiver::{Received, Receiver};
use stormglass_tests::server::{Plan, Server};
use stormglass_tests::{found, poll};

use super::evidence;
use super::outcome::Outcome;

/// Longer than the agent learns before it judges.
const LEARNING: Duration = Duration::from_secs(14);

/// From onset to finding in milliseconds, on a machine that does much else; the promise is one second for connections, and two
/// for commands and bytes, which are read every second. `cargo xtask bench storms` measures it.
const DELAY_AT_MOST: u64 = 2_500;
const DELAY_OF_TRAFFIC_AT_MOST: u64 = 4_000;

/// From the finding to whoever is told, likewise.
const TELLING_AT_MOST: u64 = 1_000;

/// Hold and quiet time of a storm, and some.
const OVER_WITHIN: Duration = Duration::from_secs(40);

/// From the end of a storm to its incident's.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// How long somebody waits for INFO.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long normal life is at least, if nobody says.
const LIFE_SECONDS: u64 = 30;

/// What happens at one server.
#[derive(Clone, Copy, PartialEq)]
enum Scene {
    Storm(Kind),
    /// The same, with server and clients in network namespaces of their own.
    Elsewhere(Kind),
    NormalLife,
}

/// What is played elsewhere as well.
const ELSEWHERE: [Kind; 2] = [Kind::ReconnectChurn, Kind::ColdReconnect];

/// Addresses of a server and its clients' host in their namespaces.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The server of a scene, as far as threads may know it.
struct Site {
    place: Place,
    label: String,
    /// Of normal life.
    replica: Option<SocketAddrV4>,
}

pub(super) struct Stage {
    agent: Agent,
    told: Receiver,
    since: Instant,
    seed: u64,
    turn: Mutex<()>,
}

impl Stage {
    pub(super) fn set(config: &str) -> Result<Self> {
        let told = Receiver::start()?;
        let webhook = format!("\n[[alerts.webhook]]\nurl = \"http://{}/\"\n", told.address());
        let survey = "[clients]\nsurvey_seconds = 1\n";
        Ok(Self {
            agent: Agent::start_with(&format!("{survey}{config}{webhook}"))?,
            told,
            since: Instant::now(),
            seed: number("STORMGLASS_SEED", 0)?,
            turn: Mutex::new(()),
        })
    }

    /// Plays the scenes that are wanted, each at a server of its own.
    pub(super) fn play(mut self) -> Result<()> {
        let (mut set, mut servers, mut hosts) = (Vec::new(), Vec::new(), Vec::new());
        for scene in wanted()? {
            let mut plan = Plan::valkey()?.config(scene.server());
            let host = match scene {
                Scene::Elsewhere(_) => Some(Host::make()?),
                _ => None,
            };
            if let Some(host) = &host {
                plan = plan.netns(&host.server).bind(&["127.0.0.1", &SERVER.to_string()]);
            }
            let server = plan.start()?;
            self.agent.sees(&server.label())?;
            let mut site = Site::of(&server);
            if let Some(host) = host {
                site.place.address.set_ip(SERVER);
                site.place.namespace = Some(Namespace::open(&host.clients.path())?);
                hosts.push(host);
            }
            servers.push(server);
            if scene == Scene::NormalLife {
                let replica = Plan::valkey()?.start()?;
                self.agent.sees(&replica.label())?;
                site.replica = Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, replica.port()));
                servers.push(replica);
            }
            set.push((scene, site));
        }
        self.since = Instant::now();
        let stage = &self;
        let failures: Vec<String> = thread::scope(|scope| {
            let playing: Vec<_> = set
                .iter()
                .map(|(scene, site)| (scene.name(), scope.spawn(move || stage.play_one(*scene, site))))
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

    fn play_one(&self, scene: Scene, site: &Site) -> Result<()> {
        let mut outcome = Outcome {
            scene: scene.name().to_owned(),
            seed: self.seed,
            ..Outcome::default()
        };
        let played = match scene {
            Scene::Storm(kind) | Scene::Elsewhere(kind) => self.storm(kind, site, &mut outcome),
            Scene::NormalLife => self.normal_life(site, &mut outcome),
        };
        outcome.failure = played.as_ref().err().map(|error| format!("{error:#}"));
        outcome.write()?;
        played
    }

    fn storm(&self, kind: Kind, site: &Site, outcome: &mut Outcome) -> Result<()> {
        let mut storm = Storm::set(kind, site.place.clone(), self.seed)?;
        storm.live(self.until_learned())?;
        self.assert_silent(site)?;
        // One after the other, but for the one that takes its time.
        let turn = match kind {
            Kind::ConnectionGrowth => None,
            _ => Some(self.turn(&mut storm)?),
        };
        let (course, unanswered) = thread::scope(|scope| {
            let info = (kind == Kind::ReconnectChurn).then(|| scope.spawn(|| self.info_when_told(site)));
            let course = storm.break_out();
            (course, info.map(|info| info.join().unwrap_or(Ok(false))))
        });
        drop(turn);
        let course = course?;
        outcome.course = Some(course.clone());
        let over = self.over(site, &mut storm)?;
        outcome.storms.clone_from(&over);
        outcome.told_ms = self.told_ms(kind, site);
        outcome.named_ms = self.named_ms(kind, site);
        outcome.first_called = self.first_called(kind, site);
        ensure!(over.len() == 1, "not one storm: {over:#?}");
        self.check(kind, &course, &over[0], outcome.told_ms)?;
        if let Some(unanswered) = unanswered {
            ensure!(unanswered?, "INFO was answered when the storm was told of");
        }
        self.check_incident(kind, &over[0])?;
        self.check_metrics(site, kind)
    }

    fn normal_life(&self, site: &Site, outcome: &mut Outcome) -> Result<()> {
        let mut life = Life::begin(site.place.clone(), site.replica, self.seed)?;
        life.live(self.until_learned())?;
        let seconds = number("STORMGLASS_LIFE_SECONDS", LIFE_SECONDS)?;
        life.go_on(Duration::from_secs(seconds))?;
        outcome.storms = self.agent.storms(&site.label)?;
        ensure!(outcome.storms.is_empty(), "{:#?}", outcome.storms);
        Ok(())
    }

    /// What leads, who, how soon it was found, and told.
    fn check(&self, kind: Kind, course: &Course, storm: &Value, told_ms: Option<u64>) -> Result<()> {
        ensure!(
            is_right(kind, storm),
            "not {} by {}: {storm:#}",
            kind.name(),
            kind.culprit()
        );
        evidence::check(kind, storm)?;
        let found = storm["found"].as_u64().context("no moment")?;
        let told = told_ms.context("nobody was told")?;
        let delay = found.saturating_sub(course.onset_ms);
        println!(
            "{}: found {delay} ms after the onset, told after {}: {}",
            kind.name(),
            told.saturating_sub(course.onset_ms),
            storm["summary"]
        );
        let at_most = delay_at_most(kind, course);
        ensure!(delay <= at_most, "found after {delay} ms: {storm:#}");
        // It may have been told as something else at first.
        let later = told.saturating_sub(found.max(course.onset_ms));
        ensure!(later <= TELLING_AT_MOST, "told {later} ms later");
        if kind == Kind::ReconnectChurn {
            let (_, until) = course.mute_ms.context("the server was not slow")?;
            ensure!(
                told < until,
                "told {} ms after the server answers again",
                told - until
            );
        }
        Ok(())
    }

    /// All storms of a server once they are over.
    fn over(&self, site: &Site, storm: &mut Storm) -> Result<Vec<Value>> {
        let began = Instant::now();
        loop {
            storm.live(Duration::from_millis(200))?;
            let storms = self.agent.storms(&site.label)?;
            if found::are_over(&storms) {
                return Ok(storms);
            }
            ensure!(began.elapsed() < OVER_WITHIN, "not over, or none: {storms:#?}");
        }
    }

    /// Whether INFO is not answered at the moment at which somebody is told of the churn.
    fn info_when_told(&self, site: &Site) -> Result<bool> {
        poll::until_true("somebody is told", OVER_WITHIN, || {
            Ok(self.told_ms(Kind::ReconnectChurn, site).is_some())
        })?;
        let address = site.place.address.into();
        site.place.reached(|| {
            let asked = TcpStream::connect_timeout(&address, PATIENCE).and_then(|mut stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(b"INFO\r\n")?;
                stream.read(&mut [0])
            });
            Ok(asked.is_err())
        })
    }

    /// What somebody was told of a server.
    fn told_of(&self, site: &Site) -> impl Iterator<Item = Received> {
        let label = site.label.clone();
        let received = self.told.received().into_iter();
        received.filter(move |request| request.body["storm"]["server"] == label.as_str())
    }

    /// When somebody was told of a storm of this kind at a server.
    fn told_ms(&self, kind: Kind, site: &Site) -> Option<u64> {
        let is_kind = |request: &Received| request.body["storm"]["kind"] == kind.name();
        self.told_of(site).find(is_kind).map(|first| milliseconds(&first))
    }

    /// When somebody was told rightly by whom it is.
    fn named_ms(&self, kind: Kind, site: &Site) -> Option<u64> {
        let is_named = |request: &Received| is_right(kind, &request.body["storm"]);
        self.told_of(site)
            .find(is_named)
            .map(|first| milliseconds(&first))
    }

    /// What somebody was told at first, if that was another kind, or of somebody else. It may be that nobody is named yet.
    fn first_called(&self, kind: Kind, site: &Site) -> Option<String> {
        let first = self.told_of(site).next()?;
        let storm = &first.body["storm"];
        let who = &storm["culprits"][0]["name"];
        let is_nobodys = storm["kind"] == kind.name() && who.is_null();
        (!is_nobodys && !is_right(kind, storm)).then(|| format!("{} by {who}", storm["kind"]))
    }

    /// The incident has the minute before the storm, and its course says what the storm is.
    fn check_incident(&self, kind: Kind, storm: &Value) -> Result<()> {
        let id = storm["id"].as_str().context("no id")?;
        // The end is written by another thread than the one that says so.
        let incident = poll::until("the end in the incident", WRITTEN_WITHIN, || {
            let (status, page) = self.agent.get(&format!("/api/v1/incidents/{id}"))?;
            ensure!(status == 200, "{status}: {page}");
            let incident: Value = serde_json::from_str(&page)?;
            Ok((!incident["storm"]["ended"].is_null()).then_some(incident))
        })?;
        evidence::check_incident(kind, &incident)
    }

    /// How long the agent still learns.
    fn until_learned(&self) -> Duration {
        LEARNING.saturating_sub(self.since.elapsed())
    }

    /// Lives on until it is its turn.
    fn turn(&self, storm: &mut Storm) -> Result<MutexGuard<'_, ()>> {
        loop {
            match self.turn.try_lock() {
                Ok(turn) => return Ok(turn),
                Err(TryLockError::Poisoned(turn)) => return Ok(turn.into_inner()),
                Err(TryLockError::WouldBlock) => storm.live(Duration::from_millis(100))?,
            }
        }
    }

    /// Nothing has been found at a server.
    fn assert_silent(&self, site: &Site) -> Result<()> {
        let found = self.agent.storms(&site.label)?;
        ensure!(found.is_empty(), "{found:#?}");
        Ok(())
    }

    fn check_metrics(&self, site: &Site, kind: Kind) -> Result<()> {
        let scrape = self.agent.metrics()?;
        let labels = format!("{{server=\"{}\",kind=\"{}\"}}", site.label, kind.name());
        for line in [
            format!("stormglass_storms_total{labels} 1\n"),
            format!("stormglass_storm_active{labels} 0\n"),
        ] {
            ensure!(scrape.contains(&line), "no {line} in {scrape}");
        }
        Ok(())
    }
}

/// When it was received, since 1970 began.
fn milliseconds(request: &Received) -> u64 {
    let since = request.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether it is of this kind, and who it is leads.
fn is_right(kind: Kind, storm: &Value) -> bool {
    storm["kind"] == kind.name() && storm["culprits"][0]["name"] == kind.culprit()
}

impl Scene {
    fn name(self) -> &'static str {
        match self {
            Self::Storm(kind) => kind.name(),
            Self::Elsewhere(Kind::ReconnectChurn) => "reconnect_churn_elsewhere",
            Self::Elsewhere(_) => "cold_reconnect_elsewhere",
            Self::NormalLife => "normal_life",
        }
    }

    /// Lines of its server's configuration.
    fn server(self) -> &'static str {
        match self {
            Self::Storm(kind) | Self::Elsewhere(kind) => kind.server(),
            Self::NormalLife => "",
        }
    }
}

impl Site {
    fn of(server: &Server) -> Self {
        Self {
            place: Place {
                process: Some(server.id()),
                ..Place::local(server.port())
            },
            label: server.label(),
            replica: None,
        }
    }
}

/// A server's network namespace and that of its clients, with a link between them.
struct Host {
    server: Rc<Netns>,
    clients: Netns,
}

impl Host {
    fn make() -> Result<Self> {
        let (server, clients) = (Rc::new(Netns::create()?), Netns::create()?);
        server.link("clients", &clients, "server")?;
        server.ip(&format!("addr add {SERVER}/30 dev clients"))?;
        clients.ip(&format!("addr add {CLIENTS}/30 dev server"))?;
        // The generator's.
        for network in ["10.71.0.0/16", "10.72.0.0/16"] {
            clients.ip(&format!("route add local {network} dev lo"))?;
            server.ip(&format!("route add {network} via {CLIENTS}"))?;
        }
        Ok(Self { server, clients })
    }
}

/// The scenes that `STORMGLASS_SCENES` names.
fn wanted() -> Result<Vec<Scene>> {
    let storms = Kind::all().iter().copied().map(Scene::Storm);
    let elsewhere = ELSEWHERE.map(Scene::Elsewhere);
    let all = storms.chain(elsewhere).chain([Scene::NormalLife]);
    let Ok(names) = std::env::var("STORMGLASS_SCENES") else {
        return Ok(all.collect());
    };
    let names: Vec<&str> = names.split(',').collect();
    let scenes: Vec<Scene> = all.filter(|scene| names.contains(&scene.name())).collect();
    ensure!(
        scenes.len() == names.len(),
        "not all of these are scenes: {names:?}"
    );
    Ok(scenes)
}

/// A leak is found when it has gone on for a while by definition: it has to be before it reaches the limit.
fn delay_at_most(kind: Kind, course: &Course) -> u64 {
    match kind {
        Kind::ConnectionGrowth => course.over_ms - course.onset_ms,
        Kind::RetryAmplification
        | Kind::BandwidthSaturation
        | Kind::OversizedValues
        | Kind::HotPrefix
        | Kind::ErrorBurst => DELAY_OF_TRAFFIC_AT_MOST,
        _ => DELAY_AT_MOST,
    }
}

fn number(variable: &str, default: u64) -> Result<u64> {
    let Ok(text) = std::env::var(variable) else {
        return Ok(default);
    };
    text.parse()
        .with_context(|| format!("{variable} is {text:?}, not a number"))
}
