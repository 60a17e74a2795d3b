//! Commands that wait for their reply, as runs of equal rows.
//!
//! One producer (ingress, serialised by the connection's busy flag) and one consumer (egress, serialised by the socket
//! lock) may run on two CPUs at once. Each cell has one writer; the other side reads it volatile. A run is published
//! by storing `tail` after its content. A reply leaves only after the server read the command, which is after ingress
//! saw it: the consumer never waits for the producer.

use bytemuck::{Pod, Zeroable};
use core::ptr;

use crate::limits::PREFIX_ROWS;

/// Runs of one connection that can wait at once; a power of two. A pipeline that alternates between tenants more
/// often than this falls back to the row `(other)`, counted.
pub const RUNS: usize = 16;

/// Commands after which a run is closed, so that its counters never wrap: a power of two.
const RUN_LIMIT_SHIFT: u32 = 30;

/// Flags in which commands of one run may differ where there is little room.
const LOOSE: u32 = run_flag::READS | run_flag::UNTIMED;

/// Runs that may wait before commands of the same row but of different moments, or of which only some are reads or timed,
/// share one: the other half of the queue is for commands of different rows, since whose bytes they are matters more.
const TIMED_RUNS: u32 = RUNS as u32 / 2;

/// What answers the commands of a run; the top bits of a run's tag.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// One reply per command.
    Reply = 0,
    /// SUBSCRIBE and its family with one channel: one confirmation, or an error.
    Confirm = 1,
    /// The same with several channels: a run of its own. As many confirmations, or one error for all of them.
    ConfirmMany = 2,
    /// UNSUBSCRIBE and its family without channels: confirmations until the server says that none is left.
    ConfirmAll = 3,
    /// RESET: one reply, and the end of subscribed mode.
    Reset = 4,
    /// Commands of any kind that found the queue full: one reply or confirmation each.
    Overflow = 5,
    /// No reply: CLIENT REPLY is OFF, or SKIP came before. Never in the queue.
    Silent = 6,
    /// MONITOR: one reply, and lines that nobody asked for behind it.
    Monitor = 7,
    /// HELLO: one reply, whose form tells the version of the protocol.
    Hello = 8,
    /// No command waits. Never in the queue.
    Nobody = 9,
}

impl RunKind {
    #[inline(always)]
    const fn of_tag(tag: u32) -> Self {
        Self::from_number(tag >> KIND_SHIFT & 15)
    }

    /// The kind with this number; one out of range (there is none) reads as [`Self::Overflow`].
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Reply,
            1 => Self::Confirm,
            2 => Self::ConfirmMany,
            3 => Self::ConfirmAll,
            4 => Self::Reset,
            6 => Self::Silent,
            7 => Self::Monitor,
            8 => Self::Hello,
            _ => Self::Overflow,
        }
    }
}

/// What else is to be known of a run's replies; bits of its tag.
pub mod run_flag {
    /// The commands are reads that answer nil for what does not exist.
    pub const READS: u32 = 1 << 24;
    /// The commands may wait for something else than the server: their durations are not counted.
    pub const UNTIMED: u32 = 1 << 25;
    /// Lowest bit of the three that hold which command of pub/sub it is: 0 for none, else the number in
    /// [`CONFIRMED_NAMES`], counted from 1.
    pub const NAME_SHIFT: u32 = 26;
    /// In place of such a number: the reply settles what the command says of the client, see [`super::Identity`].
    pub const IDENTIFIES: u32 = 7 << NAME_SHIFT;
    /// The bits of that number.
    pub const NAME: u32 = 7 << NAME_SHIFT;
    pub(super) const ALL: u32 = READS | UNTIMED | 7 << NAME_SHIFT;

    /// Names in confirmations.
    pub const CONFIRMED_NAMES: [&str; 6] = [
        "subscribe",
        "psubscribe",
        "ssubscribe",
        "unsubscribe",
        "punsubscribe",
        "sunsubscribe",
    ];
}

/// A run of commands with equal row and kind.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Run {
    /// Row in the low 20 bits, [`RunKind`] in the next four, [`run_flag`]s above.
    tag: u32,
    /// Commands pushed so far.
    pushed: u32,
    /// When the last header of the first of them arrived, in units of 256 ns.
    since: u32,
}

