//! Commands that wait for their reply, as runs of equal rows.
//!
//! One producer (ingress, serialised by the connection's busy flag) and one consumer (egress, serialised by the socket
//! lock) may run on two CPUs at once. Each cell has one writer; the other side reads it volatile. A run is published
//! by storing `tail` after its content. A reply leaves only after the server read the command, which is after ingress
//! saw it: the consumer never waits for the producer. What the queue has no room for goes to a [`super::Spill`].

use bytemuck::{Pod, Zeroable};
use core::ptr;

use super::{Direction, Row};
use crate::limits::PREFIX_ROWS;

/// Runs of one connection that can wait in the connection itself; a power of two. Of a pipeline that alternates between
/// rows more often, the later ones wait in the connection's [`super::Spill`].
pub const RUNS: usize = 16;

/// Commands after which a run is closed, so that its counters never wrap: a power of two.
const RUN_LIMIT_SHIFT: u32 = 30;

/// Flags in which commands of one run may differ where there is little room.
const LOOSE: u32 = run_flag::READS | run_flag::UNTIMED;

/// Runs that may wait before commands which differ in their moments alone share one: a client that sends one command after
/// the other without waiting needs no spill.
const TIMED_RUNS: u32 = RUNS as u32 / 2;

/// [`RunQueue::next`]: the next commands start a run of their own.
const FRESH: u8 = 1;
/// [`RunQueue::next`]: they go to the spill.
pub(super) const SPILLING: u8 = 2;

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
    /// No command: those that wait from here on are in the spill, the first of them in the run whose number is in `since`.
    /// There is at most one that the consumer has not passed.
    Spilled = 10,
}

impl RunKind {
    /// The kind in a run's tag.
    #[inline(always)]
    #[must_use]
    pub const fn of_tag(tag: u32) -> Self {
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
            9 => Self::Nobody,
            10 => Self::Spilled,
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
    pub(super) tag: u32,
    /// Commands pushed so far.
    pub(super) pushed: u32,
    /// When the last header of the first of them arrived, in units of 256 ns.
    pub(super) since: u32,
}

/// Commands on their way into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commands {
    /// What they have in common, as a run has it.
    pub tag: u32,
    /// When their last headers arrived, in units of 256 ns.
    pub since: u32,
    /// How many.
    pub count: u32,
}

impl Commands {
    /// `count` commands whose last headers came at `since`, in units of 256 ns.
    #[inline(always)]
    #[must_use]
    pub const fn new(row: u32, kind: RunKind, flags: u32, since: u32, count: u32) -> Self {
        Self {
            tag: row & ROW_MASK | (kind as u32) << KIND_SHIFT | flags & run_flag::ALL,
            since,
            count,
        }
    }

    /// Their row.
    #[inline(always)]
    #[must_use]
    pub const fn row(&self) -> u32 {
        self.tag & ROW_MASK
    }

    /// The same as commands that found no room.
    #[inline(always)]
    pub(super) const fn overflowing(&self, row: u32) -> Self {
        Self::new(row, RunKind::Overflow, run_flag::UNTIMED, self.since, self.count)
    }
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

impl Waiting {
    /// No command waits.
    pub(crate) const NOBODY: Self = Self::from_word((RunKind::Nobody as u64) << KIND_SHIFT);

    /// The reverse of [`Self::word`].
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        let tag = word as u32;
        Self {
            row: tag & ROW_MASK,
            kind: RunKind::of_tag(tag),
            flags: tag & run_flag::ALL,
            since: (word >> 32) as u32,
        }
    }

    /// All of it in one word: what a function can return that the kernel's verifier checks on its own.
    #[inline(always)]
    #[must_use]
    pub const fn word(&self) -> u64 {
        let tag = self.row & ROW_MASK | (self.kind as u32) << KIND_SHIFT | self.flags & run_flag::ALL;
        tag as u64 | (self.since as u64) << 32
    }
}

/// What became of commands that were pushed.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// They wait.
    Exactly,
    /// They wait, and their replies will be counted without hits, with the moment of an earlier command, or without one.
    Coarsely,
    /// There was no room: they wait as commands of the overflow row.
    Elsewhere,
    /// They do not wait: they are for the spill.
    Not,
}

impl Pushed {
    /// The outcome with this number; one out of range (there is none) reads as [`Self::Not`].
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Exactly,
            1 => Self::Coarsely,
            2 => Self::Elsewhere,
            _ => Self::Not,
        }
    }
}

