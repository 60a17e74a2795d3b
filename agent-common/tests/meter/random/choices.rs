//! Decisions read from bytes. The same bytes make the same conversation, fewer and smaller ones a simpler one: that is
//! how a failure shrinks, and how a fuzzer finds its way.

/// The decisions still to be made. When the bytes end, every decision is the simplest one.
#[derive(Debug, Clone)]
pub(crate) struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    /// A number from 0 to `bound - 1`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let byte = usize::from(self.byte());
        if bound <= 256 {
            return byte % bound.max(1);
        }
        (byte | usize::from(self.byte()) << 8 | usize::from(self.byte()) << 16) % bound
    }

    /// True once in `times`; false when the bytes have ended.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Eight bytes as a number.
    pub(crate) fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
}
