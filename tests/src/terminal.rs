//! A terminal in which a shell runs, by tmux: keys in, screens out.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::{lab, poll};

/// How long a screen may take to show what it should.
const SHOWN_WITHIN: Duration = Duration::from_secs(60);

/// A terminal. Dropping it ends what runs in it.
pub struct Terminal {
    dir: TempDir,
}

impl Terminal {
    /// A shell in a terminal of this size.
    pub fn start(columns: u16, lines: u16) -> Result<Self> {
        let terminal = Self {
            dir: tempfile::tempdir()?,
        };
        let size = [columns.to_string(), lines.to_string()];
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &size[0],
            "-y",
            &size[1],
            "env PS1='$ ' LC_ALL=C.UTF-8 sh",
        ])?;
        terminal.tmux(&["set", "status", "off"])?;
        terminal.resize(columns, lines)?;
        terminal.shows("$")?;
        Ok(terminal)
    }

    /// Another size.
    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &lines])
            .map(|_| ())
    }

    /// Types text, as it is.
    pub fn types(&self, text: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", text]).map(|_| ())
    }

    /// Presses a key by tmux's name for it: `Enter`, `C-c`, `Escape`.
    pub fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).map(|_| ())
    }

    /// What is on the screen.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen has this text, and returns it.
    pub fn shows(&self, text: &str) -> Result<String> {
        self.shows_such(&format!("{text:?} on the screen"), |screen| screen.contains(text))
    }

    /// Waits until the screen satisfies `condition`, and returns it.
    pub fn shows_such(&self, what: &str, condition: impl Fn(&str) -> bool) -> Result<String> {
        let mut last = String::new();
        poll::until(what, SHOWN_WITHIN, || {
            std::thread::sleep(Duration::from_millis(50));
            last = self.screen()?;
            Ok(condition(&last).then(|| last.clone()))
        })
        .with_context(|| format!("the screen was\n{last}"))
    }

    /// Whether a program has the whole screen, as those that draw have.
    pub fn is_taken(&self) -> Result<bool> {
        Ok(self.tmux(&["display-message", "-p", "#{alternate_on}"])?.trim() == "1")
    }

    /// Waits until the screen has this text, lines that were too long for it put together again.
    pub fn shows_flowing(&self, text: &str) -> Result<String> {
        self.shows_such(&format!("{text:?} on the screen"), |screen| {
            screen.replace('\n', "").contains(text)
        })
    }

    /// What the shell has started.
    pub fn child(&self) -> Result<Pid> {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"])?;
        let shell = shell.trim();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
        match children.split_whitespace().next() {
            Some(child) => Ok(Pid::from_raw(child.parse()?)),
            None => bail!("the shell has started nothing"),
        }
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let answer = Command::new(lab::tmux()?)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .arg("-S")
            .arg(self.dir.path().join("socket"))
            .args(arguments)
            .output()
            .context("cannot start tmux")?;
        if !answer.status.success() {
            bail!(
                "tmux {arguments:?} failed ({}): {}",
                answer.status,
                String::from_utf8_lossy(&answer.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.tmux(&["kill-server"]);
    }
}
