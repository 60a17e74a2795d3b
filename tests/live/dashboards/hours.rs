//! Alerts that look at hours, or need a disk, an API server or an agent that fails: each on a scene of its own, which goes on until
//! the alert has fired.
//!
//! An hour of the rules is twelve seconds here. One agent runs as in a pod, beside a double of the API server and on a small disk; the
//! other watches nothing at first, and stands for an older version: Prometheus is told so, since there is one build.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use stormglass_dashboards::rules;
use stormglass_load::crowd::Crowd;
use stormglass_tests::agent::Agent;
use stormglass_tests::alertmanager::Home;
use stormglass_tests::kubernetes::ApiServer;
use stormglass_tests::poll;
use stormglass_tests::prometheus::{Pace, Prometheus, Target};
use stormglass_tests::receiver::Receiver;
use stormglass_tests::resp::Connection;
use stormglass_tests::server::{Plan, Server};
use stormglass_tests::threads::Held;

use super::{told, wait_until_fired};

/// How long a scene may go on before its alert has fired: the one with four storms of a server needs the most.
const FIRING_WITHIN: Duration = Duration::from_secs(100);

/// Watches no process, since none has this name.
const NOTHING: &str = "[clients]\nsurvey_seconds = 1\n[discovery]\nprocesses = [\"nobody-is-called-so\"]\n";

/// The second agent is taken for an older version.
const OLDER: &str = "metric_relabel_configs:
- source_labels: [__name__, instance]
  regex: stormglass_build_info;host-2:9466
  target_label: version
  replacement: 0.0.9
";

fn config(alertmanager: &str) -> String {
    format!(
        "[clients]\nsurvey_seconds = 1\nidle_after_seconds = 2\n\n[limits]\nprefixes = 20\n\n\
         [incidents]\ndir = \"/run/stormglass/incidents\"\n\n\
         [[tenant]]\nname = \"cart\"\nprefixes = [\"cart\"]\n\n\
         [[tenant]]\nname = \"media\"\nprefixes = [\"media\"]\n\n\
         [[tenant]]\nname = \"nightly\"\nclient_names = [\"nightly-*\"]\n\n\
         [alerts]\ndir = \"/run/stormglass/alerts\"\nnode = \"host-1\"\n\n[alerts.alertmanager]\nurl = \"{alertmanager}\"\n\n\
         # What the API takes is a list of alerts: a webhook's message is refused by it.\n\
         [[alerts.webhook]]\nname = \"refuses\"\nurl = \"{alertmanager}/api/v2/alerts\"\n"
    )
}

/// Everything that runs.
pub(super) struct Stage {
    agent: Agent,
    older: Agent,
    api: ApiServer,
    prometheus: Prometheus,
    hook: Receiver,
    home: Home,
}

impl Stage {
    pub(super) fn set(hook: Receiver, home: Home) -> Result<Self> {
        let api = ApiServer::start_tls(Vec::new())?;
        let agent = Agent::start_in_pod(&api, &config(&home.url()))?;
        let older = Agent::start_with(NOTHING)?;
        let targets = [(&agent, "host-1:9466", "eu-1"), (&older, "host-2:9466", "us-1")].map(
            |(agent, instance, cluster)| Target {
                address: agent.address(),
                labels: format!("instance: '{instance}', cluster: '{cluster}'"),
            },
        );
        let prometheus =
            Prometheus::start_with(Pace::HOURS, OLDER, &targets, &rules::files(), Some(&home.url()))?;
        Ok(Self {
            agent,
            older,
            api,
            prometheus,
            hook,
            home,
        })
    }

    /// Plays all scenes. What they provoked has fired when they end; it resolves afterwards.
    pub(super) fn play(self) -> Result<Played> {
        let server = |config: &str| -> Result<Server> {
            let server = Plan::valkey()?.config(config).start()?;
            self.agent.sees(&server.label())?;
            Ok(server)
        };
        let (small, wide) = (server("maxclients 12\n")?, server("")?);
        let (slow, busy) = (server("enable-debug-command local\n")?, server("")?);
        let (full, label, pool) = (small.port(), small.label(), wide.port());
        let (waits, moves) = (slow.address(), busy.address());
        let stage = &self;
        let outcome = thread::scope(|scope| -> Result<()> {
            let scenes = [
                scope.spawn(move || stage.refused_again_and_again(full, &label)),
                scope.spawn(move || stage.pools_idle(pool)),
                scope.spawn(move || stage.slow(waits)),
                scope.spawn(move || stage.strangers(waits)),
                scope.spawn(move || stage.much(moves)),
            ];
            let played = self.around();
            for scene in scenes {
                scene.join().map_err(|_| anyhow!("a scene panicked"))??;
            }
            played
        });
        let fired = || format!("{:?} have fired", self.prometheus.fired());
        outcome.with_context(|| format!("{}; the agent's log:\n{}", fired(), self.agent.log()))?;
        // The older version is no more.
        self.older.terminate()?;
        Ok(Played {
            agent: self.agent,
            prometheus: self.prometheus,
            hook: self.hook,
            _servers: [small, wide, slow, busy],
            _home: self.home,
            _api: self.api,
        })
    }

    fn has_fired(&self, alert: &str) -> bool {
        told(&self.hook.received(), "firing").contains(alert)
    }

    fn wait_for(&self, alert: &str) -> Result<()> {
        wait_until_fired(&self.hook, alert, FIRING_WITHIN)
    }

