//! Loading: the embedded object, the maps' sizes, the verifier's verdict.

use agent_common::{
    abi::{KeySettings, Row, called},
    limits,
};
use anyhow::{Context as _, Result, anyhow};
use aya::{
    Btf, Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Array, HashMap, Map, MapData, ProgramArray, Queue, RingBuf, lpm_trie::LpmTrie},
    programs::{CgroupSkb, Iter, Program, ProgramError, RawTracePoint, SockOps},
};
use tokio::io::unix::AsyncFd;

use crate::tenants::{ClassTables, PrefixTable};

use super::{
    Capacity, Events, Kernel, attach::Attachments, classes::Classes, declared::Declared, mapped::Mapped,
    names::Names, parking::Parking, rows::Rows,
};

/// Programs of the kernel object.
pub(super) const PROGRAMS: [&str; 7] = [
    "sg_ingress",
    "sg_egress",
    "sg_unread",
    "sg_sockets",
    "sg_exec",
    "sg_seed",
    "sg_list",
];

/// How many lines of the verifier's log an error shows.
const LOG_LINES: usize = 20;

/// What the programs are loaded with.
#[derive(Debug, Clone)]
pub struct KernelSettings {
    /// How keys are cut.
    pub keys: KeySettings,
    /// Prefixes without a delimiter.
    pub declared: Vec<Vec<u8>>,
    /// Which connections have which class.
    pub classes: ClassTables,
    /// Which prefixes are tenants'.
    pub tenant_prefixes: PrefixTable,
    /// Prefixes, over all servers, with a row of their own.
    pub prefixes: u32,
    /// Client addresses, over all servers, with an entry of their own.
    pub clients: u32,
    /// Names of server processes, whose start is announced.
    pub processes: Vec<String>,
}

/// Why the programs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The daemon was built without them.
    #[error("this stormglass was built without its kernel programs; build it with `cargo xtask build`")]
    NoObject,
    /// The verifier refused one.
    #[error(
        "the kernel ({kernel}) refused the program {program}: {reason}\nthe last lines of the verifier's log:\n{log}\n\
         this is a defect of stormglass or an unsupported kernel: report it with these lines"
    )]
    Refused {
        /// Name of the program.
        program: &'static str,
        /// Release of the running kernel.
        kernel: String,
        /// The system call's error.
        reason: String,
        /// The verifier gave up at its limit of instructions.
        too_large: bool,
        /// Tail of the verifier's log.
        log: String,
    },
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

#[cfg(stormglass_bpf_object)]
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("STORMGLASS_BPF_OBJECT"));
#[cfg(not(stormglass_bpf_object))]
static OBJECT: &[u8] = &[];

impl Kernel {
    /// Loads the programs and makes their maps. Nothing is attached yet, apart from the announcement of new processes.
    ///
    /// # Errors
    ///
    /// [`KernelError`]; what to do is in its text.
    pub fn load(settings: &KernelSettings) -> Result<(Self, Events), KernelError> {
        if OBJECT.is_empty() {
            return Err(KernelError::NoObject);
        }
        let capacity = Capacity {
            prefixes: settings.prefixes.clamp(1, limits::PREFIXES as u32),
            clients: settings.clients.clamp(1, limits::CLIENTS as u32),
        };
        let ebpf = match load_object(capacity, VerifierLogLevel::STATS) {
            // Again, for the verifier's words; but of a program that is too large they are too many to be waited for.
            Err(KernelError::Refused { too_large: false, .. }) => {
                load_object(capacity, VerifierLogLevel::default())
            }
            result => result,
        }?;
        let (mut kernel, events) = Self::with_maps(ebpf, capacity)?;
        kernel.set_key_settings(settings.keys, &settings.declared)?;
        kernel.set_tenant_prefixes(&settings.tenant_prefixes)?;
        kernel.set_classes(&settings.classes)?;
        kernel.fill_free_lists()?;
        kernel.announce_processes(&settings.processes)?;
        kernel.attach_to_exec()?;
        Ok((kernel, events))
    }

