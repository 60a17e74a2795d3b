//! Names of server processes, whose start `sg_exec` announces.

use std::collections::BTreeSet;

use agent_common::limits;
use anyhow::{Context as _, Result};
use aya::maps::{HashMap, MapData};

/// A command name as the kernel keeps it: cut to 15 bytes, zero-padded.
type CommandName = [u8; 16];

/// The map of names, and what is in it.
pub(super) struct Names {
    map: HashMap<MapData, CommandName, u32>,
    known: BTreeSet<CommandName>,
}

impl Names {
    /// Takes over the map, which is empty.
    pub(super) const fn new(map: HashMap<MapData, CommandName, u32>) -> Self {
        Self {
            map,
            known: BTreeSet::new(),
        }
    }

    /// Makes the names exactly those of these processes; at most [`limits::PROCESS_NAMES`].
    pub(super) fn replace(&mut self, processes: &[String]) -> Result<()> {
        let wanted: BTreeSet<CommandName> = processes
            .iter()
            .take(limits::PROCESS_NAMES)
            .map(|process| command_name(process))
            .collect();
        let gone: Vec<CommandName> = self.known.difference(&wanted).copied().collect();
        for name in gone {
            self.map
                .remove(&name)
                .context("cannot take a process name away")?;
            self.known.remove(&name);
        }
        for name in wanted {
            if !self.known.contains(&name) {
                self.map
                    .insert(name, 1, 0)
                    .context("cannot write the process names")?;
                self.known.insert(name);
            }
        }
        Ok(())
    }
}

fn command_name(process: &str) -> CommandName {
    let mut name = [0; 16];
    for (target, byte) in name.iter_mut().zip(process.bytes().take(15)) {
        *target = byte;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_names_are_cut_like_the_kernel_cuts_them() {
        assert_eq!(&command_name("valkey-server")[..14], b"valkey-server\0");
        assert_eq!(&command_name("a-very-long-process-name"), b"a-very-long-pro\0");
    }
}
