//! The client of a random conversation, talking to its server.

use std::collections::VecDeque;

use super::{
    Conversation, Script, Stream,
    choices::Choices,
    commands::{Words, cased, data, key, keyless, unknown, words, write},
    gaps,
    server::{Deed, Server},
    values::text,
};
use crate::model::places::Keys;

/// Commands that may wait without filling the meter's queue where it has no spill, whatever their rows: it keeps 16 runs, one
/// place of which is for what overflows, and another may hold a run that is answered.
const SHALLOW: usize = 14;

/// Silence, in milliseconds, that shows that nothing is owed.
const PAUSE: u64 = 5;

const KEYS: &[Keys] = &[
    Keys {
        delimiters: b":",
        depth: 1,
        longest: 32,
    },
    Keys {
        delimiters: b":/",
        depth: 2,
        longest: 32,
    },
    Keys {
        delimiters: b"/",
        depth: 1,
        longest: 8,
    },
    Keys {
        delimiters: b":-/.",
        depth: 4,
        longest: 32,
    },
    Keys {
        delimiters: b":",
        depth: 2,
        longest: 15,
    },
];

const CHANNELS: &[&str] = &[
    "news",
    "sport",
    "cart:1",
    "",
    "a-channel-with-a-long-name-of-more-than-48-bytes-in-all",
];

/// Writes the conversation down.
pub(crate) fn conversation(script: &Script) -> Conversation {
    let mut setting = Choices::new(&script.setting);
    let mut talk = Talk::new(&mut setting);
    talk.steps(&script.steps);
    talk.finish()
}

/// The same in two halves, with a quiet point between them at which the connection is as when it opened: exchanges
/// behind long silence, from which any meter can go on. Returns where the first half ends and where the second begins;
/// none if nothing can follow. `slow`: the server may once owe replies during a silence.
pub(crate) fn conversation_with_quiet_point(
    script: &Script,
    slow: bool,
) -> (Conversation, Option<[[usize; 2]; 2]>) {
    let (first, second) = script.steps.split_at(script.steps.len() / 2);
    let mut talk = Talk::new(&mut Choices::new(&script.setting));
    talk.polite = true;
    talk.server_was_slow = !slow;
    talk.steps(first);
    let end = talk.ends();
    if talk.ended || talk.server.closed {
        return (talk.finish(), None);
    }
    talk.calm_down();
    let quiet = talk.ends();
    talk.steps(second);
    (talk.finish(), Some([end, quiet]))
}

struct Talk {
    requests: Stream,
    replies: Stream,
    server: Server,
    keys: Keys,
    deep: bool,
    /// The client may say MONITOR. No reply in words begins with a digit here, as its lines do.
    monitors: bool,
    ended: bool,
    /// A subscriber of RESP2 sends nothing that must be refused, only a replica says REPLCONF, and replies are not switched
    /// off: a meter that starts in mid-stream has to rely on it.
    polite: bool,
    /// Replies have been owed during a silence: once, which must not mislead a meter that starts in mid-stream. Twice may.
    server_was_slow: bool,
    /// The kind of subscription of which all were ended, while others are left, by the last command that was answered.
    unsettled: Option<usize>,
    /// The last command was a MONITOR that is not answered.
    second_monitor: bool,
    /// Commands that the client still sends after QUIT.
    overrun: usize,
    /// Where the replies to the last commands end.
    answered: VecDeque<usize>,
    /// The client has read so many bytes before it goes on.
    read: usize,
    pause: u64,
}

impl Talk {
    fn new(setting: &mut Choices<'_>) -> Self {
        let mut talk = Self {
            requests: Stream::default(),
            replies: Stream::default(),
            server: Server::default(),
            keys: KEYS[[0, 0, 0, 1, 2, 3, 4][setting.below(7)]],
            deep: setting.one_in(8),
            monitors: setting.one_in(6),
            ended: false,
            polite: false,
            server_was_slow: false,
            unsettled: None,
            second_monitor: false,
            overrun: 3,
            answered: VecDeque::new(),
            read: 0,
            pause: 0,
        };
        if setting.one_in(2) {
            talk.say(
                &words(&["HELLO", "3"]),
                &Deed::Hello(Some(3)),
                &mut Choices::new(&[]),
            );
        }
        talk
    }

    fn steps(&mut self, steps: &[Vec<u8>]) {
        for step in steps {
            if self.ended || self.overrun == 0 {
                break;
            }
            self.step(&mut Choices::new(step));
        }
    }

