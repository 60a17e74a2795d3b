//! The daemon: one thread that watches (kernel, discovery, the numbers), one that looks at the configuration file, and the
//! runtime of the caller for HTTP. They talk through channels, so that a slow scan never keeps `/healthz` from answering.

mod accept_queue;
mod collect;
mod identities;
mod inventory;
mod looks;
mod pods;
mod rates;
mod reload;
mod retire;
mod storms;
mod survey;
mod totals;
mod traffic;
mod wanted;
mod watch;

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc::Receiver},
    thread,
    time::{Duration, Instant},
};

use agent_common::abi::KeySettings;
use anyhow::{Context as _, Result, anyhow};
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};

use self::{
    reload::{Governed, Verdict},
    watch::Watch,
};
use crate::{
    alerts::{Alerts, Announcements, Teller},
    config::{Configuration, HashKeys, Settings},
    http::{self, Health, Source},
    incidents::{Archive, Keeper},
    kernel::{Events, Kernel, KernelSettings},
    kubernetes::Kubernetes,
    metrics::{ProcessUsage, Report, StormReport},
    privileges,
    snapshot::ConnectionSnapshot,
    storms::Moment,
    tenants::{ClassTables, Classes, PrefixNames, PrefixTable, Rules},
    valkey::Host,
};

/// How often the watching thread looks after its servers.
const TICK: Duration = Duration::from_secs(1);

/// How often the detectors look: DESIGN's 100 ms for the counters of connections.
const JUDGEMENT: Duration = Duration::from_millis(100);

/// Requests for numbers that may wait; the HTTP server makes few at once.
const WAITING_REQUESTS: usize = 16;

/// How long a scrape waits for the watching thread.
const COLLECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the first servers wait for the names of their pods: what they are called then they are called until they end.
const PATIENCE_WITH_KUBERNETES: Duration = Duration::from_secs(2);

/// What the HTTP server asks the watching thread for.
enum Request {
    Storms(oneshot::Sender<Arc<StormReport>>),
    Report(oneshot::Sender<Arc<Report>>),
    Connections(oneshot::Sender<Result<Arc<Vec<ConnectionSnapshot>>, String>>),
}

/// Runs until `shutdown` is done. Afterwards nothing is attached. Each time `reload` receives something, the configuration
/// file is read again; when it changes, it is in any case.
///
/// # Errors
///
/// What keeps the agent from starting: the address is taken, the programs are refused, procfs cannot be read.
pub async fn run(
    mut configuration: Configuration,
    reload: Receiver<()>,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let mut keys = HashKeys::default();
    let names = names(&mut keys, &mut configuration.settings)?;
    let listen = configuration.settings.http.listen;
    let web = configuration.settings.http.web_config.as_deref();
    let web = web.map(|path| http::Web::open(path).map(Arc::new)).transpose();
    let web = web.context("http.web_config cannot be used")?;
    let listener = http::bind(listen).await?;
    let address = listener.local_addr().unwrap_or(listen);
    let (verdicts, verdict) = mpsc::channel(1);
    let running = Running::start(&configuration, names, address, verdict).await?;
    tracing::info!(%address, "serving /metrics");
    // Nobody waits for its end: it may be reading from a file system that does not answer.
    thread::Builder::new()
        .name("config".into())
        .spawn(move || reload::look_after(configuration, keys, &reload, &verdicts))
        .context("cannot start the thread that looks at the configuration")?;
    http::serve(listener, Arc::clone(&running.source), web, shutdown).await;
    running.end()
}

/// Watches for as long as `look` takes, for the eyes of one person: without a socket, nobody is told of storms, nothing is
/// recorded, and the configuration stays as it is. Afterwards nothing is attached. The calling thread is left without any
/// capability, as that of [`run`] is.
///
/// # Errors
///
/// As for [`run`], but for the address.
pub async fn watch_for(mut configuration: Configuration, look: impl AsyncFnOnce(http::Local)) -> Result<()> {
    let settings = &mut configuration.settings;
    settings.alerts.alertmanagers.clear();
    settings.alerts.webhooks.clear();
    settings.incidents.enabled = false;
    // Not even what is too old is removed from there.
    settings.incidents.dir.clear();
    let names = HashKeys::reading_only().names(settings)?;
    let (_verdicts, verdict) = mpsc::channel(1);
    let listen = settings.http.listen;
    let running = Running::start(&configuration, names, listen, verdict).await?;
    look(http::Local::new(Arc::clone(&running.source))).await;
    running.end()
}

/// How prefixes are shown. What is odd about it is logged; other warnings have been.
fn names(keys: &mut HashKeys, settings: &mut Settings) -> Result<PrefixNames> {
    let before = settings.warnings.len();
    let names = keys.names(settings)?;
    for warning in settings.warnings.iter().skip(before) {
        tracing::warn!("{warning}");
    }
    Ok(names)
}

