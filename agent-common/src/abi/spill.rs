//! Commands that wait for their reply beyond what the connection itself has room for.
//!
//! When the queue of the connection has one free place left, the producer puts a marker there ([`RunKind::Spilled`]) and
//! goes on in the spill, a larger ring in a storage of its own. It returns to the queue when the spill is drained, with a
//! run behind the marker. That run closes the marker: the consumer goes on behind it, else in the spill.
//!
//! Both rings have the rules of [`RunQueue`]: each cell has one writer, and a run is published by storing its ring's
//! `tail` after its content. The consumer reads the spill's tail before it looks whether its marker is closed: if it is
//! not, what it saw in the spill belongs to this marker and to no later one. A marker is closed only when the consumer
//! has answered everything behind it.

use bytemuck::{Pod, Zeroable};

use super::runs::{Commands, Pushed, Run, RunKind, RunQueue, SPILLING, Waiting};

/// Runs that can wait in a spill; a power of two. A pipeline of 200 commands, each of another row than the one before it,
/// fits. Of longer ones the rest goes to the row `(other)`, counted.
pub const SPILLED_RUNS: usize = 256;

/// Runs that may wait before commands of the same row but of different moments, or of which only some are reads or timed,
/// share one: the other half is for commands of different rows, since whose bytes they are matters more.
const EXACT_RUNS: u32 = SPILLED_RUNS as u32 / 2;

/// Flags in which commands of one run may then differ.
const LOOSE: u32 = super::run_flag::READS | super::run_flag::UNTIMED;

/// The spill of a connection; zeroes at first.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Spill {
    /// Runs ever started. Producer.
    tail: u32,
    /// Run being consumed. Consumer.
    head: u32,
    runs: [Run; SPILLED_RUNS],
}

impl Spill {
    #[inline(always)]
    fn run(&self, number: u32) -> &Run {
        // SAFETY: the mask keeps the index below SPILLED_RUNS.
        unsafe { &*self.runs.as_ptr().add(number as usize & (SPILLED_RUNS - 1)) }
    }

    #[inline(always)]
    fn run_mut(&mut self, number: u32) -> &mut Run {
        // SAFETY: the mask keeps the index below SPILLED_RUNS.
        unsafe { &mut *self.runs.as_mut_ptr().add(number as usize & (SPILLED_RUNS - 1)) }
    }

    /// The oldest run that waits behind a marker that began at `start`: the consumer comes to it later.
    #[inline(always)]
    fn head_from(&self, start: u32) -> u32 {
        let head = Run::load(&self.head);
        if head.wrapping_sub(start) < 1 << 31 {
            head
        } else {
            start
        }
    }

    #[inline(always)]
    fn append(&mut self, commands: &Commands) {
        let tail = self.tail;
        self.run_mut(tail).set(commands);
        Run::store(&mut self.tail, tail.wrapping_add(1));
    }
}

/// What needs the spill.
impl RunQueue {
    /// Producer: appends commands of which [`Self::push`] said [`Pushed::Not`], if it [`Self::can_spill`].
    #[inline(always)]
    pub fn push_spilled(&mut self, spill: &mut Spill, commands: &Commands, overflow_row: u32) -> Pushed {
        if self.next != SPILLING {
            self.append(&Commands::new(0, RunKind::Spilled, 0, spill.tail, u32::MAX));
            self.next = SPILLING;
        } else if self.spill_is_drained(spill) {
            // Closes the marker. There is room: the consumer has come to it.
            self.append(commands);
            return Pushed::Exactly;
        }
        let start = self.start_of_spill();
        let tail = spill.tail;
        let waiting = tail.wrapping_sub(spill.head_from(start));
        if tail != start {
            let last = spill.run_mut(tail.wrapping_sub(1));
            let joined = last.join(commands, LOOSE, waiting >= EXACT_RUNS);
            if joined != Pushed::Not {
                return joined;
            }
        }
        if waiting < SPILLED_RUNS as u32 - 1 {
            spill.append(commands);
            return Pushed::Exactly;
        }
        // The last free place, and then that run, takes everything that comes: rough, but nothing is lost.
        let overflowing = commands.overflowing(overflow_row);
        if waiting >= SPILLED_RUNS as u32 {
            spill.run_mut(tail.wrapping_sub(1)).add(&overflowing);
        } else {
            spill.append(&overflowing);
        }
        Pushed::Elsewhere
    }

    /// Producer: where the spill begins behind the marker, which is the last run of the queue.
    #[inline(always)]
    fn start_of_spill(&self) -> u32 {
        self.run(self.tail.wrapping_sub(1)).since
    }

