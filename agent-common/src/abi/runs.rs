//! Commands that wait for their reply, as runs of equal rows.
//!
//! One producer (ingress, serialised by the connection's busy flag) and one consumer (egress, serialised by the socket
//! lock) may run on two CPUs at once. Each cell has one writer; the other side reads it volatile. A run is published
//! by storing `tail` after its content. A reply leaves only after the server read the command, which is after ingress
//! saw it: the consumer never waits for the producer.

use bytemuck::{Pod, Zeroable};
use core::ptr;

/// Runs of one connection that can wait at once; a power of two. A pipeline that alternates between tenants more
/// often than this falls back to the row `(other)`, counted.
pub const RUNS: usize = 16;

/// Commands after which a run is closed, so that its counters never wrap.
const RUN_LIMIT: u32 = 1 << 30;

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
}

impl RunKind {
    #[inline(always)]
    const fn of_tag(tag: u32) -> Self {
        match tag >> KIND_SHIFT {
            0 => Self::Reply,
            1 => Self::Confirm,
            2 => Self::ConfirmMany,
            3 => Self::ConfirmAll,
            4 => Self::Reset,
            _ => Self::Overflow,
        }
    }
}

/// A run of commands with equal row and kind.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Run {
    /// Row in the low 28 bits, [`RunKind`] above.
    tag: u32,
    /// Commands pushed so far.
    pushed: u32,
}

const KIND_SHIFT: u32 = 28;
const ROW_MASK: u32 = (1 << KIND_SHIFT) - 1;

/// The queue of runs.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct RunQueue {
    /// Runs ever started. Producer.
    tail: u32,
    /// Run from which the consumer goes on after a restart. Producer.
    restart: u32,
    /// The next push starts a run of its own. Producer.
    fresh: u32,
    /// Run being consumed. Consumer.
    head: u32,
    /// Replies seen of that run. Consumer.
    popped: u32,
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

    /// Producer: appends `count` commands. Returns false when the queue was full and they went to `overflow_row`.
    #[inline(always)]
    pub fn push(&mut self, row: u32, kind: RunKind, count: u32, overflow_row: u32) -> bool {
        let tag = row & ROW_MASK | (kind as u32) << KIND_SHIFT;
        let tail = self.tail;
        if self.fresh == 0 && tail != 0 {
            let last = self.run_mut(tail.wrapping_sub(1));
            let joinable = !matches!(kind, RunKind::ConfirmMany);
            if last.tag == tag && joinable && last.pushed < RUN_LIMIT {
                let pushed = last.pushed.wrapping_add(count);
                Self::store(&mut last.pushed, pushed);
                return true;
            }
        }
        let waiting = self.waiting();
        if waiting < RUNS as u32 - 1 || self.fresh != 0 {
            self.append(tag, count);
            return true;
        }
        // The last free place, and then that run, takes everything that comes: rough, but nothing is lost.
        let last = self.run_mut(tail.wrapping_sub(1));
        if waiting >= RUNS as u32 {
            let pushed = last.pushed.wrapping_add(count);
            Self::store(&mut last.pushed, pushed);
        } else {
            self.append(
                overflow_row & ROW_MASK | (RunKind::Overflow as u32) << KIND_SHIFT,
                count,
            );
        }
        false
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
    fn append(&mut self, tag: u32, count: u32) {
        let tail = self.tail;
        let run = self.run_mut(tail);
        Self::store(&mut run.tag, tag);
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

    /// Consumer: goes on from where [`Self::restart_producer`] was called.
    #[inline(always)]
    pub fn restart_consumer(&mut self) {
        let restart = Self::load(&self.restart);
        Self::store(&mut self.head, restart);
        self.popped = 0;
    }

    /// Consumer: row and kind of the oldest command that waits, if one does.
    #[inline(always)]
    pub fn front(&mut self) -> Option<(u32, RunKind)> {
        let mut head = self.head;
        let tail = Self::load(&self.tail);
        if head == tail {
            return None;
        }
        if self.popped >= Self::load(&self.run(head).pushed) {
            head = head.wrapping_add(1);
            if head == tail {
                return None;
            }
            self.popped = 0;
            Self::store(&mut self.head, head);
        }
        let tag = Self::load(&self.run(head).tag);
        Some((tag & ROW_MASK, RunKind::of_tag(tag)))
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

    fn drain(queue: &mut RunQueue) -> Vec<u32> {
        let mut rows = Vec::new();
        while let Some((row, _)) = queue.front() {
            rows.push(row);
            queue.pop();
        }
        rows
    }

    #[test]
    fn equal_rows_share_a_run_and_come_out_in_order() {
        let mut queue = RunQueue::zeroed();
        assert!(queue.push(7, RunKind::Reply, 2, 0));
        assert!(queue.push(7, RunKind::Reply, 1, 0));
        assert!(queue.push(8, RunKind::Reply, 1, 0));
        assert_eq!(drain(&mut queue), [7, 7, 7, 8]);
        assert!(queue.push(8, RunKind::Reply, 1, 0));
        assert_eq!(drain(&mut queue), [8]);
    }

    #[test]
    fn a_full_queue_keeps_the_count_in_the_overflow_row() {
        let mut queue = RunQueue::zeroed();
        let mut fine = 0;
        for row in 0..100 {
            fine += u32::from(queue.push(row + 1, RunKind::Reply, 1, 1_000));
        }
        assert_eq!(fine, RUNS as u32 - 1);
        let rows = drain(&mut queue);
        assert_eq!(rows.len(), 100);
        assert_eq!(rows[..15], (1..16).collect::<Vec<_>>()[..]);
        assert!(rows[15..].iter().all(|row| *row == 1_000));
        assert!(queue.push(5, RunKind::Reply, 1, 1_000));
        assert_eq!(drain(&mut queue), [5]);
    }

    #[test]
    fn a_full_queue_that_restarts_is_empty_before_the_consumer_has_followed() {
        let mut queue = RunQueue::zeroed();
        for row in 0..100 {
            queue.push(row + 1, RunKind::Reply, 1, 1_000);
        }
        queue.restart_producer();
        assert!(queue.push(1, RunKind::Reply, 1, 1_000));
        assert!(
            queue.push(2, RunKind::Reply, 1, 1_000),
            "not added to the run before it"
        );
        queue.restart_consumer();
        assert_eq!(drain(&mut queue), [1, 2]);
        assert!(queue.push(3, RunKind::Reply, 1, 1_000));
        assert_eq!((drain(&mut queue), queue.restarting), (vec![3], 0));
    }

    #[test]
    fn commands_with_several_confirmations_have_runs_of_their_own() {
        let mut queue = RunQueue::zeroed();
        queue.push(7, RunKind::ConfirmMany, 3, 0);
        queue.push(7, RunKind::ConfirmMany, 2, 0);
        queue.push(7, RunKind::Confirm, 1, 0);
        queue.push(7, RunKind::Confirm, 1, 0);
        assert_eq!(queue.front(), Some((7, RunKind::ConfirmMany)));
        queue.drop_front_run();
        assert_eq!(drain(&mut queue), [7, 7, 7, 7]);
    }

    #[test]
    fn a_restart_forgets_what_waits() {
        let mut queue = RunQueue::zeroed();
        queue.push(1, RunKind::Reply, 3, 0);
        queue.front();
        queue.pop();
        queue.restart_producer();
        queue.push(1, RunKind::Reply, 1, 0);
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
            assert!(queue.push(row, RunKind::Reply, 1, 0));
        }
        assert_eq!(drain(&mut queue), [1, 2, 3, 4]);
    }
}
