//! The checked configuration. Fields that could be wrong have types that cannot: they are built by [`super::check`] or by
//! constructors that refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use agent_common::limits;
use globset::{Glob, GlobBuilder};

use super::addresses::AddressRange;
use super::hash_key::HashKeyFile;
use super::incidents::Incidents;
use super::names::NamePattern;
use super::receivers::Alerts;
use super::storms::Storms;
use crate::tenants::bytes_of_name;
use crate::valkey::DiscoverySettings;

/// Everything the file says, with the defaults filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The HTTP server.
    pub http: Http,
    /// How the other commands reach the running agent.
    pub command_line: CommandLine,
    /// Which servers are watched.
    pub discovery: Discovery,
    /// How a prefix is cut out of a key.
    pub keys: Keys,
    /// What prefixes are hashed with; `None`: what the agent makes for itself.
    pub hash_key_file: Option<HashKeyFile>,
    /// How many of each thing get a row of their own.
    pub limits: Limits,
    /// How connections are looked at.
    pub clients: Clients,
    /// What is a storm.
    pub storms: Storms,
    /// Who is told of storms.
    pub alerts: Alerts,
    /// Whether and how pods are told.
    pub kubernetes: Kubernetes,
    /// What is recorded of storms.
    pub incidents: Incidents,
    /// In file order: the first match wins. Names are unique.
    pub tenants: Vec<TenantRule>,
    /// In file order: the first match wins. Names are unique.
    pub workloads: Vec<WorkloadRule>,
    /// What is accepted but is probably not meant, one sentence each, with the line.
    pub warnings: Vec<String>,
}

impl Settings {
    /// The prefixes that the rules declare, see [`PrefixPattern::declared`]: each once, at most
    /// [`limits::DECLARED_PREFIXES`].
    #[must_use]
    pub fn declared(&self) -> BTreeSet<Vec<u8>> {
        let patterns = self.tenants.iter().flat_map(|rule| &rule.prefixes);
        patterns
            .filter_map(|pattern| pattern.declared(self.keys.delimiters))
            .collect()
    }
}

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// File with TLS and passwords; `None`: neither.
    pub web_config: Option<PathBuf>,
}

/// `[command_line]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Where the agent answers; `None`: `http.listen`, without TLS.
    pub url: Option<String>,
    /// Certificates to trust; `None`: none by TLS.
    pub ca_file: Option<PathBuf>,
    /// User, and the file with the password.
    pub basic_auth: Option<(String, PathBuf)>,
}

/// `[discovery]`. At least one process or port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Names of executables or commands.
    pub processes: Vec<String>,
    /// Listening ports to watch, whatever the process.
    pub ports: BTreeSet<u16>,
}

impl From<&Discovery> for DiscoverySettings {
    fn from(discovery: &Discovery) -> Self {
        Self {
            processes: discovery.processes.clone(),
            ports: discovery.ports.iter().copied().collect(),
        }
    }
}

/// `[keys]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Bytes that end a prefix.
    pub delimiters: Delimiters,
    /// How many delimiters deep a prefix reaches.
    pub depth: Depth,
    /// Longest prefix in bytes.
    pub max_prefix_bytes: PrefixBytes,
    /// Whether a key that begins with a hash tag is cut inside it.
    pub hash_tags: bool,
    /// Whether prefixes are shown as keyed hashes.
    pub hash_prefixes: bool,
}

/// `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Tenants with rows of their own.
    pub tenants: TenantLimit,
    /// Prefixes with rows of their own, over all servers.
    pub prefixes: PrefixLimit,
    /// Client addresses with rows of their own, over all servers.
    pub clients: ClientLimit,
    /// Workloads with rows of their own.
    pub workloads: WorkloadLimit,
    /// Versions of client libraries with rows of their own, per server.
    pub libraries: LibraryLimit,
}

/// `[clients]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clients {
    /// How many seconds without data make a connection idle.
    pub idle_after_seconds: IdleSeconds,
    /// How many seconds lie between two surveys of the connections, at least.
    pub survey_seconds: SurveySeconds,
}

