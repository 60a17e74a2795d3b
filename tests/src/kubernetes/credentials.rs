//! By what the double is found and trusted: the files of a service account, and a kubeconfig.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tempfile::TempDir;

pub(super) struct Credentials {
    dir: TempDir,
    tls: Option<Arc<ServerConfig>>,
}

impl Credentials {
    pub(super) fn plain() -> Result<Self> {
        Ok(Self {
            dir: tempfile::tempdir()?,
            tls: None,
        })
    }

    /// An authority, and a certificate of it for the loopback address.
    pub(super) fn tls() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(dir.path().join("ca.crt"), authority.pem())?;
        fs::write(dir.path().join("namespace"), "stormglass")?;

        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([])?;
        params
            .subject_alt_names
            .push(SanType::IpAddress(IpAddr::from([127, 0, 0, 1])));
        let certificate = params.signed_by(&key, &authority)?;
        // For a server that reads them itself.
        fs::write(dir.path().join("tls.crt"), certificate.pem())?;
        fs::write(dir.path().join("tls.key"), key.serialize_pem())?;
        let config = server_config(certificate.der().clone(), key.serialize_der())?;
        Ok(Self {
            dir,
            tls: Some(Arc::new(config)),
        })
    }

    pub(super) fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn write_token(&self, token: &str) -> Result<()> {
        Ok(fs::write(self.dir().join("token"), token)?)
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.dir().join("kubeconfig")
    }

    pub(super) fn write_kubeconfig(&self, address: SocketAddr) -> Result<()> {
        let dir = self.dir().display();
        let cluster = match self.tls {
            None => format!("{{server: \"http://{address}\"}}"),
            Some(_) => {
                format!("{{server: \"https://{address}\", certificate-authority: \"{dir}/ca.crt\"}}")
            }
        };
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
             clusters:\n- name: it\n  cluster: {cluster}\n\
             contexts:\n- name: it\n  context: {{cluster: it, user: it}}\n\
             users:\n- name: it\n  user: {{tokenFile: \"{dir}/token\"}}\n"
        );
        Ok(fs::write(self.kubeconfig(), text)?)
    }
}

fn server_config(certificate: CertificateDer<'static>, key: Vec<u8>) -> Result<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    Ok(builder
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?)
}
