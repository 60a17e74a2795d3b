//! What is switched on and off: the agent, or one of the ways in which people look at traffic without it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::stage::Stage;
use crate::lab::tools;
use crate::rig::agent::Agent;
use crate::rig::child::Child;
use crate::rig::interrupt::Interrupt;

/// How long a comparison may take to start.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Share of the commands below which the agent did not do what is measured.
const LEAST_COUNTED: f64 = 0.99;

/// Bytes of a line of MONITOR at the very least: time, database, address, command and key.
const LEAST_LINE: u64 = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Subject {
    /// Stormglass.
    Agent,
    /// A client that sends MONITOR and drops what comes.
    Monitor,
    /// tcpdump on the server's port that drops what comes.
    Capture,
    /// Nothing: how far apart two equal legs are.
    Control,
}

/// A subject at work. Dropping it ends it.
pub(super) enum Running {
    Agent(Agent),
    Monitor(Monitor),
    Capture(Child),
    Control,
}

/// A connection in MONITOR mode and the thread that drains it.
pub(super) struct Monitor {
    stream: TcpStream,
    reader: Option<JoinHandle<u64>>,
}

impl Subject {
    pub(super) const ALL: [Self; 4] = [Self::Agent, Self::Control, Self::Monitor, Self::Capture];

    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Agent => "Stormglass",
            Self::Monitor => "MONITOR",
            Self::Capture => "tcpdump",
            Self::Control => "(nothing)",
        }
    }

    /// Starts it and waits until it sees the server's traffic.
    pub(super) fn start(self, stage: &Stage, interrupt: &Interrupt) -> Result<Running> {
        Ok(match self {
            Self::Agent => Running::Agent(stage.agent(interrupt)?),
            Self::Monitor => Running::Monitor(Monitor::start(stage.address())?),
            Self::Capture => Running::Capture(capture(stage, interrupt)?),
            Self::Control => Running::Control,
        })
    }
}

impl Running {
    /// Ends it and returns the share of these commands, or of their packets, that it saw.
    ///
    /// # Errors
    /// If it did not do its work, so that there was no cost to measure.
    pub(super) fn end(self, commands: u64) -> Result<f64> {
        match self {
            Self::Agent(mut agent) => {
                let counted = agent.scrape()?.sum("stormglass_prefix_commands_total", &[]);
                let share = counted as f64 / commands as f64;
                if share < LEAST_COUNTED {
                    bail!(
                        "the agent counted {counted} of {commands} commands: its cost would be of half a job"
                    );
                }
                Ok(share.min(1.0))
            }
            Self::Monitor(monitor) => {
                let bytes = monitor.end()?;
                if bytes < commands * LEAST_LINE {
                    bail!("MONITOR sent only {bytes} bytes for {commands} commands");
                }
                Ok(1.0)
            }
            Self::Control => Ok(1.0),
            Self::Capture(mut child) => {
                child.end()?;
                let said = child.complaints()?;
                captured_share(&said)
                    .with_context(|| format!("tcpdump does not say what it captured:\n{said}"))
            }
        }
    }
}

impl Monitor {
    fn start(server: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(READY_WITHIN))?;
        stream.write_all(b"MONITOR\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).context("no answer to MONITOR")?;
        if &answer != b"+OK\r\n" {
            bail!(
                "the answer to MONITOR begins with {:?}",
                String::from_utf8_lossy(&answer)
            );
        }
        stream.set_read_timeout(None)?;
        let reader = drain(stream.try_clone()?);
        Ok(Self {
            stream,
            reader: Some(reader),
        })
    }

    /// Bytes that came.
    fn end(mut self) -> Result<u64> {
        self.hang_up()
            .context("the thread that read MONITOR has panicked")
    }

    fn hang_up(&mut self) -> Option<u64> {
        // The server may have closed it already.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.reader.take()?.join().ok()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// Reads until the end and forgets, which is the least that a reader can do.
fn drain(mut stream: TcpStream) -> JoinHandle<u64> {
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 18];
        let mut bytes = 0;
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            bytes += read as u64;
        }
        bytes
    })
}

fn capture(stage: &Stage, interrupt: &Interrupt) -> Result<Child> {
    let mut command = Command::new(tools::ensure_tcpdump(stage.lab())?);
    command
        .args(["-i", "lo", "-n", "-Z", "root", "-w", "/dev/null", "tcp", "port"])
        .arg(stage.address().port().to_string());
    let mut child = Child::start("tcpdump", &mut command, stage.folder())?;
    let started = Instant::now();
    while !child.complaints()?.contains("listening on") {
        child.check()?;
        if started.elapsed() > READY_WITHIN {
            bail!("tcpdump does not begin to listen");
        }
        interrupt.sleep(Duration::from_millis(20))?;
    }
    Ok(child)
}

/// Captured packets of all that there were, from tcpdump's last words.
fn captured_share(said: &str) -> Option<f64> {
    let count = |what: &str| {
        said.lines()
            .find_map(|line| line.strip_suffix(what)?.trim().parse::<f64>().ok())
    };
    let captured = count(" packets captured")?;
    let dropped = count(" packets dropped by kernel")?;
    (captured > 0.0).then_some(captured / (captured + dropped))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "tcpdump: listening on lo, link-type EN10MB (Ethernet), snapshot length 262144 bytes\n\
        75 packets captured\n210 packets received by filter\n25 packets dropped by kernel\n";

    #[test]
    fn dropped_packets_are_part_of_what_there_was() {
        assert_eq!(captured_share(SAID), Some(0.75));
    }

    #[test]
    fn a_capture_of_nothing_is_none() {
        assert_eq!(captured_share(&SAID.replace("75 packets", "0 packets")), None);
        assert_eq!(captured_share("tcpdump: lo: no such device\n"), None);
    }
}