    fn finish(self) -> Conversation {
        let Self {
            requests,
            replies,
            keys,
            deep,
            ended,
            ..
        } = self;
        Conversation {
            requests,
            replies,
            keys,
            deep,
            ended,
        }
    }

    fn ends(&self) -> [usize; 2] {
        [self.requests.bytes.len(), self.replies.bytes.len()]
    }

    /// The connection becomes as it was when it opened, and lets any meter find its way.
    fn calm_down(&mut self) {
        let mut simplest = Choices::new(&[]);
        self.silence();
        self.say(&words(&["RESET"]), &Deed::Reset, &mut simplest);
        for number in 0..6 {
            self.silence();
            self.say(
                &words(&["GET", &format!("calm:{number}")]),
                &Deed::Data,
                &mut simplest,
            );
        }
        self.silence();
    }

    /// Everything is answered, and then nothing is said for long.
    fn silence(&mut self) {
        self.read = self.replies.bytes.len();
        self.pause = 1_500;
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        if self.server.closed {
            self.overrun -= 1;
            return self.say(&data(choices), &Deed::Data, choices);
        }
        let subscriber = self.server.is_subscriber();
        match choices.below(64) {
            _ if subscriber && (self.polite || choices.below(4) > 1) => self.as_subscriber(choices),
            0..=23 => self.say(&data(choices), &Deed::Data, choices),
            24..=28 => self.keyless(choices),
            29..=30 => self.say(&unknown(choices), &Deed::Data, choices),
            31..=32 => {
                let name = cased(choices.pick(&["publish", "spublish"]), choices);
                self.say(&vec![name, key(choices), text(choices)], &Deed::Data, choices);
            }
            33..=36 => self.subscribe(choices),
            37..=39 => self.unsubscribe(choices),
            40..=44 => self.transact(choices),
            45..=46 => self.hello(choices),
            47 => self.say(&words(&["RESET"]), &Deed::Reset, choices),
            48 => self.monitor(choices),
            49 => self.end(choices),
            50..=51 => self.reply_switch(choices),
            52 => self.empty(choices),
            53..=58 => self.server_speaks(choices),
            59..=60 => self.wait(choices),
            61..=62 => self.pipeline(choices),
            _ => self.alike(choices),
        }
    }

    /// Sends a command, and lets the server answer it.
    fn say(&mut self, words: &Words, deed: &Deed, choices: &mut Choices<'_>) {
        let full = gaps::HELLO_IN_A_FULL_QUEUE && self.deep && matches!(deed, Deed::Hello(_));
        let given_away = gaps::SLOT_GIVEN_AWAY_AHEAD_OF_SUNSUBSCRIBE && self.server.gave_away;
        if full || given_away && *deed == Deed::Unsubscribe(2) {
            self.read = self.replies.bytes.len();
        }
        // A MONITOR that is not answered waits until something else is.
        let shallow = SHALLOW - usize::from(self.monitors);
        let waits_for = if self.deep || self.answered.len() < shallow {
            self.read
        } else {
            self.read.max(self.answered[self.answered.len() - shallow])
        };
        self.requests.begin(waits_for, std::mem::take(&mut self.pause));
        write(&mut self.requests, words, choices);
        self.replies.begin(self.requests.bytes.len(), 0);
        let before = self.replies.bytes.len();
        self.server.answer(deed, words, &mut self.replies, choices);
        let silent = self.replies.bytes.len() == before;
        match deed {
            Deed::Unsubscribe(kind) if words.len() == 1 && self.server.is_subscribed() => {
                self.unsettled = Some(*kind);
            }
            _ if silent => self.second_monitor |= *deed == Deed::Monitor,
            _ => {
                self.unsettled = None;
                self.second_monitor = false;
            }
        }
        self.answered.push_back(self.replies.bytes.len());
        if self.answered.len() > SHALLOW {
            self.answered.pop_front();
        }
    }

    /// Everything that has been asked is answered and read before the client goes on.
    fn wait(&mut self, choices: &mut Choices<'_>) {
        if self.polite && !self.server_was_slow && choices.one_in(2) {
            // The server owes replies, and both are silent for a while.
            self.server_was_slow = true;
            self.pause = PAUSE;
            return;
        }
        self.read = self.replies.bytes.len();
        self.pause = choices.pick(&[0, PAUSE, 1, 1_500]);
    }

    fn server_speaks(&mut self, choices: &mut Choices<'_>) {
        self.replies.begin(self.requests.bytes.len(), 0);
        for _ in 0..=choices.below(3) {
            self.server.speak(&mut self.replies, choices);
        }
    }

