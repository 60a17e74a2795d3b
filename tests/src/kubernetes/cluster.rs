//! A real API server over a real etcd, from binaries that somebody built. Nothing else of a cluster: what controllers, the
//! scheduler and kubelets would write has to be written through it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use rcgen::KeyPair;
use rustls::{
    ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer, pki_types::pem::PemObject as _,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::{
    Agent,
    http::Request,
    tls::{Certificate, RootCerts, TlsConfig},
};

use super::credentials::Credentials;
use crate::{poll, ports::free_port, process::Process};

/// It migrates and installs what it needs first.
const START: Duration = Duration::from_secs(120);
/// What it may take to end connections.
const STOP: Duration = Duration::from_secs(90);

/// The two programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `kube-apiserver`.
    pub apiserver: PathBuf,
    /// `etcd`.
    pub etcd: PathBuf,
}

/// A running API server. Dropping it ends both.
pub struct Cluster {
    server: Option<Process>,
    etcd: Process,
    etcd_port: u16,
    port: u16,
    programs: Programs,
    flags: Vec<String>,
    credentials: Credentials,
    dir: TempDir,
    admin: String,
    http: Agent,
}

impl Cluster {
    /// Starts both; `flags` are further ones of the API server.
    pub fn start(programs: &Programs, flags: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let credentials = Credentials::tls()?;
        let (etcd, etcd_port) = start_etcd(&programs.etcd, dir.path())?;
        let key = KeyPair::generate()?;
        fs::write(dir.path().join("accounts.key"), key.serialize_pem())?;
        fs::write(dir.path().join("accounts.pub"), key.public_key_pem())?;
        let admin = format!("{:032x}", fastrand::u128(..));
        fs::write(
            dir.path().join("tokens"),
            format!("{admin},admin,1,\"system:masters\"\n"),
        )?;
        let authority = fs::read(credentials.dir().join("ca.crt"))?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[Certificate::from_pem(&authority)?]))
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .build();
        let http = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .build();
        let mut cluster = Self {
            server: None,
            etcd,
            etcd_port,
            port: free_port()?,
            programs: programs.clone(),
            flags: flags.iter().map(ToString::to_string).collect(),
            credentials,
            dir,
            admin,
            http: http.into(),
        };
        cluster.start_server()?;
        cluster.is_ready()?;
        Ok(cluster)
    }

    /// Starts the API server, and does not wait until it is ready.
    pub fn start_server(&mut self) -> Result<()> {
        let file = |dir: &Path, name: &str| dir.join(name).display().to_string();
        let own = |name| file(self.dir.path(), name);
        let mut command = Command::new(&self.programs.apiserver);
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
            .arg(format!("--secure-port={}", self.port))
            .args(["--bind-address=127.0.0.1", "--authorization-mode=RBAC"])
            .args([
                "--endpoint-reconciler-type=none",
                "--service-cluster-ip-range=10.96.0.0/16",
            ])
            // History is forgotten when the recorder says so.
            .args([
                "--etcd-compaction-interval=0",
                "--service-account-issuer=https://kubernetes.default.svc",
            ])
            .arg(format!("--cert-dir={}", own("certificates")))
            .arg(format!("--token-auth-file={}", own("tokens")))
            .arg(format!("--service-account-key-file={}", own("accounts.pub")))
            .arg(format!(
                "--service-account-signing-key-file={}",
                own("accounts.key")
            ))
            .arg(format!(
                "--tls-cert-file={}",
                file(self.credentials.dir(), "tls.crt")
            ))
            .arg(format!(
                "--tls-private-key-file={}",
                file(self.credentials.dir(), "tls.key")
            ))
            .args(&self.flags);
        self.server = Some(Process::spawn("kube-apiserver", &mut command)?);
        Ok(())
    }

    /// Waits until it is ready.
    pub fn is_ready(&mut self) -> Result<()> {
        poll::until_true("the API server", START, || {
            let server = self.server.as_mut().context("not started")?;
            if !server.is_running()? {
                bail!("it ended:\n{}", server.words());
            }
            Ok(self.request("GET", "/readyz", None).is_ok())
        })
    }

    /// Ends the API server by this signal, and waits for its end.
    pub fn stop_server(&mut self, signal: Signal) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            server.signal(signal)?;
            server.wait(STOP)?;
        }
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// What a client of it has to trust.
    pub fn trusted(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(self.credentials.dir().join("ca.crt"))
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        roots.add(authority)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }

    /// What both programs call themselves.
    pub fn versions(&self) -> Result<Value> {
        let url = format!("http://127.0.0.1:{}/version", self.etcd_port);
        let text = ureq::get(url).call()?.body_mut().read_to_string()?;
        let etcd: Value = serde_json::from_str(&text)?;
        let server = self.request("GET", "/version", None)?;
        Ok(json!({"kube-apiserver": server["gitVersion"], "etcd": etcd["etcdserver"], "flags": self.flags}))
    }

    /// What it answers to whoever may everything; an error if it refuses.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let kind = match method {
            "PATCH" => "application/strategic-merge-patch+json",
            _ => "application/json",
        };
        self.send(method, path, kind, body.map(ToString::to_string))
    }

    /// Creates what a YAML document says.
    pub fn create(&self, path: &str, yaml: &str) -> Result<Value> {
        self.send("POST", path, "application/yaml", Some(yaml.to_owned()))
    }

    fn send(&self, method: &str, path: &str, kind: &str, body: Option<String>) -> Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.address()))
            .header("authorization", format!("Bearer {}", self.admin))
            .header("user-agent", "kubelet")
            .header("content-type", kind);
        let mut response = match body {
            Some(body) => self.http.run(request.body(body)?)?,
            None => self.http.run(request.body(())?)?,
        };
        let text = response.body_mut().read_to_string()?;
        if !response.status().is_success() {
            bail!("{method} {path}: {} {text}", response.status());
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Lets etcd forget everything that was before now, as the API server does every five minutes.
    pub fn compact(&self) -> Result<()> {
        let ask = |path: &str, body: &Value| -> Result<Value> {
            let url = format!("http://127.0.0.1:{}{path}", self.etcd_port);
            let mut answer = ureq::post(url).send(body.to_string())?;
            Ok(serde_json::from_str(&answer.body_mut().read_to_string()?)?)
        };
        let now = ask("/v3/kv/range", &json!({"key": "AA=="}))?;
        let revision = &now["header"]["revision"];
        ask(
            "/v3/kv/compaction",
            &json!({"revision": revision, "physical": true}),
        )?;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Before its etcd; what it says of that at its end is of no use.
        self.server = None;
        let _ = self.etcd.signal(Signal::SIGTERM);
    }
}

fn start_etcd(program: &Path, dir: &Path) -> Result<(Process, u16)> {
    let (port, peers) = (free_port()?, free_port()?);
    let (clients, peers) = (
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{peers}"),
    );
    let mut command = Command::new(program);
    command
        .arg(format!("--data-dir={}", dir.join("etcd").display()))
        .arg(format!("--listen-client-urls={clients}"))
        .arg(format!("--advertise-client-urls={clients}"))
        .arg(format!("--listen-peer-urls={peers}"))
        .arg(format!("--initial-advertise-peer-urls={peers}"))
        .arg(format!("--initial-cluster=default={peers}"))
        .args(["--unsafe-no-fsync", "--log-level=error"]);
    Ok((Process::spawn("etcd", &mut command)?, port))
}
