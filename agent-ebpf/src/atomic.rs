//! What must be written as instructions: the atomic operations, as the kernel's instruction set has them (v3, Linux
//! 5.12; Rust offers none with a result for this target), and a mask that the optimiser cannot argue away.

#[cfg(target_arch = "bpf")]
mod imp {
    use core::arch::asm;

    #[inline(always)]
    pub(crate) unsafe fn add(cell: *mut u64, value: u64) {
        // SAFETY: the caller's pointer is valid and aligned.
        unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) cell, in(reg) value) }
    }

    #[inline(always)]
    pub(crate) unsafe fn fetch_add(cell: *mut u64, value: u64) -> u64 {
        let mut old = value;
        // SAFETY: the caller's pointer is valid and aligned.
        unsafe { asm!("{1} = atomic_fetch_add((u64 *)({0} + 0), {1})", in(reg) cell, inout(reg) old) }
        old
    }

    #[inline(always)]
    pub(crate) unsafe fn swap(cell: *mut u32, value: u32) -> u32 {
        let mut old = value;
        // SAFETY: the caller's pointer is valid and aligned.
        unsafe { asm!("{1} = xchg32_32({0} + 0, {1})", in(reg) cell, inout(wreg) old) }
        old
    }

    #[inline(always)]
    pub(crate) unsafe fn compare_swap(cell: *mut u32, expected: u32, value: u32) -> u32 {
        let mut old = expected;
        // SAFETY: the caller's pointer is valid and aligned.
        unsafe {
            asm!("w0 = cmpxchg32_32({0} + 0, w0, {1})", in(reg) cell, in(wreg) value, inout("w0") old);
        }
        old
    }

    #[inline(always)]
    pub(crate) fn masked<const MASK: usize>(mut index: usize) -> usize {
        // SAFETY: touches one register.
        unsafe { asm!("{0} &= {1}", inout(reg) index, const MASK) }
        index
    }

    #[inline(always)]
    pub(crate) unsafe fn compare_swap_u64(cell: *mut u64, expected: u64, value: u64) -> u64 {
        let mut old = expected;
        // SAFETY: the caller's pointer is valid and aligned.
        unsafe {
            asm!("r0 = cmpxchg_64({0} + 0, r0, {1})", in(reg) cell, in(reg) value, inout("r0") old);
        }
        old
    }
}

/// Stands in when the crate is only checked on the host; nothing runs it there.
#[cfg(not(target_arch = "bpf"))]
mod imp {
    pub(crate) unsafe fn add(_: *mut u64, _: u64) {}

    pub(crate) unsafe fn fetch_add(_: *mut u64, _: u64) -> u64 {
        0
    }

    pub(crate) unsafe fn swap(_: *mut u32, _: u32) -> u32 {
        0
    }

    pub(crate) unsafe fn compare_swap(_: *mut u32, _: u32, _: u32) -> u32 {
        0
    }

    pub(crate) unsafe fn compare_swap_u64(_: *mut u64, _: u64, _: u64) -> u64 {
        0
    }

    pub(crate) fn masked<const MASK: usize>(index: usize) -> usize {
        index & MASK
    }
}

/// Adds to a counter that several CPUs write. `cell` must point to a valid, aligned word of a map value.
#[inline(always)]
pub(crate) unsafe fn add(cell: *mut u64, value: u64) {
    // SAFETY: passed on to the caller.
    unsafe { imp::add(cell, value) }
}

/// Adds to a counter and returns what was there. Same rule for `cell`.
#[inline(always)]
pub(crate) unsafe fn fetch_add(cell: *mut u64, value: u64) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe { imp::fetch_add(cell, value) }
}

/// Stores `value` and returns what was there. Same rule for `cell`.
#[inline(always)]
pub(crate) unsafe fn swap(cell: *mut u32, value: u32) -> u32 {
    // SAFETY: passed on to the caller.
    unsafe { imp::swap(cell, value) }
}

/// Stores `value` if the cell holds `expected`; returns what was there. Same rule for `cell`.
#[inline(always)]
pub(crate) unsafe fn compare_swap(cell: *mut u32, expected: u32, value: u32) -> u32 {
    // SAFETY: passed on to the caller.
    unsafe { imp::compare_swap(cell, expected, value) }
}

/// [`compare_swap`] on 64 bits.
#[inline(always)]
pub(crate) unsafe fn compare_swap_u64(cell: *mut u64, expected: u64, value: u64) -> u64 {
    // SAFETY: passed on to the caller.
    unsafe { imp::compare_swap_u64(cell, expected, value) }
}

/// `index & MASK`, as an instruction. Where the optimiser knows the range of an index it drops a plain mask, and older
/// verifiers (seen on 6.1) no longer see why the access is in bounds.
#[inline(always)]
pub(crate) fn masked<const MASK: usize>(index: usize) -> usize {
    imp::masked::<MASK>(index)
}
