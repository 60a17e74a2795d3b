//! From the raw file to [`Settings`]: every check there is, in the order of the file's sections.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::ops::Range;

use agent_common::limits::{CLASS_ADDRESSES, CLASS_NAMES, DECLARED_PREFIXES};
use toml::Spanned;

use super::addresses::AddressRange;
use super::error::{ConfigError, Source};
use super::globs::Globs;
use super::hash_key::hash_key_file;
use super::incidents::incidents;
use super::kubernetes::kubernetes;
use super::names::NamePattern;
use super::raw;
use super::receivers::{alerts, command_line, folder};
use super::settings::{
    Bounded, Clients, Delimiters, Discovery, Http, Keys, Limits, PrefixPattern, Settings, TenantName,
    TenantRule,
};
use super::storms::storms;
use super::workloads::workloads;
use crate::tenants::SPECIAL_ROWS;

pub(super) type Result<T> = std::result::Result<T, ConfigError>;

/// Checks the whole file.
pub(super) fn settings(file: &Source<'_>, raw: &raw::File) -> Result<Settings> {
    let keys = keys(file, &raw.keys)?;
    let limits = limits(file, &raw.limits)?;
    let mut tenants = Tenants::new(file, keys);
    for table in &raw.tenant {
        tenants.add(table)?;
    }
    let (tenants, mut warnings) = tenants.finish(limits)?;
    let (workloads, of_workloads) = workloads(file, &raw.workload, limits)?;
    warnings.extend(of_workloads);
    Ok(Settings {
        http: http(file, &raw.http)?,
        command_line: command_line(file, &raw.command_line)?,
        discovery: discovery(file, &raw.discovery)?,
        keys,
        hash_key_file: hash_key_file(file, raw.keys.hash_key_file.as_ref())?,
        limits,
        clients: clients(file, &raw.clients)?,
        storms: storms(file, &raw.storms)?,
        alerts: alerts(file, &raw.alerts)?,
        kubernetes: kubernetes(file, &raw.kubernetes)?,
        incidents: incidents(file, &raw.incidents)?,
        tenants,
        workloads,
        warnings,
    })
}

fn http(file: &Source<'_>, raw: &raw::Http) -> Result<Http> {
    let web_config = raw.web_config.as_ref();
    let web_config = web_config
        .map(|path| folder(file, "http.web_config", path))
        .transpose()?;
    let Some(listen) = &raw.listen else {
        return Ok(Http {
            web_config,
            ..Http::default()
        });
    };
    let listen: SocketAddr = listen.get_ref().parse().map_err(|_| {
        file.error(
            listen.span(),
            format!("`{}` is not an address and port", listen.get_ref()),
            "write an IP address and a port, such as \"127.0.0.1:9466\" or \"[::]:9466\"".into(),
        )
    })?;
    Ok(Http { listen, web_config })
}

fn discovery(file: &Source<'_>, raw: &raw::Discovery) -> Result<Discovery> {
    let processes = match &raw.processes {
        Some(names) => names
            .get_ref()
            .iter()
            .map(|name| process_name(file, name))
            .collect::<Result<Vec<_>>>()?,
        None => Discovery::default().processes,
    };
    let ports = raw
        .ports
        .iter()
        .flatten()
        .map(|port| port_number(file, port))
        .collect::<Result<_>>()?;
    let discovery = Discovery { processes, ports };
    match &raw.processes {
        Some(names) if discovery.processes.is_empty() && discovery.ports.is_empty() => Err(file.error(
            names.span(),
            "no process and no port is left to watch".into(),
            "name a process here or a port in `discovery.ports`".into(),
        )),
        _ => Ok(discovery),
    }
}

fn process_name(file: &Source<'_>, name: &Spanned<String>) -> Result<String> {
    let text = name.get_ref();
    if text.trim().is_empty() || text.contains('/') {
        return Err(file.error(
            name.span(),
            format!("`{text}` is not the name of a process"),
            "write the name of the executable without its path, such as \"valkey-server\"".into(),
        ));
    }
    Ok(text.clone())
}

fn port_number(file: &Source<'_>, port: &Spanned<i64>) -> Result<u16> {
    u16::try_from(*port.get_ref())
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| {
            file.error(
                port.span(),
                format!("{} is not a port", port.get_ref()),
                "write a number from 1 to 65535".into(),
            )
        })
}

fn keys(file: &Source<'_>, raw: &raw::Keys) -> Result<Keys> {
    let default = Keys::default();
    Ok(Keys {
        delimiters: match &raw.delimiters {
            Some(text) => delimiters(file, text)?,
            None => default.delimiters,
        },
        depth: bounded(file, "keys.depth", raw.depth.as_ref(), default.depth)?,
        max_prefix_bytes: bounded(
            file,
            "keys.max_prefix_bytes",
            raw.max_prefix_bytes.as_ref(),
            default.max_prefix_bytes,
        )?,
        hash_tags: raw.hash_tags.unwrap_or(default.hash_tags),
        hash_prefixes: raw.hash_prefixes.unwrap_or(default.hash_prefixes),
    })
}

