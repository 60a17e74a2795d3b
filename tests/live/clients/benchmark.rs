//! valkey-benchmark.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use stormglass_tests::lab;
use stormglass_tests::process::Process;

const WITHIN: Duration = Duration::from_secs(60);

/// A run over keys of one prefix. It sends exactly `requests` commands to them, and a few without a key before.
pub(crate) struct Benchmark<'a> {
    /// Where to.
    pub(crate) port: u16,
    /// `GET`, `SET` or another command whose arguments are a key and, if there is one, the value.
    pub(crate) command: &'a str,
    /// The keys' prefix.
    pub(crate) prefix: &'a str,
    /// Commands; a multiple of `pipeline`, since a smaller rest would be rounded up.
    pub(crate) requests: u32,
    /// Connections.
    pub(crate) connections: u32,
    /// Commands sent at once on a connection.
    pub(crate) pipeline: u32,
    /// Bytes of the value, if the command has one.
    pub(crate) value: Option<usize>,
}

impl Benchmark<'_> {
    /// Runs it to its end.
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(
            self.requests.is_multiple_of(self.pipeline),
            "the last pipeline would not be full"
        );
        let process = self.spawn(&mut Command::new(lab::valkey_benchmark()?))?;
        let finished = process.finish(WITHIN)?;
        let failed = !finished.status.success() || finished.stderr.contains("rror");
        if failed {
            bail!("valkey-benchmark: {}: {}", finished.status, finished.stderr);
        }
        Ok(())
    }

    /// Starts it. `command` runs the program, directly or through another one.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Process> {
        command
            .args(["-q", "-r", "100"])
            .args(["-p", &self.port.to_string()])
            .args(["-n", &self.requests.to_string()])
            .args(["-c", &self.connections.to_string()])
            .args(["-P", &self.pipeline.to_string()]);
        if self.value.is_some() {
            // The last argument comes from standard input.
            command.arg("-x");
        }
        command
            .arg(self.command)
            .arg(format!("{}:__rand_int__", self.prefix));
        let value = vec![b'v'; self.value.unwrap_or_default()];
        Process::spawn_with_input("valkey-benchmark", command, &value)
    }
}

/// A run that goes on until it is ended, or until an error ends it.
pub(crate) fn endless_benchmark(port: u16, connections: u32) -> Result<Process> {
    let benchmark = Benchmark {
        port,
        command: "SET",
        prefix: "endless",
        requests: 1_000_000_000,
        connections,
        pipeline: 1,
        value: Some(64),
    };
    benchmark.spawn(&mut Command::new(lab::valkey_benchmark()?))
}
