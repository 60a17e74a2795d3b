//! What is wrong with a configuration file, where, and what to do about it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why a configuration was refused. Prints as one line: `file:line:column: reason: advice`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Where in it; `None` where the fault is the file itself.
    pub position: Option<Position>,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub advice: String,
}

/// A place in a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl ConfigError {
    /// An error of the file as a whole.
    pub(super) fn file(path: &Path, reason: String, advice: String) -> Self {
        Self {
            file: path.into(),
            position: None,
            reason,
            advice,
        }
    }

    /// An error of reading the file.
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => "name an existing file with --config, or leave --config out",
            io::ErrorKind::PermissionDenied => "let the user that runs stormglass read it",
            _ => "name a readable file with --config",
        };
        Self::file(
            path,
            format!("cannot read the configuration ({error})"),
            advice.into(),
        )
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}: {}", self.reason, self.advice)
    }
}

/// The text that spans refer to.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// An error at the byte range `span`.
    pub(super) fn error(&self, span: Range<usize>, reason: String, advice: String) -> ConfigError {
        ConfigError {
            file: self.path.into(),
            position: Some(self.position(span.start)),
            reason,
            advice,
        }
    }

    /// What the TOML parser or serde had to say, in our words where they can be clearer.
    pub(super) fn toml_error(&self, error: &toml::de::Error) -> ConfigError {
        let (reason, advice) = match unknown_field(error.message()) {
            Some((key, known)) => (format!("unknown key `{key}`"), advise_key(key, &known)),
            None => (
                self.without_texts(error.message().trim_end().replace('\n', ", ")),
                "see stormglass.example.toml for the form of each key".into(),
            ),
        };
        match error.span() {
            Some(span) => self.error(span, reason, advice),
            None => ConfigError::file(self.path, reason, advice),
        }
    }

    /// A message of serde's without the text that it quotes, which may be a prefix, if the file wants prefixes to be hashed.
    fn without_texts(&self, message: String) -> String {
        let table = toml::from_str::<toml::Table>(self.text).unwrap_or_default();
        let hashes = table.get("keys").and_then(|keys| keys.get("hash_prefixes"));
        match (message.find('"'), message.rfind('"')) {
            (Some(from), Some(to)) if hashes.and_then(toml::Value::as_bool) == Some(true) => {
                format!("{}(hidden){}", &message[..from], &message[to + 1..])
            }
            _ => message,
        }
    }

    /// The line, from 1, of the byte at `offset`.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.position(offset).line
    }

    pub(super) fn position(&self, offset: usize) -> Position {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// Takes serde's "unknown field `x`, expected one of `a`, `b`" apart: the key, and the keys that are known there.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message
        .strip_prefix("unknown field ")?
        .split('`')
        .skip(1)
        .step_by(2);
    let key = quoted.next()?;
    Some((key, quoted.collect()))
}

fn advise_key(key: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(key, candidate), *candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3));
    match nearest {
        Some((_, candidate)) => format!("did you mean `{candidate}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}