/// The oldest command that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Its row.
    pub row: u32,
    /// What answers it.
    pub kind: RunKind,
    /// [`run_flag`]s.
    pub flags: u32,
    /// When its last header arrived, in units of 256 ns.
    pub since: u32,
}

/// What became of commands that were pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// They wait.
    Exactly,
    /// They wait, and their replies will be counted without hits, with the moment of an earlier command, or without one.
    Coarsely,
    /// The queue was full: they wait as commands of the overflow row.
    Elsewhere,
}

const KIND_SHIFT: u32 = 20;
const ROW_MASK: u32 = (1 << KIND_SHIFT) - 1;

const _: () = assert!(PREFIX_ROWS <= ROW_MASK as usize);

/// The queue of runs.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct RunQueue {
    /// Runs ever started. Producer.
    tail: u32,
    /// Run from which the consumer goes on after a restart. Producer.
    restart: u32,
    /// Run being consumed. Consumer.
    head: u32,
    /// Replies seen of that run. Consumer.
    popped: u32,
    /// The next push starts a run of its own. Producer.
    fresh: u32,
    /// The consumer has not gone on from `restart` yet, as far as the producer knows. Producer.
    restarting: u32,
    runs: [Run; RUNS],
}

impl RunQueue {
    #[inline(always)]
    fn load(cell: &u32) -> u32 {
        // SAFETY: a valid reference; volatile because the other direction's program may write it meanwhile.
        unsafe { ptr::read_volatile(cell) }
    }

    #[inline(always)]
    fn store(cell: &mut u32, value: u32) {
        // SAFETY: a valid reference; volatile because the other direction's program may read it meanwhile.
        unsafe { ptr::write_volatile(cell, value) }
    }

    #[inline(always)]
    fn run(&self, number: u32) -> &Run {
        // SAFETY: the mask keeps the index below RUNS.
        unsafe { &*self.runs.as_ptr().add(number as usize & (RUNS - 1)) }
    }

    #[inline(always)]
    fn run_mut(&mut self, number: u32) -> &mut Run {
        // SAFETY: the mask keeps the index below RUNS.
        unsafe { &mut *self.runs.as_mut_ptr().add(number as usize & (RUNS - 1)) }
    }

    /// Producer: appends `count` commands whose last headers came at `since`.
    #[inline(always)]
    pub fn push(
        &mut self,
        row: u32,
        kind: RunKind,
        flags: u32,
        since: u32,
        count: u32,
        overflow_row: u32,
    ) -> Pushed {
        let tag = row & ROW_MASK | (kind as u32) << KIND_SHIFT | flags & run_flag::ALL;
        let tail = self.tail;
        let waiting = self.waiting();
        if self.fresh == 0 && tail != 0 {
            let last = self.run_mut(tail.wrapping_sub(1));
            // Differences as bits, not as comparisons: the verifier walks both ways of each.
            let differs = last.tag ^ tag;
            let apart = differs & !LOOSE
                | (kind as u32 ^ RunKind::ConfirmMany as u32).wrapping_sub(1) >> 31
                | last.pushed >> RUN_LIMIT_SHIFT;
            let coarse = differs & LOOSE | last.since ^ since;
            if apart == 0 && (coarse == 0 || waiting >= TIMED_RUNS) {
                // Where not all of them are reads, or timed, none is taken for one any more.
                let loosened = differs & LOOSE;
                let tag = if loosened == 0 {
                    tag
                } else {
                    tag & !run_flag::READS | run_flag::UNTIMED
                };
                Self::store(&mut last.tag, tag);
                let pushed = last.pushed.wrapping_add(count);
                Self::store(&mut last.pushed, pushed);
                return if coarse == 0 {
                    Pushed::Exactly
                } else {
                    Pushed::Coarsely
                };
            }
        }
        if waiting < RUNS as u32 - 1 || self.fresh != 0 {
            self.append(tag, since, count);
            return Pushed::Exactly;
        }
        // The last free place, and then that run, takes everything that comes: rough, but nothing is lost.
        let last = self.run_mut(tail.wrapping_sub(1));
        if waiting >= RUNS as u32 {
            let pushed = last.pushed.wrapping_add(count);
            Self::store(&mut last.pushed, pushed);
        } else {
            let tag = overflow_row & ROW_MASK | (RunKind::Overflow as u32) << KIND_SHIFT | run_flag::UNTIMED;
            self.append(tag, since, count);
        }
        Pushed::Elsewhere
    }

