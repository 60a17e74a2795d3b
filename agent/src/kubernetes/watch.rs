//! The API server: a thread of its own lists the pods once and then follows what becomes of them.

use std::{
    collections::HashMap,
    env,
    fmt::Display,
    net::IpAddr,
    path::Path,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use axum::http::Response;
use futures_util::StreamExt as _;
use kube::{
    Api, Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{
        utils::Backoff as _,
        watcher::{self, DefaultBackoff, Event, watcher},
    },
};
use tokio::sync::oneshot;
use tower::util::MapResponseLayer;

use super::{Fault, Index, Pod, Status, pod::PodObject};
use crate::{
    config::{self, KubernetesSwitch},
    privileges,
    valkey::Place,
};

/// How long the API server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be silent. A watch is asked for 290 s at a time, and bookmarks come each minute.
const READ_TIMEOUT: Duration = Duration::from_secs(300);
/// Pods in one answer of a list: some 10 kB each, held at once.
const PAGE: u32 = 250;
/// Where a pod finds the token of its service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Variable that tells a pod where the API server is.
const SERVICE_HOST: &str = "KUBERNETES_SERVICE_HOST";
/// Variable that tells the node's name, where the manifest sets it from `spec.nodeName`.
const NODE_NAME: &str = "NODE_NAME";
/// Between two looks at whether the pods are known.
const PAUSE: Duration = Duration::from_millis(10);

/// What is known of pods, and the thread that learns it.
#[derive(Debug)]
pub struct Kubernetes {
    settings: config::Kubernetes,
    state: Arc<Mutex<State>>,
    /// The thread ends when this is dropped.
    running: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct State {
    index: Index,
    status: Status,
    heard: Option<Instant>,
}

impl State {
    fn new(index: Index, status: Status) -> Self {
        Self {
            index,
            status,
            heard: None,
        }
    }

    /// The API server has sent something.
    fn hear(&mut self) {
        self.status.connected = true;
        self.heard = Some(Instant::now());
    }
}

/// Where pods are asked for, and which.
#[derive(Debug, Clone)]
struct Plan {
    /// `None`: where the pod's own service account says.
    kubeconfig: Option<String>,
    /// The only node whose pods are wanted; `None`: all.
    only_of: Option<String>,
    labels: Vec<String>,
}

impl Kubernetes {
    /// Begins to watch, if the settings and the surroundings say so.
    #[must_use]
    pub fn start(settings: &config::Kubernetes) -> Self {
        let mut kubernetes = Self {
            settings: settings.clone(),
            state: Arc::new(Mutex::new(State::new(Index::new(None), Status::default()))),
            running: None,
        };
        kubernetes.begin();
        kubernetes
    }

    /// Goes by other settings from now on. Until the pods are listed by them, those that are known stay known; if pods are no
    /// longer wanted, they are forgotten.
    pub fn change(&mut self, settings: &config::Kubernetes) {
        if self.settings != *settings {
            self.settings = settings.clone();
            self.begin();
        }
    }

    /// Waits until all pods are known, but not longer than this.
    pub fn wait(&self, at_most: Duration) {
        let begun = Instant::now();
        while self.running.is_some() && !lock(&self.state).status.complete && begun.elapsed() < at_most {
            thread::sleep(PAUSE);
        }
    }

    /// The pod that a server runs in.
    #[must_use]
    pub fn of_place(&self, place: &Place) -> Option<Arc<Pod>> {
        lock(&self.state).index.of_place(place).cloned()
    }

    /// The pods of these addresses, of those that are a pod's.
    #[must_use]
    pub fn of_addresses(&self, addresses: impl Iterator<Item = IpAddr>) -> HashMap<IpAddr, Arc<Pod>> {
        let state = lock(&self.state);
        if state.index.is_empty() {
            return HashMap::new();
        }
        addresses
            .filter_map(|address| {
                Some((
                    address.to_canonical(),
                    Arc::clone(state.index.of_address(address)?),
                ))
            })
            .collect()
    }

    /// How the watch is.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = lock(&self.state);
        Status {
            pods: state.index.len() as u64,
            refused: state.index.refused(),
            silence: state.heard.map(|heard| heard.elapsed()),
            ..state.status.clone()
        }
    }

    /// The thread of other settings, if there is one, goes on with a state that nobody sees, until it notices.
    fn begin(&mut self) {
        self.running = None;
        let node = self.settings.node.clone().or_else(|| env::var(NODE_NAME).ok());
        let plan = plan(&self.settings, node.clone());
        let before = lock(&self.state);
        let index = before.index.at(node.as_deref(), plan.is_some());
        let status = Status {
            wanted: plan.is_some(),
            faults: before.status.faults,
            ..Status::default()
        };
        drop(before);
        self.state = Arc::new(Mutex::new(State::new(index, status)));
        let Some(plan) = plan else { return };
        let (running, stopped) = oneshot::channel();
        let state = Arc::clone(&self.state);
        let begun = thread::Builder::new()
            .name("kubernetes".into())
            .spawn(privileges::without(move || run(&plan, &state, stopped)));
        match begun {
            Ok(_) => self.running = Some(running),
            Err(error) => tracing::warn!(%error, "cannot start a thread: pods will be unknown"),
        }
    }
}

/// What to do by these settings; `None`: nothing.
fn plan(settings: &config::Kubernetes, node: Option<String>) -> Option<Plan> {
    match settings.enabled {
        KubernetesSwitch::Off => return None,
        KubernetesSwitch::Auto if settings.kubeconfig.is_none() && !has_service_account() => {
            tracing::info!(
                "pods are not asked for: there is no service account's token in {TOKEN}, and no `kubernetes.kubeconfig`"
            );
            return None;
        }
        KubernetesSwitch::Auto | KubernetesSwitch::On => {}
    }
    if !settings.client_pods && node.is_none() {
        tracing::warn!(
            "Kubernetes is left out: with `kubernetes.client_pods = false` the node's name has to be known; set \
             `kubernetes.node`, or {NODE_NAME} from spec.nodeName"
        );
        return None;
    }
    Some(Plan {
        kubeconfig: settings.kubeconfig.clone(),
        only_of: node.filter(|_| !settings.client_pods),
        labels: settings.labels.clone(),
    })
}

fn has_service_account() -> bool {
    env::var_os(SERVICE_HOST).is_some() && Path::new(TOKEN).exists()
}

/// The thread.
fn run(plan: &Plan, state: &Arc<Mutex<State>>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            tokio::select! {
                // An error is the sender gone.
                _ = stopped => {}
                () = watch(plan, state) => {}
            }
        }),
        Err(error) => tracing::warn!(%error, "cannot start a runtime: pods will be unknown"),
    }
}

