//! The configuration: one TOML file, read into raw structs ([`raw`]), checked once into [`Settings`], whose types
//! cannot hold a wrong value. Unknown keys, and keys that this version does not implement, are refused with their line.
#![forbid(unsafe_code)]

mod addresses;
mod check;
mod error;
mod raw;
mod settings;
mod workloads;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub use addresses::{AddressRange, RangeFault};
pub use error::{ConfigError, Position};
pub use settings::{
    Bounded, ClientLimit, Clients, Delimiters, Depth, Discovery, Http, IdleSeconds, Keys, Limits,
    PrefixBytes, PrefixLimit, PrefixPattern, Settings, SurveySeconds, TenantLimit, TenantName, TenantRule,
    WorkloadLimit, WorkloadRule,
};

/// Where the configuration is looked for when the command line names none.
pub const DEFAULT_PATH: &str = "/etc/stormglass/stormglass.toml";

/// Largest configuration file in bytes. 10,000 tenants with ten prefixes each need about half of it; what is larger is
/// not a configuration (a device, a log).
const FILE_BYTES: u64 = 4 << 20;

impl Settings {
    /// Reads and checks the file at `path`. Without a path: [`DEFAULT_PATH`] if it exists, else the defaults.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is not UTF-8 or TOML, or holds a key or value that this version does not accept.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        match path {
            Some(path) => Self::read(path, open(path)?),
            None => Self::load_default(Path::new(DEFAULT_PATH)),
        }
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

    fn load_default(path: &Path) -> Result<Self, ConfigError> {
        match File::open(path) {
            Ok(file) => Self::read(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(ConfigError::unreadable(path, &error)),
        }
    }

    fn read(path: &Path, file: File) -> Result<Self, ConfigError> {
        let mut bytes = Vec::new();
        file.take(FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| ConfigError::unreadable(path, &error))?;
        if bytes.len() as u64 > FILE_BYTES {
            return Err(ConfigError::file(
                path,
                format!("the file is larger than {} MiB", FILE_BYTES >> 20),
                "name a Stormglass configuration with --config".into(),
            ));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let at = error.utf8_error().valid_up_to();
            error::Source { path, text: &text }.error(
                at..at,
                "the file is not UTF-8 text".into(),
                "save it as UTF-8".into(),
            )
        })?;
        Self::parse(path, &text)
    }
}

fn open(path: &Path) -> Result<File, ConfigError> {
    File::open(path).map_err(|error| ConfigError::unreadable(path, &error))
}
