//! The server of a random conversation: what it answers to each command, and what it says unasked.

use std::collections::BTreeSet;

use super::{
    choices::Choices,
    commands::Words,
    stream::Stream,
    values::{error, null, simple, text, value},
};

/// Names of the confirmations and messages of each kind of subscription.
const KINDS: [(&str, &str, &str); 3] = [
    ("subscribe", "unsubscribe", "message"),
    ("psubscribe", "punsubscribe", "pmessage"),
    ("ssubscribe", "sunsubscribe", "smessage"),
];

/// How the server stands to its client.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// RESP2 or RESP3.
    pub(crate) version: u8,
    /// Channels, patterns, shard channels.
    pub(crate) subscriptions: [BTreeSet<Vec<u8>>; 3],
    /// Commands queued by MULTI.
    pub(crate) transaction: Option<usize>,
    pub(crate) monitors: bool,
    /// CLIENT REPLY OFF is in force.
    pub(crate) silent: bool,
    /// CLIENT REPLY SKIP: the next command gets no reply.
    pub(crate) skips: bool,
    /// Nothing is answered any more.
    pub(crate) closed: bool,
    /// The connection is a replica's link.
    pub(crate) link: bool,
    /// It has ended a subscription by itself.
    pub(crate) gave_away: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            version: 2,
            subscriptions: Default::default(),
            transaction: None,
            monitors: false,
            silent: false,
            skips: false,
            closed: false,
            link: false,
            gave_away: false,
        }
    }
}

/// What a command does, as far as its connection is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Anything: one value.
    Data,
    Ping,
    Subscribe(usize),
    Unsubscribe(usize),
    Multi,
    Exec,
    Discard,
    /// The version that is asked for.
    Hello(Option<u8>),
    Reset,
    Monitor,
    Quit,
    Link,
    /// CLIENT REPLY ON, OFF, SKIP.
    Replies(&'static str),
}

impl Server {
    /// A client that speaks RESP2 and subscribes may only go on to subscribe.
    pub(crate) fn is_subscriber(&self) -> bool {
        self.version == 2 && self.is_subscribed()
    }

    pub(crate) fn is_subscribed(&self) -> bool {
        self.subscriptions.iter().any(|channels| !channels.is_empty())
    }

    /// Whether the connection is as it was when it opened, but for the version.
    pub(crate) fn is_plain(&self) -> bool {
        let diverted = self.monitors || self.silent || self.skips || self.closed || self.link;
        !diverted && self.transaction.is_none() && !self.is_subscribed()
    }

    /// Answers a command.
    pub(crate) fn answer(&mut self, deed: &Deed, words: &Words, out: &mut Stream, choices: &mut Choices<'_>) {
        if self.closed {
            return;
        }
        let skipped = std::mem::take(&mut self.skips);
        let mut unheard = Stream::default();
        let frames = matches!(deed, Deed::Subscribe(_) | Deed::Unsubscribe(_));
        let loud = frames || matches!(deed, Deed::Reset | Deed::Replies("on") | Deed::Link);
        if (self.silent || skipped) && !loud {
            self.act(deed, words, &mut unheard, choices);
        } else {
            self.act(deed, words, out, choices);
        }
    }