/// One `[[tenant]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRule {
    /// Label `tenant`.
    pub name: TenantName,
    /// Label `owner` of `stormglass_tenant_info`; may be empty.
    pub owner: String,
    /// What belongs to the tenant.
    pub prefixes: Vec<PrefixPattern>,
    /// ACL users, whose connections belong to it as far as no prefix decides.
    pub users: Vec<NamePattern>,
    /// Client names, likewise where no user does.
    pub client_names: Vec<NamePattern>,
    /// Addresses of clients, likewise where neither does.
    pub addresses: Vec<AddressRange>,
    /// Free labels, shown by the API.
    pub labels: BTreeMap<String, String>,
}

/// One `[[workload]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadRule {
    /// Label `workload`; never an address.
    pub name: TenantName,
    /// Who belongs to it.
    pub addresses: Vec<AddressRange>,
    /// Whose pods belong to it: globs over `namespace/kind/name`.
    pub kubernetes: Vec<Glob>,
    /// Which ACL users, whatever their addresses: globs over names as they are shown. The user of those that name none is
    /// nobody's.
    pub users: Vec<Glob>,
    /// Likewise which client names, where no rule has the user.
    pub client_names: Vec<Glob>,
}

/// `[kubernetes]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// Whether pods are asked for.
    pub enabled: KubernetesSwitch,
    /// File that says where the API server is; `None`: the service account of the agent's own pod.
    pub kubeconfig: Option<String>,
    /// The node that the agent runs on; `None`: as the environment says.
    pub node: Option<String>,
    /// Whether the pods of all nodes are asked for, to know clients.
    pub client_pods: bool,
    /// Names of labels that are kept.
    pub labels: Vec<String>,
}

/// `kubernetes.enabled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubernetesSwitch {
    /// With a kubeconfig, or a service account.
    Auto,
    /// In any case.
    On,
    /// Never.
    Off,
}

/// `keys.depth`.
pub type Depth = Bounded<1, 4>;
/// `keys.max_prefix_bytes`.
pub type PrefixBytes = Bounded<1, { limits::PREFIX_BYTES }>;
/// `limits.tenants`. Ten thousand tenants on twenty servers are 600,000 series: more is no use to anybody.
pub type TenantLimit = Bounded<1, 10_000>;
/// `limits.prefixes`.
pub type PrefixLimit = Bounded<1, { limits::PREFIXES }>;
/// `limits.clients`.
pub type ClientLimit = Bounded<1, { limits::CLIENTS }>;

/// `limits.workloads`. As many as tenants: each is somebody's service.
pub type WorkloadLimit = Bounded<1, 10_000>;
/// `limits.libraries`.
pub type LibraryLimit = Bounded<1, { limits::LIBRARIES }>;
/// `clients.idle_after_seconds`. The kernel's clock of a connection turns round after 49 days; a day is far from it.
pub type IdleSeconds = Bounded<1, 86_400>;
/// `clients.survey_seconds`.
pub type SurveySeconds = Bounded<1, 3_600>;

/// A number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bounded<const MIN: usize, const MAX: usize>(usize);

impl<const MIN: usize, const MAX: usize> Bounded<MIN, MAX> {
    /// The smallest value.
    pub const MIN: Self = Self(MIN);
    /// The largest value.
    pub const MAX: Self = Self(MAX);

    /// `None` outside the bounds.
    #[must_use]
    pub const fn new(value: usize) -> Option<Self> {
        if value >= MIN && value <= MAX {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }

    /// As [`Bounded::new`], for defaults: a wrong one does not compile when used in a `const`.
    pub(super) const fn constant(value: usize) -> Self {
        assert!(value >= MIN && value <= MAX, "the default lies within the bounds");
        Self(value)
    }
}

/// One to four different ASCII bytes, each of which ends a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delimiters {
    bytes: [u8; Self::MOST],
    len: u8,
}

impl Delimiters {
    /// Most delimiters: they are compared one by one, for each byte of a key, in the kernel.
    pub const MOST: usize = 4;

    const COLON: Self = Self {
        bytes: [b':', 0, 0, 0],
        len: 1,
    };

    /// `None` unless `text` is one to four different ASCII characters.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let given = text.as_bytes();
        let repeats = given
            .iter()
            .enumerate()
            .any(|(at, byte)| given[..at].contains(byte));
        if given.is_empty() || given.len() > Self::MOST || !given.is_ascii() || repeats {
            return None;
        }
        let mut bytes = [0; Self::MOST];
        bytes[..given.len()].copy_from_slice(given);
        Some(Self {
            bytes,
            len: u8::try_from(given.len()).ok()?,
        })
    }

    /// The bytes, in the order of the file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A tenant's name: one line, not empty, not in parentheses (those are rows of our own).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantName(String);