fn delimiters(file: &Source<'_>, text: &Spanned<String>) -> Result<Delimiters> {
    Delimiters::new(text.get_ref()).ok_or_else(|| {
        file.error(
            text.span(),
            format!("`keys.delimiters` cannot be {:?}", text.get_ref()),
            format!(
                "write 1 to {} different ASCII characters, such as \":\" or \":/\"",
                Delimiters::MOST
            ),
        )
    })
}

fn limits(file: &Source<'_>, raw: &raw::Limits) -> Result<Limits> {
    let default = Limits::default();
    Ok(Limits {
        tenants: bounded(file, "limits.tenants", raw.tenants.as_ref(), default.tenants)?,
        prefixes: bounded(file, "limits.prefixes", raw.prefixes.as_ref(), default.prefixes)?,
        clients: bounded(file, "limits.clients", raw.clients.as_ref(), default.clients)?,
        workloads: bounded(
            file,
            "limits.workloads",
            raw.workloads.as_ref(),
            default.workloads,
        )?,
        libraries: bounded(
            file,
            "limits.libraries",
            raw.libraries.as_ref(),
            default.libraries,
        )?,
    })
}

fn clients(file: &Source<'_>, raw: &raw::Clients) -> Result<Clients> {
    let default = Clients::default();
    Ok(Clients {
        idle_after_seconds: bounded(
            file,
            "clients.idle_after_seconds",
            raw.idle_after_seconds.as_ref(),
            default.idle_after_seconds,
        )?,
        survey_seconds: bounded(
            file,
            "clients.survey_seconds",
            raw.survey_seconds.as_ref(),
            default.survey_seconds,
        )?,
    })
}

pub(super) fn bounded<const MIN: usize, const MAX: usize>(
    file: &Source<'_>,
    key: &str,
    value: Option<&Spanned<i64>>,
    default: Bounded<MIN, MAX>,
) -> Result<Bounded<MIN, MAX>> {
    let Some(value) = value else { return Ok(default) };
    usize::try_from(*value.get_ref())
        .ok()
        .and_then(Bounded::new)
        .ok_or_else(|| {
            file.error(
                value.span(),
                format!("`{key}` cannot be {}", value.get_ref()),
                format!("write a number from {MIN} to {MAX}"),
            )
        })
}

/// The tenants accepted so far.
struct Tenants<'a> {
    file: &'a Source<'a>,
    keys: Keys,
    rules: Vec<TenantRule>,
    names: BTreeSet<String>,
    /// Who named an exact prefix first.
    exact: HashMap<String, String>,
    declared: BTreeSet<Vec<u8>>,
    /// Who named a user, or a client name, first.
    names_of_clients: HashMap<(&'static str, NamePattern), String>,
    /// Who named a range of addresses first.
    ranges: HashMap<AddressRange, String>,
    warnings: Vec<String>,
}

impl<'a> Tenants<'a> {
    fn new(file: &'a Source<'a>, keys: Keys) -> Self {
        Self {
            file,
            keys,
            rules: Vec::new(),
            names: BTreeSet::new(),
            exact: HashMap::new(),
            declared: BTreeSet::new(),
            names_of_clients: HashMap::new(),
            ranges: HashMap::new(),
            warnings: Vec::new(),
        }
    }

    fn add(&mut self, table: &Spanned<raw::Tenant>) -> Result<()> {
        let raw = table.get_ref();
        let name = self.name(table)?;
        let mut prefixes = Vec::with_capacity(raw.prefixes.len());
        for prefix in &raw.prefixes {
            prefixes.push(self.prefix(&name, prefix)?);
        }
        let users = self.client_names(&name, "user", &raw.users)?;
        let client_names = self.client_names(&name, "client name", &raw.client_names)?;
        let addresses = self.addresses(&name, &raw.addresses)?;
        if prefixes.is_empty() && users.is_empty() && client_names.is_empty() && addresses.is_empty() {
            self.warn(
                table.span(),
                &format!(
                    "tenant `{}` has neither prefixes nor users, client names or addresses: nothing belongs to it",
                    name.as_str()
                ),
            );
        }
        let owner = self.owner(raw.owner.as_ref())?;
        let labels = self.labels(&raw.labels)?;
        self.rules.push(TenantRule {
            name,
            owner,
            prefixes,
            users,
            client_names,
            addresses,
            labels,
        });
        Ok(())
    }

