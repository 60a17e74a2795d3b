//! Which command a message from the server answers, by what both of them say.

use std::collections::{BTreeSet, VecDeque};

use super::{
    Account,
    details::is_read,
    frames::{Reply, Words, reply},
};

/// How a command is answered.
#[derive(Debug, Clone)]
enum Answer {
    /// One reply.
    One,
    /// One reply, which tells hits from misses.
    Read,
    /// One reply, and from it on another version of the protocol unless it is an error.
    Hello(u8),
    /// A confirmation for each channel, or one refusal.
    Confirm { name: String, left: usize },
    /// A confirmation for each subscription of its kind, at least one.
    ConfirmAll { name: String },
    /// One reply, then lines; nothing where lines come already.
    Monitor,
    /// One reply, and everything is as at the beginning.
    Reset,
    /// One reply; a transaction begins unless it is an error.
    Multi,
    /// One reply; there is no transaction any more.
    EndOfTransaction,
    /// From here on everything is replication.
    Link,
    /// No command, but it is counted as one by CLIENT REPLY SKIP.
    Nothing,
    /// CLIENT REPLY: one reply unless it is switched off.
    Replies(Option<Switch>),
}

/// What CLIENT REPLY can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Switch {
    On,
    Off,
    Skip,
}

/// A conversation's commands, and what is known of the server.
#[derive(Debug)]
pub(super) struct Matching {
    waiting: VecDeque<(String, Answer)>,
    version: u8,
    /// Channels, patterns, shard channels.
    subscriptions: [BTreeSet<Vec<u8>>; 3],
    monitors: bool,
    transaction: bool,
    /// No command is answered.
    silent: bool,
    /// The next command is not answered.
    skips: bool,
}

impl Default for Matching {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            version: 2,
            subscriptions: Default::default(),
            monitors: false,
            transaction: false,
            silent: false,
            skips: false,
        }
    }
}

impl Matching {
    /// A command that waits to be answered.
    pub(super) fn ask(&mut self, words: &Words<'_>, row: &str) {
        let word = |index: usize| {
            words
                .get(index)
                .map(|word| String::from_utf8_lossy(word).to_lowercase())
        };
        let name = word(0).unwrap_or_default();
        let answer = match name.as_str() {
            "hello" => match word(1).as_deref() {
                Some("2") => Answer::Hello(2),
                Some("3") => Answer::Hello(3),
                _ => Answer::One,
            },
            "monitor" => Answer::Monitor,
            "reset" => Answer::Reset,
            "multi" => Answer::Multi,
            "exec" | "discard" => Answer::EndOfTransaction,
            "psync" | "sync" => Answer::Link,
            "client" if word(1).as_deref() == Some("reply") => Answer::Replies(match word(2).as_deref() {
                Some("on") => Some(Switch::On),
                Some("off") => Some(Switch::Off),
                Some("skip") => Some(Switch::Skip),
                _ => None,
            }),
            _ if kind_of(&name).is_some() => match words.len() - 1 {
                0 if name.contains("unsub") => Answer::ConfirmAll { name },
                channels => Answer::Confirm {
                    name,
                    left: channels.max(1),
                },
            },
            name if is_read(name.as_bytes()) => Answer::Read,
            _ => Answer::One,
        };
        self.waiting.push_back((row.to_owned(), answer));
    }

    /// An empty line or array.
    pub(super) fn ask_nothing(&mut self) {
        self.waiting.push_back((String::new(), Answer::Nothing));
    }

