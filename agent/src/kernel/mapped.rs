//! Counter arrays read through shared memory: a scrape costs no system call per value.

use std::{
    io,
    marker::PhantomData,
    num::NonZeroUsize,
    os::fd::{AsFd as _, BorrowedFd},
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A `BPF_MAP_TYPE_ARRAY` with `BPF_F_MMAPABLE`, mapped whole. Values lie behind one another, each rounded up to
/// eight bytes (kernel/bpf/arraymap.c).
#[derive(Debug)]
pub(super) struct Mapped<T> {
    address: NonNull<u8>,
    bytes: usize,
    entries: usize,
    /// Keeps the map alive.
    _map: MapData,
    values: PhantomData<T>,
}

// SAFETY: the mapping is shared memory that is only touched through atomics.
unsafe impl<T> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mapped<T> {}

impl<T: bytemuck::Pod> Mapped<T> {
    /// Maps `entries` values of a map.
    pub(super) fn new(map: MapData, entries: usize) -> Result<Self> {
        let bytes = entries * Self::stride();
        let address = map_shared(map.fd().as_fd(), bytes)
            .with_context(|| format!("cannot map {bytes} bytes of a counter array into memory"))?;
        Ok(Self {
            address,
            bytes,
            entries,
            _map: map,
            values: PhantomData,
        })
    }

    const fn stride() -> usize {
        size_of::<T>().next_multiple_of(8)
    }

    /// The value at `index`, each word read atomically; zeros beyond the end.
    pub(super) fn get(&self, index: usize) -> T {
        let mut value = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut value);
        for (chunk, word) in bytes.chunks_mut(8).zip(self.words(index)) {
            let word = word.load(Ordering::Relaxed);
            chunk.copy_from_slice(&word.to_ne_bytes()[..chunk.len()]);
        }
        value
    }

    /// The word at `offset`, in words, of the value at `index`.
    pub(super) fn word_of(&self, index: usize, offset: usize) -> u64 {
        let word = self.words(index).get(offset);
        word.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Sets the word at `offset`, in words, of the value at `index`.
    pub(super) fn set_word_of(&self, index: usize, offset: usize, value: u64) {
        if let Some(word) = self.words(index).get(offset) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Sets every word of the value at `index` to zero.
    pub(super) fn clear(&self, index: usize) {
        for word in self.words(index) {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// The words of the value at `index`; none beyond the end.
    fn words(&self, index: usize) -> &[AtomicU64] {
        if index >= self.entries {
            return &[];
        }
        let words = Self::stride() / 8;
        // SAFETY: in bounds, and aligned to eight bytes as the mapping is to a page; it lives as long as `self`, and atomics tolerate
        // the kernel's writes.
        unsafe {
            let first = self.address.as_ptr().cast::<AtomicU64>().add(index * words);
            slice::from_raw_parts(first, words)
        }
    }
}

impl Mapped<u32> {
    /// Sets the bits of `mask` in the low half of the value at `index`, and clears its others.
    pub(super) fn set_bits(&self, index: usize, mask: u32) {
        if index < self.entries {
            // SAFETY: in bounds, aligned to eight bytes, see `words`.
            let cell = unsafe {
                &*self
                    .address
                    .as_ptr()
                    .add(index * Self::stride())
                    .cast::<AtomicU32>()
            };
            cell.store(mask, Ordering::Relaxed);
        }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and not used after this.
        if let Err(error) = unsafe { munmap(self.address.cast(), self.bytes) } {
            tracing::debug!(%error, "unmapping a counter array failed");
        }
    }
}

fn map_shared(fd: BorrowedFd<'_>, bytes: usize) -> Result<NonNull<u8>> {
    let length = NonZeroUsize::new(bytes).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let address = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, fd, 0) }?;
    Ok(address.cast())
}
