//! Tenants of prefixes as the kernel programs can tell them: for where they have no row to give and the daemon will never see
//! the prefix.

use std::collections::BTreeMap;

use agent_common::abi::TenantPrefixKey;
use agent_common::limits::{PREFIX_BYTES, TENANT_PREFIXES};

use super::{Classes, TooManyTenants, bytes_of_name, classes::tenant_of_rule, is_special};
use crate::config::{NamePattern, PrefixPattern, Settings};

/// Prefixes that rules name, so that the longest match decides: each has the tenant of the first rule of the file that
/// matches whatever it does, and [`TenantPrefixKey::UNSURE`] where an earlier rule of another kind might match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrefixTable(pub BTreeMap<NamePattern, u32>);

impl PrefixTable {
    /// The table of a configuration; of more than [`TENANT_PREFIXES`] the first.
    ///
    /// # Errors
    ///
    /// [`TooManyTenants`].
    pub fn new(settings: &Settings, classes: &mut Classes) -> Result<Self, TooManyTenants> {
        let mut rules: BTreeMap<NamePattern, usize> = BTreeMap::new();
        let mut other_kinds = usize::MAX;
        for (rule, tenant) in settings.tenants.iter().enumerate() {
            for pattern in &tenant.prefixes {
                match Named::new(pattern) {
                    Named::Pattern(node) if rules.len() < TENANT_PREFIXES => {
                        rules.entry(node).or_insert(rule);
                    }
                    Named::Special => {}
                    _ => other_kinds = other_kinds.min(rule),
                }
            }
        }
        let mut table = Self::default();
        for node in rules.keys() {
            let first = node.wider().filter_map(|wider| rules.get(&wider)).min();
            let Some(first) = first.copied() else { continue };
            let class = classes.number(tenant_of_rule(settings, first))?;
            let unsure = if other_kinds < first {
                TenantPrefixKey::UNSURE
            } else {
                0
            };
            table.0.insert(node.clone(), u32::from(class) | unsure);
        }
        Ok(table)
    }
}

/// What a pattern names.
enum Named {
    Pattern(NamePattern),
    /// A special row: no prefix.
    Special,
    /// What a longest match cannot find.
    Otherwise,
}

impl Named {
    fn new(pattern: &PrefixPattern) -> Self {
        match pattern {
            PrefixPattern::Exact(name) if is_special(name) => Self::Special,
            PrefixPattern::Exact(name) => match bytes_of_name(name) {
                Some(bytes) if bytes.len() <= PREFIX_BYTES => Self::Pattern(NamePattern::Whole(bytes)),
                // No prefix has such a name.
                _ => Self::Special,
            },
            PrefixPattern::Glob(glob) => {
                let literal = glob.glob().strip_suffix('*');
                // The beginning of a name is not always that of its bytes: of a parenthesis, or half a character.
                let literal =
                    literal.filter(|text| !text.contains(['*', '?', '[', '{']) && !text.starts_with('('));
                let bytes = literal.and_then(|text| {
                    if text.is_empty() {
                        Some(Vec::new())
                    } else {
                        bytes_of_name(text)
                    }
                });
                match bytes {
                    Some(bytes)
                        if bytes.len() <= PREFIX_BYTES
                            && bytes.last() != Some(&0)
                            && std::str::from_utf8(&bytes).is_ok() =>
                    {
                        Self::Pattern(NamePattern::Beginning(bytes))
                    }
                    _ => Self::Otherwise,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::OTHER;
    use super::*;

    /// Tenant and sureness of a prefix, as the kernel's trie finds them.
    fn found(text: &str, prefix: &str) -> (String, bool) {
        let settings = Settings::parse(Path::new("test.toml"), text).expect("a good configuration");
        let mut classes = Classes::default();
        let table = PrefixTable::new(&settings, &mut classes).expect("few tenants");
        let whole = table.0.get(&NamePattern::Whole(prefix.as_bytes().to_vec()));
        let beginnings = (0..=prefix.len()).rev();
        let mut beginnings = beginnings.filter_map(|length| {
            table
                .0
                .get(&NamePattern::Beginning(prefix.as_bytes()[..length].to_vec()))
        });
        let value = whole.or_else(|| beginnings.next()).copied().unwrap_or(0);
        let name = classes
            .name(value as u16)
            .map_or_else(String::new, |name| name.to_string());
        (name, value & TenantPrefixKey::UNSURE == 0)
    }

    const RULES: &str = r#"
        [[tenant]]
        name = "eu"
        prefixes = ["cart-eu*"]
        [[tenant]]
        name = "odd"
        prefixes = ["*-x", "(none)", "(a*"]
        [[tenant]]
        name = "carts"
        prefixes = ["cart-*", "cart", "cart-eu-1"]
    "#;

    #[test]
    fn the_longest_match_has_the_first_rule_and_says_where_it_is_not_sure() {
        for (prefix, tenant, sure) in [
            ("cart-eu-17", "eu", true),
            ("cart-eu-1", "eu", true),
            ("cart-us", "carts", false),
            ("cart", "carts", false),
            ("car", "", true),
            ("carts", "", true),
            ("b-x", "", true),
        ] {
            assert_eq!(found(RULES, prefix), (tenant.to_owned(), sure), "{prefix}");
        }
    }

    #[test]
    fn tenants_beyond_the_limit_are_other() {
        let rules = format!("[limits]\ntenants = 1\n{RULES}");
        assert_eq!(found(&rules, "cart").0, OTHER);
        assert_eq!(found(&rules, "cart-eu-17").0, "eu");
    }
}
