//! All entries of a hash map in a few system calls (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6): one by one, each costs two, and the key
//! that the programs or the daemon delete in between makes the walk begin anew and meet others twice. A batch is taken bucket
//! by bucket, each under its lock.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
};

use aya::maps::IterableMap;
use bytemuck::Pod;

use super::Raw;

/// Entries asked for at once. Larger than any bucket, which has one entry on average.
const AT_ONCE: usize = 4096;

const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// The part of `union bpf_attr` for batches (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Debug, Default)]
struct Batch {
    /// Where to begin, or null.
    from: u64,
    /// Where the next batch begins.
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// All entries of a hash map. What cannot be read is missing, with a warning: no running kernel refuses it.
pub(super) fn entries<M, K, V, W>(map: &M) -> Vec<(K, W)>
where
    M: IterableMap<Raw<K>, V>,
    K: Pod,
    V: aya::Pod,
    W: Pod,
{
    const { assert!(size_of::<V>() == size_of::<W>()) };
    let mut found = Vec::new();
    if let Err(error) = read(map.map().fd().as_fd().as_raw_fd(), &mut found) {
        tracing::warn!(%error, "cannot read all entries of a map");
    }
    found
}

fn read<K: Pod, V: Pod>(map: RawFd, found: &mut Vec<(K, V)>) -> io::Result<()> {
    let mut keys = vec![K::zeroed(); AT_ONCE];
    let mut values = vec![V::zeroed(); AT_ONCE];
    // Of a hash map, the number of a bucket.
    let (mut from, mut next) = (0_u32, 0_u32);
    let mut is_first = true;
    loop {
        let mut batch = Batch {
            from: if is_first { 0 } else { (&raw mut from) as u64 },
            next: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: AT_ONCE as u32,
            map: map as u32,
            ..Batch::default()
        };
        // SAFETY: the pointers are to memory of this function: two numbers of a bucket, and room for as many keys and values
        // as it says, of the map's sizes.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_MAP_LOOKUP_BATCH,
                &raw mut batch,
                size_of::<Batch>(),
            )
        };
        let error = (result < 0).then(io::Error::last_os_error);
        let is_last = match error {
            None => false,
            Some(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Some(error) => return Err(error),
        };
        let count = (batch.count as usize).min(AT_ONCE);
        found.extend(keys[..count].iter().copied().zip(values[..count].iter().copied()));
        if is_last {
            return Ok(());
        }
        (from, is_first) = (next, false);
    }
}