const KIND_SHIFT: u32 = 20;
const ROW_MASK: u32 = (1 << KIND_SHIFT) - 1;

const _: () = assert!(
    PREFIX_ROWS <= Row::index(u32::MAX) as usize && Row::EPOCHS * (Row::index(u32::MAX) + 1) <= ROW_MASK + 1
);

impl Run {
    #[inline(always)]
    pub(super) fn load(cell: &u32) -> u32 {
        // SAFETY: a valid reference; volatile because the other direction's program may write it meanwhile.
        unsafe { ptr::read_volatile(cell) }
    }

    #[inline(always)]
    pub(super) fn store(cell: &mut u32, value: u32) {
        // SAFETY: a valid reference; volatile because the other direction's program may read it meanwhile.
        unsafe { ptr::write_volatile(cell, value) }
    }

    /// Producer: makes this the run of `commands`. Not published yet.
    #[inline(always)]
    pub(super) fn set(&mut self, commands: &Commands) {
        Self::store(&mut self.tag, commands.tag);
        Self::store(&mut self.since, commands.since);
        Self::store(&mut self.pushed, commands.count);
    }

    /// Producer: whether this run, all of which has been answered, can go on as that of `commands`: one reply for each,
    /// before and after.
    #[inline(always)]
    fn is_open_for(&self, commands: &Commands) -> bool {
        let kinds = (self.tag | commands.tag) >> KIND_SHIFT & 15;
        kinds ^ RunKind::Reply as u32 | self.pushed >> RUN_LIMIT_SHIFT == 0
    }

    /// Producer: goes on as the run of `commands`. A client that waits for each reply stays in one place of the queue, and in
    /// the line of the cache that both sides look at anyway. The consumer reads the rest only once `pushed` has grown.
    #[inline(always)]
    fn take_over(&mut self, commands: &Commands) {
        Self::store(&mut self.tag, commands.tag);
        Self::store(&mut self.since, commands.since);
        self.add(commands);
    }

    /// Producer: adds commands, whatever they are.
    #[inline(always)]
    pub(super) fn add(&mut self, commands: &Commands) {
        let pushed = self.pushed.wrapping_add(commands.count);
        Self::store(&mut self.pushed, pushed);
    }

    /// Producer: adds commands that are alike: where it is `crowded`, in all but their moments and these `flags`.
    #[inline(always)]
    pub(super) fn join(&mut self, commands: &Commands, flags: u32, crowded: bool) -> Pushed {
        // Differences as bits, not as comparisons: the verifier walks both ways of each.
        let differs = self.tag ^ commands.tag;
        let several = commands.tag >> KIND_SHIFT & 15 ^ RunKind::ConfirmMany as u32;
        let apart = differs & !flags | several.wrapping_sub(1) >> 31 | self.pushed >> RUN_LIMIT_SHIFT;
        let coarse = differs & flags | self.since ^ commands.since;
        if apart != 0 || coarse != 0 && !crowded {
            return Pushed::Not;
        }
        if differs & flags != 0 {
            // Where not all of them are reads, or timed, none is taken for one any more.
            let tag = commands.tag & !run_flag::READS | run_flag::UNTIMED;
            Self::store(&mut self.tag, tag);
        }
        self.add(commands);
        if coarse == 0 {
            Pushed::Exactly
        } else {
            Pushed::Coarsely
        }
    }

    /// Consumer: the commands of this run.
    #[inline(always)]
    pub(super) fn waiting(&self) -> Waiting {
        let (tag, since) = (Self::load(&self.tag), Self::load(&self.since));
        Waiting::from_word(u64::from(tag) | u64::from(since) << 32)
    }
}

/// The queue of runs.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct RunQueue {
    /// Runs ever started. Producer.
    pub(super) tail: u32,
    /// Run being consumed. Consumer.
    pub(super) head: u32,
    /// Replies seen of that run, or of the run of the spill that stands for it. Consumer.
    pub(super) popped: u32,
    /// Where the next commands go: 0, [`FRESH`] or [`SPILLING`]. Producer.
    pub(super) next: u8,
    /// The consumer has not gone on from `restart` yet, as far as the producer knows. Producer.
    restarting: u8,
    /// Which direction sent data last: a [`Direction`]. Both.
    last_direction: u8,
    /// 0, written for the sake of writing: see [`Self::fetch`].
    touched: u8,
    runs: [Run; RUNS],
    /// Run from which the consumer goes on after a restart. Producer.
    restart: u32,
}

