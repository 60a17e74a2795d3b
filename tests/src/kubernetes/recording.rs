//! Recordings of a real API server: what was asked, and what came back, piece by piece. Lines of JSON, so that they can be
//! read and compared; `tests/captures/README.md` has the table.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

/// What one watcher and one API server said to each other, and what the server knew in the end.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// Where it comes from.
    pub about: Value,
    /// In the order in which they began: a watcher asks for one thing at a time.
    pub exchanges: Vec<Exchange>,
    /// The list of all pods at the end, asked for past the watcher.
    pub pods: Value,
}

/// A request and its answer.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Path and query, as the watcher asked.
    pub get: String,
    /// Status and header lines; `None`: there was no answer.
    pub head: Option<Head>,
    /// The body as it came.
    pub pieces: Vec<Piece>,
    /// How it ended.
    pub end: End,
}

/// The head of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its code.
    pub status: u16,
    /// Its header lines, in their order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }

    /// Whether the body comes in chunks; otherwise its length is known.
    #[must_use]
    pub fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some()
    }
}

/// A part of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its bytes, as far as they came.
    pub text: String,
    /// How many there would have been: more, if the connection broke inside of it.
    pub length: usize,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With the end of the answer.
    Whole,
    /// The connection broke before that.
    Broken,
    /// Nobody listened.
    Refused,
    /// It had not ended when the recording did.
    Open,
}

impl End {
    const ALL: [Self; 4] = [Self::Whole, Self::Broken, Self::Refused, Self::Open];

    const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Broken => "broken",
            Self::Refused => "refused",
            Self::Open => "open",
        }
    }
}

/// Something that happens while a recording is made: a line of it.
#[derive(Debug, Clone)]
pub enum Line {
    /// Where it comes from: the first.
    About(Value),
    /// What was done to the server; for people.
    Done(String),
    /// A request.
    Get {
        /// As the watcher asked.
        get: String,
        /// As it was sent on, if that differs.
        sent: Option<String>,
    },
    /// The head of an answer.
    Head(usize, Head),
    /// A part of its body.
    Piece(usize, Piece),
    /// Its end.
    End(usize, End),
    /// All pods at the end: the last.
    Pods(Value),
}

impl Line {
    /// As it is written; `at` are milliseconds since the beginning.
    #[must_use]
    pub fn write(&self, at: u128) -> String {
        let line = match self {
            Self::About(about) => json!({"about": about}),
            Self::Done(what) => json!({"at": at as u64, "done": what}),
            Self::Get { get, sent: None } => json!({"at": at as u64, "get": get}),
            Self::Get {
                get,
                sent: Some(sent),
            } => json!({"at": at as u64, "get": get, "sent": sent}),
            Self::Head(of, head) => {
                let headers = head
                    .headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {value}"));
                let headers: Vec<_> = headers.collect();
                json!({"at": at as u64, "of": of, "status": head.status, "headers": headers})
            }
            Self::Piece(of, piece) if piece.length > piece.text.len() => {
                json!({"at": at as u64, "of": of, "length": piece.length, "piece": piece.text})
            }
            Self::Piece(of, piece) => json!({"at": at as u64, "of": of, "piece": piece.text}),
            Self::End(of, end) => json!({"at": at as u64, "of": of, "end": end.name()}),
            Self::Pods(pods) => json!({"pods": pods}),
        };
        format!("{line}\n")
    }
}

impl Recording {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut recording = Self::default();
        for (number, line) in text.lines().enumerate() {
            recording
                .take(&serde_json::from_str(line)?)
                .with_context(|| format!("line {} of {}", number + 1, path.display()))?;
        }
        ensure!(!recording.pods.is_null(), "{} breaks off", path.display());
        Ok(recording)
    }

    fn take(&mut self, line: &Value) -> Result<()> {
        if let Some(about) = line.get("about") {
            self.about = about.clone();
        } else if let Some(pods) = line.get("pods") {
            self.pods = pods.clone();
        } else if let Some(get) = line["get"].as_str() {
            self.exchanges.push(Exchange {
                get: get.to_owned(),
                head: None,
                pieces: Vec::new(),
                end: End::Open,
            });
        } else if let Some(of) = line["of"].as_u64() {
            let exchange = self.exchanges.get_mut(of as usize).context("no such exchange")?;
            exchange.take(line)?;
        } else if line.get("done").is_none() {
            bail!("of no kind: {line}");
        }
        Ok(())
    }

    /// What a watcher asked for: lists, or watches.
    pub fn asked(&self, watch: bool) -> impl Iterator<Item = &Exchange> {
        let exchanges = self.exchanges.iter();
        exchanges.filter(move |exchange| exchange.get.contains("watch=true") == watch)
    }
}

impl Exchange {
    fn take(&mut self, line: &Value) -> Result<()> {
        if let Some(status) = line["status"].as_u64() {
            let headers = line["headers"].as_array().context("no headers")?.iter();
            let headers = headers.map(|header| {
                let (name, value) = header.as_str()?.split_once(": ")?;
                Some((name.to_owned(), value.to_owned()))
            });
            self.head = Some(Head {
                status: status.try_into()?,
                headers: headers.collect::<Option<_>>().context("no header")?,
            });
        } else if let Some(text) = line["piece"].as_str() {
            self.pieces.push(Piece {
                text: text.to_owned(),
                length: line["length"]
                    .as_u64()
                    .map_or(text.len(), |length| length as usize),
            });
        } else {
            let end = End::ALL.into_iter().find(|end| line["end"] == end.name());
            self.end = end.context("no end")?;
        }
        Ok(())
    }

    /// The whole body.
    #[must_use]
    pub fn body(&self) -> String {
        self.pieces.iter().map(|piece| &*piece.text).collect()
    }
}
