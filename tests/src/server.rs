//! A real server in a cgroup of its own, and what it says about its traffic.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::cgroup::Cgroup;
use crate::container::Container;
use crate::netns::Netns;
use crate::process::Process;
use crate::resp::Connection;
use crate::{lab, poll, ports};

const START_WITHIN: Duration = Duration::from_secs(10);
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Where and how a server runs.
#[derive(Clone)]
pub struct Plan {
    name: &'static str,
    program: PathBuf,
    port: u16,
    bind: Vec<String>,
    config: String,
    cgroup: Rc<Cgroup>,
    netns: Option<Rc<Netns>>,
    container: Option<Rc<Container>>,
}

impl Plan {
    /// Valkey on a free port of 127.0.0.1, in a new cgroup.
    pub fn valkey() -> Result<Self> {
        Self::new("valkey-server", lab::valkey_server()?)
    }

    /// Valkey 8.0, likewise.
    pub fn valkey_8_0() -> Result<Self> {
        Self::new("valkey-server", lab::valkey_8_0()?)
    }

    /// Valkey 8.1, likewise; its root is one of its own.
    pub fn valkey_8_1() -> Result<Self> {
        Self::new("valkey-server", lab::valkey_8_1()?)
    }

    /// Redis 7.0, likewise.
    pub fn redis() -> Result<Self> {
        Self::new("redis-server", lab::redis_server()?)
    }

    fn new(name: &'static str, program: PathBuf) -> Result<Self> {
        Ok(Self {
            name,
            program,
            port: ports::free_port()?,
            bind: vec!["127.0.0.1".into()],
            config: String::new(),
            cgroup: Rc::new(Cgroup::create(name)?),
            netns: None,
            container: None,
        })
    }

    /// Binds it to these addresses.
    #[must_use]
    pub fn bind(mut self, addresses: &[&str]) -> Self {
        self.bind = addresses.iter().map(|&address| address.to_owned()).collect();
        self
    }

    /// Gives it these lines in a configuration file.
    #[must_use]
    pub fn config(mut self, lines: &str) -> Self {
        self.config = lines.to_owned();
        self
    }

    /// Puts it into this cgroup.
    #[must_use]
    pub fn cgroup(mut self, cgroup: &Rc<Cgroup>) -> Self {
        self.cgroup = Rc::clone(cgroup);
        self
    }

    /// Puts it into this network namespace.
    #[must_use]
    pub fn netns(mut self, netns: &Rc<Netns>) -> Self {
        self.netns = Some(Rc::clone(netns));
        self
    }

    /// Puts it into a container of its own, with its own cgroup and this network namespace.
    pub fn contained(mut self, netns: &Rc<Netns>) -> Result<Self> {
        self.container = Some(Rc::new(Container::of_server(&self.program, netns)?));
        Ok(self.netns(netns))
    }

    /// The cgroup it is put into.
    #[must_use]
    pub fn place(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Starts it without waiting for it.
    pub fn spawn(&self) -> Result<Server> {
        let dir = tempfile::tempdir()?;
        let mut command = match self.container {
            Some(_) => Command::new(&self.program),
            None => self.command(),
        };
        if !self.config.is_empty() {
            command.arg(match &self.container {
                Some(container) => container.put("server.conf", &self.config)?,
                None => {
                    let config = dir.path().join("server.conf");
                    std::fs::write(&config, &self.config)?;
                    config
                }
            });
        }
        command
            .args(["--port", &self.port.to_string(), "--bind"])
            .args(&self.bind)
            .args(["--save", "", "--appendonly", "no", "--protected-mode", "no"])
            .args(["--loglevel", "warning"])
            // Not by `--dir`: one with a root of its own does not have the folder.
            .current_dir(dir.path());
        if let Some(container) = &self.container {
            let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            command = container.command(arguments.iter().map(AsRef::as_ref))?;
        }
        let process = Process::spawn(self.name, &mut command)?;
        Ok(Server {
            process,
            plan: self.clone(),
            _dir: dir,
        })
    }

    /// Starts it and waits until it accepts connections.
    pub fn start(&self) -> Result<Server> {
        let mut server = self.spawn()?;
        poll::until_true("the server accepts", START_WITHIN, || {
            if !server.process.is_running()? {
                bail!("the server ended at once: {}", server.process.words());
            }
            Ok(server.dial().is_ok())
        })?;
        Ok(server)
    }

    /// A shell that enters the cgroup before it becomes the program: the sockets are made there.
    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(self.cgroup.procs());
        if let Some(netns) = &self.netns {
            let mut flag = std::ffi::OsString::from("--net=");
            flag.push(netns.path());
            command.arg("nsenter").arg(flag);
        }
        command.arg(&self.program);
        command
    }
}

