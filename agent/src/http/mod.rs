//! The HTTP server: metrics, health and the API. It knows no kernel and no clock; what it shows comes from a [`Source`].
//!
//! Everything is bounded: connections, their age, the size and the patience of a request's head, reports in the making.
#![forbid(unsafe_code)]

mod announcements;
mod config;
mod identities;
mod incidents;
mod inventory;
mod page;
mod passwords;
mod routes;
mod storms;
mod views;
mod web;
mod workloads;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::{Extension, middleware};
use http_body_util::BodyExt as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use self::announcements::Peer;
pub use self::inventory::Process;
pub use self::web::{Web, WebConfigError};
use crate::alerts::Announcements;
use crate::incidents::Archive;
pub use crate::metrics::Report;
use crate::metrics::StormReport;
use crate::snapshot::ConnectionSnapshot;
use crate::storms::Moment;

/// Connections served at once; more wait in the accept queue. A host has a few scrapers, a probe and a person.
const CONNECTIONS: usize = 32;

/// How long a connection may take to send a request's head, or be idle between two: longer than the usual scrape
/// intervals, so that Prometheus keeps its connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// How long TLS may take to agree with a client.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often `http.web_config` is read again, with the certificates that it names.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Largest head of a request in bytes.
const HEAD_BYTES: usize = 16 * 1024;

/// Age at which a connection is asked to end after its next reply, so that one that does not read its reply ends at all.
const CONNECTION_AGE: Duration = Duration::from_secs(600);

/// How long a connection that was asked to end may still take.
const CONNECTION_GRACE: Duration = Duration::from_secs(10);

/// How long replies may still take after the shutdown began: the agent promises to end within a second.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(300);

/// What a [`Source`] will have: numbers, or why there are none.
pub type Collected<'a, T> = Pin<Box<dyn Future<Output = Result<Arc<T>, String>> + Send + 'a>>;

/// Where the pages come from: in the daemon, a request to the loop that reads the kernel's maps.
pub trait Source: Send + Sync + 'static {
    /// The numbers of this moment.
    ///
    /// # Errors
    ///
    /// Why there are none, in a sentence for the reader of the page.
    fn collect(&self) -> Collected<'_, Report>;

    /// The storms of this moment, which take much less.
    ///
    /// # Errors
    ///
    /// As for [`Self::collect`].
    fn storms(&self) -> Collected<'_, StormReport>;

    /// Every established connection, in the order of servers and addresses.
    ///
    /// # Errors
    ///
    /// As for [`Self::collect`].
    fn connections(&self) -> Collected<'_, Vec<ConnectionSnapshot>>;

    /// Restarts that somebody has announced, and the moment on their clock. Must not wait for the loop.
    fn announcements(&self) -> (Arc<Announcements>, Moment);

    /// What was recorded of storms. Must not wait for the loop.
    fn incidents(&self) -> Arc<Archive>;

    /// How the daemon is. Must not wait for the loop, which may be what is ill.
    fn health(&self) -> Health;
}

/// The pages without a socket, for a reader in the same process.
pub struct Local(axum::Router);

impl Local {
    /// The pages of a source.
    #[must_use]
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self(routes::router(source))
    }

    /// The body of a page.
    ///
    /// # Errors
    ///
    /// What the page says instead of an answer.
    pub async fn get(&self, path: &str) -> Result<Vec<u8>, String> {
        let request = Request::get(path).body(Body::empty());
        let request = request.map_err(|error| error.to_string())?;
        let Ok(response) = self.0.clone().oneshot(request).await;
        let status = response.status();
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        if status == StatusCode::OK {
            return Ok(body.into());
        }
        Err(String::from_utf8_lossy(&body).trim().to_owned())
    }
}

/// How the daemon is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Time since its loop last turned; `None` before the first turn.
    pub since_last_tick: Option<Duration>,
    /// Why its numbers cannot be relied on yet: the programs are not attached, or the first discovery is not done.
    /// `None` once they can.
    pub not_ready: Option<String>,
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}: {}", advice(source))]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Listens on `address`.
///
/// # Errors
///
/// The address is taken, is not this host's, or may not be used.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BindError { address, source })
}

