//! `[incidents]`: what is recorded of storms. The checked type, and its check.

use std::path::PathBuf;

use super::check::{Result, bounded};
use super::error::Source;
use super::raw;
use super::receivers::folder;
use super::settings::Bounded;

/// Where incidents lie, unless the file says otherwise.
const DIR: &str = "/var/lib/stormglass/incidents";

/// `incidents.before_seconds`.
pub type BeforeSeconds = Bounded<0, 600>;
/// `incidents.after_seconds`.
pub type AfterSeconds = Bounded<0, 600>;
/// `incidents.keep_days`.
pub type KeepDays = Bounded<1, 3_650>;
/// `incidents.keep_megabytes`.
pub type KeepMegabytes = Bounded<1, 1_048_576>;

/// `[incidents]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incidents {
    /// Whether storms are recorded.
    pub enabled: bool,
    /// Folder of the files.
    pub dir: PathBuf,
    /// How much of the time before a storm is in its incident.
    pub before_seconds: BeforeSeconds,
    /// How much of the time after it.
    pub after_seconds: AfterSeconds,
    /// How long incidents are kept.
    pub keep_days: KeepDays,
    /// How much of them, in MiB.
    pub keep_megabytes: KeepMegabytes,
}

impl Default for Incidents {
    fn default() -> Self {
        Self {
            enabled: true,
            dir: DIR.into(),
            before_seconds: const { BeforeSeconds::constant(120) },
            after_seconds: const { AfterSeconds::constant(60) },
            keep_days: const { KeepDays::constant(30) },
            keep_megabytes: const { KeepMegabytes::constant(256) },
        }
    }
}

/// Checks `[incidents]`.
pub(super) fn incidents(file: &Source<'_>, raw: &raw::Incidents) -> Result<Incidents> {
    let default = Incidents::default();
    Ok(Incidents {
        enabled: raw.enabled.unwrap_or(default.enabled),
        dir: match &raw.dir {
            Some(dir) => folder(file, "incidents.dir", dir)?,
            None => default.dir,
        },
        before_seconds: bounded(
            file,
            "incidents.before_seconds",
            raw.before_seconds.as_ref(),
            default.before_seconds,
        )?,
        after_seconds: bounded(
            file,
            "incidents.after_seconds",
            raw.after_seconds.as_ref(),
            default.after_seconds,
        )?,
        keep_days: bounded(
            file,
            "incidents.keep_days",
            raw.keep_days.as_ref(),
            default.keep_days,
        )?,
        keep_megabytes: bounded(
            file,
            "incidents.keep_megabytes",
            raw.keep_megabytes.as_ref(),
            default.keep_megabytes,
        )?,
    })
}
