//! `[alerts]`: who is told of storms. The checked types, and their checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use axum::http::Uri;
use toml::Spanned;

use super::check::{Result, bounded, is_label_name};
use super::error::Source;
use super::raw;
use super::settings::{Bounded, CommandLine};

/// Where the state of alerts lies, unless the file says otherwise.
const DIR: &str = "/var/lib/stormglass/alerts";

/// Receivers of a kind: each is a task with a queue.
const RECEIVERS: usize = 16;

/// Longest name of a receiver in bytes; it is a label of its metrics.
const NAME_BYTES: usize = 128;

/// Labels that alerts have anyway.
const OWN_LABELS: [&str; 5] = ["alertname", "kind", "server", "severity", "node"];

/// `[alerts]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alerts {
    /// Folder of the journal and of announced restarts.
    pub dir: PathBuf,
    /// Label `node`; `None`: the host's name.
    pub node: Option<String>,
    /// Where people reach this agent; `None`: `http.listen`.
    pub external_url: Option<String>,
    /// Where runbooks are, `{kind}` standing for the kind of a storm; `None`: at the agent's own pages.
    pub runbook_url: Option<String>,
    /// Whether receivers are told of storms that somebody has announced.
    pub send_expected: bool,
    /// Labels of every alert.
    pub labels: BTreeMap<String, String>,
    /// Alertmanagers, each of which is told everything.
    pub alertmanagers: Vec<Alertmanager>,
    /// Webhooks, in file order. Names are unique.
    pub webhooks: Vec<Webhook>,
}

/// One Alertmanager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alertmanager {
    /// Where it is, without `/api/v2/alerts`.
    pub receiver: Receiver,
    /// How often alerts that go on are sent again.
    pub resend_seconds: ResendSeconds,
    /// How long an alert stays, at least, once it was taken.
    pub min_firing_seconds: MinFiringSeconds,
}

/// One `[[alerts.webhook]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where it is.
    pub receiver: Receiver,
    /// File with the secret that signs what is sent.
    pub hmac_secret_file: Option<PathBuf>,
}

/// Somebody who is told by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Label `receiver`; unique among its kind.
    pub name: String,
    /// Where requests go.
    pub url: ReceiverUrl,
    /// How long a request may take.
    pub timeout_seconds: TimeoutSeconds,
    /// Certificates that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Who the agent says it is.
    pub credentials: Option<Credentials>,
}

/// How the agent says who it is. The files are read for each request: secrets may be replaced at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `Authorization: Bearer`, with what the file holds.
    Bearer(PathBuf),
    /// `Authorization: Basic`, with the password that the file holds.
    Basic(String, PathBuf),
}

/// `alerts.alertmanager.resend_seconds`.
pub type ResendSeconds = Bounded<1, 3_600>;
/// `alerts.alertmanager.min_firing_seconds`.
pub type MinFiringSeconds = Bounded<0, 3_600>;
/// `timeout_seconds` of a receiver.
pub type TimeoutSeconds = Bounded<1, 60>;

/// An absolute HTTP or HTTPS URL without credentials. What is behind the host may be a secret, and is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiverUrl(Uri);

impl ReceiverUrl {
    /// # Errors
    ///
    /// What is wrong with it, to follow the URL.
    pub fn new(text: &str) -> std::result::Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "is not a URL")?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            _ => return Err("begins with neither http:// nor https://"),
        }
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => Err("has credentials in it"),
            Some(authority) if !authority.host().is_empty() => Ok(Self(uri)),
            _ => Err("has no host"),
        }
    }

    /// Host and port, as they are written.
    #[must_use]
    pub fn place(&self) -> &str {
        self.0.authority().map_or("", |authority| authority.as_str())
    }

    /// Whether it asks for TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// The URL.
    #[must_use]
    pub const fn uri(&self) -> &Uri {
        &self.0
    }

    /// The same with `path` behind its own.
    #[must_use]
    pub fn join(&self, path: &str) -> Option<Uri> {
        let base = self.0.path().trim_end_matches('/');
        let mut parts = self.0.clone().into_parts();
        parts.path_and_query = Some(format!("{base}{path}").parse().ok()?);
        Uri::from_parts(parts).ok()
    }
}

impl fmt::Debug for ReceiverUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/...", self.place())
    }
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            dir: DIR.into(),
            node: None,
            external_url: None,
            runbook_url: None,
            send_expected: false,
            labels: BTreeMap::new(),
            alertmanagers: Vec::new(),
            webhooks: Vec::new(),
        }
    }
}

