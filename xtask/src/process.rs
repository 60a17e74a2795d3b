//! Child processes with errors that name the command, and this tool's own voice.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// Says in one line what is being done.
pub(crate) fn say(message: impl AsRef<str>) {
    eprintln!("xtask: {}", message.as_ref());
}

/// Ways to run a command to its end.
pub(crate) trait Run {
    /// Runs with this terminal. An error names the command and its exit status.
    fn run(&mut self) -> Result<()>;
    /// Runs quietly and returns standard output. An error carries what the command said.
    fn read(&mut self) -> Result<String>;
    /// Whether the command can be started and ends with success; its output is dropped.
    fn succeeds(&mut self) -> bool;
}

impl Run for Command {
    fn run(&mut self) -> Result<()> {
        let status = self.status().with_context(|| cannot_start(self))?;
        if !status.success() {
            bail!("`{}` failed ({status}); its own message is above", line(self));
        }
        Ok(())
    }

    fn read(&mut self) -> Result<String> {
        let output = self
            .stdin(Stdio::null())
            .output()
            .with_context(|| cannot_start(self))?;
        if !output.status.success() {
            bail!("`{}` failed ({}):\n{}", line(self), output.status, said(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn succeeds(&mut self) -> bool {
        self.stdin(Stdio::null())
            .output()
            .is_ok_and(|output| output.status.success())
    }
}

fn cannot_start(command: &Command) -> String {
    format!(
        "cannot start `{}`; is it installed?",
        command.get_program().to_string_lossy()
    )
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn said(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text.trim_end().to_owned()
}