impl RunQueue {
    /// How many bytes of it come before the end of its first run.
    pub(super) const FIRST_RUN_END: usize = core::mem::offset_of!(Self, runs) + size_of::<Run>();

    #[inline(always)]
    pub(super) fn run(&self, number: u32) -> &Run {
        // SAFETY: the mask keeps the index below RUNS.
        unsafe { &*self.runs.as_ptr().add(number as usize & (RUNS - 1)) }
    }

    #[inline(always)]
    fn run_mut(&mut self, number: u32) -> &mut Run {
        // SAFETY: the mask keeps the index below RUNS.
        unsafe { &mut *self.runs.as_mut_ptr().add(number as usize & (RUNS - 1)) }
    }

    /// Has the line in which both sides meet brought to this CPU, to be written. It comes while something else is done. Otherwise
    /// whoever needs it waits, and twice: until he can read it, and until the other side has given it up.
    #[inline(always)]
    pub fn fetch(&mut self) {
        // SAFETY: a valid reference; volatile because nobody reads it.
        unsafe { ptr::write_volatile(&raw mut self.touched, 0) };
    }

    /// Which direction sent data last.
    #[inline(always)]
    #[must_use]
    pub fn last_direction(&self) -> u8 {
        // SAFETY: a valid reference; volatile because the other direction's program may write it meanwhile.
        unsafe { ptr::read_volatile(&raw const self.last_direction) }
    }

    /// This direction sends data.
    #[inline(always)]
    pub fn set_last_direction(&mut self, direction: Direction) {
        // SAFETY: a valid reference; volatile because the other direction's program may read it meanwhile.
        unsafe { ptr::write_volatile(&raw mut self.last_direction, direction as u8) };
    }

    /// Producer: appends commands. [`Pushed::Not`]: call [`Self::push_spilled`], or [`Self::push_roughly`] where there is no
    /// spill.
    #[inline(always)]
    pub fn push(&mut self, commands: &Commands) -> Pushed {
        let tail = self.tail;
        let waiting = self.waiting();
        if self.next == 0 && tail != 0 {
            // Whether the consumer is at the last run, and through with it.
            let idle = waiting ^ 1 | u32::from(self.restarting);
            let popped = Run::load(&self.popped);
            let last = self.run_mut(tail.wrapping_sub(1));
            if idle | last.pushed ^ popped == 0 && last.is_open_for(commands) {
                last.take_over(commands);
                return Pushed::Exactly;
            }
            let joined = last.join(commands, 0, waiting >= TIMED_RUNS);
            if joined != Pushed::Not {
                return joined;
            }
        }
        if self.next == FRESH || self.next == 0 && waiting < RUNS as u32 - 1 {
            self.append(commands);
            return Pushed::Exactly;
        }
        Pushed::Not
    }

    /// Producer: appends commands for which there is neither room nor a spill: the last free place, and then that run, takes
    /// everything that comes. Rough, but nothing is lost; unless the spill is gone, which cannot be.
    #[inline(always)]
    pub fn push_roughly(&mut self, commands: &Commands, overflow_row: u32) -> Pushed {
        if self.next == SPILLING {
            return Pushed::Not;
        }
        let waiting = self.waiting();
        let last = self.run_mut(self.tail.wrapping_sub(1));
        let joined = last.join(commands, LOOSE, true);
        if joined != Pushed::Not {
            return joined;
        }
        let overflowing = commands.overflowing(overflow_row);
        if waiting >= RUNS as u32 {
            last.add(&overflowing);
        } else {
            self.append(&overflowing);
        }
        Pushed::Elsewhere
    }

    /// Producer: whether there is room for the marker behind which a spill goes on, or it is there already.
    #[inline(always)]
    #[must_use]
    pub fn can_spill(&mut self) -> bool {
        self.next == SPILLING || self.waiting() < RUNS as u32
    }