/// A running server. Dropping it kills it.
pub struct Server {
    process: Process,
    plan: Plan,
    _dir: TempDir,
}

impl Server {
    /// The process number that the host has for one in a container.
    pub fn id_outside(&self) -> Result<Pid> {
        let container = self.plan.container.as_ref().context("it is in no container")?;
        Ok(Pid::from_raw(container.process_id()?.cast_signed()))
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.plan.port
    }

    /// Its address on IPv4's loopback.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.plan.port).into()
    }

    /// Its process number.
    #[must_use]
    pub fn id(&self) -> Pid {
        self.process.id()
    }

    /// What the agent should call it.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}:{}", self.plan.name, self.plan.port)
    }

    /// Where and how it runs; the same plan starts it again.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its cgroup when it started.
    #[must_use]
    pub fn cgroup(&self) -> &Rc<Cgroup> {
        &self.plan.cgroup
    }

    /// A connection from inside its network namespace, nothing sent yet.
    pub fn connect(&self) -> Result<Connection> {
        Connection::over(self.dial()?)
    }

    /// A connection that asks it for its own counters.
    pub fn control(&self) -> Result<Control> {
        Ok(Control {
            connection: self.connect()?,
        })
    }

    /// Ends it as an operator would, and waits for its end.
    pub fn stop(mut self) -> Result<Plan> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(STOP_WITHIN)?;
        Ok(self.plan.clone())
    }

    fn dial(&self) -> Result<TcpStream> {
        let address = self.address();
        let dial = move || {
            TcpStream::connect_timeout(&address, START_WITHIN)
                .with_context(|| format!("cannot connect to {address}"))
        };
        match &self.plan.netns {
            Some(netns) => netns.inside(dial),
            None => dial(),
        }
    }
}

/// Payload bytes and commands since the server started, by its own count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received from clients.
    pub bytes_in: u64,
    /// Bytes sent to clients.
    pub bytes_out: u64,
    /// Commands executed.
    pub commands: u64,
}

impl Traffic {
    /// What came after `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            bytes_in: self.bytes_in - earlier.bytes_in,
            bytes_out: self.bytes_out - earlier.bytes_out,
            commands: self.commands - earlier.commands,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
            commands: self.commands + other.commands,
        }
    }
}

/// A connection for the server's own counters.
pub struct Control {
    connection: Connection,
}

impl Control {
    /// All traffic up to and including this question and its answer: an INFO counts its own request, but neither its
    /// reply nor itself as executed.
    pub fn traffic(&mut self) -> Result<Traffic> {
        let before = self.connection.received();
        let info = self.info("stats")?;
        let reply = self.connection.received() - before;
        Ok(Traffic {
            bytes_in: field(&info, "total_net_input_bytes")?,
            bytes_out: field(&info, "total_net_output_bytes")? + reply,
            commands: field(&info, "total_commands_processed")? + 1,
        })
    }

    /// Bytes that came from the server's primary since it started; `total_net_input_bytes` includes them.
    pub fn bytes_from_primary(&mut self) -> Result<u64> {
        field(&self.info("stats")?, "total_net_repl_input_bytes")
    }

    /// Clients that are connected now, this one included, as `CLIENT LIST` has them.
    pub fn clients(&mut self) -> Result<u64> {
        let list = self.connection.ask(&[b"CLIENT", b"LIST"])?.text()?;
        Ok(list.lines().filter(|line| !line.is_empty()).count() as u64)
    }

    /// Connections that it has accepted since it started.
    pub fn connections_received(&mut self) -> Result<u64> {
        field(&self.info("stats")?, "total_connections_received")
    }

    /// How often a command was executed since the server started.
    pub fn calls(&mut self, command: &str) -> Result<u64> {
        let info = self.info("commandstats")?;
        let line = format!("cmdstat_{command}:calls=");
        let Some(rest) = info.lines().find_map(|text| text.strip_prefix(&*line)) else {
            return Ok(0);
        };
        let digits = rest.split(',').next().unwrap_or_default();
        digits.parse().with_context(|| format!("cannot read {rest:?}"))
    }

    /// A section of INFO.
    pub fn info(&mut self, section: &str) -> Result<String> {
        self.connection.ask(&[b"INFO", section.as_bytes()])?.text()
    }
}

fn field(info: &str, name: &str) -> Result<u64> {
    let value = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .with_context(|| format!("INFO has no {name}"))?;
    value
        .trim()
        .parse()
        .with_context(|| format!("{name} is {value:?} in INFO"))
}