    fn finish(mut self, limits: Limits) -> Result<(Vec<TenantRule>, Vec<String>)> {
        let globs = self
            .rules
            .iter()
            .flat_map(|rule| &rule.prefixes)
            .filter_map(|pattern| match pattern {
                PrefixPattern::Glob(glob) => Some(glob),
                PrefixPattern::Exact(_) => None,
            });
        Globs::new(globs).map_err(|error| {
            ConfigError::file(
                self.file.path,
                format!("the globs of all tenants together cannot be compiled ({error})"),
                "use fewer or simpler globs".into(),
            )
        })?;
        let limit = limits.tenants.get();
        if let Some(beyond) = self.rules.get(limit..).filter(|beyond| !beyond.is_empty()) {
            self.warnings.push(format!(
                "{}: {} tenants but `limits.tenants` is {limit}: the last {} count in (other)",
                self.file.path.display(),
                self.rules.len(),
                beyond.len(),
            ));
        }
        Ok((self.rules, self.warnings))
    }

    fn name(&mut self, table: &Spanned<raw::Tenant>) -> Result<TenantName> {
        let Some(raw) = &table.get_ref().name else {
            let advice = "add `name = \"...\"`".into();
            return Err(self
                .file
                .error(table.span(), "this tenant has no name".into(), advice));
        };
        let name = TenantName::new(raw.get_ref()).map_err(|fault| {
            let advice = "write a short name, such as \"checkout\"".into();
            self.file.error(
                raw.span(),
                format!("the tenant's name `{}` {fault}", raw.get_ref()),
                advice,
            )
        })?;
        if !self.names.insert(raw.get_ref().clone()) {
            return Err(self.file.error(
                raw.span(),
                format!("a second tenant `{}`", raw.get_ref()),
                "give both prefix lists to one [[tenant]], or choose another name".into(),
            ));
        }
        Ok(name)
    }

    fn owner(&self, raw: Option<&Spanned<String>>) -> Result<String> {
        match raw {
            None => Ok(String::new()),
            Some(owner) if owner.get_ref().contains(char::is_control) => Err(self.file.error(
                owner.span(),
                "the owner has a control character in it".into(),
                "write it on one line".into(),
            )),
            Some(owner) => Ok(owner.get_ref().clone()),
        }
    }

    fn labels(&self, raw: &BTreeMap<Spanned<String>, String>) -> Result<BTreeMap<String, String>> {
        let checked = raw.iter().map(|(key, value)| {
            let name = key.get_ref();
            if is_label_name(name) && !["tenant", "owner"].contains(&name.as_str()) {
                return Ok((name.clone(), value.clone()));
            }
            Err(self.file.error(
                key.span(),
                format!("`{name}` cannot be the name of a label"),
                "use letters, digits and underscores, not a digit first, and neither `tenant` nor `owner`"
                    .into(),
            ))
        });
        checked.collect()
    }

    fn prefix(&mut self, tenant: &TenantName, raw: &Spanned<String>) -> Result<PrefixPattern> {
        let text = raw.get_ref();
        let pattern = PrefixPattern::new(text).map_err(|error| {
            self.file.error(
                raw.span(),
                format!("{} is not a glob ({})", self.quoted(text), error.kind()),
                "write a prefix such as \"cart\", or a glob such as \"pay-*\"; \"[[]\" is a literal bracket"
                    .into(),
            )
        })?;
        if text.is_empty() {
            let advice = "write the part of the keys before the delimiter; `(none)` is the row of keys that have no prefix";
            return Err(self
                .file
                .error(raw.span(), "a prefix is empty".into(), advice.into()));
        }
        if let Some(why) = self.never_matches(&pattern, text) {
            self.warn(
                raw.span(),
                &format!("prefix {} can never match: {why}", self.quoted(text)),
            );
        }
        self.declare(raw, &pattern)?;
        if matches!(pattern, PrefixPattern::Exact(_))
            && let Some(first) = self.exact.insert(text.clone(), tenant.as_str().into())
        {
            self.warn(
                raw.span(),
                &format!(
                    "prefix {} already belongs to tenant `{first}`: the first match wins",
                    self.quoted(text)
                ),
            );
            self.exact.insert(text.clone(), first);
        }
        Ok(pattern)
    }

