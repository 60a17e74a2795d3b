//! The meter's view of a connection: how it begins, loses step, and what it leaves unfinished.

use super::{replies, requests};
use crate::abi::{Connection, KeySettings, Reason, Row};
use crate::limits;

impl Connection {
    /// Makes zeroed storage a connection that was seen from its first byte: both sequence numbers are known.
    #[inline(always)]
    pub fn begin_at_start(&mut self, next_in: u32, next_out: u32) {
        self.begin();
        self.next_in = next_in;
        self.requests.flags = requests::SEQUENCE_KNOWN;
        self.next_out = next_out;
        self.replies.flags = replies::SEQUENCE_KNOWN;
        self.stretches = 1;
        self.replies.stretch = 1;
        self.rests_out = 1;
        self.shared.set_sync(1);
    }

    /// Makes zeroed storage a connection that is met in mid-stream.
    #[inline(always)]
    pub fn begin_mid_stream(&mut self) {
        self.begin();
        self.adopted = 1;
        self.shared.set_reason(Reason::MidStream as u8);
    }

    #[inline(always)]
    fn begin(&mut self) {
        self.requests.row = Row::UNKNOWN;
        self.replies.row = Row::UNKNOWN;
    }

    /// Nothing in either direction is attributed until a safe restart point.
    #[inline(always)]
    pub fn lose_synchronisation(&mut self, reason: Reason) {
        self.shared.set_reason(reason as u8);
        self.shared.set_sync(0);
    }

    /// Whether the client may have another class by now than the connection says.
    #[inline(always)]
    #[must_use]
    pub fn is_class_stale(&self, settings: &KeySettings) -> bool {
        let generation = self.class_generation ^ settings.class_generation as u16;
        u32::from(generation) | u32::from(self.class_settlements ^ self.shared.settlements()) != 0
    }

    /// Egress: who the client is may have changed. Ingress reads this, and then the names.
    #[inline(always)]
    pub(super) fn count_settlement(&mut self) {
        let settlements = self.shared.settlements().wrapping_add(1);
        self.shared.set_settlements(settlements);
    }

    /// Whether a segment with this sequence number is the next one, as far as is known.
    #[inline(always)]
    #[must_use]
    pub fn expects(&self, sequence: u32) -> bool {
        self.requests.flags & requests::SEQUENCE_KNOWN == 0 || self.next_in == sequence
    }

    /// Whether it speaks RESP3, as far as has been seen.
    #[inline(always)]
    #[must_use]
    pub fn speaks_resp3(&self) -> bool {
        self.replies.flags & replies::PUSHES != 0
    }

    /// Whether a command waits for its reply, as far as the stream is read.
    #[inline(always)]
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.is_read() && self.runs.is_awaited() && !self.is_refused()
    }

    /// Whether it was read from its first byte to this one, and brought no command with a key or a channel.
    #[inline(always)]
    #[must_use]
    pub fn is_unserved(&self) -> bool {
        self.is_read() && self.stretches == 1 && self.shared.served() == 0 && !self.is_refused()
    }

    /// Whether its client may be about to say who it is: it opened a moment ago, and asked for no data so far.
    #[inline(always)]
    #[must_use]
    pub fn is_introducing(&self, nanoseconds: u64) -> bool {
        self.adopted == 0 && self.is_unserved() && self.age(nanoseconds) < limits::INTRODUCTION
    }

    /// Whether the server refused it because it had as many clients as it takes.
    #[inline(always)]
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.replies.flags & replies::REFUSED != 0
    }

    #[inline(always)]
    fn is_read(&self) -> bool {
        self.shared.sync() != 0 && self.shared.trial() == 0
    }

    /// Bytes that came with the end of the handshake and are not read yet.
    #[inline(always)]
    fn unread_bytes(&self) -> u64 {
        if self.marks & Self::UNREAD == 0 {
            return 0;
        }
        u64::from(self.parked_end.wrapping_sub(self.next_in))
    }

    /// Bytes received that are part of an unfinished command of unknown row, for the books at the end.
    #[inline(always)]
    #[must_use]
    pub fn unfinished_request_bytes(&self) -> u64 {
        self.requests
            .pending
            .wrapping_add(u64::from(self.requests.carry_length))
            .wrapping_add(self.unread_bytes())
    }

    /// Bytes sent that are an unfinished token of a reply.
    #[inline(always)]
    #[must_use]
    pub fn unfinished_reply_bytes(&self) -> u64 {
        u64::from(self.replies.carry_length)
    }
}