impl TenantName {
    /// Longest name in bytes; it is repeated on every line of the tenant's metrics.
    pub const MAX_BYTES: usize = 128;

    /// # Errors
    ///
    /// What is wrong with the name, to follow "the tenant's name".
    pub fn new(name: &str) -> Result<Self, &'static str> {
        if name.trim().is_empty() {
            Err("is empty")
        } else if name.len() > Self::MAX_BYTES {
            Err("is longer than 128 bytes")
        } else if name.trim() != name || name.contains(char::is_control) {
            Err("has white space around it, or a control character in it")
        } else if name.starts_with('(') && name.ends_with(')') {
            Err("is in parentheses, which are reserved for rows such as (unassigned)")
        } else {
            Ok(Self(name.into()))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a tenant's rule says of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrefixPattern {
    /// The prefix itself.
    Exact(String),
    /// A glob (`*`, `?`, `[a-z]`, `{a,b}`) over the whole prefix.
    Glob(Glob),
}

impl PrefixPattern {
    /// A text with any of `*?[{` is a glob. A backslash is an ordinary character, as in the rows of non-UTF-8 prefixes
    /// (`\xff`); `[*]` is a literal asterisk.
    ///
    /// # Errors
    ///
    /// A glob that cannot be understood.
    pub fn new(text: &str) -> Result<Self, globset::Error> {
        if text.contains(['*', '?', '[', '{']) {
            GlobBuilder::new(text)
                .backslash_escape(false)
                .build()
                .map(Self::Glob)
        } else {
            Ok(Self::Exact(text.into()))
        }
    }

    /// The prefix that this rule declares: the bytes in front of the only `*`, which is its end. Keys without a delimiter
    /// are given the longest declared prefix that they begin with, and this rule matches its row.
    ///
    /// `None` if it declares none: an exact name, any other glob, nothing in front of the `*`, a delimiter there (keys with
    /// one are cut at it), or what no row's name begins with.
    #[must_use]
    pub fn declared(&self, delimiters: Delimiters) -> Option<Vec<u8>> {
        let Self::Glob(glob) = self else { return None };
        let literal = glob.glob().strip_suffix('*')?;
        if literal.is_empty() || literal.contains(['*', '?', '[', '{']) {
            return None;
        }
        let bytes = bytes_of_name(literal)?;
        let cut = bytes.iter().any(|byte| delimiters.as_bytes().contains(byte));
        (!cut).then_some(bytes)
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9466),
            web_config: None,
        }
    }
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            processes: ["valkey-server", "redis-server", "keydb-server"]
                .map(Into::into)
                .to_vec(),
            ports: BTreeSet::new(),
        }
    }
}

impl Default for Keys {
    fn default() -> Self {
        const DEPTH: Depth = Depth::constant(1);
        Self {
            delimiters: Delimiters::COLON,
            depth: DEPTH,
            max_prefix_bytes: PrefixBytes::MAX,
            hash_tags: true,
            hash_prefixes: false,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const TENANTS: TenantLimit = TenantLimit::constant(1000);
        const WORKLOADS: WorkloadLimit = WorkloadLimit::constant(1000);
        const LIBRARIES: LibraryLimit = LibraryLimit::constant(256);
        Self {
            tenants: TENANTS,
            prefixes: PrefixLimit::MAX,
            clients: ClientLimit::MAX,
            workloads: WORKLOADS,
            libraries: LIBRARIES,
        }
    }
}

impl Default for Clients {
    fn default() -> Self {
        const IDLE: IdleSeconds = IdleSeconds::constant(60);
        const SURVEY: SurveySeconds = SurveySeconds::constant(10);
        Self {
            idle_after_seconds: IDLE,
            survey_seconds: SURVEY,
        }
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            enabled: KubernetesSwitch::Auto,
            kubeconfig: None,
            node: None,
            client_pods: true,
            labels: ["app.kubernetes.io/name", "app.kubernetes.io/instance", "app"]
                .map(Into::into)
                .to_vec(),
        }
    }
}
