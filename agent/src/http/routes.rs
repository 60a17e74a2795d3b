//! The pages and what answers them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::page::{self, Page};
use super::views::{self, ClientsQuery, TenantsQuery};
use super::{
    Report, Source, announcements, config, identities, incidents, inventory, storms as storm_views,
    workloads as workload_views,
};
use crate::alerts::runbooks;
use crate::metrics::{self, Format};
use crate::snapshot::ConnectionSnapshot;
use crate::storms::Kind;

/// How old the loop's last turn may be before the daemon counts as stuck. It turns once a second at least.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How long a page may take to make: the default patience of a Prometheus scrape.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reports collected and written at once; more wait. A report of a large host is tens of megabytes.
const REPORTS: usize = 2;

/// Largest body of a request in bytes: an announcement.
const BODY_BYTES: usize = 4 * 1024;

/// All pages.
pub(super) fn router(source: Arc<dyn Source>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/incidents", get(page::incidents::list))
        .route("/incidents/{id}", get(page::incidents::one))
        .route("/assets/{version}/{name}", get(page::asset))
        .route("/metrics", get(scrape))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/api/v1/servers", get(servers))
        .route("/api/v1/tenants", get(tenants))
        .route("/api/v1/clients", get(clients))
        .route("/api/v1/workloads", get(workloads))
        .route("/api/v1/storms", get(storms))
        .route(
            "/api/v1/announcements",
            get(announcements::list)
                .post(announcements::announce)
                .delete(announcements::cancel),
        )
        .route("/api/v1/incidents", get(incidents::list))
        .route("/api/v1/incidents/{id}", get(incidents::one))
        .route("/api/v1/config", get(configuration))
        .route("/api/v1/connections", get(connections))
        .route("/api/v1/libraries", get(libraries))
        .route("/api/v1/openapi.json", get(openapi))
        .route("/runbooks/{kind}", get(runbook))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn(in_time))
        .with_state(Pages {
            source,
            permits: Arc::new(Semaphore::new(REPORTS)),
        })
}

#[derive(Clone)]
pub(super) struct Pages {
    pub(super) source: Arc<dyn Source>,
    pub(super) permits: Arc<Semaphore>,
}

impl Pages {
    /// A page that shows a report.
    async fn page(
        &self,
        content_type: &'static str,
        write: impl FnOnce(&Report) -> Result<Vec<u8>, String> + Send + 'static,
    ) -> Response {
        match self.report().await {
            Ok((_permit, report)) => written(content_type, move || write(&report)).await,
            Err(reason) => unavailable(reason),
        }
    }

    /// A page of the API about all servers, or about the one with this label.
    async fn page_of(
        &self,
        server: Option<String>,
        write: impl FnOnce(&Report) -> Result<Vec<u8>, String> + Send + 'static,
    ) -> Response {
        let (_permit, report) = match self.report().await {
            Ok(made) => made,
            Err(reason) => return unavailable(reason),
        };
        let mut labels = report.snapshot.servers.iter().map(|known| &known.label);
        match server {
            Some(server) if !labels.any(|known| *known == server) => no_such_server(&server),
            _ => written(JSON, move || write(&report)).await,
        }
    }

    /// The numbers of this moment, and the permit to write them down.
    async fn report(&self) -> Result<(SemaphorePermit<'_>, Arc<Report>), String> {
        let Ok(permit) = self.permits.acquire().await else {
            return Err("the agent is stopping".into());
        };
        Ok((permit, self.source.collect().await?))
    }

    /// The connections of this moment, likewise.
    async fn connections(&self) -> Result<(SemaphorePermit<'_>, Arc<Vec<ConnectionSnapshot>>), String> {
        let Ok(permit) = self.permits.acquire().await else {
            return Err("the agent is stopping".into());
        };
        Ok((permit, self.source.connections().await?))
    }
}

/// Writes a page. That takes a while for tens of thousands of clients, and the runtime's threads are for those who wait.
pub(super) async fn written(
    content_type: &'static str,
    write: impl FnOnce() -> Result<Vec<u8>, String> + Send + 'static,
) -> Response {
    match spawn_blocking(write).await {
        Ok(Ok(body)) => ([(header::CONTENT_TYPE, content_type)], body).into_response(),
        Ok(Err(reason)) => failed(&reason),
        Err(error) => failed(&error.to_string()),
    }
}

async fn index(State(pages): State<Pages>) -> Response {
    let (_permit, report) = match pages.report().await {
        Ok(made) => made,
        Err(reason) => return page::without_report(&reason).into_response(),
    };
    let (_, now) = pages.source.announcements();
    let (health, archive) = (pages.source.health(), pages.source.incidents());
    let make = move || page::status(&report, &health, now, &|id| archive.knows(id)).into_response();
    spawn_blocking(make)
        .await
        .unwrap_or_else(|error| failed(&error.to_string()))
}

async fn scrape(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let accept: Vec<_> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let format = Format::accepted(&accept.join(","));
    let write = move |report: &Report| metrics::render(report, format).map_err(|error| error.to_string());
    let mut response = pages.page(format.content_type(), write).await;
    response
        .headers_mut()
        .insert(header::VARY, header::HeaderValue::from_static("accept"));
    response
}

async fn servers(State(pages): State<Pages>) -> Response {
    pages
        .page(JSON, |report| {
            inventory::json(report).map_err(|error| error.to_string())
        })
        .await
}