/// Checks `[alerts]`.
pub(super) fn alerts(file: &Source<'_>, raw: &raw::Alerts) -> Result<Alerts> {
    let default = Alerts::default();
    Ok(Alerts {
        dir: match &raw.dir {
            Some(dir) => folder(file, "alerts.dir", dir)?,
            None => default.dir,
        },
        node: raw.node.as_ref().map(|node| line(file, node)).transpose()?,
        external_url: raw.external_url.as_ref().map(|url| page(file, url)).transpose()?,
        runbook_url: raw.runbook_url.as_ref().map(|url| page(file, url)).transpose()?,
        send_expected: raw.send_expected.unwrap_or(default.send_expected),
        labels: labels(file, &raw.labels)?,
        alertmanagers: match &raw.alertmanager {
            Some(raw) => alertmanagers(file, raw)?,
            None => Vec::new(),
        },
        webhooks: webhooks(file, &raw.webhook)?,
    })
}

/// An absolute path.
pub(super) fn folder(file: &Source<'_>, key: &str, raw: &Spanned<String>) -> Result<PathBuf> {
    let path = PathBuf::from(raw.get_ref());
    if path.is_absolute() {
        return Ok(path);
    }
    Err(file.error(
        raw.span(),
        format!("`{key}` is not an absolute path"),
        "begin it with a slash".into(),
    ))
}

/// A text of one line that is not empty.
fn line(file: &Source<'_>, raw: &Spanned<String>) -> Result<String> {
    let text = raw.get_ref();
    if text.trim() == text && !text.is_empty() && !text.contains(char::is_control) {
        return Ok(text.clone());
    }
    Err(file.error(
        raw.span(),
        format!("{text:?} is empty, or has white space around it or a control character in it"),
        "write one line, or leave the key out".into(),
    ))
}

/// The URL of a page for people.
fn page(file: &Source<'_>, raw: &Spanned<String>) -> Result<String> {
    let text = line(file, raw)?;
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(text.trim_end_matches('/').to_owned());
    }
    Err(file.error(
        raw.span(),
        format!("`{text}` begins with neither http:// nor https://"),
        "write the whole URL".into(),
    ))
}

fn labels(file: &Source<'_>, raw: &BTreeMap<Spanned<String>, String>) -> Result<BTreeMap<String, String>> {
    let checked = raw.iter().map(|(key, value)| {
        let name = key.get_ref();
        if is_label_name(name) && !OWN_LABELS.contains(&name.as_str()) {
            return Ok((name.clone(), value.clone()));
        }
        Err(file.error(
            key.span(),
            format!("`{name}` cannot be the name of a label of alerts"),
            format!(
                "use letters, digits and underscores, not a digit first, and none of {}",
                OWN_LABELS.join(", ")
            ),
        ))
    });
    checked.collect()
}

fn alertmanagers(file: &Source<'_>, raw: &Spanned<raw::Alertmanager>) -> Result<Vec<Alertmanager>> {
    let (span, raw) = (raw.span(), raw.get_ref());
    let urls: Vec<_> = raw.url.iter().chain(&raw.urls).collect();
    if urls.is_empty() {
        return Err(file.error(
            span,
            "[alerts.alertmanager] has no URL".into(),
            "add `url = \"http://127.0.0.1:9093\"`, or `urls` for several".into(),
        ));
    }
    let resend_seconds = bounded(
        file,
        "alerts.alertmanager.resend_seconds",
        raw.resend_seconds.as_ref(),
        ResendSeconds::constant(60),
    )?;
    let min_firing_seconds = bounded(
        file,
        "alerts.alertmanager.min_firing_seconds",
        raw.min_firing_seconds.as_ref(),
        MinFiringSeconds::constant(60),
    )?;
    let mut names = Names::new(file, "Alertmanager");
    let managers = urls.into_iter().map(|url| {
        let receiver = receiver(file, &mut names, url, None, raw.transport())?;
        Ok(Alertmanager {
            receiver,
            resend_seconds,
            min_firing_seconds,
        })
    });
    managers.collect()
}

fn webhooks(file: &Source<'_>, raw: &[Spanned<raw::Webhook>]) -> Result<Vec<Webhook>> {
    let mut names = Names::new(file, "webhook");
    let webhooks = raw.iter().map(|table| {
        let raw = table.get_ref();
        let Some(url) = &raw.url else {
            return Err(file.error(
                table.span(),
                "this webhook has no URL".into(),
                "add `url = \"https://...\"`".into(),
            ));
        };
        let secret = raw.hmac_secret_file.as_ref();
        Ok(Webhook {
            receiver: receiver(file, &mut names, url, raw.name.as_ref(), raw.transport())?,
            hmac_secret_file: secret
                .map(|path| folder(file, "hmac_secret_file", path))
                .transpose()?,
        })
    });
    webhooks.collect()
}

