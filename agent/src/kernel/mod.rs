//! The only place that knows aya: loads the programs, attaches them, reads and writes their maps. Nothing here decides
//! anything; the decisions are made in [`crate::daemon`] and the policy modules.
//!
//! One of the three places where `unsafe` is allowed: shared-memory maps, and types that cross the boundary.

mod attach;
mod batch;
mod classes;
mod declared;
mod identities;
mod load;
mod mapped;
mod names;
mod namespace;
mod parking;
mod requirements;
mod rows;
mod slots;
mod usage;

pub use attach::CgroupFailure;
pub use load::{KernelError, KernelSettings};
pub use namespace::netns_cookie;
pub use requirements::{Requirement, Verdict, check as check_requirements};
pub use rows::{RowInUse, Supply};
pub use slots::Readings;

use std::{fs::File, io::Read as _, os::fd::AsRawFd as _};

use agent_common::{
    abi::{
        ClientCounters, ClientKey, EndedKey, Event, KeySettings, ListenerCounters, ListenerKey, NameKey,
        PrefixCounters, PrefixKey, Seed,
    },
    limits,
};
use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, Queue, RingBuf},
    programs::{Iter, loaded_programs},
};
use tokio::io::unix::AsyncFd;

use crate::tenants::ClassTables;

use self::{
    attach::Attachments, classes::Classes, declared::Declared, mapped::Mapped, names::Names,
    parking::Parking, rows::Rows,
};