/// Threads that watch, tell and record.
struct Running {
    source: Arc<dyn Source>,
    stop: oneshot::Sender<()>,
    watcher: thread::JoinHandle<Result<()>>,
    teller: Teller,
    keeper: Keeper,
}

impl Running {
    /// Returns when the programs are attached and the first servers found, on a thread that has given up every capability.
    async fn start(
        configuration: &Configuration,
        names: PrefixNames,
        address: SocketAddr,
        verdicts: mpsc::Receiver<Verdict>,
    ) -> Result<Self> {
        let state = Arc::new(Mutex::new(Health {
            since_last_tick: None,
            not_ready: Some("the kernel programs are being loaded".into()),
        }));
        let last_tick = Arc::new(Mutex::new(None));
        let (requests, inbox) = mpsc::channel(WAITING_REQUESTS);
        let (stop, stopped) = oneshot::channel();
        let (started, starting) = oneshot::channel();
        let shared = Shared {
            state: Arc::clone(&state),
            last_tick: Arc::clone(&last_tick),
        };
        let inbox = Inbox {
            requests: inbox,
            verdicts,
            stopped,
        };
        let (alerts, teller) = Alerts::start(&configuration.settings.alerts, address)
            .context("cannot start the thread that tells of storms")?;
        let (incidents, keeper) = Archive::start(&configuration.settings.incidents)
            .context("cannot start the thread that records storms")?;
        let at_start = configuration.clone();
        let evidence = Evidence {
            alerts: alerts.clone(),
            incidents: Arc::clone(&incidents),
            names,
        };
        let watcher = thread::Builder::new()
            .name("watch".into())
            .spawn(move || watch_thread(&at_start, &shared, evidence, inbox, started))
            .context("cannot start the watching thread")?;
        // Only now: a thread starts with what the thread that starts it has.
        privileges::give_up().context("cannot give up capabilities")?;
        if starting.await.is_err() {
            teller.stop();
            keeper.stop();
            join(watcher)?;
            return Err(anyhow!("the watching thread ended before it began"));
        }
        let source = Arc::new(Daemon {
            state,
            last_tick,
            requests,
            alerts,
            incidents,
        });
        Ok(Self {
            source,
            stop,
            watcher,
            teller,
            keeper,
        })
    }

    fn end(self) -> Result<()> {
        // The thread may have ended by itself; its error says why.
        let _ = self.stop.send(());
        let ended = join(self.watcher);
        self.teller.stop();
        self.keeper.stop();
        ended
    }
}

fn join(watcher: thread::JoinHandle<Result<()>>) -> Result<()> {
    watcher.join().unwrap_or_else(|_| {
        Err(anyhow!(
            "the watching thread panicked; this is a defect of stormglass"
        ))
    })
}

/// What the watching thread tells about itself without being asked.
struct Shared {
    state: Arc<Mutex<Health>>,
    last_tick: Arc<Mutex<Option<Instant>>>,
}

/// Where storms go: to whom they are told, and to the folder; and what prefixes are called there.
struct Evidence {
    alerts: Alerts,
    incidents: Arc<Archive>,
    names: PrefixNames,
}

/// What the watching thread is told.
struct Inbox {
    requests: mpsc::Receiver<Request>,
    verdicts: mpsc::Receiver<Verdict>,
    stopped: oneshot::Receiver<()>,
}

fn watch_thread(
    configuration: &Configuration,
    shared: &Shared,
    evidence: Evidence,
    inbox: Inbox,
    started: oneshot::Sender<()>,
) -> Result<()> {
    let settings = &configuration.settings;
    let status = reload::status_at_start(configuration);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // It may learn of the pods while the programs are loaded.
    let kubernetes = Kubernetes::start(&settings.kubernetes);
    runtime.block_on(async move {
        let mut classes = Classes::default();
        let (kernel, events) = Kernel::load(&kernel_settings(settings, &mut classes)?)?;
        privileges::keep_watching().context("cannot give up capabilities")?;
        let host = Host::open("/proc", crate::kernel::netns_cookie)?;
        let rules = Rules::new(settings)?;
        let governed = Governed::new(settings.clone(), rules.clone(), evidence.names.clone(), status);
        kubernetes.wait(PATIENCE_WITH_KUBERNETES);
        let mut watch = Watch::new(kernel, host, kubernetes, settings, rules, classes, evidence);
        watch.discover(Instant::now());
        if let Ok(mut state) = shared.state.lock() {
            state.not_ready = None;
        }
        // The receiver waits for exactly this; when it is gone the daemon is ending.
        let _ = started.send(());
        watch_loop(&mut watch, governed, events, shared, inbox).await
    })
}

