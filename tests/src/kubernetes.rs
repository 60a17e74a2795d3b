//! Where a real API server is not at hand: recordings of one (`recording`, played by `player`), what makes them (`cluster`,
//! `recorder`), and a double that tests tell what to do.
//!
//! A double of the Kubernetes API server, as far as a watch of pods goes: lists, watches in chunks that begin behind a
//! `resourceVersion`, bookmarks, expiry, refusals, TLS, and connections that break. It speaks HTTP/1.1 byte by byte, so that it
//! can break off anywhere.

mod answers;
pub mod cluster;
mod connection;
mod credentials;
pub mod player;
pub mod recorder;
pub mod recording;

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use rustls::ServerConfig;
use serde_json::{Value, json};

use answers::Answer;
use credentials::Credentials;

pub use answers::pod;

/// Between two looks for something new.
const PAUSE: Duration = Duration::from_millis(5);

/// A request that came.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, ...
    pub method: String,
    /// Path and query.
    pub target: String,
    /// When it came.
    pub at: Instant,
}

impl Request {
    /// Whether it asks for a watch.
    #[must_use]
    pub fn is_watch(&self) -> bool {
        self.parameter("watch").is_some()
    }

    /// The version behind which its watch begins.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.parameter("resourceVersion")?.parse().ok()
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        let mut parameters = query.split('&').filter_map(|pair| pair.split_once('='));
        parameters.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// A running double. Dropping it closes everything.
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    credentials: Credentials,
}

struct Shared {
    state: Mutex<State>,
    tls: Option<Arc<ServerConfig>>,
    away: AtomicBool,
    ended: AtomicBool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether connections are to be broken.
    fn is_gone(&self) -> bool {
        self.ended.load(Ordering::SeqCst) || self.away.load(Ordering::SeqCst)
    }
}

struct State {
    /// Of the last change of anything.
    version: u64,
    /// Changes up to this one are forgotten.
    forgotten: u64,
    pods: Vec<Value>,
    token: String,
    /// Answers that come before any other.
    refusals: VecDeque<Answer>,
    requests: Vec<Request>,
    log: Vec<Entry>,
}

/// What happened.
#[derive(Clone)]
enum Entry {
    /// A pod changed: told to every watch from before, also to one that begins later.
    Change { version: u64, event: Value },
    /// Written into the watches that are open.
    Bytes(Vec<u8>),
    /// The connections of the watches that are open break: with the end of the answer, or without.
    End { whole: bool },
}

impl ApiServer {
    /// Starts it with these pods; it lets in whoever has the token that it writes beside its kubeconfig.
    pub fn start(pods: Vec<Value>) -> Result<Self> {
        Self::start_as(pods, Credentials::plain()?)
    }

    /// The same over TLS, with a certificate by an authority that nobody else knows.
    pub fn start_tls(pods: Vec<Value>) -> Result<Self> {
        Self::start_as(pods, Credentials::tls()?)
    }

    fn start_as(pods: Vec<Value>, credentials: Credentials) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(pods)),
            tls: credentials.server_config(),
            away: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let server = Self {
            shared: Arc::clone(&shared),
            address,
            credentials,
        };
        server.write_token("first")?;
        server.credentials.write_kubeconfig(address)?;
        listener.set_nonblocking(true)?;
        thread::spawn(move || connection::accept(&listener, &shared));
        Ok(server)
    }

    /// A kubeconfig that leads here.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.credentials.kubeconfig()
    }

    /// A folder as a pod has it: token, authority and namespace of its service account.
    #[must_use]
    pub fn service_account(&self) -> &Path {
        self.credentials.dir()
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes another token into the file that the kubeconfig names.
    pub fn write_token(&self, token: &str) -> Result<()> {
        self.credentials.write_token(token)
    }

    /// Lets in only whoever has this token, and breaks all watches.
    pub fn demand_token(&self, token: &str) {
        self.state().token = token.into();
        self.end(true);
    }

    /// A pod is new or has changed: told to every watch, and in every list from now on.
    pub fn apply(&self, pod: Value) {
        let mut state = self.state();
        let known = state.position(&pod["metadata"]["uid"]);
        let kind = if known.is_some() { "MODIFIED" } else { "ADDED" };
        let pod = state.change(kind, pod);
        match known {
            Some(at) => state.pods[at] = pod,
            None => state.pods.push(pod),
        }
    }

    /// A pod is gone.
    pub fn delete(&self, uid: &str) {
        let mut state = self.state();
        if let Some(at) = state.position(&uid.into()) {
            let pod = state.pods.remove(at);
            state.change("DELETED", pod);
        }
    }

    /// Tells every watch how far it is: something else than a pod has changed.
    pub fn bookmark(&self) -> u64 {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        state.write(&answers::bookmark(version));
        version
    }

    /// Forgets what has changed until now: a watch that begins behind an older version is told that it has expired.
    pub fn compact(&self) {
        let mut state = self.state();
        state.forgotten = state.version;
    }

    /// Tells every watch that it has expired; nothing comes after that.
    pub fn expire(&self) {
        self.state().write(&answers::expired());
        self.end(true);
    }

    /// Writes these bytes into every watch.
    pub fn write(&self, bytes: &[u8]) {
        self.state().log.push(Entry::Bytes(bytes.to_vec()));
    }

    /// Ends every watch: as the server does after its time, or as when the connection breaks.
    pub fn end(&self, whole: bool) {
        self.state().log.push(Entry::End { whole });
    }

    /// Answers the next request like this.
    pub fn refuse_next(&self, code: u16, header: &'static str) {
        self.state().refusals.push_back(Answer::refusal(code, header));
    }

    /// Breaks every connection and lets nobody in until it is told otherwise.
    pub fn set_away(&self, away: bool) {
        self.shared.away.store(away, Ordering::SeqCst);
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
    }
}

impl State {
    fn new(pods: Vec<Value>) -> Self {
        Self {
            version: 100,
            forgotten: 0,
            pods,
            token: "first".into(),
            refusals: VecDeque::new(),
            requests: Vec::new(),
            log: Vec::new(),
        }
    }

    fn position(&self, uid: &Value) -> Option<usize> {
        self.pods.iter().position(|pod| pod["metadata"]["uid"] == *uid)
    }

    /// Logs a change and returns the pod with the version that it has by that.
    fn change(&mut self, kind: &str, mut pod: Value) -> Value {
        self.version += 1;
        pod["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.log.push(Entry::Change {
            version: self.version,
            event: json!({"type": kind, "object": pod}),
        });
        pod
    }

    fn write(&mut self, event: &Value) {
        self.log.push(Entry::Bytes(answers::line(event)));
    }
}
