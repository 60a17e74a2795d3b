//! What has become of the configuration file while the agent runs.

use super::Settings;

/// What is in force, what was refused, what waits. Times are milliseconds since 1970 began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigStatus {
    /// The file in force; `None`: there is none, and the defaults are.
    pub file: Option<String>,
    /// When what is in force was read.
    pub read_at_ms: u64,
    /// The newer file that is not in force, if there is one.
    pub refused: Option<Refusal>,
    /// Keys that the file in force changes and the running agent cannot.
    pub waiting: Vec<WaitingKey>,
    /// Reloads that put a file in force.
    pub applied: u64,
    /// Reloads that did not.
    pub refusals: u64,
}

/// Why a file is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// When it was read.
    pub at_ms: u64,
    /// The file with the line, what is wrong there, and what to do.
    pub reason: String,
}

/// A key whose new value waits for a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingKey {
    /// The key.
    pub key: &'static str,
    /// What the agent runs with.
    pub running: String,
    /// What the file says.
    pub wanted: String,
}

impl ConfigStatus {
    /// At the start of the agent.
    #[must_use]
    pub fn started(file: Option<String>, read_at_ms: u64) -> Self {
        Self {
            file,
            read_at_ms,
            ..Self::default()
        }
    }

    /// A file was put in force. What was refused before is forgotten.
    pub fn applied(&mut self, file: Option<String>, read_at_ms: u64, waiting: Vec<WaitingKey>) {
        *self = Self {
            file,
            read_at_ms,
            refused: None,
            waiting,
            applied: self.applied + 1,
            refusals: self.refusals,
        };
    }

    /// A file was refused; what was in force stays so.
    pub fn refused(&mut self, at_ms: u64, reason: String) {
        self.refused = Some(Refusal { at_ms, reason });
        self.refusals += 1;
    }
}

/// A key, and its value as the file would say it.
type Key = (&'static str, fn(&Settings) -> String);

/// Keys that are fixed while the agent runs, with their values: an address that is listened on, and sizes of kernel maps.
pub const FIXED_KEYS: [Key; 6] = [
    ("alerts.dir", |settings| settings.alerts.dir.display().to_string()),
    ("http.listen", |settings| settings.http.listen.to_string()),
    ("http.web_config", |settings| {
        let path = settings.http.web_config.as_ref();
        path.map_or_else(String::new, |path| path.display().to_string())
    }),
    ("limits.prefixes", |settings| {
        settings.limits.prefixes.get().to_string()
    }),
    ("limits.clients", |settings| {
        settings.limits.clients.get().to_string()
    }),
    ("incidents.dir", |settings| {
        settings.incidents.dir.display().to_string()
    }),
];

/// The fixed keys that `wanted` has other values for than the agent was started with.
#[must_use]
pub fn waiting_keys(started: &Settings, wanted: &Settings) -> Vec<WaitingKey> {
    let keys = FIXED_KEYS.iter().map(|(key, value)| WaitingKey {
        key,
        running: value(started),
        wanted: value(wanted),
    });
    keys.filter(|key| key.running != key.wanted).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::parse(Path::new("test.toml"), text).expect("a good configuration")
    }

    #[test]
    fn only_what_is_fixed_waits_for_a_restart() {
        let started = settings("");
        let wanted = settings(
            "[http]\nlisten = \"127.0.0.1:1\"\n[keys]\ndepth = 2\n[discovery]\nports = [1]\n\
             [limits]\ntenants = 1\nprefixes = 7\nclients = 65536\n[[tenant]]\nname = \"a\"",
        );
        let waiting = waiting_keys(&started, &wanted);
        let waiting: Vec<_> = waiting
            .iter()
            .map(|key| (key.key, &*key.running, &*key.wanted))
            .collect();
        assert_eq!(
            waiting,
            [
                ("http.listen", "127.0.0.1:9466", "127.0.0.1:1"),
                ("limits.prefixes", "4096", "7")
            ]
        );
        assert!(waiting_keys(&started, &started).is_empty());
    }

    #[test]
    fn a_refused_file_is_known_until_one_is_put_in_force() {
        let mut status = ConfigStatus::started(Some("a.toml".into()), 1);
        status.refused(2, "why".into());
        status.refused(3, "why else".into());
        let refusal = status.refused.clone().expect("refused");
        assert_eq!((refusal.at_ms, &*refusal.reason), (3, "why else"));
        assert_eq!((status.read_at_ms, status.applied, status.refusals), (1, 0, 2));
        status.applied(None, 4, Vec::new());
        assert_eq!((status.refused.is_none(), status.read_at_ms), (true, 4));
        assert_eq!((status.applied, status.refusals), (1, 2));
    }
}