    fn keyless(&mut self, choices: &mut Choices<'_>) {
        let words = keyless(choices);
        if self.polite && words[0] == b"REPLCONF" {
            return;
        }
        let deed = if words[0].eq_ignore_ascii_case(b"ping") {
            Deed::Ping
        } else {
            Deed::Data
        };
        self.say(&words, &deed, choices);
    }

    /// What a subscriber of RESP2 may send.
    fn as_subscriber(&mut self, choices: &mut Choices<'_>) {
        match choices.below(8) {
            0..=1 => self.say(&words(&["PING"]), &Deed::Ping, choices),
            2 => self.say(&words(&["ping", "hello"]), &Deed::Ping, choices),
            3 => self.subscribe(choices),
            4..=5 => self.unsubscribe(choices),
            _ => self.server_speaks(choices),
        }
    }

    fn subscribe(&mut self, choices: &mut Choices<'_>) {
        let kind = choices.below(3);
        let name = ["subscribe", "psubscribe", "ssubscribe"][kind];
        let mut words = vec![cased(name, choices)];
        for _ in 0..[1, 1, 1, 2, 3, 0][choices.below(6)] {
            words.push(choices.pick(CHANNELS).into());
        }
        // Confirmations inside the reply of EXEC are not counted right by the server itself.
        if self.server.transaction.is_none() && !self.confirmations_are_lost() {
            self.say(&words, &Deed::Subscribe(kind), choices);
        }
    }

    fn unsubscribe(&mut self, choices: &mut Choices<'_>) {
        let kind = choices.below(3);
        let name = ["unsubscribe", "punsubscribe", "sunsubscribe"][kind];
        let mut words = vec![cased(name, choices)];
        for _ in 0..[0, 0, 1, 2][choices.below(4)] {
            words.push(choices.pick(CHANNELS).into());
        }
        let twice = gaps::UNSUBSCRIBED_TWICE && self.unsettled == Some(kind);
        if self.server.transaction.is_none() && !self.confirmations_are_lost() && !twice {
            self.say(&words, &Deed::Unsubscribe(kind), choices);
        }
    }

    fn confirmations_are_lost(&self) -> bool {
        let silent = gaps::SILENT_SUBSCRIPTIONS && (self.server.silent || self.server.skips);
        silent || gaps::SECOND_MONITOR_AND_SUBSCRIPTIONS && self.second_monitor
    }

    fn transact(&mut self, choices: &mut Choices<'_>) {
        let refused = self.server.is_subscriber() && gaps::REFUSED_MULTI;
        if refused || self.server.silent || self.server.skips {
            return;
        }
        let open = self.server.transaction.is_some();
        let (name, deed) = match choices.below(8) {
            0..=5 if open => ("EXEC", Deed::Exec),
            0..=5 => ("MULTI", Deed::Multi),
            6 => ("DISCARD", Deed::Discard),
            _ => ("exec", Deed::Exec),
        };
        self.say(&words(&[name]), &deed, choices);
    }

    fn hello(&mut self, choices: &mut Choices<'_>) {
        if self.server.transaction.is_some() || self.server.silent || self.server.skips {
            return;
        }
        let (version, text) = choices.pick(&[(Some(3), "3"), (Some(2), "2"), (None, ""), (Some(4), "4")]);
        let mut line = vec!["Hello"];
        if version.is_some() {
            line.push(text);
            line.extend(choices.pick(&[&[][..], &["AUTH", "user", "secret:1"], &["SETNAME", "a:b"]]));
        }
        self.say(&words(&line), &Deed::Hello(version), choices);
    }

    fn monitor(&mut self, choices: &mut Choices<'_>) {
        let mute = self.server.silent || self.server.skips;
        let refused = self.server.monitors && self.server.is_subscriber();
        let unwanted = self.second_monitor || refused && gaps::SECOND_MONITOR_AND_SUBSCRIPTIONS;
        if self.monitors && self.server.transaction.is_none() && !(mute || unwanted) {
            self.say(&words(&["MONITOR"]), &Deed::Monitor, choices);
        }
    }

    fn reply_switch(&mut self, choices: &mut Choices<'_>) {
        let (word, deed) = choices.pick(&[("SKIP", "skip"), ("off", "off"), ("ON", "on")]);
        let refused = self.server.is_subscriber() && gaps::CLIENT_REPLY_OF_A_SUBSCRIBER;
        let queued = self.server.transaction.is_some() && gaps::CLIENT_REPLY_IN_A_TRANSACTION;
        if !self.polite && !refused && !queued && !self.server.monitors {
            self.say(&words(&["CLIENT", "REPLY", word]), &Deed::Replies(deed), choices);
        }
    }

