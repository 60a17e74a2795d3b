//! Child processes that end with the test, and whose words are kept.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use crate::poll;

/// A running child. Dropping it kills it and tells its last words, which the test runner shows if the test failed.
pub struct Process {
    name: String,
    child: Child,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
}

/// How a child ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Process {
    /// Starts `command`; errors call it `name`.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        Self::spawn_with_input(name, command, b"")
    }

    /// Starts `command` with `input` as its standard input.
    pub fn spawn_with_input(name: &str, command: &mut Command, input: &[u8]) -> Result<Self> {
        let stdout = NamedTempFile::new()?;
        let stderr = NamedTempFile::new()?;
        let child = command
            .stdin(input_file(input)?)
            .stdout(stdout.reopen()?)
            .stderr(stderr.reopen()?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
        })
    }

    /// Its process number. A shell that replaces itself by a program keeps it.
    #[must_use]
    pub fn id(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.id(), signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Waits until it ends.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        let child = &mut self.child;
        poll::until(&what, within, || Ok(child.try_wait()?)).with_context(|| self.words())
    }

    /// Waits until it ends and returns what it said.
    pub fn finish(mut self, within: Duration) -> Result<Finished> {
        let status = self.wait(within)?;
        Ok(Finished {
            status,
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
        })
    }

    /// What it wrote to standard output until now.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it wrote to standard error until now.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Everything it said until now, under its name.
    #[must_use]
    pub fn words(&self) -> String {
        format!(
            "--- {} said:\n{}{}",
            self.name,
            read(&self.stdout),
            read(&self.stderr)
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; nothing else can be wrong here.
        let _ = self.child.kill();
        let _ = self.child.wait();
        eprintln!("{}", tail(&self.words()));
    }
}

/// Runs `command` to its end and returns its standard output; failure is an error that carries what it said.
pub fn read_output(name: &str, command: &mut Command, within: Duration) -> Result<String> {
    let finished = Process::spawn(name, command)?.finish(within)?;
    if !finished.status.success() {
        bail!("{name} failed ({}):\n{}", finished.status, finished.stderr);
    }
    Ok(finished.stdout)
}

fn input_file(input: &[u8]) -> Result<Stdio> {
    if input.is_empty() {
        return Ok(Stdio::null());
    }
    let mut file: File = tempfile::tempfile()?;
    file.write_all(input)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file.into())
}

fn read(file: &NamedTempFile) -> String {
    std::fs::read(file.path())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The last lines, so that a long log does not hide the failure.
fn tail(text: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
