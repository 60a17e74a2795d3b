//! A Valkey server in a cgroup of its own, and its own count of bytes.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::cgroup::Tree;
use super::child::Child;
use crate::lab::Lab;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A running server. Dropping it ends it.
pub(crate) struct Server {
    child: Child,
    cgroup: PathBuf,
    port: u16,
}

/// Bytes since the server started, by its own count.
pub(crate) struct Totals {
    /// `total_net_input_bytes`, the INFO command that asked included.
    pub(crate) input: u64,
    /// `total_net_output_bytes`, without the reply to that INFO.
    pub(crate) output: u64,
    /// Length of that reply.
    pub(crate) reply: u64,
}

impl Server {
    /// Starts it. It is not connected to: its first bytes are to be counted by everybody.
    pub(crate) fn start(lab: &Lab, cgroups: &Tree, folder: &Path, port: u16) -> Result<Self> {
        Self::start_with(lab, cgroups, folder, port, "")
    }

    /// The same, with these lines of configuration.
    pub(crate) fn start_with(
        lab: &Lab,
        cgroups: &Tree,
        folder: &Path,
        port: u16,
        lines: &str,
    ) -> Result<Self> {
        let name = format!("valkey-{port}");
        let procs = cgroups.leaf(&name)?;
        let cgroup = procs.parent().map(Path::to_owned).unwrap_or_default();
        let config = folder.join(format!("{name}.conf"));
        fs::write(&config, lines).with_context(|| format!("cannot write {}", config.display()))?;
        // A shell that enters the cgroup before it becomes the server: the sockets are made there.
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"echo $$ > "$0" && exec "$@""#])
            .arg(procs)
            .arg(lab.valkey_server())
            .arg(config)
            .args(["--port", &port.to_string()])
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .current_dir(folder);
        Ok(Self {
            child: Child::start(&name, &mut command, folder)?,
            cgroup,
            port,
        })
    }

    /// What the agent calls it.
    pub(crate) fn label(&self) -> String {
        format!("valkey-server:{}", self.port)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The cgroup that it alone is in.
    pub(crate) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The number of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.child.check()
    }

    /// Its own count, over a connection made for it.
    pub(crate) fn totals(&self) -> Result<Totals> {
        let (info, reply) =
            ask_info(self.address()).with_context(|| format!("{} does not answer INFO", self.label()))?;
        Ok(Totals {
            input: field(&info, "total_net_input_bytes")?,
            output: field(&info, "total_net_output_bytes")?,
            reply,
        })
    }
}

/// Name and version as the program states them, e.g. `Valkey 9.1.2`.
pub(crate) fn version(lab: &Lab) -> String {
    let output = Command::new(lab.valkey_server()).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = text.unwrap_or_default();
    let number = version
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="))
        .unwrap_or_default();
    format!("Valkey {number}").trim_end().to_owned()
}

/// `INFO stats` over a plain socket: the text, and the length of the whole reply in bytes.
fn ask_info(address: SocketAddr) -> Result<(String, u64)> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(b"*2\r\n$4\r\nINFO\r\n$5\r\nstats\r\n")?;
    let mut reader = BufReader::new(stream);
    let mut header = String::new();
    reader.read_line(&mut header)?;
    let Some(length) = header
        .strip_prefix('$')
        .and_then(|digits| digits.trim_end().parse::<usize>().ok())
    else {
        bail!("its answer begins with {header:?}");
    };
    let mut body = vec![0; length + "\r\n".len()];
    reader.read_exact(&mut body)?;
    let reply = (header.len() + body.len()) as u64;
    Ok((String::from_utf8_lossy(&body).into_owned(), reply))
}

fn field(info: &str, name: &str) -> Result<u64> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|value| value.trim().parse().ok())
        .with_context(|| format!("INFO has no {name}"))
}
