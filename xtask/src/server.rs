//! A Valkey server of the lab for as long as a command needs one.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::lab::Lab;

const START_WITHIN: Duration = Duration::from_secs(10);

/// A server on a free loopback port with a folder of its own. Dropping it ends it.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts the lab's Valkey and waits until it accepts connections, at most 10 s.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a temporary folder for the server")?;
        // The port is free for the moment between this line and the server's own bind.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr())?;
        let child = Command::new(lab.valkey_server())
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--port",
                &address.port().to_string(),
                "--dir",
            ])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", lab.valkey_server().display()))?;
        let mut server = Self {
            child,
            address,
            _folder: folder,
        };
        server.wait()?;
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn wait(&mut self) -> Result<()> {
        let started = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "valkey-server ended at once ({status}); is {} taken?",
                    self.address
                );
            }
            if started.elapsed() > START_WITHIN {
                bail!("valkey-server does not accept connections on {}", self.address);
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left to do with an error here; the process ends with this one's group at the latest.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