/// Whether the programs of an agent are in the kernel already.
///
/// # Errors
///
/// The kernel does not list its programs, to whom it does not have to.
pub fn is_watched() -> Result<bool> {
    for program in loaded_programs() {
        let program = program.context("cannot list the programs in the kernel")?;
        if program.name() == PROGRAM.as_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A program that every agent attaches.
const PROGRAM: &str = "sg_ingress";

/// A type of the boundary as aya wants it.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
struct Raw<T>(T);

// SAFETY: `bytemuck::Pod` asks for at least what aya's marker does: any bit pattern, no padding, no pointers.
unsafe impl<T: bytemuck::Pod> aya::Pod for Raw<T> {}

/// The loaded programs and their maps. Dropping it detaches everything.
pub struct Kernel {
    ebpf: Ebpf,
    attachments: Attachments,
    slots: Mapped<ListenerCounters>,
    rows: Mapped<PrefixCounters>,
    losses: Mapped<u64>,
    ports: Mapped<u32>,
    listeners: HashMap<MapData, Raw<ListenerKey>, u32>,
    prefixes: HashMap<MapData, Raw<PrefixKey>, u32>,
    clients: HashMap<MapData, Raw<ClientKey>, Raw<ClientCounters>>,
    ended: HashMap<MapData, Raw<EndedKey>, u64>,
    seeds: HashMap<MapData, u64, Raw<Seed>>,
    client_names: HashMap<MapData, Raw<NameKey>, u32>,
    settings: Array<MapData, Raw<KeySettings>>,
    keys: KeySettings,
    declared: Declared,
    classes: Classes,
    names: Names,
    free_slots: Queue<MapData, u32>,
    free_rows: Queue<MapData, u32>,
    free_tenant_rows: Queue<MapData, u32>,
    free_class_rows: Queue<MapData, u32>,
    rows_in_motion: Rows,
    parking: Parking,
    capacity: Capacity,
}

/// Entries that the sized maps can hold.
#[derive(Debug, Clone, Copy)]
struct Capacity {
    prefixes: u32,
    clients: u32,
}

/// Announcements from the kernel programs.
pub struct Events(AsyncFd<RingBuf<MapData>>);

impl Events {
    /// Waits for announcements and returns all that are there.
    ///
    /// # Errors
    ///
    /// When the ring cannot be polled, which no running kernel does.
    pub async fn next(&mut self) -> Result<Vec<Event>> {
        let mut guard = self
            .0
            .readable_mut()
            .await
            .context("cannot poll the event ring")?;
        let ring = guard.get_inner_mut();
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            if let Ok(event) = bytemuck::try_pod_read_unaligned::<Event>(&item) {
                events.push(event);
            }
        }
        guard.clear_ready();
        Ok(events)
    }
}

impl Kernel {
    /// How keys are cut from now on, and which prefixes without a delimiter are declared.
    ///
    /// # Errors
    ///
    /// When a map cannot be written: for a declared prefix the kernel needs memory. What was written until then stays; the
    /// settings before can be set again.
    pub fn set_key_settings(&mut self, keys: KeySettings, declared: &[Vec<u8>]) -> Result<()> {
        self.declared.replace(declared)?;
        self.keys = KeySettings {
            declared: u32::from(!declared.is_empty()),
            generation: self.keys.generation,
            class_generation: self.keys.class_generation,
            default_class: self.keys.default_class,
            ..keys
        };
        self.write_keys()?;
        // Afterwards: what a program finds by the settings of before must not pass for what these say.
        self.forget_known_prefixes()
    }

    /// Which connections have which class from now on, each from the next segment of its client on.
    ///
    /// # Errors
    ///
    /// When a map cannot be written: the kernel needs memory. What was written until then stays; the tables before can be set
    /// again.
    pub fn set_classes(&mut self, tables: &ClassTables) -> Result<()> {
        self.classes.replace(tables)?;
        self.classes.judge(&self.names())?;
        self.void_classes()
    }

    /// The same again for names that got their number in the very moment in which the tables were written. To be called a
    /// moment later.
    ///
    /// # Errors
    ///
    /// As [`Self::set_classes`].
    pub fn judge_names_again(&mut self) -> Result<()> {
        if self.classes.judge(&self.names())? {
            self.void_classes()?;
        }
        Ok(())
    }

    fn void_classes(&mut self) -> Result<()> {
        self.keys.default_class = u32::from(self.classes.tables().default_user);
        // Connections have half of it; new ones have 0.
        self.keys.class_generation = match self.keys.class_generation.wrapping_add(1) & 0xffff {
            0 => 1,
            generation => generation,
        };
        // Prefixes without a row may be another tenant's, too.
        self.forget_known_prefixes()
    }

    /// Announces the start of exactly these processes from now on.
    ///
    /// # Errors
    ///
    /// When the map cannot be written, which no running kernel does.
    pub fn announce_processes(&mut self, processes: &[String]) -> Result<()> {
        self.names.replace(processes)
    }

    /// Makes the programs forget which rows prefixes have, and how commands on them begin.
    fn forget_known_prefixes(&mut self) -> Result<()> {
        self.keys.generation = self.keys.generation.wrapping_add(1);
        self.write_keys()
    }

    fn write_keys(&mut self) -> Result<()> {
        self.settings
            .set(0, Raw(self.keys), 0)
            .context("cannot write the key settings")
    }

    /// Gives connections that existed before the agent their state, in the network namespace of the calling thread.
    /// Connections that have one already keep it.
    ///
    /// # Errors
    ///
    /// When the map cannot be written or the iterator cannot run.
    pub fn seed(&mut self, seeds: &[(u64, Seed)]) -> Result<()> {
        for chunk in seeds.chunks(limits::SEEDS) {
            for (cookie, seed) in chunk {
                self.seeds
                    .insert(cookie, Raw(*seed), 0)
                    .context("cannot write the seed map")?;
            }
            let result = self.run_iterator("sg_seed");
            for (cookie, _) in chunk {
                // A seed that stays behind does no harm: its socket has its state or is gone.
                let _ = self.seeds.remove(cookie);
            }
            result?;
        }
        Ok(())
    }

    /// Runs an iterator over the TCP sockets of the calling thread's network namespace, and returns what it writes.
    fn run_iterator(&mut self, name: &'static str) -> Result<Vec<u8>> {
        let program: &mut Iter = load::as_type(load::find(&mut self.ebpf, name)?)?;
        let mut run = || -> Result<Vec<u8>> {
            let link = program.attach()?;
            let mut file: File = program.take_link(link)?.into_file()?;
            let mut output = Vec::new();
            file.read_to_end(&mut output)?;
            Ok(output)
        };
        run().with_context(|| format!("cannot run the iterator {name}"))
    }

    /// Frees parking places whose connection has ended; `now` on the monotonic clock in nanoseconds.
    pub fn sweep_parking(&mut self, now: u64) {
        self.parking.sweep(now);
    }

    /// File descriptor numbers of the loaded programs, for their statistics.
    fn program_fds(&self) -> Vec<(&'static str, i32)> {
        load::PROGRAMS
            .iter()
            .filter_map(|name| {
                let fd = self.ebpf.program(name)?.fd().ok()?;
                Some((*name, std::os::fd::AsFd::as_fd(fd).as_raw_fd()))
            })
            .collect()
    }
}
