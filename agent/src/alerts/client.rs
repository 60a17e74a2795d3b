//! Requests to a receiver.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::time::timeout;

use crate::config::{Credentials, Receiver};

/// Largest secret in bytes.
const SECRET_BYTES: u64 = 64 << 10;

/// How much of an answer is read.
const ANSWER_BYTES: usize = 8 << 10;

/// How much of a refusal is logged, in characters.
const REFUSAL_CHARACTERS: usize = 200;

/// Who asks.
const USER_AGENT: &str = concat!("stormglass/", env!("CARGO_PKG_VERSION"));

/// A client for one receiver.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    receiver: Receiver,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    /// For the log.
    pub(super) words: String,
    /// How long the receiver wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// Label `reason` of failed attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// A secret, or the certificates to trust, cannot be read here.
    Credentials,
    /// No connection, or none that TLS would trust.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The answer broke off, or is no HTTP.
    Broken,
    /// The receiver will never take this: 400, 413 or 422.
    Refused,
    /// Any other answer that is not 2xx.
    Status,
}

impl Reason {
    pub(super) const ALL: [Self; 6] = [
        Self::Credentials,
        Self::Unreachable,
        Self::Timeout,
        Self::Broken,
        Self::Refused,
        Self::Status,
    ];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Refused => "refused",
            Self::Status => "status",
        }
    }
}

impl Failure {
    pub(super) fn new(reason: Reason, words: impl Into<String>) -> Self {
        Self {
            reason,
            words: words.into(),
            retry_after: None,
        }
    }
}

impl Client {
    /// # Errors
    ///
    /// The certificates to trust cannot be read.
    pub(super) fn new(receiver: &Receiver) -> Result<Self, Failure> {
        let tls = tls(receiver).map_err(|error| Failure::new(Reason::Credentials, format!("{error:#}")))?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            http: legacy::Client::builder(TokioExecutor::new()).build(connector),
            receiver: receiver.clone(),
        })
    }

    /// Posts a JSON document. Returns once the receiver has taken it.
    ///
    /// # Errors
    ///
    /// It may not have.
    pub(super) async fn post(&self, url: &Uri, headers: HeaderMap, body: Bytes) -> Result<(), Failure> {
        let mut request = Request::post(url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, USER_AGENT)
            .body(Full::new(body))
            .map_err(|error| Failure::new(Reason::Broken, error.to_string()))?;
        request.headers_mut().extend(headers);
        if let Some(authorization) = self.authorization()? {
            request.headers_mut().insert(header::AUTHORIZATION, authorization);
        }
        let patience = Duration::from_secs(self.receiver.timeout_seconds.get() as u64);
        match timeout(patience, self.answer(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new(
                Reason::Timeout,
                format!("no answer within {} s", patience.as_secs()),
            )),
        }
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<(), Failure> {
        let answer = self.http.request(request).await.map_err(|error| {
            let reason = if error.is_connect() {
                Reason::Unreachable
            } else {
                Reason::Broken
            };
            Failure::new(reason, chain(&error))
        })?;
        let (head, body) = answer.into_parts();
        // The connection can serve again only if the answer is read; what it says matters if it is a refusal.
        let text = text(body).await;
        if head.status.is_success() {
            return Ok(());
        }
        let reason = match head.status {
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                Reason::Refused
            }
            _ => Reason::Status,
        };
        Err(Failure {
            reason,
            words: format!("answered {}: {text}", head.status),
            retry_after: retry_after(&head.headers),
        })
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        let Some(credentials) = &self.receiver.credentials else {
            return Ok(None);
        };
        let text = match credentials {
            Credentials::Bearer(path) => format!("Bearer {}", secret_text(path)?),
            Credentials::Basic(user, path) => {
                let pair = format!("{user}:{}", secret_text(path)?);
                format!("Basic {}", BASE64_STANDARD.encode(pair))
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            Failure::new(
                Reason::Credentials,
                "the secret holds characters that no header can",
            )
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// What a file of secrets holds, without the line end that editors leave.
pub(super) fn secret(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SECRET_BYTES).read_to_end(&mut bytes));
    read.map_err(|error| {
        Failure::new(
            Reason::Credentials,
            format!("cannot read {}: {error}", path.display()),
        )
    })?;
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r'));
    bytes.truncate(end.map_or(0, |last| last + 1));
    if bytes.is_empty() {
        return Err(Failure::new(
            Reason::Credentials,
            format!("{} is empty", path.display()),
        ));
    }
    Ok(bytes)
}

fn secret_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(secret(path)?)
        .map_err(|_| Failure::new(Reason::Credentials, format!("{} is not UTF-8", path.display())))
}

/// Who is trusted: those of the file, else the system's. A receiver without TLS needs none.
fn tls(receiver: &Receiver) -> anyhow::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let with_roots = match &receiver.ca_file {
        Some(path) => builder.with_root_certificates(roots(path)?),
        None if receiver.url.is_tls() => builder.with_native_roots()?,
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(with_roots.with_no_client_auth())
}

fn roots(path: &Path) -> anyhow::Result<RootCertStore> {
    use anyhow::Context as _;
    let unreadable = || format!("cannot read certificates from {}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).with_context(unreadable)? {
        roots
            .add(certificate.with_context(unreadable)?)
            .with_context(unreadable)?;
    }
    if roots.is_empty() {
        return Err(io::Error::from(io::ErrorKind::InvalidData)).with_context(unreadable);
    }
    Ok(roots)
}

/// The first line of an answer, fit for a log.
async fn text(body: Incoming) -> String {
    let Ok(whole) = Limited::new(body, ANSWER_BYTES).collect().await else {
        return "(too long, or broken off)".into();
    };
    let bytes = whole.to_bytes();
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().find(|line| !line.trim().is_empty());
    let plain = line.unwrap_or("(no reason given)").trim().chars();
    plain
        .map(|character| if character.is_control() { '?' } else { character })
        .take(REFUSAL_CHARACTERS)
        .collect()
}

/// In seconds only; a date is nobody's practice.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(value.trim().parse().ok()?))
}

/// An error with its causes; hyper's own words are few.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_what_the_file_holds_without_its_line_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("secret");
        for (content, expected) in [
            ("a b", Some("a b")),
            (" a\r\n", Some(" a")),
            ("\n", None),
            ("", None),
        ] {
            std::fs::write(&path, content).expect("written");
            let read = secret_text(&path).ok();
            assert_eq!(read.as_deref(), expected, "{content:?}");
        }
        let missing = secret(&dir.path().join("nothing")).expect_err("missing");
        assert_eq!(missing.reason, Reason::Credentials);
        assert!(missing.words.starts_with("cannot read "), "{}", missing.words);
    }
}