    /// Producer: runs that the consumer may still read. Those before a restart do not count: the consumer will step
    /// over them, but its head shows that only with the next reply.
    #[inline(always)]
    fn waiting(&mut self) -> u32 {
        let mut head = Self::load(&self.head);
        if self.restarting != 0 {
            if head.wrapping_sub(self.restart) < 1 << 31 {
                self.restarting = 0;
            } else {
                head = self.restart;
            }
        }
        self.tail.wrapping_sub(head)
    }

    #[inline(always)]
    fn append(&mut self, tag: u32, since: u32, count: u32) {
        let tail = self.tail;
        let run = self.run_mut(tail);
        Self::store(&mut run.tag, tag);
        Self::store(&mut run.since, since);
        Self::store(&mut run.pushed, count);
        self.fresh = 0;
        Self::store(&mut self.tail, tail.wrapping_add(1));
    }

    /// Producer: whatever waits will never be answered as far as the meter knows; the next push starts anew.
    #[inline(always)]
    pub fn restart_producer(&mut self) {
        let tail = self.tail;
        Self::store(&mut self.restart, tail);
        self.restarting = 1;
        self.fresh = 1;
    }

    /// Producer: whether every command has been answered, as far as both sides know.
    #[inline(always)]
    #[must_use]
    pub fn is_drained(&mut self) -> bool {
        if self.fresh != 0 {
            return true;
        }
        match self.waiting() {
            0 => true,
            1 if self.restarting == 0 => {
                let head = Self::load(&self.head);
                Self::load(&self.popped) >= self.run(head).pushed
            }
            _ => false,
        }
    }

