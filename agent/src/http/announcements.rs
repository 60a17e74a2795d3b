//! Restarts that somebody announces: `/api/v1/announcements`. The only page that changes anything, so only this host may.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

use super::routes::{JSON, Pages, failed};
use crate::alerts::{Announcement, Refused};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

impl Peer {
    /// An IPv4 client of a dual-stack listener has a mapped address.
    fn is_this_host(self) -> bool {
        self.0.to_canonical().is_loopback()
    }
}

/// A restart to announce.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Announce {
    /// How long storms are expected, in seconds; 24 hours at most.
    for_seconds: u64,
    /// At servers with such a label, `*` standing for any text; all if left out.
    #[serde(default)]
    server: Option<String>,
    /// By workloads with such a name, likewise.
    #[serde(default)]
    workload: Option<String>,
}

/// Which announcement.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    id: String,
}

/// The announcements.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct List {
    /// Those that are good now, in the order in which they were made.
    announcements: Vec<Announcement>,
}

/// Those that are good now.
pub(super) async fn list(State(pages): State<Pages>) -> Response {
    let (announcements, now) = pages.source.announcements();
    answered(&List {
        announcements: announcements.list(now),
    })
}

/// Makes one.
pub(super) async fn announce(
    State(pages): State<Pages>,
    Extension(peer): Extension<Peer>,
    asked: Result<Json<Announce>, JsonRejection>,
) -> Response {
    if !peer.is_this_host() {
        return forbidden();
    }
    let Json(asked) = match asked {
        Ok(asked) => asked,
        Err(rejection) => return said(rejection.status(), rejection.body_text()),
    };
    let (announcements, now) = pages.source.announcements();
    let lasts = Duration::from_secs(asked.for_seconds);
    match announcements.announce(now, lasts, asked.server, asked.workload) {
        Ok(made) => answered(&made),
        Err(refused) => not_taken(&refused),
    }
}

/// Takes one back.
pub(super) async fn cancel(
    State(pages): State<Pages>,
    Extension(peer): Extension<Peer>,
    which: Result<Query<Which>, QueryRejection>,
) -> Response {
    if !peer.is_this_host() {
        return forbidden();
    }
    let Query(which) = match which {
        Ok(which) => which,
        Err(rejection) => return said(rejection.status(), rejection.body_text()),
    };
    let (announcements, now) = pages.source.announcements();
    match announcements.cancel(now, &which.id) {
        Ok(Some(gone)) => answered(&gone),
        Ok(None) => said(
            StatusCode::NOT_FOUND,
            format!("no announcement {:?}; it may be over", which.id),
        ),
        Err(refused) => not_taken(&refused),
    }
}

fn answered(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, JSON)], body).into_response(),
        Err(error) => failed(&error.to_string()),
    }
}

fn forbidden() -> Response {
    said(
        StatusCode::FORBIDDEN,
        "restarts are announced on the host itself: `stormglass expect-restart`".into(),
    )
}

fn not_taken(refused: &Refused) -> Response {
    let status = match refused {
        Refused::Wrong(_) => StatusCode::BAD_REQUEST,
        Refused::Unwritten { .. } => StatusCode::INSUFFICIENT_STORAGE,
    };
    said(status, refused.to_string())
}

fn said(status: StatusCode, mut words: String) -> Response {
    words.push('\n');
    (status, words).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_this_host() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("127.8.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(
                Peer(address.parse().expect("an address")).is_this_host(),
                expected,
                "{address}"
            );
        }
    }
}