async fn tenants(State(pages): State<Pages>, Query(query): Query<TenantsQuery>) -> Response {
    pages
        .page_of(query.server.clone(), move |report| {
            views::json(report, &query).map_err(|error| error.to_string())
        })
        .await
}

async fn clients(State(pages): State<Pages>, Query(query): Query<ClientsQuery>) -> Response {
    pages
        .page_of(query.server.clone(), move |report| {
            views::clients(report, &query).map_err(|error| error.to_string())
        })
        .await
}

async fn workloads(State(pages): State<Pages>, Query(query): Query<ClientsQuery>) -> Response {
    pages
        .page_of(query.server.clone(), move |report| {
            workload_views::json(report, &query).map_err(|error| error.to_string())
        })
        .await
}

async fn storms(State(pages): State<Pages>, Query(query): Query<ClientsQuery>) -> Response {
    let report = match pages.source.storms().await {
        Ok(report) => report,
        Err(reason) => return unavailable(reason),
    };
    match &query.server {
        Some(server) if !report.knows(server) => no_such_server(server),
        _ => {
            let write = move || storm_views::storms(&report, &query).map_err(|error| error.to_string());
            written(JSON, write).await
        }
    }
}

async fn libraries(State(pages): State<Pages>, Query(query): Query<ClientsQuery>) -> Response {
    pages
        .page_of(query.server.clone(), move |report| {
            identities::json(report, &query).map_err(|error| error.to_string())
        })
        .await
}

async fn configuration(State(pages): State<Pages>) -> Response {
    pages
        .page(JSON, |report| {
            config::json(&report.config).map_err(|error| error.to_string())
        })
        .await
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, JSON)], OPENAPI).into_response()
}

async fn connections(State(pages): State<Pages>, Query(query): Query<ClientsQuery>) -> Response {
    let (permit, listed) = match pages.connections().await {
        Ok(made) => made,
        Err(reason) => return unavailable(reason),
    };
    match query.server.clone() {
        // One without a connection: whether it is here the report says, and for that there has to be a permit.
        Some(server) if !listed.iter().any(|of| *of.server == *server) => {
            drop(permit);
            let none =
                move |_: &Report| identities::connections(&[], &query).map_err(|error| error.to_string());
            pages.page_of(Some(server), none).await
        }
        _ => {
            let write = move || identities::connections(&listed, &query).map_err(|error| error.to_string());
            written(JSON, write).await
        }
    }
}

async fn healthz(State(pages): State<Pages>) -> Response {
    match pages.source.health().since_last_tick {
        Some(age) if age < STUCK_AFTER => "ok\n".into_response(),
        Some(age) => unavailable(format!(
            "the agent's loop last turned {:.1} s ago",
            age.as_secs_f64()
        )),
        None => unavailable("the agent's loop has not turned yet"),
    }
}

async fn readyz(State(pages): State<Pages>) -> Response {
    match pages.source.health().not_ready {
        None => "ok\n".into_response(),
        Some(reason) => unavailable(reason),
    }
}

async fn runbook(Path(kind): Path<String>) -> Response {
    let kind = Kind::ALL.into_iter().find(|known| known.label() == kind);
    match kind.and_then(runbooks::page) {
        Some(page) => page.into_response(),
        None => {
            let kinds = Kind::ALL.map(Kind::label).join(", ");
            (StatusCode::NOT_FOUND, format!("there are runbooks for {kinds}\n")).into_response()
        }
    }
}

/// A person gets a page, a program a line.
async fn unknown(headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/html")) {
        return Page::sorry(
            StatusCode::NOT_FOUND,
            "No such page",
            "This agent has no page of this address.",
        )
        .into_response();
    }
    (StatusCode::NOT_FOUND, "no such page; / lists them\n").into_response()
}

async fn in_time(request: Request, next: Next) -> Response {
    let mut response = match timeout(PAGE_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => unavailable(format!(
            "this page took longer than {} s to make",
            PAGE_TIMEOUT.as_secs()
        )),
    };
    // Label values come from clients: no browser may take them for anything but what the type says.
    let nosniff = (HeaderName::from_static("x-content-type-options"), "nosniff");
    response
        .headers_mut()
        .insert(nosniff.0, header::HeaderValue::from_static(nosniff.1));
    // What says nothing else is of the moment.
    response
        .headers_mut()
        .entry(header::CACHE_CONTROL)
        .or_insert(header::HeaderValue::from_static("no-store"));
    response
}

/// The label comes from the request: no line of it may look like one of ours.
fn no_such_server(label: &str) -> Response {
    let reason = format!("no server {label:?} here; /api/v1/servers lists them\n");
    (StatusCode::BAD_REQUEST, reason).into_response()
}

fn unavailable(reason: impl Into<String>) -> Response {
    let mut reason = reason.into();
    reason.push('\n');
    (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
}

pub(super) fn failed(reason: &str) -> Response {
    tracing::error!(reason, "cannot write a page; this is a bug of the agent");
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("cannot write this page: {reason}\n"),
    )
        .into_response()
}

pub(super) const JSON: &str = "application/json";

/// Written by the tests from the types that are served; see `tests/openapi.rs`.
pub(super) const OPENAPI: &str = include_str!("openapi.json");
