//! The configuration: one TOML file, read into raw structs ([`raw`]), checked once into [`Settings`], whose types
//! cannot hold a wrong value. Unknown keys, and keys that this version does not implement, are refused with their line.
#![forbid(unsafe_code)]

mod addresses;
mod check;
mod error;
mod file;
mod globs;
mod hash_key;
mod incidents;
mod kubernetes;
mod names;
mod raw;
mod receivers;
mod settings;
mod status;
mod storms;
mod workloads;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use addresses::{AddressRange, RangeFault};
pub use error::{ConfigError, Position};
pub use file::{Changes, ConfigFile, Configuration, Content, Look};
pub use globs::Globs;
pub use hash_key::{HashKeyFile, HashKeys};
pub use incidents::{AfterSeconds, BeforeSeconds, Incidents, KeepDays, KeepMegabytes};
pub use names::NamePattern;
pub use receivers::{
    Alertmanager, Alerts, Credentials, MinFiringSeconds, Receiver, ReceiverUrl, ResendSeconds,
    TimeoutSeconds, Webhook,
};
pub use settings::{
    Bounded, ClientLimit, Clients, CommandLine, Delimiters, Depth, Discovery, Http, IdleSeconds, Keys,
    Kubernetes, KubernetesSwitch, LibraryLimit, Limits, PrefixBytes, PrefixLimit, PrefixPattern, Settings,
    SurveySeconds, TenantLimit, TenantName, TenantRule, WorkloadLimit, WorkloadRule,
};
pub use status::{ConfigStatus, FIXED_KEYS, Refusal, WaitingKey, waiting_keys};
pub use storms::{
    AcceptQueueSaturation, ColdReconnect, ConnectionGrowth, Floor, MaxclientsRejection, Percent,
    ReconnectChurn, Storms,
};

/// Where the configuration is looked for when the command line names none.
pub const DEFAULT_PATH: &str = "/etc/stormglass/stormglass.toml";

impl Settings {
    /// Reads and checks the file at `path`. Without a path: [`DEFAULT_PATH`] if it exists, else the defaults.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is not UTF-8 or TOML, or holds a key or value that this version does not accept.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        Configuration::load(path).map(|configuration| configuration.settings)
    }

    /// Checks `text`; `path` is only named in errors.
    ///
    /// # Errors
    ///
    /// As [`Settings::load`], without those of reading.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file = error::Source { path, text };
        let raw = toml::from_str(text).map_err(|error| file.toml_error(&error))?;
        check::settings(&file, &raw)
    }
}