    fn act(&mut self, deed: &Deed, words: &Words, out: &mut Stream, choices: &mut Choices<'_>) {
        let allowed = matches!(
            deed,
            Deed::Ping | Deed::Subscribe(_) | Deed::Unsubscribe(_) | Deed::Quit | Deed::Reset
        );
        if self.is_subscriber() && !allowed {
            return simple(
                out,
                b'-',
                "ERR Can't execute this: only (P|S)SUBSCRIBE / PING / QUIT / RESET",
            );
        }
        let at_once = matches!(
            deed,
            Deed::Multi | Deed::Exec | Deed::Discard | Deed::Quit | Deed::Reset | Deed::Link
        );
        if let Some(queued) = self.transaction.filter(|_| !at_once) {
            if matches!(deed, Deed::Replies(_)) {
                return simple(out, b'-', "ERR Command not allowed inside a transaction");
            }
            if choices.one_in(16) {
                return error(out, choices);
            }
            self.transaction = Some(queued + 1);
            return simple(out, b'+', "QUEUED");
        }
        match deed {
            Deed::Data => value(out, self.version, choices),
            Deed::Ping => self.pong(words, out),
            Deed::Subscribe(kind) => self.subscribe(*kind, &words[1..], out, choices),
            Deed::Unsubscribe(kind) => self.unsubscribe(*kind, &words[1..], out),
            Deed::Multi | Deed::Exec | Deed::Discard => self.transact(deed, out, choices),
            Deed::Hello(version) => self.hello(*version, out, choices),
            Deed::Reset => {
                *self = Self::default();
                simple(out, b'+', "RESET");
            }
            // Whoever gets the lines already gets nothing.
            Deed::Monitor if self.monitors => {}
            Deed::Monitor => {
                self.monitors = true;
                simple(out, b'+', "OK");
            }
            Deed::Quit => {
                self.closed = true;
                simple(out, b'+', "OK");
            }
            Deed::Link => {
                self.link = true;
                simple(
                    out,
                    b'+',
                    "FULLRESYNC 8de1787ba490483314a4d30f1c628bc5025eb761 2443808505",
                );
            }
            Deed::Replies(switch) => self.switch(switch, out),
        }
    }

    fn pong(&self, words: &Words, out: &mut Stream) {
        let text = words.get(1);
        if self.is_subscriber() {
            out.header(b'*', 2);
            out.string(b'$', "pong");
            out.string(b'$', text.map_or(&b""[..], Vec::as_slice));
        } else if let Some(text) = text {
            out.string(b'$', text);
        } else {
            simple(out, b'+', "PONG");
        }
    }

    fn transact(&mut self, deed: &Deed, out: &mut Stream, choices: &mut Choices<'_>) {
        let Some(queued) = self.transaction else {
            if *deed == Deed::Multi {
                self.transaction = Some(0);
                return simple(out, b'+', "OK");
            }
            return simple(out, b'-', "ERR without MULTI");
        };
        match deed {
            Deed::Multi => return simple(out, b'-', "ERR MULTI calls can not be nested"),
            Deed::Discard => simple(out, b'+', "OK"),
            _ => match choices.below(4) {
                2 if self.version == 2 => out.put(b"*-1\r\n"),
                2 => out.put(b"_\r\n"),
                3 => simple(
                    out,
                    b'-',
                    "EXECABORT Transaction discarded because of previous errors.",
                ),
                _ => {
                    out.header(b'*', queued);
                    for _ in 0..queued {
                        value(out, self.version, choices);
                    }
                }
            },
        }
        self.transaction = None;
    }

    fn hello(&mut self, version: Option<u8>, out: &mut Stream, choices: &mut Choices<'_>) {
        if version.is_some_and(|version| !matches!(version, 2 | 3)) {
            return simple(out, b'-', "NOPROTO unsupported protocol version");
        }
        if choices.one_in(8) {
            return simple(
                out,
                b'-',
                "WRONGPASS invalid username-password pair or user is disabled.",
            );
        }
        self.version = version.unwrap_or(self.version);
        if self.version == 3 {
            out.header(b'%', 3);
        } else {
            out.header(b'*', 6);
        }
        for (name, content) in [("server", "valkey"), ("version", "9.1.2")] {
            out.string(b'$', name);
            out.string(b'$', content);
        }
        out.string(b'$', "proto");
        simple(out, b':', self.version.to_string());
    }

    fn switch(&mut self, switch: &str, out: &mut Stream) {
        match switch {
            "on" => {
                self.silent = false;
                simple(out, b'+', "OK");
            }
            "off" => self.silent = true,
            _ => self.skips = !self.silent,
        }
    }