    /// Books the messages of a stream. Returns how many bytes are explained.
    pub(super) fn answer(&mut self, bytes: &[u8], account: &mut Account) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            self.drop_unanswered(bytes[done]);
            // What comes before the answer was under way already.
            let link = self.waiting.front().filter(|_| bytes[done] == b'+');
            if let Some((row, Answer::Link)) = link {
                let counts = account.books.rows.entry(row.clone()).or_default();
                counts.bytes_out += (bytes.len() - done) as u64;
                return bytes.len();
            }
            // HELLO is answered by a map in the version that it asks for.
            let version = if bytes[done] == b'%' { 3 } else { self.version };
            let Some(reply) = reply(&bytes[done..], version) else {
                break;
            };
            let Some((row, read)) = self.take(&reply) else {
                break;
            };
            let message = &bytes[done..done + reply.length];
            account.books.rows.entry(row.clone()).or_default().bytes_out += reply.length as u64;
            let details = account.details.entry(row).or_default();
            details.reply(message, version, read);
            done += reply.length;
        }
        done
    }

    /// Commands at the front that nothing answers.
    fn drop_unanswered(&mut self, first: u8) {
        while let Some((_, answer)) = self.waiting.front().cloned() {
            let confirmed = matches!(answer, Answer::Confirm { .. } | Answer::ConfirmAll { .. });
            match answer {
                Answer::Nothing => self.skips = false,
                // A subscriber of RESP2 gets an error, and so does who has begun a transaction.
                Answer::Monitor if self.monitors && !self.refuses_switches() => {}
                Answer::Replies(_) if self.refuses_switches() && !self.silent => return,
                Answer::Replies(Some(Switch::Off)) => self.silent = true,
                Answer::Replies(Some(Switch::Skip)) => self.skips = true,
                Answer::Replies(Some(Switch::On)) => {
                    self.silent = false;
                    self.skips = false;
                    return;
                }
                Answer::Reset | Answer::Link => return,
                _ if confirmed && matches!(first, b'*' | b'>') => {
                    self.skips = false;
                    return;
                }
                _ if self.silent => {}
                _ if self.skips => self.skips = false,
                _ => return,
            }
            self.waiting.pop_front();
        }
    }

    /// The row that a message belongs to, and whether it tells hits from misses; none: nothing explains it.
    fn take(&mut self, reply: &Reply<'_>) -> Option<(String, bool)> {
        if reply.kind == b'>' || (reply.kind == b'*' && self.version == 2 && self.is_about_channels(reply)) {
            self.take_frame(reply);
            return Some(("(pubsub)".to_owned(), false));
        }
        if reply.kind == b'+' && self.monitors && reply.line.first().is_some_and(u8::is_ascii_digit) {
            return Some(("(keyless)".to_owned(), false));
        }
        let (row, answer) = self.waiting.pop_front()?;
        let read = matches!(answer, Answer::Read) && !self.transaction;
        match answer {
            Answer::Hello(version) if reply.kind != b'-' => self.version = version,
            Answer::Multi if reply.kind != b'-' => self.transaction = true,
            Answer::EndOfTransaction => self.transaction = false,
            Answer::Monitor => self.monitors = reply.line == b"OK",
            Answer::Reset => {
                *self = Self {
                    waiting: std::mem::take(&mut self.waiting),
                    ..Self::default()
                };
            }
            _ => {}
        }
        Some((row, read))
    }

    fn refuses_switches(&self) -> bool {
        self.transaction || (self.version == 2 && self.is_subscribed())
    }

    fn is_subscribed(&self) -> bool {
        self.subscriptions.iter().any(|channels| !channels.is_empty())
    }

    /// Whether an array of RESP2 is a message to a subscriber, or a confirmation.
    fn is_about_channels(&self, reply: &Reply<'_>) -> bool {
        let Some(Some(name)) = reply.strings.first() else {
            return false;
        };
        let name = String::from_utf8_lossy(name);
        match name.as_ref() {
            "message" | "pmessage" | "smessage" if self.is_subscribed() => true,
            // A node that gives a slot away says so unasked.
            "sunsubscribe" => true,
            name => kind_of(name).is_some() && self.is_awaited(name),
        }
    }

    /// Whether the oldest command waits for confirmations of this name.
    fn is_awaited(&self, confirmation: &str) -> bool {
        match self.waiting.front() {
            Some((_, Answer::Confirm { name, .. } | Answer::ConfirmAll { name })) => name == confirmation,
            _ => false,
        }
    }

    /// A message or a confirmation.
    fn take_frame(&mut self, reply: &Reply<'_>) {
        let Some(Some(name)) = reply.strings.first() else {
            return;
        };
        let name = String::from_utf8_lossy(name).into_owned();
        let Some(kind) = kind_of(&name) else { return };
        let channels = &mut self.subscriptions[kind];
        if let Some(Some(channel)) = reply.strings.get(1) {
            if name.contains("unsub") {
                channels.remove(*channel);
            } else {
                channels.insert(channel.to_vec());
            }
        }
        let over = channels.is_empty();
        if !self.is_awaited(&name) {
            return;
        }
        let done = match &mut self.waiting.front_mut().expect("what is awaited").1 {
            Answer::Confirm { left, .. } => {
                *left -= 1;
                *left == 0
            }
            _ => over,
        };
        if done {
            self.waiting.pop_front();
        }
    }
}

/// Which kind of subscription a command or confirmation is about.
fn kind_of(name: &str) -> Option<usize> {
    match name {
        "subscribe" | "unsubscribe" => Some(0),
        "psubscribe" | "punsubscribe" => Some(1),
        "ssubscribe" | "sunsubscribe" => Some(2),
        _ => None,
    }
}
