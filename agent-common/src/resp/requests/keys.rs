//! What the arguments that matter say: the command's name, and where its first key is.

use super::{
    super::{
        Content, Ledger, Segment, command, prefix,
        words::{SPREAD, equal_bytes, first_marked, keep, lower, rarely, repeat},
    },
    BLOCKS, NO_ARGUMENT, PING, Requests, flag,
    opening::generation,
    wanted,
};
use crate::{
    abi::{KNOWN_PREFIXES, Loss, Mode, PrefixKey, Row},
    limits::NAME_BYTES,
};

impl<S: Segment, L: Ledger> Requests<'_, S, L> {
    /// What a wanted argument says. Returns false when the meter gives up.
    #[inline(always)]
    pub(super) fn understand(&mut self, content: &mut Content) -> bool {
        match self.connection.requests.wanted {
            wanted::NAME => return self.name(content),
            wanted::KEY => {
                if !self.key_is_elsewhere(content) {
                    self.key(content);
                }
            }
            wanted::KEY_COUNT => self.key_count(content),
            wanted::KEYWORD => self.keyword(content),
            wanted::REPLY_MODE => self.reply_mode(content),
            wanted::USER..=wanted::NOBODY => self.identify(content),
            _ => self.subcommand(content),
        }
        true
    }

    #[inline(always)]
    pub(super) fn name(&mut self, content: &Content) -> bool {
        let name = [
            lower(content.words[0]),
            lower(content.words[1]),
            lower(content.words[2]),
        ];
        let known = if content.length as usize <= NAME_BYTES {
            command::lookup(&name)
        } else {
            None
        };
        if self.connection.requests.flags & flag::TRIAL != 0 && !self.restart(&name, known) {
            return false;
        }
        let state = &mut self.connection.requests;
        let Some(info) = known else {
            state.wanted = wanted::KEY;
            state.wanted_argument = 1;
            self.ledger.loss(Loss::UnknownCommand, 1);
            return true;
        };
        state.command = info;
        self.connection.word = name[0];
        self.want(info);
        true
    }

    /// The trial's name has been read. Returns whether it makes the restart good.
    #[inline(always)]
    pub(super) fn restart(&mut self, name: &[u64; 3], known: Option<u32>) -> bool {
        let Some(info) = known else {
            return self.lose_trial();
        };
        // A RESP2 subscriber sends these as well, and its next messages would be taken for their replies.
        let effect = command::effect(info);
        if name[0] == PING[0] || effect == command::EFFECT_QUIT || effect == command::EFFECT_RESET {
            return self.lose_trial();
        }
        self.connection.requests.flags &= !flag::TRIAL;
        if effect == command::EFFECT_REPLCONF {
            // A replica acknowledges what it has received: nobody answers it.
            self.connection.requests.row = Row::special(self.connection.slot, Row::REPLICATION);
            self.connection.shared.set_mode(Mode::REPLICATION);
            return self.divert();
        }
        self.connection.runs.restart_producer();
        self.connection.stretches = self.connection.stretches.wrapping_add(1) | 1;
        self.connection.shared.set_trial(1);
        self.connection.shared.set_sync(self.connection.stretches);
        true
    }

    /// Sets up the search for the first key.
    #[inline(always)]
    pub(super) fn want(&mut self, info: u32) {
        let slot = self.connection.slot;
        let state = &mut self.connection.requests;
        state.wanted_argument = command::argument(info);
        match command::kind(info) {
            command::KIND_KEY => state.wanted = wanted::KEY,
            command::KIND_KEY_COUNT => state.wanted = wanted::KEY_COUNT,
            command::KIND_KEYWORD => state.wanted = wanted::KEYWORD,
            command::KIND_CONTAINER => {
                state.wanted = wanted::SUBCOMMAND;
                state.wanted_argument = 1;
            }
            _ => {
                state.wanted_argument = NO_ARGUMENT;
                let row = match command::effect(info) {
                    command::EFFECT_SUBSCRIBE | command::EFFECT_UNSUBSCRIBE | command::EFFECT_PUBLISH => {
                        Row::PUBSUB
                    }
                    command::EFFECT_REPLICATION | command::EFFECT_REPLCONF => Row::REPLICATION,
                    _ => Row::KEYLESS,
                };
                if command::effect(info) == command::EFFECT_CLIENT_REPLY {
                    state.wanted = wanted::REPLY_MODE;
                    state.wanted_argument = 2;
                    self.connection.word = 0;
                }
                state.row = Row::special(slot, row);
                if matches!(
                    command::effect(info),
                    command::EFFECT_IDENTIFY | command::EFFECT_HELLO
                ) {
                    self.want_identity(info);
                }
            }
        }
    }

    #[inline(always)]
    pub(super) fn subcommand(&mut self, content: &Content) {
        let container = self.connection.word;
        let zero = equal_bytes(container, 0);
        let length = if zero == 0 { 8 } else { first_marked(zero) };
        let mut known = None;
        if length < 7 && length.wrapping_add(1).wrapping_add(content.length) <= NAME_BYTES as u32 {
            let shift = length.wrapping_add(1).wrapping_mul(8) & 63;
            let back = 64_u32.wrapping_sub(shift) & 63;
            let words = [
                lower(content.words[0]),
                lower(content.words[1]),
                lower(content.words[2]),
            ];
            let bar = u64::from(b'|') << (length.wrapping_mul(8) & 63);
            let joined = [
                container | bar | words[0] << shift,
                words[0] >> back | words[1] << shift,
                words[1] >> back | words[2] << shift,
            ];
            known = command::lookup(&joined);
        }
        let info = known.unwrap_or(0);
        self.connection.requests.command = info;
        if command::kind(info) == command::KIND_CONTAINER {
            // A table that nests containers is wrong; read no further.
            self.connection.requests.row = Row::special(self.connection.slot, Row::KEYLESS);
            return;
        }
        self.want(info);
    }

    #[inline(always)]
    pub(super) fn key_count(&mut self, content: &Content) {
        let zeros = keep([repeat(b'0'), 0, 0, 0], content.length);
        if content.length <= 8 && content.words[0] == zeros[0] {
            self.connection.requests.wanted_argument = NO_ARGUMENT;
            self.connection.requests.row = Row::special(self.connection.slot, Row::KEYLESS);
            return;
        }
        let state = &mut self.connection.requests;
        state.wanted = wanted::KEY;
        state.wanted_argument = state.argument.wrapping_add(command::offset(state.command));
    }

    #[inline(always)]
    pub(super) fn keyword(&mut self, content: &Content) {
        const STREAMS: u64 = u64::from_le_bytes(*b"streams\0");
        const KEYS: u64 = u64::from_le_bytes(*b"keys\0\0\0\0");
        const BLOCK: u64 = u64::from_le_bytes(*b"block\0\0\0");
        let state = &mut self.connection.requests;
        let word = lower(content.words[0]);
        let streams = command::kind(state.command) == command::KIND_KEYWORD;
        if streams && content.length == 7 && word == STREAMS
            || !streams && content.length == 4 && word == KEYS
        {
            state.wanted = wanted::KEY;
        }
        if content.length == 5 && word == BLOCK {
            self.connection.word = BLOCKS;
        }
        state.wanted_argument = state.argument.wrapping_add(1);
    }

    #[inline(always)]
    pub(super) fn reply_mode(&mut self, content: &Content) {
        self.connection.requests.wanted_argument = NO_ARGUMENT;
        // Nothing longer is a mode: it is not kept.
        self.connection.word = if content.length <= 4 {
            lower(content.words[0])
        } else {
            0
        };
    }

    /// Whether the argument where the key could be is empty, and the key comes behind the word KEYS, which is then looked
    /// for.
    #[inline(always)]
    fn key_is_elsewhere(&mut self, content: &Content) -> bool {
        let state = &mut self.connection.requests;
        let elsewhere = content.length == 0
            && command::has_keys_elsewhere(state.command)
            && state.argument == command::argument(state.command);
        if elsewhere {
            state.wanted = wanted::KEYWORD;
            state.wanted_argument = state.argument.wrapping_add(1);
        }
        elsewhere
    }

    #[inline(always)]
    pub(super) fn key(&mut self, content: &mut Content) {
        self.connection.requests.wanted_argument = NO_ARGUMENT;
        self.connection.requests.row = self.row_of(content);
    }

    /// The row of a key.
    #[inline(always)]
    pub(super) fn row_of(&mut self, content: &mut Content) -> u32 {
        let mut length = prefix(content, self.settings);
        if length == 0 && self.settings.declared != 0 {
            rarely();
            let words = keep(content.words, content.length);
            length = self.ledger.declared(&words, content.length);
        }
        length = self.scratch.forget(length);
        // On trial nothing is attributed, and no prefix is made known.
        if length == 0 || self.connection.shared.trial() != 0 {
            rarely();
            return Row::special(self.connection.slot, Row::NONE);
        }
        self.row(&PrefixKey::new(
            self.connection.slot,
            self.connection.class,
            length,
            keep(content.words, length),
        ))
    }

    /// The row of a prefix, with what this CPU has seen lately at hand.
    #[inline(always)]
    fn row(&mut self, key: &PrefixKey) -> u32 {
        let [first, second, third, fourth] = key.words;
        let index = place(key);
        let known = &mut self.scratch.known[index];
        let generation = generation(self.settings);
        let words = known.key.words;
        let differs = words[0] ^ first
            | words[1] ^ second
            | words[2] ^ third
            | words[3] ^ fourth
            | u64::from(known.key.differs(key) | known.generation ^ generation);
        if differs == 0 {
            return known.row;
        }
        rarely();
        let row = self.ledger.row(key);
        let known = &mut self.scratch.known[index];
        known.key = *key;
        known.row = row;
        known.generation = generation;
        row
    }
}

/// Where this CPU remembers the row of a prefix.
#[inline(always)]
const fn place(key: &PrefixKey) -> usize {
    let [first, second, third, fourth] = key.words;
    let hash = (first ^ key.head()).wrapping_mul(SPREAD) ^ (second ^ third ^ fourth).wrapping_mul(SPREAD);
    (hash >> (u64::BITS - KNOWN_PREFIXES.trailing_zeros())) as usize & (KNOWN_PREFIXES - 1)
}
