//! Who the clients are: the connections with what is known of them, by an iterator over sockets, and the names.

use agent_common::abi::{ConnectionRecord, EndedKey, NameKey};
use anyhow::Result;

use super::{Kernel, Raw, batch};

impl Kernel {
    /// Every established connection of the servers in the network namespace of the calling thread, with what is known of its
    /// client. Costs the kernel some 300 ns per connection, and as many for each other TCP socket there.
    ///
    /// Before Linux 6.17 the iterator may pass a socket twice, or pass it by, if others come or go meanwhile.
    ///
    /// # Errors
    ///
    /// When the iterator cannot run, which a supported kernel does not do.
    pub fn connections(&mut self) -> Result<Vec<ConnectionRecord>> {
        let bytes = self.run_iterator("sg_list")?;
        let records = bytes.chunks_exact(size_of::<ConnectionRecord>());
        Ok(records.map(bytemuck::pod_read_unaligned).collect())
    }

    /// Connections that ended since the agent watches, by address and what they had said of themselves.
    #[must_use]
    pub fn ended(&self) -> Vec<(EndedKey, u64)> {
        batch::entries(&self.ended)
    }

    /// Forgets an entry of [`Self::ended`], which somebody else has added up.
    pub fn forget_ended(&mut self, key: &EndedKey) {
        if let Err(error) = self.ended.remove(&Raw(*key)) {
            tracing::debug!(%error, "ended connections were gone already");
        }
    }

    /// Every name that is kept, with its number.
    #[must_use]
    pub fn names(&self) -> Vec<(u32, NameKey)> {
        let entries = self.client_names.iter().filter_map(Result::ok);
        entries.map(|(key, number)| (number, key.0)).collect()
    }

    /// Forgets a name that no connection has any more. Its number is never used again; [`Self::forget_class`] is called when
    /// no connection can have taken it up meanwhile.
    pub fn forget_name(&mut self, key: &NameKey) {
        if let Err(error) = self.client_names.remove(&Raw(*key)) {
            tracing::debug!(%error, "a name was gone already");
        }
    }

    /// Forgets the class of a name that was forgotten.
    pub fn forget_class(&mut self, number: u32) {
        self.classes.forget(number);
    }
}