    /// Names of clients; `what` they are the names of.
    fn client_names(
        &mut self,
        tenant: &TenantName,
        what: &'static str,
        raw: &[Spanned<String>],
    ) -> Result<Vec<NamePattern>> {
        let mut patterns = Vec::with_capacity(raw.len());
        for raw in raw {
            let text = raw.get_ref();
            let pattern = NamePattern::new(text).map_err(|(fault, advice)| {
                self.file
                    .error(raw.span(), format!("the {what} `{text}` {fault}"), advice.into())
            })?;
            let earlier = self.names_of_clients.get(&(what, pattern.clone()));
            if let Some(first) = earlier.cloned() {
                self.warn(
                    raw.span(),
                    &format!("{what} `{text}` already belongs to tenant `{first}`: the first match wins"),
                );
            } else {
                let owner = tenant.as_str().into();
                self.names_of_clients.insert((what, pattern.clone()), owner);
            }
            if self.names_of_clients.len() > CLASS_NAMES {
                return Err(self.file.error(
                    raw.span(),
                    format!("`{text}` is one more than the {CLASS_NAMES} different users and client names of all tenants"),
                    "use shorter ones with a `*` at their end, which stand for several".into(),
                ));
            }
            patterns.push(pattern);
        }
        Ok(patterns)
    }

    fn addresses(&mut self, tenant: &TenantName, raw: &[Spanned<String>]) -> Result<Vec<AddressRange>> {
        let mut ranges = Vec::with_capacity(raw.len());
        for raw in raw {
            let range = super::workloads::range(self.file, raw)?;
            let earlier = range
                .wider()
                .find_map(|wider| Some((wider, self.ranges.get(&wider)?.clone())));
            match earlier {
                Some((wider, first)) if first != tenant.as_str() => self.warn(
                    raw.span(),
                    &format!("`{range}` lies in `{wider}` of tenant `{first}`: the first match wins"),
                ),
                Some(_) => {}
                None => _ = self.ranges.insert(range, tenant.as_str().into()),
            }
            if self.ranges.len() > CLASS_ADDRESSES {
                return Err(self.file.error(
                    raw.span(),
                    format!(
                        "`{range}` is one more than the {CLASS_ADDRESSES} different ranges of all tenants"
                    ),
                    "use wider ranges that stand for several".into(),
                ));
            }
            ranges.push(range);
        }
        Ok(ranges)
    }

    /// Takes note of what the pattern declares to the kernel, which holds so many prefixes of such a length.
    fn declare(&mut self, raw: &Spanned<String>, pattern: &PrefixPattern) -> Result<()> {
        let Some(declared) = pattern.declared(self.keys.delimiters) else {
            return Ok(());
        };
        let most = self.keys.max_prefix_bytes.get();
        if declared.len() > most {
            return Err(self.file.error(
                raw.span(),
                format!(
                    "{} can never match: {} bytes in front of the `*` are more than a prefix can have, \
                     `keys.max_prefix_bytes = {most}`",
                    self.quoted(raw.get_ref()),
                    declared.len(),
                ),
                format!("keep the first {most} bytes or fewer"),
            ));
        }
        self.declared.insert(declared);
        if self.declared.len() > DECLARED_PREFIXES {
            return Err(self.file.error(
                raw.span(),
                format!(
                    "{} is one more than the {DECLARED_PREFIXES} different prefixes that can end in `*`",
                    self.quoted(raw.get_ref()),
                ),
                "use shorter ones that stand for several, or exact prefixes where keys have a delimiter"
                    .into(),
            ));
        }
        Ok(())
    }

    /// A prefix in a message, which goes to the log and to the pages: what is hashed there is not told here. The line says which.
    fn quoted(&self, prefix: &str) -> String {
        if self.keys.hash_prefixes {
            "(hidden)".into()
        } else {
            format!("`{prefix}`")
        }
    }

    /// Why no prefix can match, for the mistakes that are easily made.
    fn never_matches(&self, pattern: &PrefixPattern, text: &str) -> Option<String> {
        let exact = matches!(pattern, PrefixPattern::Exact(_));
        if text.starts_with('(') && text.ends_with(')') {
            let unknown = exact && !SPECIAL_ROWS.contains(&text);
            return unknown.then(|| format!("the rows in parentheses are {}", SPECIAL_ROWS.join(", ")));
        }
        let delimiters = self.keys.delimiters;
        // A class or alternative may hold a delimiter and still match: only plain text is sure.
        let plain = !text.contains(['[', '{']);
        let deep = text
            .bytes()
            .filter(|byte| delimiters.as_bytes().contains(byte))
            .count();
        if plain && deep >= self.keys.depth.get() {
            return Some(format!(
                "with `keys.depth = {}` a prefix ends before delimiter {}",
                self.keys.depth.get(),
                self.keys.depth.get(),
            ));
        }
        let most = self.keys.max_prefix_bytes.get();
        let long = exact && !text.contains('\\') && text.len() > most;
        long.then(|| format!("it is longer than `keys.max_prefix_bytes = {most}`"))
    }

    fn warn(&mut self, span: Range<usize>, what: &str) {
        let line = self.file.line(span.start);
        self.warnings
            .push(format!("{}:{line}: {what}", self.file.path.display()));
    }
}

pub(super) fn is_label_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
