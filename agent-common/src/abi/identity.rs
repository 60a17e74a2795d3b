//! Who is at the other end of a connection: what the stream says of the client, as numbers of interned names.
//!
//! A client says who it is in commands that the server may refuse. Each of them is a claim until its reply comes: ingress
//! appends claims, egress settles them in order.

use bytemuck::{Pod, Zeroable};
use core::ptr;

/// Longest name that is kept, in bytes; of a longer one its beginning is, counted. Names of pods, which clients like to
/// use, have up to 63, most of them fewer than 48; the meter keeps no longer token between two segments.
pub const IDENTITY_BYTES: usize = 48;

/// Claims of one connection that can wait for their replies; a power of two. Clients send up to five at once.
pub const CLAIMS: usize = 8;

/// What a name is a name of; the field of a [`Claim`].
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameKind {
    /// An ACL user: AUTH with two arguments, HELLO with AUTH.
    User = 0,
    /// The client's name: CLIENT SETNAME, HELLO with SETNAME.
    Client = 1,
    /// The client library's name: CLIENT SETINFO LIB-NAME.
    Library = 2,
    /// Its version: CLIENT SETINFO LIB-VER.
    LibraryVersion = 3,
}

/// Number of [`NameKind`]s.
pub const NAME_KINDS: usize = 4;

/// Field of a [`Claim`] that is no name: the number of the database, by SELECT.
pub const FIELD_DATABASE: u32 = NAME_KINDS as u32;

/// An interned name. Its number is never used again for another one; 0 is no name's.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq, Hash)]
pub struct NameKey {
    /// [`NameKind`].
    pub kind: u32,
    /// Length in bytes, at most [`IDENTITY_BYTES`].
    pub length: u32,
    /// The bytes, zero-padded.
    pub words: [u64; IDENTITY_BYTES / 8],
}

impl NameKey {
    /// The bytes of the name.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        super::head(&self.words, self.length)
    }
}

/// A name in the trie that finds the class of users and client names.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq)]
pub struct ClassNameKey {
    /// How much of what follows is compared, in bits.
    pub bits: u32,
    /// [`NameKind`].
    pub kind: u32,
    /// The bytes, zero-padded.
    pub words: [u64; IDENTITY_BYTES / 8],
    /// Length in bytes: behind them, so that a whole name is more than its beginning.
    pub length: u32,
    /// Padding.
    pub reserved: u32,
}

impl ClassNameKey {
    const KIND_BITS: u32 = 32;
    const WHOLE_BITS: u32 = Self::KIND_BITS + 8 * IDENTITY_BYTES as u32 + 32;

    /// The key that looks up, or stands for, this name alone.
    #[inline(always)]
    #[must_use]
    pub const fn whole(name: &NameKey) -> Self {
        Self {
            bits: Self::WHOLE_BITS,
            kind: name.kind,
            words: name.words,
            length: name.length,
            reserved: 0,
        }
    }

    /// The key that stands for all names that begin with this one, which has no zero at its end.
    #[must_use]
    pub const fn beginning(name: &NameKey) -> Self {
        Self {
            bits: Self::KIND_BITS + 8 * name.length,
            ..Self::whole(name)
        }
    }
}

/// An address, or the first bits of one, in the trie that finds the class of addresses.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq)]
pub struct ClassAddressKey {
    /// How much of the address is compared, in bits.
    pub bits: u32,
    /// Address as four words in network order, IPv4 mapped into IPv6.
    pub address: [u32; 4],
}

/// What a command says of the client, until it is answered.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq)]
pub struct Claim {
    /// Number of a name, 0 for none; or of the database.
    pub value: u32,
    /// [`NameKind`] or [`FIELD_DATABASE`].
    pub field: u8,
    /// Not 0: the last claim of its command.
    pub last: u8,
    /// The synchronised stretch in which it was read: later ones know nothing of its reply.
    pub stretch: u8,
    /// Padding.
    pub reserved: u8,
}

/// A connection with what is known of its client, as the daemon reads it from the iterator over all connections.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// Kernel slot of the listening socket.
    pub slot: u32,
    /// Client address, IPv4 mapped into IPv6.
    pub client: [u32; 4],
    /// Port of the client, host byte order.
    pub port: u32,
    /// [`Identity::names`].
    pub names: [u32; NAME_KINDS],
    /// [`Identity::database`].
    pub database: u32,
    /// [`Identity::settled_fields`].
    pub settled_fields: u32,
    /// [`Self::ADOPTED`], [`Self::SYNCHRONISED`], [`Self::RESP3`], [`Self::INTRODUCING`].
    pub flags: u32,
    /// Padding.
    pub reserved: u32,
    /// Cookie of the socket: no two connections have the same one.
    pub cookie: u64,
}