    /// Producer, while it [`Self::is_spilling`]: whether every command has been answered, as far as both sides know.
    #[inline(always)]
    #[must_use]
    pub fn spill_is_drained(&self, spill: &Spill) -> bool {
        let head = spill.head_from(self.start_of_spill());
        if Run::load(&self.head) != self.tail.wrapping_sub(1) || spill.tail.wrapping_sub(head) > 1 {
            return false;
        }
        Run::load(&self.popped) >= spill.run(head).pushed
    }

    /// Consumer, behind [`RunKind::Spilled`]: the oldest command that waits.
    #[inline(always)]
    pub fn front_of_spill(&mut self, spill: &mut Spill) -> Waiting {
        let marker = self.head;
        let start = Run::load(&self.run(marker).since);
        let tail = Run::load(&spill.tail);
        // In this order: see above.
        if Run::load(&self.tail).wrapping_sub(marker) > 1 {
            self.go_to(marker.wrapping_add(1));
            let front = self.run(self.head).waiting();
            // One marker never follows another.
            return if matches!(front.kind, RunKind::Spilled) {
                Waiting::NOBODY
            } else {
                front
            };
        }
        let mut head = spill.head_from(start);
        if head == tail {
            return Waiting::NOBODY;
        }
        if self.popped >= Run::load(&spill.run(head).pushed) {
            head = head.wrapping_add(1);
            if head == tail {
                return Waiting::NOBODY;
            }
            self.popped = 0;
        }
        Run::store(&mut spill.head, head);
        spill.run(head).waiting()
    }