    /// Whether a command waits that the server alone keeps waiting: not one that may wait for something else (BLPOP), nor
    /// one that is answered for as long as the connection lives. Nobody needs to be the producer or the consumer to ask.
    #[inline(always)]
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let (mut head, mut popped) = (Self::load(&self.head), Self::load(&self.popped));
        let restart = Self::load(&self.restart);
        if Self::load(&self.restarting) != 0 && head.wrapping_sub(restart) >= 1 << 31 {
            (head, popped) = (restart, 0);
        }
        let tail = Self::load(&self.tail);
        if head != tail && popped >= Self::load(&self.run(head).pushed) {
            head = head.wrapping_add(1);
        }
        if head == tail {
            return false;
        }
        let tag = Self::load(&self.run(head).tag);
        match RunKind::of_tag(tag) {
            // They have no moment of their own.
            RunKind::Overflow => true,
            RunKind::ConfirmAll | RunKind::Monitor | RunKind::Silent | RunKind::Nobody => false,
            _ => tag & run_flag::UNTIMED == 0,
        }
    }

    /// Whether no reply has been seen.
    #[inline(always)]
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        (self.head | self.popped) == 0
    }

    /// Consumer: goes on from where [`Self::restart_producer`] was called.
    #[inline(always)]
    pub fn restart_consumer(&mut self) {
        let restart = Self::load(&self.restart);
        Self::store(&mut self.head, restart);
        self.popped = 0;
    }

    /// Consumer: the oldest command that waits; [`RunKind::Nobody`] if none does. (No `Option`: the verifier would see its
    /// absent content being loaded.)
    #[inline(always)]
    pub fn front(&mut self) -> Waiting {
        let mut waiting = Waiting {
            row: 0,
            kind: RunKind::Nobody,
            flags: 0,
            since: 0,
        };
        let mut head = self.head;
        let tail = Self::load(&self.tail);
        if head == tail {
            return waiting;
        }
        if self.popped >= Self::load(&self.run(head).pushed) {
            head = head.wrapping_add(1);
            if head == tail {
                return waiting;
            }
            self.popped = 0;
            Self::store(&mut self.head, head);
        }
        let run = self.run(head);
        let tag = Self::load(&run.tag);
        waiting.row = tag & ROW_MASK;
        waiting.kind = RunKind::of_tag(tag);
        waiting.flags = tag & run_flag::ALL;
        waiting.since = Self::load(&run.since);
        waiting
    }

    /// Consumer: the oldest command has been answered.
    #[inline(always)]
    pub fn pop(&mut self) {
        self.popped = self.popped.wrapping_add(1);
    }

    /// Consumer: the whole oldest run needs no reply.
    #[inline(always)]
    pub fn drop_front_run(&mut self) {
        self.popped = Self::load(&self.run(self.head).pushed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut RunQueue, row: u32, kind: RunKind, count: u32, overflow_row: u32) -> bool {
        queue.push(row, kind, 0, 5, count, overflow_row) == Pushed::Exactly
    }

    fn drain(queue: &mut RunQueue) -> Vec<u32> {
        let mut rows = Vec::new();
        while let waiting @ Waiting { kind, .. } = queue.front()
            && kind != RunKind::Nobody
        {
            rows.push(waiting.row);
            queue.pop();
        }
        rows
    }

    #[test]
    fn equal_rows_share_a_run_and_come_out_in_order() {
        let mut queue = RunQueue::zeroed();
        assert!(push(&mut queue, 7, RunKind::Reply, 2, 0));
        assert!(push(&mut queue, 7, RunKind::Reply, 1, 0));
        assert!(push(&mut queue, 8, RunKind::Reply, 1, 0));
        assert_eq!(drain(&mut queue), [7, 7, 7, 8]);
        assert!(push(&mut queue, 8, RunKind::Reply, 1, 0));
        assert_eq!(drain(&mut queue), [8]);
    }

    #[test]
    fn a_full_queue_keeps_the_count_in_the_overflow_row() {
        let mut queue = RunQueue::zeroed();
        let mut fine = 0;
        for row in 0..100 {
            fine += u32::from(push(&mut queue, row + 1, RunKind::Reply, 1, 1_000));
        }
        assert_eq!(fine, RUNS as u32 - 1);
        let rows = drain(&mut queue);
        assert_eq!(rows.len(), 100);
        assert_eq!(rows[..15], (1..16).collect::<Vec<_>>()[..]);
        assert!(rows[15..].iter().all(|row| *row == 1_000));
        assert!(push(&mut queue, 5, RunKind::Reply, 1, 1_000));
        assert_eq!(drain(&mut queue), [5]);
    }

    #[test]
    fn a_full_queue_that_restarts_is_empty_before_the_consumer_has_followed() {
        let mut queue = RunQueue::zeroed();
        for row in 0..100 {
            push(&mut queue, row + 1, RunKind::Reply, 1, 1_000);
        }
        queue.restart_producer();
        assert!(push(&mut queue, 1, RunKind::Reply, 1, 1_000));
        assert!(
            push(&mut queue, 2, RunKind::Reply, 1, 1_000),
            "not added to the run before it"
        );
        queue.restart_consumer();
        assert_eq!(drain(&mut queue), [1, 2]);
        assert!(push(&mut queue, 3, RunKind::Reply, 1, 1_000));
        assert_eq!((drain(&mut queue), queue.restarting), (vec![3], 0));
    }

    #[test]
    fn commands_with_several_confirmations_have_runs_of_their_own() {
        let mut queue = RunQueue::zeroed();
        push(&mut queue, 7, RunKind::ConfirmMany, 3, 0);
        push(&mut queue, 7, RunKind::ConfirmMany, 2, 0);
        push(&mut queue, 7, RunKind::Confirm, 1, 0);
        push(&mut queue, 7, RunKind::Confirm, 1, 0);
        let front = queue.front();
        assert_eq!((front.row, front.kind), (7, RunKind::ConfirmMany));
        queue.drop_front_run();
        assert_eq!(drain(&mut queue), [7, 7, 7, 7]);
    }

    #[test]
    fn a_command_is_awaited_until_its_reply_unless_it_may_wait_for_others() {
        let mut queue = RunQueue::zeroed();
        assert!(!queue.is_awaited() && queue.is_unanswered());
        push(&mut queue, 7, RunKind::Reply, 2, 0);
        for _ in 0..2 {
            assert!(queue.is_awaited());
            queue.front();
            queue.pop();
        }
        assert!(!queue.is_awaited() && !queue.is_unanswered());
        queue.push(7, RunKind::Reply, run_flag::UNTIMED, 6, 1, 0);
        assert!(!queue.is_awaited(), "BLPOP");
        queue.front();
        queue.pop();
        push(&mut queue, 7, RunKind::ConfirmAll, 1, 0);
        assert!(!queue.is_awaited(), "UNSUBSCRIBE");
        queue.front();
        queue.pop();
        push(&mut queue, 8, RunKind::Hello, 1, 0);
        assert!(queue.is_awaited());
        queue.restart_producer();
        assert!(!queue.is_awaited(), "given up");
        push(&mut queue, 9, RunKind::Reply, 1, 0);
        assert!(queue.is_awaited());
        queue.restart_consumer();
        assert!(queue.is_awaited());
        assert_eq!(drain(&mut queue), [9]);
        assert!(!queue.is_awaited());
    }

    #[test]
    fn a_restart_forgets_what_waits() {
        let mut queue = RunQueue::zeroed();
        push(&mut queue, 1, RunKind::Reply, 3, 0);
        queue.front();
        queue.pop();
        queue.restart_producer();
        push(&mut queue, 1, RunKind::Reply, 1, 0);
        queue.restart_consumer();
        assert_eq!(drain(&mut queue), [1]);
    }

    #[test]
    fn run_numbers_may_wrap() {
        let mut queue = RunQueue {
            tail: u32::MAX,
            head: u32::MAX,
            ..RunQueue::zeroed()
        };
        for row in 1..=4 {
            queue.fresh = 1;
            assert!(push(&mut queue, row, RunKind::Reply, 1, 0));
        }
        assert_eq!(drain(&mut queue), [1, 2, 3, 4]);
    }

    #[test]
    fn commands_of_different_moments_have_runs_of_their_own_while_there_is_room() {
        let mut queue = RunQueue::zeroed();
        let push = |queue: &mut RunQueue, row, since| queue.push(row, RunKind::Reply, 0, since, 1, 99);
        for since in 0..TIMED_RUNS {
            assert_eq!(push(&mut queue, 7, since), Pushed::Exactly);
        }
        assert_eq!(push(&mut queue, 7, 100), Pushed::Coarsely);
        for row in 0..RUNS as u32 - TIMED_RUNS - 1 {
            assert_eq!(push(&mut queue, row, 100), Pushed::Exactly, "rows have room");
        }
        assert_eq!(push(&mut queue, 7, 100), Pushed::Elsewhere);
        let mut moments = Vec::new();
        while let waiting @ Waiting { kind, .. } = queue.front()
            && kind != RunKind::Nobody
        {
            if waiting.row == 7 {
                moments.push(waiting.since);
            }
            queue.pop();
        }
        let expected: Vec<u32> = (0..TIMED_RUNS).chain([TIMED_RUNS - 1]).collect();
        assert_eq!(moments, expected);
    }

    #[test]
    fn flags_belong_to_the_run() {
        let mut queue = RunQueue::zeroed();
        queue.push(7, RunKind::Reply, run_flag::READS, 1, 1, 0);
        queue.push(7, RunKind::Reply, run_flag::UNTIMED, 1, 1, 0);
        assert_eq!(queue.front().flags, run_flag::READS);
        queue.pop();
        let last = queue.front();
        assert_eq!(
            (last.row, last.kind, last.flags),
            (7, RunKind::Reply, run_flag::UNTIMED)
        );
    }

    #[test]
    fn reads_and_writes_of_one_row_in_turn_keep_their_row_in_a_long_pipeline() {
        let mut queue = RunQueue::zeroed();
        for number in 0..200 {
            let flags = if number % 2 == 0 { run_flag::READS } else { 0 };
            let pushed = queue.push(7, RunKind::Reply, flags, 5, 1, 99);
            assert_ne!(pushed, Pushed::Elsewhere, "{number}");
        }
        assert!(
            queue.push(8, RunKind::Reply, 0, 5, 1, 99) == Pushed::Exactly,
            "another row has room"
        );
        let rows = drain(&mut queue);
        assert_eq!(rows.len(), 201);
        assert!(rows[..200].iter().all(|row| *row == 7));
    }
}