impl ConnectionRecord {
    /// Flag: established before the agent attached.
    pub const ADOPTED: u32 = 1;
    /// Flag: its stream is read.
    pub const SYNCHRONISED: u32 = 2;
    /// Flag: it speaks RESP3, as far as has been seen.
    pub const RESP3: u32 = 4;
    /// Flag: so young, and without a command for data so far, that it may be about to say who it is.
    pub const INTRODUCING: u32 = 8;
}

/// What connections of one address had said of themselves when they ended.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq, Hash)]
pub struct EndedKey {
    /// Kernel slot of the listening socket.
    pub slot: u32,
    /// Client address, IPv4 mapped into IPv6.
    pub client: [u32; 4],
    /// [`Identity::names`], of which at least one is not 0.
    pub names: [u32; NAME_KINDS],
}

/// What is known of the client of one connection; it lies beside the connection, and dies with the socket as well.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Eq)]
pub struct Identity {
    /// Numbers of names by [`NameKind`]; 0: none, which for a user is the default one. Egress.
    pub names: [u32; NAME_KINDS],
    /// Number of the database. Egress.
    pub database: u32,
    /// Bit per field that has been settled: only these are known of a connection that was met in mid-stream. Egress.
    pub settled_fields: u32,
    /// Claims ever made by complete commands. Ingress.
    claimed: u32,
    /// The same with those of the command being read. Ingress.
    drafted: u32,
    /// Claims ever settled. Egress.
    settled: u32,
    /// `claimed` as it was before the last command. Ingress.
    before: u32,
    claims: [Claim; CLAIMS],
}

impl Identity {
    /// Ingress: a command begins; what an unfinished one claimed is forgotten.
    #[inline(always)]
    pub fn begin_draft(&mut self) {
        self.drafted = self.claimed;
    }

    /// Ingress: the command being read claims `value` for `field`. Returns false where there is no room.
    #[inline(always)]
    pub fn draft(&mut self, field: u32, value: u32, stretch: u8) -> bool {
        // SAFETY: a valid reference; volatile because egress writes it.
        let settled = unsafe { ptr::read_volatile(&raw const self.settled) };
        if self.drafted.wrapping_sub(settled) >= CLAIMS as u32 {
            return false;
        }
        let claim = Claim {
            value,
            field: field as u8,
            last: 0,
            stretch,
            reserved: 0,
        };
        *self.claim(self.drafted) = claim;
        self.drafted = self.drafted.wrapping_add(1);
        true
    }

    /// Ingress: the command is complete, and waits for its reply. Returns whether it claims anything.
    #[inline(always)]
    pub fn commit(&mut self) -> bool {
        if self.drafted == self.claimed {
            return false;
        }
        let last = self.drafted.wrapping_sub(1);
        self.claim(last).last = 1;
        self.before = self.claimed;
        // SAFETY: a valid reference; volatile: egress reads it, after the claims.
        unsafe { ptr::write_volatile(&raw mut self.claimed, self.drafted) };
        true
    }

    /// Ingress: whether the command being read claims anything so far.
    #[inline(always)]
    #[must_use]
    pub fn is_drafted(&self) -> bool {
        self.drafted != self.claimed
    }

    /// Ingress: the reply of the command that was committed last cannot be told from others.
    #[inline(always)]
    pub fn withdraw(&mut self) {
        // SAFETY: as in `commit`; its reply has not been sent yet.
        unsafe { ptr::write_volatile(&raw mut self.claimed, self.before) };
    }

    /// Egress: the oldest command that claims something has been answered.
    #[inline(always)]
    pub fn settle(&mut self, accepted: bool, stretch: u8) {
        let mut turn = 0;
        while turn < CLAIMS {
            // SAFETY: a valid reference; volatile because ingress writes it.
            if self.settled == unsafe { ptr::read_volatile(&raw const self.claimed) } {
                return;
            }
            let claim = *self.claim(self.settled);
            self.settled = self.settled.wrapping_add(1);
            if claim.stretch == stretch {
                if accepted {
                    self.accept(&claim);
                }
                if claim.last != 0 {
                    return;
                }
            }
            turn += 1;
        }
    }

