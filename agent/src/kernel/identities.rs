//! Who the clients are: the connections with what is known of them, by an iterator over their storage, and the names.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use agent_common::abi::{ConnectionRecord, NameKey};
use anyhow::{Context as _, Result, anyhow};
use aya::programs::Iter;

use super::Kernel;

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;

/// `enum bpf_attach_type` (the same).
const BPF_TRACE_ITER: u32 = 28;

/// `link_create` of `union bpf_attr`, for an iterator over a map's elements; `union bpf_iter_link_info` is the number of the
/// map's descriptor (the same, Linux 5.9). aya makes no such links.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    info: u64,
    info_length: u32,
    reserved: u32,
}

/// `iter_create` of the same.
#[repr(C)]
struct IterCreate {
    link: u32,
    flags: u32,
}

impl Kernel {
    /// Every established connection of the servers, with what is known of its client. Costs the kernel some 100 ns per
    /// connection.
    ///
    /// # Errors
    ///
    /// When the iterator cannot run, which a supported kernel does not do.
    pub fn connections(&self) -> Result<Vec<ConnectionRecord>> {
        let mut bytes = Vec::new();
        let mut file = self.open_list().context("cannot list the connections")?;
        file.read_to_end(&mut bytes)
            .context("cannot read the list of connections")?;
        let records = bytes.chunks_exact(size_of::<ConnectionRecord>());
        Ok(records.map(bytemuck::pod_read_unaligned).collect())
    }

    /// Every name that is kept, with its number.
    #[must_use]
    pub fn names(&self) -> Vec<(u32, NameKey)> {
        let entries = self.client_names.iter().filter_map(Result::ok);
        entries.map(|(key, number)| (number, key.0)).collect()
    }

    /// Forgets a name that no connection has any more. Its number is never used again.
    pub fn forget_name(&mut self, key: &NameKey) {
        if let Err(error) = self.client_names.remove(&super::Raw(*key)) {
            tracing::debug!(%error, "a name was gone already");
        }
    }

    fn open_list(&self) -> Result<File> {
        let program = self.ebpf.program("sg_list").ok_or_else(|| {
            anyhow!("the kernel object has no program sg_list; rebuild with `cargo xtask build`")
        })?;
        let program: &Iter = program.try_into()?;
        let map = u32::try_from(self.storage.fd().as_fd().as_raw_fd())?;
        let link = LinkCreate {
            program: u32::try_from(program.fd()?.as_fd().as_raw_fd())?,
            target: 0,
            attach_type: BPF_TRACE_ITER,
            flags: 0,
            info: (&raw const map) as u64,
            info_length: size_of_val(&map) as u32,
            reserved: 0,
        };
        let link = bpf(BPF_LINK_CREATE, &link)?;
        let iterator = IterCreate {
            link: u32::try_from(link.as_raw_fd())?,
            flags: 0,
        };
        Ok(bpf(BPF_ITER_CREATE, &iterator)?.into())
    }
}

/// A command of bpf(2) that makes a file descriptor.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes as the attributes have; what they point to outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the call has made, and nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
}