    fn subscribe(&mut self, kind: usize, channels: &[Vec<u8>], out: &mut Stream, choices: &mut Choices<'_>) {
        // One answer for all channels. Who gets no replies gets no refusal.
        if channels.is_empty() || (choices.one_in(8) && !self.silent) {
            if !self.silent {
                simple(out, b'-', "NOPERM No permissions to access a channel");
            }
            return;
        }
        for channel in channels {
            self.subscriptions[kind].insert(channel.clone());
            self.confirm(kind, KINDS[kind].0, Some(channel), out);
        }
    }

    fn unsubscribe(&mut self, kind: usize, channels: &[Vec<u8>], out: &mut Stream) {
        let all: Vec<_> = self.subscriptions[kind].iter().cloned().collect();
        let channels = if channels.is_empty() { &all } else { channels };
        if channels.is_empty() {
            self.confirm(kind, KINDS[kind].1, None, out);
        }
        for channel in channels {
            self.subscriptions[kind].remove(channel);
            self.confirm(kind, KINDS[kind].1, Some(channel), out);
        }
    }

    fn confirm(&self, kind: usize, name: &str, channel: Option<&[u8]>, out: &mut Stream) {
        let [channels, patterns, shards] = self.subscriptions.each_ref().map(BTreeSet::len);
        let left = if kind == 2 { shards } else { channels + patterns };
        self.frame(3, name, out);
        match channel {
            Some(channel) => out.string(b'$', channel),
            None => null(out, self.version),
        }
        simple(out, b':', left.to_string());
    }

    fn frame(&self, elements: usize, name: &str, out: &mut Stream) {
        out.header(if self.version == 2 { b'*' } else { b'>' }, elements);
        out.string(b'$', name);
    }

    /// Something that no command asked for, if the connection is one that gets such things.
    pub(crate) fn speak(&mut self, out: &mut Stream, choices: &mut Choices<'_>) {
        if self.closed || self.link {
            return;
        }
        let kind = choices.below(8);
        if self.monitors && kind < 4 {
            let line = format!("1700000000.{kind:06} [0 127.0.0.1:4711] \"GET\" \"cart:1\"");
            return simple(out, b'+', line);
        }
        if self.is_subscribed() && kind < 6 {
            return self.message(out, choices);
        }
        if self.version == 3 {
            self.frame(
                2,
                if kind == 7 {
                    "tracking-redir-broken"
                } else {
                    "invalidate"
                },
                out,
            );
            match kind {
                7 => simple(out, b':', "17"),
                6 => null(out, 3),
                _ => {
                    let keys = choices.below(4);
                    out.header(b'*', keys);
                    for _ in 0..keys {
                        out.string(b'$', text(choices));
                    }
                }
            }
        }
    }

    fn message(&mut self, out: &mut Stream, choices: &mut Choices<'_>) {
        let subscribed: Vec<_> = (0..3)
            .filter(|kind| !self.subscriptions[*kind].is_empty())
            .collect();
        let kind = choices.pick(&subscribed);
        let channel = self.subscriptions[kind].first().cloned().unwrap_or_default();
        let case = choices.below(12);
        if kind == 2 && case == 11 {
            // The server gives the channel's slot away.
            self.gave_away = true;
            self.subscriptions[2].remove(&channel);
            return self.confirm(2, KINDS[2].1, Some(&channel), out);
        }
        if case == 10 && self.version == 2 {
            self.frame(3, "message", out);
            out.string(b'$', "__redis__:invalidate");
            let keys = choices.below(3);
            out.header(b'*', keys);
            for _ in 0..keys {
                out.string(b'$', text(choices));
            }
            return;
        }
        self.frame(if kind == 1 { 4 } else { 3 }, KINDS[kind].2, out);
        out.string(b'$', &channel);
        if kind == 1 {
            out.string(b'$', "any");
        }
        out.string(b'$', text(choices));
    }
}