fn receiver(
    file: &Source<'_>,
    names: &mut Names<'_>,
    url: &Spanned<String>,
    name: Option<&Spanned<String>>,
    transport: raw::Transport<'_>,
) -> Result<Receiver> {
    let parsed = ReceiverUrl::new(url.get_ref()).map_err(|fault| {
        let advice = match fault {
            "has credentials in it" => {
                "use `bearer_token_file`, or `basic_auth_user` and `basic_auth_password_file`"
            }
            _ => "write it whole, such as \"https://hooks.example.com/storms\"",
        };
        // What is behind the host may be a secret, and errors are logged.
        file.error(url.span(), format!("this URL {fault}"), advice.into())
    })?;
    let name = match name {
        Some(name) => names.add(line(file, name)?, name.span())?,
        None => names.add(parsed.place().to_owned(), url.span())?,
    };
    Ok(Receiver {
        name,
        url: parsed,
        timeout_seconds: bounded(
            file,
            "timeout_seconds",
            transport.timeout_seconds,
            TimeoutSeconds::constant(10),
        )?,
        ca_file: transport
            .ca_file
            .map(|path| folder(file, "ca_file", path))
            .transpose()?,
        credentials: credentials(file, transport)?,
    })
}

fn credentials(file: &Source<'_>, raw: raw::Transport<'_>) -> Result<Option<Credentials>> {
    let whole = |key: &str, path| folder(file, key, path);
    match (
        raw.bearer_token_file,
        raw.basic_auth_user,
        raw.basic_auth_password_file,
    ) {
        (None, None, None) => Ok(None),
        (Some(token), None, None) => Ok(Some(Credentials::Bearer(whole("bearer_token_file", token)?))),
        (None, Some(user), Some(password)) if !user.get_ref().contains(':') => Ok(Some(Credentials::Basic(
            line(file, user)?,
            whole("basic_auth_password_file", password)?,
        ))),
        (None, Some(user), Some(_)) => Err(file.error(
            user.span(),
            "the user has a colon in it, which ends it in HTTP".into(),
            "choose another user".into(),
        )),
        (token, user, password) => {
            let span = [token, user, password].into_iter().flatten().next();
            Err(file.error(
                span.map_or(0..0, Spanned::span),
                "credentials are incomplete, or of two kinds".into(),
                "give `bearer_token_file`, or both `basic_auth_user` and `basic_auth_password_file`".into(),
            ))
        }
    }
}

/// `[command_line]`: a receiver of questions, so to speak.
pub(super) fn command_line(file: &Source<'_>, raw: &raw::CommandLine) -> Result<CommandLine> {
    let transport = raw::Transport {
        timeout_seconds: None,
        ca_file: raw.ca_file.as_ref(),
        bearer_token_file: None,
        basic_auth_user: raw.basic_auth_user.as_ref(),
        basic_auth_password_file: raw.basic_auth_password_file.as_ref(),
    };
    let basic_auth = match credentials(file, transport)? {
        Some(Credentials::Basic(user, password)) => Some((user, password)),
        _ => None,
    };
    let ca_file = transport.ca_file.map(|path| folder(file, "ca_file", path));
    Ok(CommandLine {
        url: raw.url.as_ref().map(|url| page(file, url)).transpose()?,
        ca_file: ca_file.transpose()?,
        basic_auth,
    })
}

/// Names given so far among receivers of a kind.
struct Names<'a> {
    file: &'a Source<'a>,
    what: &'static str,
    taken: BTreeSet<String>,
}

impl<'a> Names<'a> {
    const fn new(file: &'a Source<'a>, what: &'static str) -> Self {
        Self {
            file,
            what,
            taken: BTreeSet::new(),
        }
    }

    fn add(&mut self, name: String, span: std::ops::Range<usize>) -> Result<String> {
        let what = self.what;
        if name.len() > NAME_BYTES {
            return Err(self.file.error(
                span,
                format!("the name of this {what} is longer than {NAME_BYTES} bytes"),
                "give it a shorter one by `name`".into(),
            ));
        }
        if self.taken.len() == RECEIVERS {
            return Err(self.file.error(
                span,
                format!("this {what} is one more than {RECEIVERS}"),
                "let one of them pass the alerts on".into(),
            ));
        }
        if !self.taken.insert(name.clone()) {
            let advice = match what {
                "webhook" => "give each a `name` of its own",
                _ => "name each once",
            };
            return Err(self
                .file
                .error(span, format!("a second {what} `{name}`"), advice.into()));
        }
        Ok(name)
    }
}