    fn with_maps(mut ebpf: Ebpf, capacity: Capacity) -> Result<(Self, Events)> {
        let events = RingBuf::try_from(take(&mut ebpf, "SG_EVENTS")?)?;
        let kernel = Self {
            attachments: Attachments::default(),
            slots: Mapped::new(take_array(&mut ebpf, "SG_SLOTS")?, limits::LISTENERS)?,
            rows: Mapped::new(take_array(&mut ebpf, "SG_ROWS")?, limits::PREFIX_ROWS)?,
            losses: Mapped::new(take_array(&mut ebpf, "SG_LOSSES")?, agent_common::abi::LOSSES)?,
            ports: Mapped::new(take_array(&mut ebpf, "SG_PORTS")?, PORT_WORDS)?,
            listeners: HashMap::try_from(take(&mut ebpf, "SG_LISTENERS")?)?,
            prefixes: HashMap::try_from(take(&mut ebpf, "SG_PREFIXES")?)?,
            clients: HashMap::try_from(take(&mut ebpf, "SG_CLIENTS")?)?,
            ended: HashMap::try_from(take(&mut ebpf, "SG_ENDED")?)?,
            seeds: HashMap::try_from(take(&mut ebpf, "SG_SEEDS")?)?,
            client_names: HashMap::try_from(take(&mut ebpf, "SG_NAME_TABLE")?)?,
            settings: Array::try_from(take(&mut ebpf, "SG_SETTINGS")?)?,
            keys: KeySettings::new(b":", 1, limits::PREFIX_BYTES as u32),
            declared: Declared::new(LpmTrie::try_from(take(&mut ebpf, "SG_DECLARED")?)?),
            classes: Classes::new(
                LpmTrie::try_from(take(&mut ebpf, "SG_CLASS_NAMES")?)?,
                LpmTrie::try_from(take(&mut ebpf, "SG_CLASS_ADDRESSES")?)?,
                HashMap::try_from(take(&mut ebpf, "SG_NAME_CLASSES")?)?,
            ),
            names: Names::new(HashMap::try_from(take(&mut ebpf, "SG_NAMES")?)?),
            free_slots: Queue::try_from(take(&mut ebpf, "SG_FREE_SLOTS")?)?,
            free_rows: Queue::try_from(take(&mut ebpf, "SG_FREE_ROWS")?)?,
            free_tenant_rows: Queue::try_from(take(&mut ebpf, "SG_FREE_TENANT_ROWS")?)?,
            rows_in_motion: Rows::new(LpmTrie::try_from(take(&mut ebpf, "SG_TENANT_PREFIXES")?)?),
            free_class_rows: Queue::try_from(take(&mut ebpf, "SG_FREE_CLASS_ROWS")?)?,
            parking: Parking::new(
                HashMap::try_from(take(&mut ebpf, "SG_PARKED")?)?,
                Queue::try_from(take(&mut ebpf, "SG_FREE_PLACES")?)?,
                Array::try_from(take(&mut ebpf, "SG_PARKING")?)?,
            )?,
            capacity,
            ebpf,
        };
        // SAFETY: the ring owns its file descriptor and never replaces it.
        let events = unsafe { AsyncFd::register(events) };
        let events = Events(events.context("cannot poll the event ring")?);
        Ok((kernel, events))
    }

    fn fill_free_lists(&mut self) -> Result<()> {
        for slot in 0..limits::LISTENERS as u32 {
            self.free_slots
                .push(slot, 0)
                .context("cannot fill the list of free slots")?;
        }
        for id in (0..self.capacity.prefixes).chain(limits::PREFIXES as u32..limits::KEYED_ROWS as u32) {
            self.free_row(Row::interned(id))
                .context("cannot fill the lists of free rows")?;
        }
        Ok(())
    }