    /// Consumer, where it [`Self::is_at_spill`]: the whole oldest run needs no reply.
    #[inline(always)]
    pub fn drop_front_run_of_spill(&mut self, spill: &Spill) {
        self.popped = Run::load(&spill.run(spill.head).pushed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::abi::{RUNS, run_flag};

    const OTHER: u32 = 9_999;

    /// Both sides, as the meter drives them.
    struct Sides {
        queue: RunQueue,
        spill: Box<Spill>,
    }

    impl Sides {
        fn new() -> Self {
            Self {
                queue: RunQueue::zeroed(),
                spill: Box::new(Spill::zeroed()),
            }
        }

        fn push(&mut self, row: u32, since: u32, flags: u32) -> Pushed {
            let commands = Commands::new(row, RunKind::Reply, flags, since, 1);
            match self.queue.push(&commands) {
                Pushed::Not => {
                    assert!(self.queue.can_spill());
                    self.queue.push_spilled(&mut self.spill, &commands, OTHER)
                }
                pushed => pushed,
            }
        }

        fn front(&mut self) -> Waiting {
            let front = self.queue.front();
            if front.kind == RunKind::Spilled {
                return self.queue.front_of_spill(&mut self.spill);
            }
            front
        }

        fn answer(&mut self) -> Option<Waiting> {
            let front = self.front();
            (front.kind != RunKind::Nobody).then(|| {
                self.queue.pop();
                front
            })
        }

        fn is_drained(&mut self) -> bool {
            if self.queue.is_spilling() {
                self.queue.spill_is_drained(&self.spill)
            } else {
                self.queue.is_drained()
            }
        }
    }

    #[test]
    fn two_hundred_rows_reads_and_writes_in_turn_come_out_as_they_came() {
        let mut sides = Sides::new();
        for round in 0..5 {
            for number in 0..200 {
                let flags = (number & 1) * run_flag::READS;
                assert_eq!(sides.push(number % 3, round, flags), Pushed::Exactly, "{number}");
                assert!(!sides.is_drained());
            }
            for number in 0..200 {
                let waiting = sides.answer().expect("it waits");
                let flags = (number & 1) * run_flag::READS;
                assert_eq!(
                    (waiting.row, waiting.flags, waiting.since),
                    (number % 3, flags, round)
                );
            }
            assert!(sides.is_drained() && sides.answer().is_none());
            assert_eq!(sides.push(7, round, 0), Pushed::Exactly);
            assert!(!sides.queue.is_spilling(), "back in the queue");
            assert_eq!(sides.answer().map(|waiting| waiting.row), Some(7));
        }
    }

    #[test]
    fn a_full_spill_keeps_the_count_in_the_overflow_row() {
        let mut sides = Sides::new();
        let exact = (RUNS + SPILLED_RUNS) as u32 - 2;
        for number in 0..400 {
            let pushed = sides.push(number, 5, 0);
            let expected = if number < exact {
                Pushed::Exactly
            } else {
                Pushed::Elsewhere
            };
            assert_eq!(pushed, expected, "{number}");
        }
        for number in 0..400 {
            let row = sides.answer().expect("it waits").row;
            assert_eq!(row, if number < exact { number } else { OTHER });
        }
        assert!(sides.is_drained());
        assert_eq!(sides.push(7, 5, 0), Pushed::Exactly);
        assert_eq!(sides.answer().map(|waiting| waiting.row), Some(7));
    }

    #[test]
    fn where_half_of_the_spill_waits_moments_of_one_row_share_a_run() {
        let mut sides = Sides::new();
        for row in 0..RUNS as u32 - 1 {
            sides.push(row, 5, 0);
        }
        for number in 0..EXACT_RUNS {
            assert_eq!(sides.push(50, number, 0), Pushed::Exactly);
        }
        assert_eq!(sides.push(50, 1_000, run_flag::READS), Pushed::Coarsely);
        assert_eq!(sides.push(51, 1_000, run_flag::READS), Pushed::Exactly);
        for _ in 0..RUNS as u32 - 1 + EXACT_RUNS - 1 {
            sides.answer();
        }
        let loose = Waiting {
            row: 50,
            kind: RunKind::Reply,
            flags: run_flag::UNTIMED,
            since: EXACT_RUNS - 1,
        };
        assert_eq!((sides.answer(), sides.answer()), (Some(loose), Some(loose)));
        assert_eq!(sides.answer().map(|waiting| waiting.flags), Some(run_flag::READS));
    }

    #[test]
    fn a_restart_forgets_what_waits_in_the_spill() {
        let mut sides = Sides::new();
        for round in 0..3 {
            for number in 0..100 {
                sides.push(number, 5, 0);
            }
            for _ in 0..round * 30 {
                sides.answer();
            }
            sides.queue.restart_producer();
            assert!(sides.is_drained());
            for number in 0..100 {
                sides.push(1_000 + number, 5, 0);
            }
            sides.queue.restart_consumer();
            for number in 0..100 {
                assert_eq!(sides.answer().map(|waiting| waiting.row), Some(1_000 + number));
            }
            assert!(sides.is_drained());
        }
    }

    #[test]
    fn a_whole_run_of_the_spill_can_be_dropped() {
        let mut sides = Sides::new();
        for number in 0..20 {
            sides.push(number, 5, 0);
        }
        let several = Commands::new(20, RunKind::ConfirmMany, 0, 5, 3);
        assert_eq!(sides.queue.push(&several), Pushed::Not);
        sides.queue.push_spilled(&mut sides.spill, &several, OTHER);
        sides.push(21, 5, 0);
        for _ in 0..20 {
            sides.answer();
        }
        assert_eq!(sides.front().kind, RunKind::ConfirmMany);
        assert!(sides.queue.is_at_spill());
        sides.queue.drop_front_run_of_spill(&sides.spill);
        assert_eq!(sides.answer().map(|waiting| waiting.row), Some(21));
    }

    /// A queue without bounds beside both rings, with pushes and answers in any order, numbers that wrap, and restarts.
    #[test]
    fn whatever_comes_and_goes_the_order_is_kept() {
        let mut seed = 1_u32;
        let mut below = |bound: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % bound
        };
        let (mut spilled, mut returned) = (0, 0);
        for case in 0..300 {
            let mut sides = Sides::new();
            let first = 0_u32.wrapping_sub(below(40));
            (sides.queue.head, sides.queue.tail) = (first, first);
            let first = 0_u32.wrapping_sub(below(200));
            (sides.spill.head, sides.spill.tail) = (first, first);
            sides.queue.next = 1;
            let mut model = VecDeque::new();
            for step in 0..200 {
                for _ in 0..below(if case % 2 == 0 { 8 } else { 60 }) {
                    // Bounded, so that nothing overflows.
                    if model.len() < 100 {
                        let row = below(3);
                        let was_spilling = sides.queue.is_spilling();
                        assert_ne!(sides.push(row, step, 0), Pushed::Elsewhere);
                        model.push_back(row);
                        spilled += u32::from(!was_spilling && sides.queue.is_spilling());
                        returned += u32::from(was_spilling && !sides.queue.is_spilling());
                    }
                }
                for _ in 0..below(if case % 3 == 0 { 70 } else { 9 }) {
                    assert_eq!(sides.answer().map(|waiting| waiting.row), model.pop_front());
                }
                if below(50) == 0 {
                    sides.queue.restart_producer();
                    sides.queue.restart_consumer();
                    model.clear();
                }
                assert_eq!(sides.is_drained(), model.is_empty());
            }
        }
        assert!(spilled > 1_000 && returned > 100, "{spilled} {returned}");
    }
}
