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

/// Commands that may wait without filling the meter's queue, whatever their rows: it keeps 16 runs, one place of which
/// is for what overflows, and another may hold a run that is answered.
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
/// none if nothing can follow.
pub(crate) fn conversation_with_quiet_point(script: &Script) -> (Conversation, Option<[[usize; 2]; 2]>) {
    let (first, second) = script.steps.split_at(script.steps.len() / 2);
    let mut talk = Talk::new(&mut Choices::new(&script.setting));
    talk.polite = true;
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
    /// Lines of MONITOR cannot be told from replies in words that begin with a digit, which are then left out.
    monitors: bool,
    ended: bool,
    /// A subscriber of RESP2 sends nothing that must be refused, and only a replica says REPLCONF: a meter that starts in
    /// mid-stream has to rely on it.
    polite: bool,
    /// The last command left some of the subscriptions.
    unsettled: bool,
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
            unsettled: false,
            overrun: 3,
            answered: VecDeque::new(),
            read: 0,
            pause: 0,
        };
        talk.server.keeps_slots = gaps::SUBSCRIPTIONS_IN_A_FULL_QUEUE && talk.deep;
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
            _ => self.pipeline(choices),
        }
    }

    /// Sends a command, and lets the server answer it.
    fn say(&mut self, words: &Words, deed: &Deed, choices: &mut Choices<'_>) {
        let special = matches!(deed, Deed::Subscribe(_) | Deed::Unsubscribe(_) | Deed::Reset);
        let full_queue = gaps::SUBSCRIPTIONS_IN_A_FULL_QUEUE && self.deep;
        let given_away = gaps::SLOT_GIVEN_AWAY_AHEAD_OF_A_CONFIRMATION && self.server.gave_away;
        if special && (full_queue || given_away) {
            self.read = self.replies.bytes.len();
        }
        let waits_for = if self.deep || self.answered.len() < SHALLOW {
            self.read
        } else {
            self.read.max(self.answered[self.answered.len() - SHALLOW])
        };
        self.requests.begin(waits_for, std::mem::take(&mut self.pause));
        write(&mut self.requests, words, choices);
        self.replies.begin(self.requests.bytes.len(), 0);
        self.server.answer(deed, words, &mut self.replies, choices);
        let everything = matches!(deed, Deed::Unsubscribe(_)) && words.len() == 1;
        let confirmed = matches!(deed, Deed::Subscribe(_) | Deed::Unsubscribe(_));
        self.unsettled = confirmed && (self.unsettled || everything && self.server.is_subscribed());
        self.answered.push_back(self.replies.bytes.len());
        if self.answered.len() > SHALLOW {
            self.answered.pop_front();
        }
    }

    /// Everything that has been asked is answered and read before the client goes on.
    fn wait(&mut self, choices: &mut Choices<'_>) {
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
        if self.server.transaction.is_none() && self.mixes_well(kind) {
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
        if self.server.transaction.is_none() && self.mixes_well(kind) {
            self.say(&words, &Deed::Unsubscribe(kind), choices);
        }
    }

    /// Whether the meter can tell the confirmations apart.
    fn mixes_well(&self, kind: usize) -> bool {
        let [channels, patterns, shards] = self
            .server
            .subscriptions
            .each_ref()
            .map(|names| !names.is_empty());
        let others = if kind == 2 { channels || patterns } else { shards };
        let shards_beside = gaps::SHARDS_BESIDE_CHANNELS && self.server.version == 2 && others;
        !(shards_beside || gaps::UNSUBSCRIBED_FROM_SOME && self.unsettled)
    }

    fn transact(&mut self, choices: &mut Choices<'_>) {
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
        if gaps::SUBSCRIBER_CHANGES_TO_RESP2 && self.server.is_subscribed() && version == Some(2) {
            return;
        }
        let mut line = vec!["Hello"];
        if version.is_some() {
            line.push(text);
            line.extend(choices.pick(&[&[][..], &["AUTH", "user", "secret:1"], &["SETNAME", "a:b"]]));
        }
        self.say(&words(&line), &Deed::Hello(version), choices);
    }

    fn monitor(&mut self, choices: &mut Choices<'_>) {
        let again = self.server.monitors && gaps::MONITOR_TWICE;
        if self.monitors && !again && self.server.transaction.is_none() && !self.server.silent {
            self.say(&words(&["MONITOR"]), &Deed::Monitor, choices);
        }
    }

    fn reply_switch(&mut self, choices: &mut Choices<'_>) {
        let (word, deed) = choices.pick(&[("SKIP", "skip"), ("off", "off"), ("ON", "on")]);
        if !gaps::CLIENT_REPLY && self.server.transaction.is_none() && !self.server.monitors {
            self.say(&words(&["CLIENT", "REPLY", word]), &Deed::Replies(deed), choices);
        }
    }

    /// No command, and no answer.
    fn empty(&mut self, choices: &mut Choices<'_>) {
        self.requests.begin(self.read, std::mem::take(&mut self.pause));
        self.requests
            .put(choices.pick(&["\r\n", "\n", "*0\r\n", "*-1\r\n", " \t\r\n"]));
    }

    /// Many commands at once: of one tenant, or of several in turn.
    fn pipeline(&mut self, choices: &mut Choices<'_>) {
        let tenants: Vec<_> = (0..=choices.below(6)).map(|_| key(choices)).collect();
        let most = match (self.server.closed, self.deep) {
            (true, _) => 1,
            (_, true) => 120,
            _ => 20,
        };
        for number in 0..=choices.below(most) {
            let key = tenants[number % tenants.len()].clone();
            let deed = Deed::Data;
            self.say(&vec![b"GET".to_vec(), key], &deed, &mut Choices::new(&[]));
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
