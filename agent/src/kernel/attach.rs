//! Which cgroups the programs are attached to. Links live with the process: when it ends, however it ends, the kernel
//! detaches them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, SockOps, cgroup_skb::CgroupSkbLink,
    sock_ops::SockOpsLink,
};

use super::{
    Kernel,
    load::{as_type, find},
};

/// Links by cgroup.
#[derive(Debug, Default)]
pub(super) struct Attachments(BTreeMap<PathBuf, Links>);

/// The three links of a cgroup. Held for their drop.
#[derive(Debug)]
struct Links {
    _sockets: SockOpsLink,
    _ingress: CgroupSkbLink,
    _egress: CgroupSkbLink,
}

/// A cgroup that could not be watched.
#[derive(Debug)]
pub struct CgroupFailure {
    /// Its directory.
    pub cgroup: PathBuf,
    /// Why.
    pub error: anyhow::Error,
}

impl Kernel {
    /// Makes the watched cgroups exactly `wanted`. New ones are attached before old ones are let go, so that a server
    /// covered by both is never uncovered.
    pub fn watch_cgroups(&mut self, wanted: &BTreeSet<PathBuf>) -> Vec<CgroupFailure> {
        let mut failures = Vec::new();
        for cgroup in wanted {
            if self.attachments.0.contains_key(cgroup) {
                continue;
            }
            match self.attach(cgroup) {
                Ok(links) => {
                    tracing::info!(cgroup = %cgroup.display(), "watching cgroup");
                    self.attachments.0.insert(cgroup.clone(), links);
                }
                Err(error) => failures.push(CgroupFailure {
                    cgroup: cgroup.clone(),
                    error,
                }),
            }
        }
        self.attachments.0.retain(|cgroup, _| {
            let keep = wanted.contains(cgroup);
            if !keep {
                tracing::info!(cgroup = %cgroup.display(), "no longer watching cgroup");
            }
            keep
        });
        failures
    }

    /// Whether a cgroup is watched itself.
    #[must_use]
    pub fn watches(&self, cgroup: &Path) -> bool {
        self.attachments.0.contains_key(cgroup)
    }

    fn attach(&mut self, cgroup: &Path) -> Result<Links> {
        let directory =
            File::open(cgroup).with_context(|| format!("cannot open the cgroup {}", cgroup.display()))?;
        Ok(Links {
            _sockets: self.attach_sockets(&directory)?,
            _ingress: self.attach_packets("sg_ingress", &directory, CgroupSkbAttachType::Ingress)?,
            _egress: self.attach_packets("sg_egress", &directory, CgroupSkbAttachType::Egress)?,
        })
    }

    fn attach_sockets(&mut self, cgroup: &File) -> Result<SockOpsLink> {
        let program: &mut SockOps = as_type(find(&mut self.ebpf, "sg_sockets")?)?;
        let link = program
            .attach(cgroup, CgroupAttachMode::Single)
            .context(ATTACH_HELP)?;
        Ok(program.take_link(link)?)
    }

    fn attach_packets(
        &mut self,
        name: &str,
        cgroup: &File,
        direction: CgroupSkbAttachType,
    ) -> Result<CgroupSkbLink> {
        let program: &mut CgroupSkb = as_type(find(&mut self.ebpf, name)?)?;
        // A link always allows others beside it (kernel/bpf/cgroup.c, cgroup_bpf_link_attach); the mode must be empty.
        let link = program
            .attach(cgroup, direction, CgroupAttachMode::Single)
            .context(ATTACH_HELP)?;
        Ok(program.take_link(link)?)
    }
}

const ATTACH_HELP: &str = "cannot attach to the cgroup: another program may be attached to it or to a cgroup above it \
                           without allowing others (`bpftool cgroup tree` shows it)";
