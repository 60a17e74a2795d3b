//! Incidents as JSON.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::routes::{JSON, Pages, failed, written};
use crate::incidents::{Incident, Summary};

/// The incidents.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct List {
    /// The latest first.
    incidents: Vec<Summary>,
}

/// `/api/v1/incidents`.
pub(super) async fn list(State(pages): State<Pages>) -> Response {
    let archive = pages.source.incidents();
    let write = move || {
        let incidents = archive.list();
        serde_json::to_vec(&List { incidents }).map_err(|error| error.to_string())
    };
    written(JSON, write).await
}

/// `/api/v1/incidents/ID`.
pub(super) async fn one(State(pages): State<Pages>, Path(id): Path<String>) -> Response {
    let archive = pages.source.incidents();
    let Ok(_permit) = pages.permits.acquire().await else {
        return failed("the agent is stopping");
    };
    let asked = id.clone();
    let read = tokio::task::spawn_blocking(move || archive.read(&asked)).await;
    match read {
        Ok(Some(Ok(incident))) => whole(&incident),
        Ok(Some(Err(fault))) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{fault}\n")).into_response(),
        Ok(None) => {
            let words = format!("no incident {id:?} here; /api/v1/incidents lists them\n");
            (StatusCode::NOT_FOUND, words).into_response()
        }
        Err(error) => failed(&error.to_string()),
    }
}

fn whole(incident: &Incident) -> Response {
    match serde_json::to_vec(incident) {
        Ok(body) => ([(axum::http::header::CONTENT_TYPE, JSON)], body).into_response(),
        Err(error) => failed(&error.to_string()),
    }
}
