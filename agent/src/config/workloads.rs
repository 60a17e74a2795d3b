//! Checks of `[[workload]]`.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use globset::{Glob, GlobBuilder};
use toml::Spanned;

use super::addresses::{AddressRange, RangeFault};
use super::check::Result;
use super::error::Source;
use super::kubernetes::owners;
use super::raw;
use super::settings::{Limits, TenantName, WorkloadRule};
use crate::clients::DEFAULT_USER;

/// Checks every `[[workload]]`. Returns the rules in file order, and warnings.
pub(super) fn workloads(
    file: &Source<'_>,
    tables: &[Spanned<raw::Workload>],
    limits: Limits,
) -> Result<(Vec<WorkloadRule>, Vec<String>)> {
    let mut workloads = Workloads {
        file,
        rules: Vec::new(),
        names: BTreeSet::new(),
        ranges: HashMap::new(),
        warnings: Vec::new(),
    };
    for table in tables {
        workloads.add(table)?;
    }
    let (limit, all) = (limits.workloads.get(), workloads.rules.len());
    if all > limit {
        workloads.warnings.push(format!(
            "{}: {all} workloads but `limits.workloads` is {limit}: the last {} count in (other)",
            file.path.display(),
            all - limit,
        ));
    }
    Ok((workloads.rules, workloads.warnings))
}

/// Checks an address or a range of them.
pub(super) fn range(file: &Source<'_>, raw: &Spanned<String>) -> Result<AddressRange> {
    let text = raw.get_ref();
    AddressRange::new(text).map_err(|fault| {
        let (reason, advice) = match fault {
            RangeFault::Address => (
                format!("`{text}` is neither an address nor a range of addresses"),
                "write an address, such as \"10.1.4.7\", or a range, such as \"10.1.4.0/24\" or \"fd00::/8\""
                    .into(),
            ),
            RangeFault::Length(most) => (
                format!("`{text}` has a wrong length behind the slash"),
                format!("write a number of bits from 0 to {most}"),
            ),
            RangeFault::BeyondLength(range) => (
                format!("`{text}` has bits behind its length of {}", range.length()),
                format!("write \"{range}\", or the address without a slash"),
            ),
        };
        file.error(raw.span(), reason, advice)
    })
}

/// The workloads accepted so far.
struct Workloads<'a> {
    file: &'a Source<'a>,
    rules: Vec<WorkloadRule>,
    names: BTreeSet<String>,
    /// Who named a range first.
    ranges: HashMap<AddressRange, String>,
    warnings: Vec<String>,
}

impl Workloads<'_> {
    fn add(&mut self, table: &Spanned<raw::Workload>) -> Result<()> {
        let raw = table.get_ref();
        let name = self.name(table)?;
        let kubernetes = owners(self.file, raw.kubernetes.as_ref())?;
        let users = self.names(&raw.users, "an ACL user")?;
        let client_names = self.names(&raw.client_names, "a client name")?;
        let of_nobody = [
            raw.addresses.len(),
            kubernetes.len(),
            users.len(),
            client_names.len(),
        ] == [0; 4];
        if of_nobody {
            let line = self.file.line(table.span().start);
            self.warn(
                line,
                &format!(
                    "workload `{}` has no addresses, owners, users or client names: nobody belongs to it",
                    name.as_str()
                ),
            );
        }
        let mut addresses = Vec::with_capacity(raw.addresses.len());
        for range in &raw.addresses {
            addresses.push(self.range(&name, range)?);
        }
        self.rules.push(WorkloadRule {
            name,
            addresses,
            kubernetes,
            users,
            client_names,
        });
        Ok(())
    }

    fn name(&mut self, table: &Spanned<raw::Workload>) -> Result<TenantName> {
        let Some(raw) = &table.get_ref().name else {
            let advice = "add `name = \"...\"`".into();
            return Err(self
                .file
                .error(table.span(), "this workload has no name".into(), advice));
        };
        let text = raw.get_ref();
        let refused = |fault: &str| {
            let reason = format!("the workload's name `{text}` {fault}");
            let advice = "write a short name, such as \"checkout-api\"".into();
            self.file.error(raw.span(), reason, advice)
        };
        let name = TenantName::new(text).map_err(refused)?;
        if text.parse::<IpAddr>().is_ok() {
            return Err(refused("is an address, as clients without a workload are called"));
        }
        if !self.names.insert(text.clone()) {
            return Err(self.file.error(
                raw.span(),
                format!("a second workload `{text}`"),
                "give everything to one [[workload]], or choose another name".into(),
            ));
        }
        Ok(name)
    }

    /// Globs over names that clients give themselves.
    fn names(&self, raw: &[Spanned<String>], what: &str) -> Result<Vec<Glob>> {
        let checked = raw.iter().map(|name| {
            let text = name.get_ref();
            let refused =
                |reason: String, advice: &str| Err(self.file.error(name.span(), reason, advice.into()));
            if text.is_empty() {
                let advice = "write a name, or a glob, such as \"checkout-*\"";
                return refused(format!("an empty text is not {what}"), advice);
            }
            if text == DEFAULT_USER && what == "an ACL user" {
                let advice = "group those clients by name, address or owner";
                return refused(
                    format!("`{DEFAULT_USER}` is the user of all who name none, and nobody's workload"),
                    advice,
                );
            }
            // Backslashes are how bytes are shown that are no text.
            let glob = GlobBuilder::new(text).backslash_escape(false).build();
            glob.or_else(|error| {
                let advice = "write `*` for any text, `?` for one character, `[ab]` for one of some";
                refused(format!("`{text}` is not a glob ({})", error.kind()), advice)
            })
        });
        checked.collect()
    }

    fn range(&mut self, workload: &TenantName, raw: &Spanned<String>) -> Result<AddressRange> {
        let text = raw.get_ref();
        let range = range(self.file, raw)?;
        let earlier = range
            .wider()
            .find_map(|wider| Some((wider, self.ranges.get(&wider)?.clone())));
        match earlier {
            Some((wider, first)) => {
                let line = self.file.line(raw.span().start);
                self.warn(
                    line,
                    &format!("`{text}` lies in `{wider}` of workload `{first}`: the first match wins"),
                );
            }
            None => _ = self.ranges.insert(range, workload.as_str().into()),
        }
        Ok(range)
    }

    fn warn(&mut self, line: usize, what: &str) {
        self.warnings
            .push(format!("{}:{line}: {what}", self.file.path.display()));
    }
}