    /// Producer: runs that the consumer may still read. Those before a restart do not count: the consumer will step
    /// over them, but its head shows that only with the next reply.
    #[inline(always)]
    fn waiting(&mut self) -> u32 {
        let mut head = Run::load(&self.head);
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
    pub(super) fn append(&mut self, commands: &Commands) {
        let tail = self.tail;
        self.run_mut(tail).set(commands);
        self.next = 0;
        Run::store(&mut self.tail, tail.wrapping_add(1));
    }

    /// Producer: whatever waits will never be answered as far as the meter knows; the next push starts anew.
    #[inline(always)]
    pub fn restart_producer(&mut self) {
        let tail = self.tail;
        Run::store(&mut self.restart, tail);
        self.restarting = 1;
        self.next = FRESH;
    }

    /// Producer: whether the last commands went to the spill.
    #[inline(always)]
    #[must_use]
    pub fn is_spilling(&self) -> bool {
        self.next == SPILLING
    }

    /// Producer: whether every command has been answered, as far as both sides know. Where it [`Self::is_spilling`], ask
    /// [`Self::spill_is_drained`].
    #[inline(always)]
    #[must_use]
    pub fn is_drained(&mut self) -> bool {
        if self.next == FRESH {
            return true;
        }
        match self.waiting() {
            0 => true,
            1 if self.restarting == 0 => {
                let head = Run::load(&self.head);
                Run::load(&self.popped) >= self.run(head).pushed
            }
            _ => false,
        }
    }

    /// Whether a command waits that the server alone keeps waiting: not one that may wait for something else (BLPOP), nor
    /// one that is answered for as long as the connection lives. Nobody needs to be the producer or the consumer to ask.
    #[inline(always)]
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let (mut head, mut popped) = (Run::load(&self.head), Run::load(&self.popped));
        let restart = Run::load(&self.restart);
        // SAFETY: a valid reference; volatile because the producer may write it meanwhile.
        let restarting = unsafe { ptr::read_volatile(&raw const self.restarting) };
        if restarting != 0 && head.wrapping_sub(restart) >= 1 << 31 {
            (head, popped) = (restart, 0);
        }
        let tail = Run::load(&self.tail);
        if head != tail && popped >= Run::load(&self.run(head).pushed) {
            head = head.wrapping_add(1);
        }
        if head == tail {
            return false;
        }
        let tag = Run::load(&self.run(head).tag);
        match RunKind::of_tag(tag) {
            // They have no moment of their own.
            RunKind::Overflow => true,
            // Whether the spill still has some only egress knows.
            RunKind::Spilled => false,
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
        let restart = Run::load(&self.restart);
        self.go_to(restart);
    }

    /// Consumer: the run with this number is the oldest one that waits.
    #[inline(always)]
    pub(super) fn go_to(&mut self, run: u32) {
        Run::store(&mut self.popped, 0);
        Run::store(&mut self.head, run);
    }

    /// Consumer: the oldest command that waits; [`RunKind::Nobody`] if none does. (No `Option`: the verifier would see its
    /// absent content being loaded.) [`RunKind::Spilled`]: ask [`Self::front_of_spill`].
    #[inline(always)]
    pub fn front(&mut self) -> Waiting {
        let mut head = self.head;
        let tail = Run::load(&self.tail);
        if head == tail {
            return Waiting::NOBODY;
        }
        if self.popped >= Run::load(&self.run(head).pushed) {
            head = head.wrapping_add(1);
            if head == tail {
                return Waiting::NOBODY;
            }
            self.go_to(head);
        }
        self.run(head).waiting()
    }

    /// Consumer: what the oldest commands have in common, and when the first of them came.
    #[inline(always)]
    #[must_use]
    pub fn front_run(&self) -> (u32, u32) {
        let run = self.run(self.head);
        (Run::load(&run.tag), Run::load(&run.since))
    }

    /// Consumer: how many commands wait that belong together, if the oldest one is among those of which [`Self::front_run`] has said
    /// this; else 0.
    #[inline(always)]
    #[must_use]
    pub fn waiting_alike(&self, (tag, since): (u32, u32)) -> u32 {
        let (head, tail) = (self.head, Run::load(&self.tail));
        let pushed = Run::load(&self.run(head).pushed);
        let front = self.front_run();
        if head == tail || front.0 ^ tag | front.1 ^ since != 0 || pushed <= self.popped {
            return 0;
        }
        pushed.wrapping_sub(self.popped)
    }

    /// Consumer: the oldest command has been answered.
    #[inline(always)]
    pub fn pop(&mut self) {
        self.popped = self.popped.wrapping_add(1);
    }

    /// Consumer: the whole oldest run needs no reply. Not to be called where it [`Self::is_at_spill`].
    #[inline(always)]
    pub fn drop_front_run(&mut self) {
        self.popped = Run::load(&self.run(self.head).pushed);
    }

    /// Consumer: whether the oldest commands are in the spill.
    #[inline(always)]
    #[must_use]
    pub fn is_at_spill(&self) -> bool {
        matches!(self.run(self.head).waiting().kind, RunKind::Spilled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut RunQueue, row: u32, kind: RunKind, count: u32, overflow_row: u32) -> bool {
        let commands = Commands::new(row, kind, 0, 5, count);
        let pushed = queue.push(&commands);
        pushed == Pushed::Exactly
            || pushed == Pushed::Not && queue.push_roughly(&commands, overflow_row) == Pushed::Exactly
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
    fn a_client_that_waits_for_each_reply_stays_in_one_place() {
        let mut queue = RunQueue::zeroed();
        let command = |row, kind, since| Commands::new(row, kind, 0, since, 1);
        for (row, since) in [(7, 1), (7, 2), (8, 3), (7, 4)] {
            assert_eq!(queue.push(&command(row, RunKind::Reply, since)), Pushed::Exactly);
            assert_eq!(queue.tail, 1, "the run before has been answered");
            let front = queue.front();
            assert_eq!((front.row, front.since), (row, since));
            queue.pop();
        }
        // What still waits keeps its moment, and what is answered otherwise has a run of its own.
        queue.push(&command(7, RunKind::Reply, 5));
        queue.push(&command(7, RunKind::Reply, 6));
        assert_eq!((queue.tail, queue.front().since), (2, 5));
        queue.pop();
        assert_eq!(queue.front().since, 6);
        queue.pop();
        queue.push(&command(7, RunKind::Monitor, 7));
        queue.pop();
        queue.push(&command(7, RunKind::Reply, 8));
        assert_eq!(queue.tail, 4);
    }

    #[test]
    fn commands_that_belong_together_are_counted_while_they_wait() {
        let mut queue = RunQueue::zeroed();
        assert_eq!(queue.waiting_alike((0, 0)), 0, "nothing was ever asked");
        queue.push(&Commands::new(7, RunKind::Reply, 0, 5, 3));
        queue.push(&Commands::new(7, RunKind::Reply, 0, 6, 2));
        let front = queue.front_run();
        assert_eq!(front, (Commands::new(7, RunKind::Reply, 0, 5, 1).tag, 5));
        assert_eq!(queue.waiting_alike(front), 3);
        for other in [(front.0 + 1, 5), (front.0, 6)] {
            assert_eq!(queue.waiting_alike(other), 0, "{other:?}");
        }
        for left in [2, 1, 0, 0] {
            queue.pop();
            assert_eq!(queue.waiting_alike(front), left);
        }
        // All places of the queue have been used once.
        for since in 7..30 {
            queue.push(&Commands::new(7, RunKind::Monitor, 0, since, 1));
            queue.front();
            queue.pop();
        }
        queue.restart_producer();
        queue.restart_consumer();
        assert_eq!(
            queue.waiting_alike(queue.front_run()),
            0,
            "what waited is forgotten"
        );
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
        queue.push(&Commands::new(7, RunKind::Reply, run_flag::UNTIMED, 6, 1));
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
            queue.next = FRESH;
            assert!(push(&mut queue, row, RunKind::Reply, 1, 0));
        }
        assert_eq!(drain(&mut queue), [1, 2, 3, 4]);
    }

    #[test]
    fn commands_of_different_moments_have_runs_of_their_own_while_there_is_room() {
        let mut queue = RunQueue::zeroed();
        let push = |queue: &mut RunQueue, row, since| {
            let commands = Commands::new(row, RunKind::Reply, 0, since, 1);
            match queue.push(&commands) {
                Pushed::Not => queue.push_roughly(&commands, 99),
                pushed => pushed,
            }
        };
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
        for flags in [run_flag::READS, run_flag::UNTIMED] {
            let pushed = queue.push(&Commands::new(7, RunKind::Reply, flags, 1, 1));
            assert_eq!(pushed, Pushed::Exactly);
        }
        assert_eq!(queue.front().flags, run_flag::READS);
        queue.pop();
        let last = queue.front();
        assert_eq!(
            (last.row, last.kind, last.flags),
            (7, RunKind::Reply, run_flag::UNTIMED)
        );
    }

    #[test]
    fn without_a_spill_reads_and_writes_of_one_row_in_turn_keep_their_row() {
        let mut queue = RunQueue::zeroed();
        for number in 0..200 {
            let flags = if number % 2 == 0 { run_flag::READS } else { 0 };
            let commands = Commands::new(7, RunKind::Reply, flags, 5, 1);
            let exact = queue.push(&commands) == Pushed::Exactly;
            assert_eq!(exact, number < RUNS - 1, "{number}");
            assert!(
                exact || queue.push_roughly(&commands, 99) != Pushed::Elsewhere,
                "{number}"
            );
        }
        assert_eq!(drain(&mut queue), [7; 200]);
    }
}