/// Serves until `shutdown` is done; then replies under way get a moment to end, and nothing is left behind. Errors of a
/// single connection concern its client alone and are logged at debug level. With `web`, by TLS or with passwords, as it says.
pub async fn serve(
    listener: TcpListener,
    source: Arc<dyn Source>,
    web: Option<Arc<Web>>,
    shutdown: impl Future<Output = ()>,
) {
    let mut router = routes::router(source);
    if let Some(web) = &web {
        router = router.layer(middleware::from_fn_with_state(Arc::clone(web), passwords::admit));
    }
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    if let Some(web) = &web {
        connections.spawn(look_after(Arc::clone(web), stopped.clone()));
    }
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            // Never empty for long: each end of a connection is taken note of, or the set would grow.
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else {
            continue;
        };
        let service = TowerToHyperService::new(router.clone().layer(Extension(Peer(peer.ip()))));
        let stopped = stopped.clone();
        let web = web.as_ref().map(|web| web.current());
        connections.spawn(async move {
            match web.as_ref().and_then(|web| web.tls.as_ref()) {
                None => connection(stream, service, HEAD_TIMEOUT, stopped).await,
                Some(tls) => match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, service, HEAD_TIMEOUT, stopped).await,
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "no agreement on TLS"),
                    Err(_) => tracing::debug!(%peer, "TLS took too long"),
                },
            }
            drop(permit);
        });
    }
    drop(listener);
    drop(stop);
    let ended = timeout(SHUTDOWN_GRACE, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    if ended.is_err() {
        tracing::debug!(
            connections = connections.len(),
            "HTTP connections cut off at shutdown"
        );
    }
}

/// Takes the next connection once there is room for it. `None`: try again.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            // Out of descriptors, most likely: it stays so for a while, and trying at once would burn the CPU.
            tracing::warn!(%error, "cannot accept an HTTP connection");
            sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// Reads the web configuration again and again. A wrong one is told once, and the old one stays.
async fn look_after(web: Arc<Web>, mut stopped: watch::Receiver<()>) {
    let mut told = None;
    loop {
        tokio::select! {
            // An error here is the sender gone: the shutdown.
            _ = stopped.changed() => return,
            () = sleep(LOOK_INTERVAL) => {}
        }
        let looking = Arc::clone(&web);
        match spawn_blocking(move || looking.look()).await {
            Ok(Ok(changed)) => {
                told = None;
                if changed {
                    tracing::info!("the web configuration has changed and is in force");
                }
            }
            Ok(Err(error)) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    tracing::warn!(%error, "the web configuration is wrong; the old one stays in force");
                    told = Some(error);
                }
            }
            Err(error) => tracing::error!(%error, "cannot read the web configuration"),
        }
    }
}

/// Serves a connection to its end. `patience`: for the head of a request.
async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    service: TowerToHyperService<axum::Router>,
    patience: Duration,
    mut stopped: watch::Receiver<()>,
) {
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // An error here is the sender gone: the shutdown.
        _ = stopped.changed() => end(connection).await,
        () = sleep(CONNECTION_AGE) => end(connection).await,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP connection");
    }
}

type Connection<S> = http1::Connection<TokioIo<S>, TowerToHyperService<axum::Router>>;

/// Lets the reply under way end, but not for ever.
async fn end<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    mut connection: Pin<&mut Connection<S>>,
) -> hyper::Result<()> {
    connection.as_mut().graceful_shutdown();
    timeout(CONNECTION_GRACE, connection).await.unwrap_or(Ok(()))
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "is another agent running? Stop it, or change `listen` in [http]",
        io::ErrorKind::AddrNotAvailable => "no interface of this host has it; change `listen` in [http]",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE; change `listen` in [http]"
        }
        _ => "change `listen` in [http]",
    }
}