    /// Egress: RESET has been obeyed. The library stays, as it does in the server (Valkey's documentation of RESET).
    #[inline(always)]
    pub fn reset(&mut self) {
        for field in [NameKind::User as u32, NameKind::Client as u32, FIELD_DATABASE] {
            self.accept(&Claim {
                value: 0,
                field: field as u8,
                last: 0,
                stretch: 0,
                reserved: 0,
            });
        }
    }

    #[inline(always)]
    fn accept(&mut self, claim: &Claim) {
        let field = u32::from(claim.field);
        if field < NAME_KINDS as u32 {
            let name = &mut self.names[field as usize & (NAME_KINDS - 1)];
            // SAFETY: a valid reference; volatile: ingress reads it once the connection says that something was settled.
            unsafe { ptr::write_volatile(name, claim.value) };
        } else {
            self.database = claim.value;
        }
        self.settled_fields |= 1 << (field & 31);
    }

    #[inline(always)]
    fn claim(&mut self, number: u32) -> &mut Claim {
        // SAFETY: the mask keeps the index below CLAIMS.
        unsafe { &mut *self.claims.as_mut_ptr().add(number as usize & (CLAIMS - 1)) }
    }
}

const _: () = assert!(CLAIMS.is_power_of_two() && NAME_KINDS.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;

    const USER: u32 = NameKind::User as u32;
    const CLIENT: u32 = NameKind::Client as u32;

    fn claim(identity: &mut Identity, claims: &[(u32, u32)]) -> bool {
        identity.begin_draft();
        for (field, value) in claims {
            assert!(identity.draft(*field, *value, 1));
        }
        identity.commit()
    }

    #[test]
    fn a_claim_counts_once_it_is_accepted() {
        let mut identity = Identity::zeroed();
        assert!(claim(&mut identity, &[(USER, 7), (CLIENT, 8)]));
        assert!(claim(&mut identity, &[(USER, 9)]));
        assert_eq!(identity.names, [0; 4]);
        identity.settle(true, 1);
        assert_eq!(identity.names, [7, 8, 0, 0]);
        identity.settle(false, 1);
        assert_eq!(identity.names, [7, 8, 0, 0], "refused");
        identity.settle(true, 1);
        assert_eq!(identity.names, [7, 8, 0, 0], "nothing waits");
        assert_eq!(identity.settled_fields, 0b11);
    }

    #[test]
    fn a_command_that_claims_nothing_waits_for_nothing() {
        assert!(!claim(&mut Identity::zeroed(), &[]));
    }

    #[test]
    fn there_is_room_again_for_claims_that_are_settled() {
        let mut identity = Identity::zeroed();
        for round in 0..3 {
            for number in 0..CLAIMS as u32 {
                assert!(claim(&mut identity, &[(CLIENT, number)]), "{round}");
            }
            assert!(!identity.draft(CLIENT, 99, 1));
            for _ in 0..CLAIMS {
                identity.settle(true, 1);
            }
            assert_eq!(identity.names[1], CLAIMS as u32 - 1);
        }
    }

    #[test]
    fn claims_of_an_earlier_stretch_are_never_accepted() {
        let mut identity = Identity::zeroed();
        claim(&mut identity, &[(USER, 1), (CLIENT, 1)]);
        identity.begin_draft();
        assert!(identity.draft(USER, 2, 3));
        assert!(identity.commit());
        identity.settle(true, 3);
        assert_eq!(identity.names, [2, 0, 0, 0]);
    }

    #[test]
    fn what_an_unfinished_command_claimed_is_forgotten() {
        let mut identity = Identity::zeroed();
        identity.begin_draft();
        assert!(identity.draft(USER, 1, 1));
        assert!(claim(&mut identity, &[(CLIENT, 2)]));
        identity.settle(true, 1);
        assert_eq!(identity.names, [0, 2, 0, 0]);
    }

    #[test]
    fn reset_leaves_the_library() {
        let mut identity = Identity::zeroed();
        claim(
            &mut identity,
            &[
                (USER, 1),
                (CLIENT, 2),
                (NameKind::Library as u32, 3),
                (FIELD_DATABASE, 4),
            ],
        );
        identity.settle(true, 1);
        identity.reset();
        assert_eq!((identity.names, identity.database), ([0, 0, 3, 0], 0));
    }
}
