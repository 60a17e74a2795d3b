//! The file as serde reads it: every key optional, nothing checked but the types. [`super::check`] does the rest.
//! deploy/stormglass.example.toml documents each key; a test holds the two together.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::storms::RawStorms;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) http: Http,
    pub(super) command_line: CommandLine,
    pub(super) discovery: Discovery,
    pub(super) keys: Keys,
    pub(super) limits: Limits,
    pub(super) clients: Clients,
    pub(super) kubernetes: Kubernetes,
    pub(super) tenant: Vec<Spanned<Tenant>>,
    pub(super) workload: Vec<Spanned<Workload>>,
    pub(super) storms: RawStorms,
    pub(super) alerts: Alerts,
    pub(super) incidents: Incidents,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    pub(super) listen: Option<Spanned<String>>,
    pub(super) web_config: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CommandLine {
    pub(super) url: Option<Spanned<String>>,
    pub(super) ca_file: Option<Spanned<String>>,
    pub(super) basic_auth_user: Option<Spanned<String>>,
    pub(super) basic_auth_password_file: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Discovery {
    pub(super) processes: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) ports: Option<Vec<Spanned<i64>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Keys {
    pub(super) delimiters: Option<Spanned<String>>,
    pub(super) depth: Option<Spanned<i64>>,
    pub(super) max_prefix_bytes: Option<Spanned<i64>>,
    pub(super) hash_tags: Option<bool>,
    pub(super) hash_prefixes: Option<bool>,
    pub(super) hash_key_file: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) tenants: Option<Spanned<i64>>,
    pub(super) prefixes: Option<Spanned<i64>>,
    pub(super) clients: Option<Spanned<i64>>,
    pub(super) workloads: Option<Spanned<i64>>,
    pub(super) libraries: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Clients {
    pub(super) idle_after_seconds: Option<Spanned<i64>>,
    pub(super) survey_seconds: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Kubernetes {
    pub(super) enabled: Option<Spanned<Switch>>,
    pub(super) kubeconfig: Option<Spanned<String>>,
    pub(super) node: Option<Spanned<String>>,
    pub(super) client_pods: Option<bool>,
    pub(super) labels: Option<Spanned<Vec<Spanned<String>>>>,
}

/// `true`, `false` or a word.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "`true`, `false` or \"auto\"")]
pub(super) enum Switch {
    Flag(bool),
    Word(String),
}

/// A text, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text, or a list of texts")]
pub(super) enum Texts {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Workload {
    pub(super) name: Option<Spanned<String>>,
    pub(super) addresses: Vec<Spanned<String>>,
    pub(super) kubernetes: Option<Spanned<Texts>>,
    pub(super) users: Vec<Spanned<String>>,
    pub(super) client_names: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tenant {
    pub(super) name: Option<Spanned<String>>,
    pub(super) owner: Option<Spanned<String>>,
    pub(super) prefixes: Vec<Spanned<String>>,
    pub(super) labels: BTreeMap<Spanned<String>, String>,
    pub(super) users: Vec<Spanned<String>>,
    pub(super) client_names: Vec<Spanned<String>>,
    pub(super) addresses: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Alerts {
    pub(super) dir: Option<Spanned<String>>,
    pub(super) node: Option<Spanned<String>>,
    pub(super) external_url: Option<Spanned<String>>,
    pub(super) runbook_url: Option<Spanned<String>>,
    pub(super) send_expected: Option<bool>,
    pub(super) labels: BTreeMap<Spanned<String>, String>,
    pub(super) alertmanager: Option<Spanned<Alertmanager>>,
    pub(super) webhook: Vec<Spanned<Webhook>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Incidents {
    pub(super) enabled: Option<bool>,
    pub(super) dir: Option<Spanned<String>>,
    pub(super) before_seconds: Option<Spanned<i64>>,
    pub(super) after_seconds: Option<Spanned<i64>>,
    pub(super) keep_days: Option<Spanned<i64>>,
    pub(super) keep_megabytes: Option<Spanned<i64>>,
}

/// Declares a table that has the keys of [`Transport`] beside its own: serde cannot flatten and refuse unknown keys as well.
macro_rules! receiver {
    ($name:ident: $($key:ident: $type:ty),+) => {
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct $name {
            $(pub(super) $key: $type,)+
            pub(super) timeout_seconds: Option<Spanned<i64>>,
            pub(super) ca_file: Option<Spanned<String>>,
            pub(super) bearer_token_file: Option<Spanned<String>>,
            pub(super) basic_auth_user: Option<Spanned<String>>,
            pub(super) basic_auth_password_file: Option<Spanned<String>>,
        }

        impl $name {
            pub(super) const fn transport(&self) -> Transport<'_> {
                Transport {
                    timeout_seconds: self.timeout_seconds.as_ref(),
                    ca_file: self.ca_file.as_ref(),
                    bearer_token_file: self.bearer_token_file.as_ref(),
                    basic_auth_user: self.basic_auth_user.as_ref(),
                    basic_auth_password_file: self.basic_auth_password_file.as_ref(),
                }
            }
        }
    };
}

receiver! { Alertmanager:
    url: Option<Spanned<String>>,
    urls: Vec<Spanned<String>>,
    resend_seconds: Option<Spanned<i64>>,
    min_firing_seconds: Option<Spanned<i64>>
}

receiver! { Webhook:
    name: Option<Spanned<String>>,
    url: Option<Spanned<String>>,
    hmac_secret_file: Option<Spanned<String>>
}

/// How requests get to a receiver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transport<'a> {
    pub(super) timeout_seconds: Option<&'a Spanned<i64>>,
    pub(super) ca_file: Option<&'a Spanned<String>>,
    pub(super) bearer_token_file: Option<&'a Spanned<String>>,
    pub(super) basic_auth_user: Option<&'a Spanned<String>>,
    pub(super) basic_auth_password_file: Option<&'a Spanned<String>>,
}