/// The programs' settings from the configuration.
fn kernel_settings(settings: &Settings, classes: &mut Classes) -> Result<KernelSettings> {
    Ok(KernelSettings {
        classes: ClassTables::new(settings, classes)?,
        tenant_prefixes: PrefixTable::new(settings, classes)?,
        keys: key_settings(settings),
        declared: settings.declared().into_iter().collect(),
        prefixes: settings.limits.prefixes.get() as u32,
        clients: settings.limits.clients.get() as u32,
        processes: settings.discovery.processes.clone(),
    })
}

/// How the programs cut keys.
fn key_settings(settings: &Settings) -> KeySettings {
    let keys = KeySettings::new(
        settings.keys.delimiters.as_bytes(),
        settings.keys.depth.get() as u32,
        settings.keys.max_prefix_bytes.get() as u32,
    );
    KeySettings {
        hash_tags: u32::from(settings.keys.hash_tags),
        ..keys
    }
}

async fn watch_loop(
    watch: &mut Watch,
    mut governed: Governed,
    mut events: Events,
    shared: &Shared,
    mut inbox: Inbox,
) -> Result<()> {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut judgement = tokio::time::interval(JUDGEMENT);
    judgement.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // After an answer that took long the detectors look before the next one: whoever asks often must not delay them.
    let mut may_answer = true;
    loop {
        let soon = watch.next_scan();
        tokio::select! {
            _ = &mut inbox.stopped => return Ok(()),
            batch = events.next() => watch.handle(&batch?, Instant::now()),
            () = tokio::time::sleep_until(soon.into()) => watch.discover(Instant::now()),
            _ = tick.tick() => {
                watch.tick(Instant::now());
                watch.record_tenants(&mut governed.tenants, Instant::now());
                watch.retire_rows(&governed.tenants, Instant::now());
                governed.tenants.retain_servers(|label| watch.servers.contains_key(label));
            }
            _ = judgement.tick() => {
                watch.judge(Instant::now());
                may_answer = true;
            }
            Some(verdict) = inbox.verdicts.recv() => governed.take(verdict, watch, Instant::now()),
            Some(request) = inbox.requests.recv(), if may_answer => {
                may_answer = matches!(request, Request::Storms(_));
                answer(request, watch, &mut governed);
            }
        }
        if let Ok(mut last) = shared.last_tick.lock() {
            *last = Some(Instant::now());
        }
    }
}

/// Whoever asked may have given up.
fn answer(request: Request, watch: &mut Watch, governed: &mut Governed) {
    match request {
        Request::Storms(sender) => {
            let _ = sender.send(Arc::new(watch.storm_report()));
        }
        Request::Report(sender) => {
            let mut report = Report::new(watch.snapshot(), &mut governed.tenants);
            report.workloads = watch.workloads.report(Instant::now(), &report.snapshot);
            report.storms = watch.storm_report();
            report.alerts = watch.alerts_status();
            report.incidents = watch.incidents_status();
            report.config = governed.status.clone();
            report.kubernetes = watch.kubernetes.status();
            report.pods = watch.pods_of_clients(&report.snapshot.servers);
            report.link = watch.traffic.link();
            report.process = ProcessUsage::now();
            let _ = sender.send(Arc::new(report));
        }
        Request::Connections(sender) => {
            let connections = watch.connections().map(Arc::new);
            let _ = sender.send(connections.map_err(|error| format!("{error:#}")));
        }
    }
}

/// The daemon as HTTP sees it.
struct Daemon {
    state: Arc<Mutex<Health>>,
    last_tick: Arc<Mutex<Option<Instant>>>,
    requests: mpsc::Sender<Request>,
    alerts: Alerts,
    incidents: Arc<Archive>,
}

impl Daemon {
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, String> {
        let (sender, receiver) = oneshot::channel();
        let asked = self.requests.send(request(sender)).await;
        asked.map_err(|_| "the watching thread has ended; the log says why".to_owned())?;
        match tokio::time::timeout(COLLECT_TIMEOUT, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err("the watching thread has ended; the log says why".into()),
            Err(_) => Err(format!(
                "the watching thread did not answer within {COLLECT_TIMEOUT:?}"
            )),
        }
    }
}

impl Source for Daemon {
    fn collect(&self) -> http::Collected<'_, Report> {
        Box::pin(self.ask(Request::Report))
    }

    fn storms(&self) -> http::Collected<'_, StormReport> {
        Box::pin(self.ask(Request::Storms))
    }

    fn connections(&self) -> http::Collected<'_, Vec<ConnectionSnapshot>> {
        Box::pin(async { self.ask(Request::Connections).await? })
    }

    fn announcements(&self) -> (Arc<Announcements>, Moment) {
        (Arc::clone(self.alerts.announcements()), self.alerts.now())
    }

    fn incidents(&self) -> Arc<Archive> {
        Arc::clone(&self.incidents)
    }

    fn health(&self) -> Health {
        let mut health = match self.state.lock() {
            Ok(state) => state.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        };
        let last = self.last_tick.lock().map_or(None, |last| *last);
        health.since_last_tick = last.map(|last| last.elapsed());
        health
    }
}
