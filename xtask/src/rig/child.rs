//! Processes that are started, and ended by their number.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::interrupt::Interrupt;

/// How long a process may take to end by itself after SIGTERM.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How often a process that works is looked at for its end: rarely, as its speed may be what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Lines of a log that an error shows.
const TAIL_LINES: usize = 12;

/// A running process. Dropping it ends it.
pub(crate) struct Child {
    name: String,
    process: process::Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Child {
    /// Starts `command`; what it says goes to files in `folder`. It is out of the terminal's reach: Ctrl-C comes to
    /// this process alone, which then ends everything in order.
    pub(crate) fn start(name: &str, command: &mut Command, folder: &Path) -> Result<Self> {
        let stdout = folder.join(format!("{name}.out"));
        let stderr = folder.join(format!("{name}.err"));
        let process = command
            .stdin(Stdio::null())
            .stdout(create(&stdout)?)
            .stderr(create(&stderr)?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            process,
            stdout,
            stderr,
        })
    }

    /// An error with its last words if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}). {}", self.name, self.last_words()),
        }
    }

    /// Asks it to end and waits for it; an error with its last words if it did not end well.
    pub(crate) fn end(&mut self) -> Result<()> {
        let status = self.stop()?;
        if !status.success() {
            bail!("{} failed ({status}). {}", self.name, self.last_words());
        }
        Ok(())
    }

    /// Waits until it has done its work, and returns its standard output; an error with its last words if it fails, or
    /// takes longer than `within`.
    pub(crate) fn finish(&mut self, interrupt: &Interrupt, within: Duration) -> Result<String> {
        let started = Instant::now();
        loop {
            match self.process.try_wait()? {
                Some(status) if status.success() => return self.output(),
                Some(status) => bail!("{} failed ({status}). {}", self.name, self.last_words()),
                None if started.elapsed() > within => bail!(
                    "{} has not ended after {} s. {}",
                    self.name,
                    within.as_secs(),
                    self.last_words()
                ),
                None => interrupt.sleep(LOOK_EVERY)?,
            }
        }
    }

    /// Its number, which is its own until this is dropped.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Standard output so far.
    pub(crate) fn output(&self) -> Result<String> {
        fs::read_to_string(&self.stdout).with_context(|| format!("cannot read what {} printed", self.name))
    }

    /// Standard error so far.
    pub(crate) fn complaints(&self) -> Result<String> {
        fs::read_to_string(&self.stderr).with_context(|| format!("cannot read what {} reported", self.name))
    }

    fn stop(&mut self) -> Result<ExitStatus> {
        let started = Instant::now();
        if self.process.try_wait()?.is_none() {
            // It is not reaped yet, so the number is still its own.
            kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM)
                .with_context(|| format!("cannot end {}", self.name))?;
        }
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status);
            }
            if started.elapsed() > END_WITHIN {
                self.process.kill()?;
                return Ok(self.process.wait()?);
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn last_words(&self) -> String {
        let words = [&self.stdout, &self.stderr].map(|path| fs::read_to_string(path).unwrap_or_default());
        let lines: Vec<&str> = words.iter().flat_map(|text| text.lines()).collect();
        if lines.is_empty() {
            return "It said nothing.".to_owned();
        }
        let tail = lines
            .get(lines.len().saturating_sub(TAIL_LINES)..)
            .unwrap_or_default();
        format!("Its last words:\n  {}", tail.join("\n  "))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!(
                "process {} ({}) is left behind: {error}",
                self.process.id(),
                self.name
            );
        }
    }
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot create {}", path.display()))
}