    fn attach_to_exec(&mut self) -> Result<()> {
        as_type::<RawTracePoint>(find(&mut self.ebpf, "sg_exec")?)?
            .attach("sched_process_exec")
            .context("cannot attach to the start of processes")?;
        Ok(())
    }
}

/// Words of the port bitmap.
pub(super) const PORT_WORDS: usize = 65_536 / 32;

/// Makes the maps and loads the programs, with so much of the verifier's log in errors.
fn load_object(capacity: Capacity, log: VerifierLogLevel) -> Result<Ebpf, KernelError> {
    let mut ebpf = EbpfLoader::new()
        .map_max_entries("SG_CLIENTS", capacity.clients)
        .verifier_log_level(log)
        .load(OBJECT)
        .context("cannot create the maps of the kernel programs; `stormglass doctor` says what is missing")?;
    load_programs(&mut ebpf)?;
    fill_called(&mut ebpf)?;
    Ok(ebpf)
}

fn load_programs(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    let btf = Btf::from_sys_fs().context(
        "cannot read the kernel's types at /sys/kernel/btf/vmlinux; run a kernel with CONFIG_DEBUG_INFO_BTF=y",
    )?;
    for name in PROGRAMS {
        let program = find(ebpf, name)?;
        let result = match name {
            "sg_ingress" | "sg_egress" | "sg_unread" => as_type::<CgroupSkb>(program)?.load(),
            "sg_sockets" => as_type::<SockOps>(program)?.load(),
            "sg_exec" => as_type::<RawTracePoint>(program)?.load(),
            _ => as_type::<Iter>(program)?.load("tcp", &btf),
        };
        result.map_err(|error| refused(name, error))?;
    }
    Ok(())
}

/// Fills the table of programs that others go on with.
fn fill_called(ebpf: &mut Ebpf) -> Result<()> {
    for (index, name) in [(called::UNREAD, "sg_unread"), (called::EGRESS, "sg_egress")] {
        let program = as_type::<CgroupSkb>(find(ebpf, name)?)?.fd()?.try_clone()?;
        let table = ebpf.map_mut("SG_CALLED").ok_or_else(|| {
            anyhow!("the kernel object has no map SG_CALLED; rebuild with `cargo xtask build`")
        })?;
        // The map stays with the object: the kernel empties one that no process holds.
        ProgramArray::try_from(table)?
            .set(index, &program, 0)
            .with_context(|| format!("cannot have {name} called by others"))?;
    }
    Ok(())
}

/// A program of the object by its name.
pub(super) fn find<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    ebpf.program_mut(name)
        .ok_or_else(|| anyhow!("the kernel object has no program {name}; rebuild with `cargo xtask build`"))
}

/// The program as one of its type.
pub(super) fn as_type<'a, T>(program: &'a mut Program) -> Result<&'a mut T>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    Ok(program.try_into()?)
}

fn refused(program: &'static str, error: ProgramError) -> KernelError {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => KernelError::Refused {
            program,
            kernel: super::requirements::kernel_release(),
            reason: io_error.to_string(),
            too_large: io_error.raw_os_error() == Some(libc::E2BIG),
            log: tail(&verifier_log.to_string(), LOG_LINES),
        },
        other => KernelError::Other(anyhow!(other).context(format!("cannot load the program {program}"))),
    }
}

/// The last lines of a text.
fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name)
        .ok_or_else(|| anyhow!("the kernel object has no map {name}; rebuild with `cargo xtask build`"))
}

fn take_array(ebpf: &mut Ebpf, name: &str) -> Result<MapData> {
    match take(ebpf, name)? {
        Map::Array(data) => Ok(data),
        _ => Err(anyhow!(
            "the map {name} is no array; rebuild with `cargo xtask build`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tail_of_the_verifiers_log_is_shown() {
        let log: String = (0..500).map(|line| format!("line {line}\n\n")).collect();
        let shown = tail(&log, 3);
        assert_eq!(shown, "line 497\nline 498\nline 499");
        assert_eq!(tail("one", 3), "one");
    }
}