    /// Goes on with a scene until all its alerts have fired.
    fn until(&self, alerts: &[&str], mut scene: impl FnMut() -> Result<()>) -> Result<()> {
        let began = Instant::now();
        while let Some(missing) = alerts.iter().find(|alert| !self.has_fired(alert)) {
            ensure!(began.elapsed() < FIRING_WITHIN, "{missing} has not fired");
            scene()?;
        }
        println!("{alerts:?} fired within {:.0} s", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// What happens around the servers: to disk, API server and the agents themselves.
    fn around(&self) -> Result<()> {
        self.wait_for("StormglassAgentWithoutServers")?;
        self.older
            .rewrite(&NOTHING.replace("nobody-is-called-so", "valkey-server"))?;
        // A survey that does not end.
        let held = Held::hold(self.older.id(), "survey", FIRING_WITHIN)?;
        self.api.set_away(true);
        self.wait_for("StormglassKubernetesUnreachable")?;
        self.api.set_away(false);
        let full = Full::make(&self.agent)?;
        self.wait_for("StormglassIncidentsLost")?;
        self.wait_for("StormglassAlertJournalBroken")?;
        drop(full);
        self.wait_for("StormglassVersionsDiffer")?;
        self.wait_for("StormglassSurveyLate")?;
        held.release()?;
        poll::until_true("surveys go on", FIRING_WITHIN, || {
            let age = self.older.scrape()?.value("stormglass_survey_age_seconds", &[]);
            Ok(age.is_some_and(|age| age < 5.0))
        })
    }

    /// A full server turns clients away, time and again. Each storm is told to a webhook that refuses it.
    fn refused_again_and_again(&self, port: u16, server: &str) -> Result<()> {
        let mut members = Crowd::new(port, 71, 11);
        members.arrive(1)?;
        let active = [("server", server), ("kind", "maxclients_rejection")];
        self.until(&["StormglassStormRepeating", "StormglassAlertsLost"], || {
            let mut more = Crowd::new(port, 72, 10);
            more.open(1)?;
            sleep(Duration::from_millis(400));
            drop(more);
            // A storm is over ten seconds after the last one who was refused.
            poll::until_true("the storm is over", FIRING_WITHIN, || {
                sleep(Duration::from_millis(200));
                let scrape = self.agent.scrape()?;
                Ok(scrape.value("stormglass_storm_active", &active) == Some(0.0))
            })
        })
    }

    /// More than a thousand connections that nobody uses.
    fn pools_idle(&self, port: u16) -> Result<()> {
        let mut pools = Crowd::new(port, 73, 101);
        pools.arrive(10)?;
        self.until(&["StormglassPoolsIdle"], || {
            pools.listen();
            sleep(Duration::from_millis(100));
            Ok(())
        })
    }

    /// Commands that wait behind one that takes long.
    fn slow(&self, server: SocketAddr) -> Result<()> {
        let mut connection = Connection::open(server)?;
        self.until(&["StormglassTenantSlow"], || {
            connection.send(&[b"DEBUG", b"SLEEP", b"0.15"])?;
            connection.send(&[b"GET", b"cart:1"])?;
            connection.receive()?;
            connection.receive()?;
            sleep(Duration::from_millis(20));
            Ok(())
        })
    }

    /// A nightly job that reads another tenant's keys.
    fn strangers(&self, server: SocketAddr) -> Result<()> {
        let mut connection = Connection::open(server)?;
        connection.ask(&[b"CLIENT", b"SETNAME", b"nightly-1"])?;
        self.until(&["StormglassTenantOnOthersConnections"], || {
            connection.ask(&[b"GET", b"cart:2"])?;
            sleep(Duration::from_millis(50));
            Ok(())
        })
    }

    /// A tenant that moves more than all others; then prefixes that are nobody's, more and more of them.
    fn much(&self, server: SocketAddr) -> Result<()> {
        let mut connection = Connection::open(server)?;
        connection.ask(&[b"SET", b"media:1", &[b'x'; 256 << 10]])?;
        self.until(&["StormglassTenantDominates"], || {
            for _ in 0..4 {
                connection.ask(&[b"GET", b"media:1"])?;
            }
            sleep(Duration::from_millis(20));
            Ok(())
        })?;
        let mut number = 0;
        self.until(&["StormglassBytesUnassigned", "StormglassEventsLost"], || {
            number += 1;
            connection.ask(&[b"SET", format!("p{number}:1").as_bytes(), &[b'x'; 2_000]])?;
            sleep(Duration::from_millis(20));
            Ok(())
        })
    }
}

/// What is left when all has been played.
pub(super) struct Played {
    agent: Agent,
    prometheus: Prometheus,
    pub(super) hook: Receiver,
    _servers: [Server; 4],
    _home: Home,
    _api: ApiServer,
}

impl Played {
    pub(super) fn end(self) -> Result<()> {
        self.prometheus.stop()?;
        self.agent.terminate().map(|_| ())
    }
}

/// A file that fills the agent's own disk, as long as this lives.
struct Full {
    file: PathBuf,
}

impl Full {
    fn make(agent: &Agent) -> Result<Self> {
        let file = PathBuf::from(format!("/proc/{}/root/run/full", agent.id()));
        let full = Self { file };
        let written = fs::write(&full.file, vec![0; 64 << 20]);
        ensure!(written.is_err(), "the agent's disk takes 64 MiB");
        Ok(full)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        // With the agent its disk is gone.
        let _ = fs::remove_file(&self.file);
    }
}
