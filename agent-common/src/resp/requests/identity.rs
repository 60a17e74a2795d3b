//! What commands say of the client: user, name, library, database. Passwords are never looked at: the argument behind a
//! user is stepped over.

use super::{
    super::{
        Content, Ledger, Segment, command,
        words::{eight_digits, keep_token, lower, repeat},
    },
    NO_ARGUMENT, Requests, phase, replying, wanted,
};
use crate::abi::{CONTENT_BYTES, FIELD_DATABASE, IDENTITY_BYTES, Identity, Loss, NameKey, NameKind};

/// How much of an identifying argument must be there before it is looked at.
#[inline(always)]
pub(super) const fn needed_of_name(length: u32) -> u32 {
    if length < IDENTITY_BYTES as u32 {
        length
    } else {
        IDENTITY_BYTES as u32
    }
}

impl<S: Segment, L: Ledger> Requests<'_, S, L> {
    /// Sets up the search for what the command says of the client.
    #[inline(always)]
    pub(super) fn want_identity(&mut self, info: u32) {
        // On trial the command may be none.
        if self.connection.shared.trial() != 0 {
            return;
        }
        let state = &mut self.connection.requests;
        let (wanted, argument) = match command::identifies(info) {
            command::IDENTIFIES_USER => {
                // The name is still counted.
                let both = state.arguments_left == 3;
                (
                    if both { wanted::USER } else { wanted::NOBODY },
                    if both { 1 } else { NO_ARGUMENT },
                )
            }
            command::IDENTIFIES_CLIENT => (wanted::CLIENT, 2),
            command::IDENTIFIES_LIBRARY => (wanted::LIBRARY_FIELD, 2),
            command::IDENTIFIES_DATABASE => (wanted::DATABASE, 1),
            _ => (wanted::HELLO_OPTION, 2),
        };
        let inline = state.phase == phase::INLINE;
        let default_user = wanted == wanted::NOBODY && state.arguments_left == 2;
        state.wanted = wanted;
        self.connection.requests.wanted_argument = argument;
        if let Some(identity) = self.ledger.identity(true) {
            identity.begin_draft();
        }
        if inline && wanted == wanted::NOBODY {
            // Whether a user comes before the password only the end of the line tells.
            self.ledger.loss(Loss::IdentityUnread, 1);
        }
        if default_user {
            // A password alone is the default user's.
            self.draft(NameKind::User as u32, 0);
        }
    }

    /// What an identifying argument says.
    #[inline(always)]
    pub(super) fn identify(&mut self, content: &Content) {
        let wanted = self.connection.requests.wanted;
        self.connection.requests.wanted_argument = NO_ARGUMENT;
        match wanted {
            wanted::USER => {
                // Without another argument behind it, it is a password in the wrong place.
                if self.connection.requests.arguments_left > 1 {
                    self.draft_name(NameKind::User, content);
                    self.want_hello_option(2);
                }
            }
            wanted::CLIENT => {
                self.draft_name(NameKind::Client, content);
                self.want_hello_option(1);
            }
            wanted::LIBRARY => self.draft_name(NameKind::Library, content),
            wanted::LIBRARY_VERSION => self.draft_name(NameKind::LibraryVersion, content),
            wanted::LIBRARY_FIELD => self.library_field(content),
            wanted::DATABASE => self.database(content),
            _ => self.hello_option(content),
        }
    }

    /// HELLO goes on with another option, so many arguments further.
    #[inline(always)]
    fn want_hello_option(&mut self, further: u32) {
        let state = &mut self.connection.requests;
        if command::effect(state.command) == command::EFFECT_HELLO {
            state.wanted = wanted::HELLO_OPTION;
            state.wanted_argument = state.argument.wrapping_add(further);
        }
    }

    #[inline(always)]
    fn hello_option(&mut self, content: &Content) {
        const AUTH: u64 = u64::from_le_bytes(*b"auth\0\0\0\0");
        const SETNAME: u64 = u64::from_le_bytes(*b"setname\0");
        let word = lower(content.words[0]);
        let wanted = if content.length == 4 && word == AUTH {
            wanted::USER
        } else if content.length == 7 && word == SETNAME {
            wanted::CLIENT
        } else {
            return;
        };
        let state = &mut self.connection.requests;
        state.wanted = wanted;
        state.wanted_argument = state.argument.wrapping_add(1);
    }

    #[inline(always)]
    fn library_field(&mut self, content: &Content) {
        const NAME: u64 = u64::from_le_bytes(*b"lib-name");
        const VERSION: u64 = u64::from_le_bytes(*b"lib-ver\0");
        let word = lower(content.words[0]);
        let wanted = if content.length == 8 && word == NAME {
            wanted::LIBRARY
        } else if content.length == 7 && word == VERSION {
            wanted::LIBRARY_VERSION
        } else {
            return;
        };
        let state = &mut self.connection.requests;
        state.wanted = wanted;
        state.wanted_argument = state.argument.wrapping_add(1);
    }

    #[inline(always)]
    fn database(&mut self, content: &Content) {
        let length = content.length;
        if length.wrapping_sub(1) > 7 {
            return;
        }
        let missing = 8_u32.wrapping_sub(length).wrapping_mul(8) & 63;
        let zeros = repeat(b'0') & !(u64::MAX << missing);
        if let Some(number) = eight_digits(content.words[0] << missing | zeros) {
            self.draft(FIELD_DATABASE, number as u32);
        }
    }

    #[inline(always)]
    fn draft_name(&mut self, kind: NameKind, content: &Content) {
        // What an inline command has beyond that is not kept.
        let longest = if self.connection.requests.phase == phase::INLINE {
            CONTENT_BYTES - 1
        } else {
            IDENTITY_BYTES as u32
        };
        let [first, second, third, fourth] = content.words;
        let mut words = [first, second, third, fourth, 0, 0];
        let mut length = content.length;
        if length >= CONTENT_BYTES && longest > CONTENT_BYTES {
            let token = self.scratch.window.token(self.scratch.position);
            words = if length < longest {
                keep_token(token, self.scratch.forget(length))
            } else {
                token
            };
        }
        if length > longest {
            length = longest;
            self.ledger.loss(Loss::NameCut, 1);
        }
        self.scratch.name = NameKey {
            kind: kind as u32,
            length,
            words,
        };
        let number = if length == 0 {
            0
        } else {
            self.ledger.name(&self.scratch.name)
        };
        // Where there was no room for it, it is counted, and nothing is claimed.
        if number != 0 || length == 0 {
            self.draft(kind as u32, number);
        }
    }

    #[inline(always)]
    fn draft(&mut self, field: u32, value: u32) {
        let stretch = self.connection.shared.sync();
        let drafted = self
            .ledger
            .identity(true)
            .is_some_and(|identity| identity.draft(field, value, stretch));
        if !drafted {
            self.ledger.loss(Loss::IdentityUnread, 1);
        }
    }

    /// The command is complete. Returns whether its reply settles who the client is.
    #[inline(always)]
    pub(super) fn claim_identity(&mut self, answered: bool) -> bool {
        if self.connection.shared.trial() != 0 {
            return false;
        }
        let followed = answered && self.connection.shared.replying() & replying::QUEUEING == 0;
        let Some(identity) = self.ledger.identity(true) else {
            return false;
        };
        if followed {
            return identity.commit();
        }
        if identity.is_drafted() {
            self.ledger.loss(Loss::IdentityUnread, 1);
        }
        false
    }
}

const _: () = assert!(size_of::<Identity>() == 104);
