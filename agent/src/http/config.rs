//! What has become of the configuration file: `/api/v1/config`.

use serde::Serialize;

use crate::config::ConfigStatus;
use crate::time::utc;

/// `/api/v1/config`.
pub(super) fn json(status: &ConfigStatus) -> serde_json::Result<Vec<u8>> {
    let refused = status.refused.as_ref().map(|refusal| Refused {
        at: utc(refusal.at_ms),
        reason: &refusal.reason,
    });
    let waiting = status.waiting.iter().map(|key| Waiting {
        key: key.key,
        running: &key.running,
        wanted: &key.wanted,
    });
    serde_json::to_vec(&Config {
        file: status.file.as_deref(),
        read_at: utc(status.read_at_ms),
        refused,
        waiting_for_restart: waiting.collect(),
        reloads: Reloads {
            applied: status.applied,
            refused: status.refusals,
        },
    })
}

/// What has become of the configuration file.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ConfigurationStatus"))]
pub(super) struct Config<'a> {
    /// Null: there is no file, the defaults are in force.
    file: Option<&'a str>,
    /// When it was read, UTC.
    read_at: String,
    /// A newer file that is not in force; null if there is none.
    refused: Option<Refused<'a>>,
    /// Keys whose new values take effect at the next start.
    waiting_for_restart: Vec<Waiting<'a>>,
    /// Since the agent began.
    reloads: Reloads,
}

/// A file that is not in force.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "RefusedConfiguration"))]
struct Refused<'a> {
    /// When, UTC.
    at: String,
    /// With the line and what to do.
    reason: &'a str,
}

/// A key whose new value is not in force.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "WaitingKey"))]
struct Waiting<'a> {
    /// As in the file, with its section.
    key: &'a str,
    /// The value in force.
    running: &'a str,
    /// The value of the file.
    wanted: &'a str,
}

/// What has become of newer files.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Reloads {
    /// Put in force.
    applied: u64,
    /// Refused.
    refused: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WaitingKey;

    fn status() -> ConfigStatus {
        let waiting = WaitingKey {
            key: "limits.clients",
            running: "65536".into(),
            wanted: "7".into(),
        };
        let mut status = ConfigStatus::started(None, 0);
        status.applied(Some("/etc/a&b.toml".into()), 1_795_412_506_000, vec![waiting]);
        status
    }

    #[test]
    fn a_refused_file_is_named_with_its_reason() {
        let mut status = status();
        status.refused(1_795_412_800_000, "a.toml:3:1: unknown key `<b>`".into());
        let page: serde_json::Value = serde_json::from_slice(&json(&status).expect("written")).expect("JSON");
        assert_eq!(
            page,
            serde_json::json!({
                "file": "/etc/a&b.toml", "read_at": "2026-11-23T05:41:46Z",
                "refused": {"at": "2026-11-23T05:46:40Z", "reason": "a.toml:3:1: unknown key `<b>`"},
                "waiting_for_restart": [{"key": "limits.clients", "running": "65536", "wanted": "7"}],
                "reloads": {"applied": 1, "refused": 1},
            })
        );
    }
}