    /// No command, and no answer.
    fn empty(&mut self, choices: &mut Choices<'_>) {
        let nothing = choices.pick(&["\r\n", "\n", "*0\r\n", "*-1\r\n", " \t\r\n"]);
        let blank = nothing.starts_with(' ');
        if blank && self.server.skips && gaps::BLANK_LINE_BEHIND_SKIP {
            return;
        }
        self.requests.begin(self.read, std::mem::take(&mut self.pause));
        self.requests.put(nothing);
        // The server takes it for the command that is skipped.
        self.server.skips &= blank;
    }

    /// Many commands at once: of one tenant, or of several in turn.
    fn pipeline(&mut self, choices: &mut Choices<'_>) {
        let tenants: Vec<_> = (0..=choices.below(6)).map(|_| key(choices)).collect();
        let most = if self.deep { 120 } else { 20 };
        for number in 0..=choices.below(most) {
            let key = tenants[number % tenants.len()].clone();
            let deed = Deed::Data;
            self.say(&vec![b"GET".to_vec(), key], &deed, &mut Choices::new(&[]));
        }
    }

    /// Many commands at once that are alike, and so are their replies; now and then something else.
    fn alike(&mut self, choices: &mut Choices<'_>) {
        let mut words = words(&[choices.pick(&["GET", "SET", "mget"])]);
        words.push(key(choices));
        if choices.one_in(2) {
            words.push(text(choices));
        }
        let mut replies = vec![choices.byte(), choices.byte(), choices.byte(), choices.byte()];
        let most = if self.deep { 120 } else { SHALLOW };
        for _ in 0..choices.below(most) {
            match choices.below(24) {
                1 => words = data(choices),
                2 => words.push(text(choices)),
                3 => replies = vec![choices.byte(), choices.byte(), choices.byte()],
                4..=12 => {
                    if let Some(last) = words.get_mut(1).and_then(|key| key.last_mut()) {
                        *last = choices.pick(b"0123456789:");
                    }
                }
                _ => {}
            }
            self.say(&words, &Deed::Data, &mut Choices::new(&replies));
        }
    }

    /// The ways in which a conversation can end.
    fn end(&mut self, choices: &mut Choices<'_>) {
        match choices.below(8) {
            1 => {
                self.read = self.replies.bytes.len();
                self.say(&words(&["QUIT"]), &Deed::Quit, choices);
            }
            2 => self.replicate(choices),
            3 => self.break_protocol(choices),
            _ => {}
        }
    }

    /// A replica: what follows PSYNC is no conversation.
    fn replicate(&mut self, choices: &mut Choices<'_>) {
        if !self.server.is_plain() {
            return;
        }
        self.wait(&mut Choices::new(&[]));
        self.say(&words(&["PSYNC", "?", "-1"]), &Deed::Link, choices);
        for _ in 0..choices.below(6) {
            self.replies.begin(self.requests.bytes.len(), 0);
            self.replies.put(text(choices));
            self.requests.begin(self.replies.bytes.len(), 0);
            self.requests.command(&words(&["REPLCONF", "ACK", "1234"]));
        }
        self.ended = true;
    }

    /// Everything has been answered when the client makes its mistake: replies on their way would be lost, more or fewer.
    fn break_protocol(&mut self, choices: &mut Choices<'_>) {
        if self.server.closed || self.server.silent || self.server.skips {
            return;
        }
        let mistake = choices.pick(&[
            "*x\r\n",
            "*2147483648\r\n",
            "*2\r\n$3\r\nGET\r\n$-1\r\n",
            "*2\r\n$3\r\nGET\r\n$6x\r\n",
            "*3\r\n$3\r\nSET\r\n$6\r\ncart:1\r\n+x\r\n",
            "*2\r\n:3\r\n",
            "*3\r\n$4\r\nINFO\r\n$3\r\nabc\r\nGET\r\n",
            "*2\r\n$x\r\n",
        ]);
        self.requests.begin(self.replies.bytes.len(), 0);
        self.requests.put(mistake);
        self.requests.put(text(choices));
        self.replies.begin(self.requests.bytes.len(), 0);
        self.replies.put("-ERR Protocol error: something\r\n");
        self.ended = true;
    }
}