/// Watches for ever. Each client reads certificates and tokens anew, which is why one that is not let in is given up; a token
/// that expires in time is read again by the client itself.
async fn watch(plan: &Plan, state: &Arc<Mutex<State>>) {
    let mut patience = Patience::default();
    loop {
        match connect(plan, state).await {
            Ok(client) => follow(plan, client, state, &mut patience).await,
            Err(error) => patience.after(state, Fault::Configuration, &error).await,
        }
    }
}

async fn connect(plan: &Plan, state: &Arc<Mutex<State>>) -> anyhow::Result<Client> {
    let mut config = match &plan.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
        }
        None => Config::incluster()?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    let state = Arc::clone(state);
    let hear = MapResponseLayer::new(move |response: Response<_>| {
        if response.status().is_success() {
            lock(&state).hear();
        }
        response
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&hear).build())
}

/// Follows the pods until the client is not let in, or has to begin anew.
async fn follow(plan: &Plan, client: Client, state: &Mutex<State>, patience: &mut Patience) {
    let mut wanted = watcher::Config::default().page_size(PAGE);
    if let Some(node) = &plan.only_of {
        wanted = wanted.fields(&format!("spec.nodeName={node}"));
    }
    let mut events = pin!(watcher(Api::<PodObject>::all(client), wanted));
    // Filled while pods are listed; the old ones stay known until all are.
    let mut listed = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => take(event, &mut listed, plan, state),
            Err(error) => {
                let fault = Fault::of_watch(&error);
                patience.after(state, fault, &error).await;
                // A watch that is refused by 410, instead of being told of it inside, would be asked for as it was for ever.
                let is_refused = matches!(
                    error,
                    watcher::Error::WatchStartFailed(_) | watcher::Error::WatchFailed(_)
                );
                let stays = fault == Fault::Expired && is_refused;
                if stays || fault == Fault::Unauthorized {
                    return;
                }
            }
        }
    }
}

fn take(event: Event<PodObject>, listed: &mut Option<Index>, plan: &Plan, state: &Mutex<State>) {
    match event {
        Event::Init => *listed = Some(lock(state).index.anew()),
        Event::InitApply(object) => {
            if let Some(index) = listed {
                apply(index, object, plan);
            }
        }
        Event::InitDone => {
            let mut state = lock(state);
            if let Some(index) = listed.take() {
                state.index = index;
            }
            if !state.status.complete {
                tracing::info!(
                    pods = state.index.len(),
                    "pods are known from the Kubernetes API server"
                );
            }
            state.status.complete = true;
        }
        Event::Apply(object) => {
            let mut state = lock(state);
            apply(&mut state.index, object, plan);
            state.hear();
        }
        Event::Delete(object) => {
            let mut state = lock(state);
            state.index.remove(object.uid().unwrap_or_default());
            state.hear();
        }
    }
}

fn apply(index: &mut Index, object: PodObject, plan: &Plan) {
    let uid = object.uid().unwrap_or_default().to_owned();
    match object.into_pod(&plan.labels) {
        Some(pod) => index.apply(pod),
        None => index.remove(&uid),
    }
}

/// How long to wait after a failure: 0.8 to 30 s, longer each time until something succeeds.
#[derive(Default)]
struct Patience {
    backoff: DefaultBackoff,
    last: Option<Fault>,
}

impl Patience {
    async fn after(&mut self, state: &Mutex<State>, fault: Fault, error: &impl Display) {
        let worked = {
            let mut state = lock(state);
            let worked = state.status.connected;
            state.status.failed(fault);
            worked
        };
        if worked {
            self.backoff.reset();
        }
        // Once in a while is enough to be told of it.
        if worked || self.last != Some(fault) {
            tracing::warn!(
                error = format!("{error:#}"),
                reason = fault.label(),
                "the Kubernetes API server: {}",
                fault.advice()
            );
        }
        self.last = Some(fault);
        if let Some(pause) = self.backoff.next() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Nothing is left half done under this lock.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
