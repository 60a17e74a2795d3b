//! `http.web_config`: TLS and passwords for the pages, in the file format that Prometheus' exporters share
//! (<https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>). What this agent cannot do of it is
//! refused, never left out in silence.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;

use super::passwords::Passwords;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// It, or a file that it names, cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says something that cannot be.
    #[error("{path}: {reason}")]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
}

/// What the file says, ready for use.
pub(super) struct WebConfig {
    /// Everything that was read, to tell a change.
    read: Vec<(PathBuf, Vec<u8>)>,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) passwords: Passwords,
}

/// The file in force. Whoever asks gets what was last found right.
pub struct Web {
    path: PathBuf,
    current: RwLock<Arc<WebConfig>>,
}

impl Web {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`WebConfigError`].
    pub fn open(path: &Path) -> Result<Self, WebConfigError> {
        Ok(Self {
            path: path.to_owned(),
            current: RwLock::new(Arc::new(WebConfig::read(path)?)),
        })
    }

    pub(super) fn current(&self) -> Arc<WebConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads it again, with all that it names. True: it has changed, and is in force.
    ///
    /// # Errors
    ///
    /// [`WebConfigError`]; what was in force stays so.
    pub(super) fn look(&self) -> Result<bool, WebConfigError> {
        let current = self.current();
        let is_same = |(path, bytes): &(PathBuf, Vec<u8>)| fs::read(path).is_ok_and(|now| now == *bytes);
        if current.read.iter().all(is_same) {
            return Ok(false);
        }
        let fresh = WebConfig::read(&self.path)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(true)
    }
}

impl WebConfig {
    fn read(path: &Path) -> Result<Self, WebConfigError> {
        let mut files = Files {
            folder: path.parent().unwrap_or(Path::new("/")),
            read: Vec::new(),
        };
        let text = files.bytes(path)?;
        let wrong = |reason: String| WebConfigError::Wrong {
            path: path.to_owned(),
            reason,
        };
        // An empty file is allowed, and asks for nothing.
        let text = String::from_utf8_lossy(&text);
        let file = match text.trim() {
            "" => File::default(),
            text => serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))?,
        };
        let tls = match &file.tls_server_config {
            Some(tls) => Some(acceptor(tls, &mut files).map_err(|fault| fault.in_file(path))?),
            None => None,
        };
        Ok(Self {
            tls,
            passwords: Passwords::new(file.basic_auth_users).map_err(wrong)?,
            read: files.read,
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: Option<Tls>,
    /// Accepted: the agent speaks HTTP/1.1, which every client does.
    #[serde(rename = "http_server_config")]
    _http_server_config: Option<HttpServer>,
    basic_auth_users: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpServer {
    #[serde(rename = "http2")]
    _http2: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    client_auth_type: ClientAuth,
    client_ca_file: Option<PathBuf>,
    min_version: Option<String>,
    max_version: Option<String>,
    /// Without effect in the toolkit as well.
    #[serde(rename = "prefer_server_cipher_suites")]
    _prefer_server_cipher_suites: bool,
}

/// Without the two kinds that take any certificate and check none.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
enum ClientAuth {
    #[default]
    NoClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

/// Reads the files that the file names, relative to its folder.
struct Files<'a> {
    folder: &'a Path,
    read: Vec<(PathBuf, Vec<u8>)>,
}

impl Files<'_> {
    fn bytes(&mut self, path: &Path) -> Result<Vec<u8>, WebConfigError> {
        let path = self.folder.join(path);
        let bytes = fs::read(&path).map_err(|source| WebConfigError::Unreadable {
            path: path.clone(),
            source,
        })?;
        self.read.push((path, bytes.clone()));
        Ok(bytes)
    }
}

enum Fault {
    Unreadable(WebConfigError),
    Wrong(String),
}

impl Fault {
    fn in_file(self, path: &Path) -> WebConfigError {
        match self {
            Self::Unreadable(error) => error,
            Self::Wrong(reason) => WebConfigError::Wrong {
                path: path.to_owned(),
                reason: format!("tls_server_config: {reason}"),
            },
        }
    }
}

impl From<WebConfigError> for Fault {
    fn from(error: WebConfigError) -> Self {
        Self::Unreadable(error)
    }
}

impl From<rustls::Error> for Fault {
    fn from(error: rustls::Error) -> Self {
        Self::Wrong(error.to_string())
    }
}

fn acceptor(tls: &Tls, files: &mut Files<'_>) -> Result<TlsAcceptor, Fault> {
    for (key, path) in [("cert_file", &tls.cert_file), ("key_file", &tls.key_file)] {
        if path.as_os_str().is_empty() {
            return Err(Fault::Wrong(format!("{key} is missing")));
        }
    }
    let certificates = certificates(&tls.cert_file, files)?;
    let key = PrivateKeyDer::from_pem_slice(&files.bytes(&tls.key_file)?)
        .map_err(|error| Fault::Wrong(format!("{}: {error}", tls.key_file.display())))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&versions(tls)?)?
        .with_client_cert_verifier(verifier(tls, files)?)
        .with_single_cert(certificates, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path, files: &mut Files<'_>) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = files.bytes(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Fault::Wrong(format!("{} holds no certificate", path.display()))),
        Err(error) => Err(Fault::Wrong(format!("{}: {error}", path.display()))),
    }
}

fn versions(tls: &Tls) -> Result<Vec<&'static SupportedProtocolVersion>, Fault> {
    let number = |key: &str, version: Option<&str>, default| match version {
        None => Ok(default),
        Some("TLS12") => Ok(2),
        Some("TLS13") => Ok(3),
        Some(other) => Err(Fault::Wrong(format!(
            "{key} `{other}` is not offered; write TLS12 or TLS13"
        ))),
    };
    let oldest = number("min_version", tls.min_version.as_deref(), 2)?;
    let newest = number("max_version", tls.max_version.as_deref(), 3)?;
    let all = [(2, &TLS12), (3, &TLS13)];
    let within = all
        .into_iter()
        .filter(|(version, _)| (oldest..=newest).contains(version));
    let versions: Vec<_> = within.map(|(_, version)| version).collect();
    if versions.is_empty() {
        return Err(Fault::Wrong("min_version is above max_version".into()));
    }
    Ok(versions)
}

fn verifier(tls: &Tls, files: &mut Files<'_>) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let path = match (&tls.client_ca_file, tls.client_auth_type) {
        (None, ClientAuth::NoClientCert) => return Ok(Arc::new(NoClientAuth)),
        (Some(_), ClientAuth::NoClientCert) => {
            return Err(Fault::Wrong(
                "client_ca_file is there, and client_auth_type asks for no certificate; write \
                 `client_auth_type: RequireAndVerifyClientCert`"
                    .into(),
            ));
        }
        (None, _) => return Err(Fault::Wrong("client_auth_type needs a client_ca_file".into())),
        (Some(path), _) => path,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, files)? {
        roots.add(certificate)?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
    let builder = match tls.client_auth_type {
        ClientAuth::VerifyClientCertIfGiven => builder.allow_unauthenticated(),
        _ => builder,
    };
    builder.build().map_err(|error| Fault::Wrong(error.to_string()))
}
