//! Prefix to tenant: exact names by a hash map, globs by one automaton, the first rule of the file wins.

use std::collections::{BTreeMap, HashMap};

use super::{OTHER, UNASSIGNED, is_special};
use crate::config::{Globs, PrefixPattern, Settings};

/// The compiled rules.
#[derive(Debug, Clone)]
pub struct Rules {
    /// In file order; only those within `limits.tenants`.
    tenants: Vec<TenantInfo>,
    exact: HashMap<String, usize>,
    globs: Globs,
    /// The rule of each glob.
    glob_rules: Vec<usize>,
    /// `limits.tenants`.
    limit: usize,
}

/// A tenant, to be looked up in the [`Rules`] it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TenantRef {
    /// A configured tenant, by its place in the file.
    Rule(usize),
    /// A configured tenant beyond `limits.tenants`.
    Other,
    /// No rule matched.
    Unassigned,
}

/// What is known of a tenant besides its traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantInfo {
    /// Label `tenant`.
    pub name: String,
    /// Who answers for it; empty if nobody is named.
    pub owner: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
}

/// The globs cannot be compiled together. The configuration check finds this first.
#[derive(Debug, thiserror::Error)]
#[error("cannot compile the tenants' globs: {0}; use fewer or simpler ones")]
pub struct RulesError(#[from] regex::Error);

impl Rules {
    /// Compiles the rules.
    ///
    /// # Errors
    ///
    /// Globs that are too large together; [`Settings::parse`] refuses them already.
    pub fn new(settings: &Settings) -> Result<Self, RulesError> {
        let mut exact = HashMap::new();
        let mut globs = Vec::new();
        let mut glob_rules = Vec::new();
        for (rule, tenant) in settings.tenants.iter().enumerate() {
            for pattern in &tenant.prefixes {
                match pattern {
                    PrefixPattern::Exact(prefix) => _ = exact.entry(prefix.clone()).or_insert(rule),
                    PrefixPattern::Glob(glob) => {
                        globs.push(glob);
                        glob_rules.push(rule);
                    }
                }
            }
        }
        let limit = settings.limits.tenants.get();
        let shown = settings.tenants.iter().take(limit);
        let tenants = shown.map(|tenant| TenantInfo {
            name: tenant.name.as_str().into(),
            owner: tenant.owner.clone(),
            labels: tenant.labels.clone(),
        });
        Ok(Self {
            tenants: tenants.collect(),
            exact,
            globs: Globs::new(globs)?,
            glob_rules,
            limit,
        })
    }

    /// The name of the tenant whose rule matches a prefix, given as its row's name; `None`: no rule does.
    #[must_use]
    pub fn tenant_named(&self, prefix: &str) -> Option<&str> {
        match self.tenant_of(prefix) {
            TenantRef::Unassigned => None,
            tenant => Some(self.name(tenant)),
        }
    }

    /// The tenant of a prefix, given as its row's name ([`super::row_name`]). The choice of who is `(other)` depends on
    /// the file alone, so that no tenant's counters ever move between its row and `(other)`.
    #[must_use]
    pub fn tenant_of(&self, prefix: &str) -> TenantRef {
        let exact = self.exact.get(prefix).copied();
        let glob = if is_special(prefix) {
            None
        } else {
            self.first_glob(prefix)
        };
        match exact.into_iter().chain(glob).min() {
            None => TenantRef::Unassigned,
            Some(rule) if rule < self.tenants.len() => TenantRef::Rule(rule),
            Some(_) => TenantRef::Other,
        }
    }

    /// Label `tenant`.
    #[must_use]
    pub fn name(&self, tenant: TenantRef) -> &str {
        match tenant {
            TenantRef::Rule(rule) => self.tenants.get(rule).map_or(OTHER, |tenant| &tenant.name),
            TenantRef::Other => OTHER,
            TenantRef::Unassigned => UNASSIGNED,
        }
    }

    /// The configured tenants that have rows of their own, in file order.
    #[must_use]
    pub fn configured(&self) -> &[TenantInfo] {
        &self.tenants
    }

    /// How many tenants can have rows of their own: `limits.tenants`.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Globs stand in file order: the lowest index is the first rule.
    fn first_glob(&self, prefix: &str) -> Option<usize> {
        self.globs
            .first(prefix)
            .and_then(|glob| self.glob_rules.get(glob).copied())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn rules(text: &str) -> Rules {
        let settings = Settings::parse(Path::new("test.toml"), text).expect("a good configuration");
        Rules::new(&settings).expect("compiles")
    }

    fn tenant<'a>(rules: &'a Rules, prefix: &str) -> &'a str {
        rules.name(rules.tenant_of(prefix))
    }

    const TWO: &str = r#"
        [[tenant]]
        name = "checkout"
        prefixes = ["cart", "pay-*"]
        [[tenant]]
        name = "rest"
        prefixes = ["pay-roll", "*-cache", "(keyless)"]
    "#;

    #[test]
    fn an_exact_prefix_and_a_glob_find_their_tenant() {
        let rules = rules(TWO);
        assert_eq!(tenant(&rules, "cart"), "checkout");
        assert_eq!(tenant(&rules, "pay-eu"), "checkout");
        assert_eq!(tenant(&rules, "user-cache"), "rest");
        assert_eq!(tenant(&rules, "carts"), UNASSIGNED);
        assert_eq!(tenant(&rules, ""), UNASSIGNED);
    }

    #[test]
    fn the_first_rule_in_the_file_wins_whether_exact_or_glob() {
        let rules = rules(TWO);
        assert_eq!(
            tenant(&rules, "pay-roll"),
            "checkout",
            "an earlier glob before a later exact name"
        );
        assert_eq!(
            tenant(&rules, "pay-cache"),
            "checkout",
            "an earlier glob before a later one"
        );
    }

    /// Which tenant a key without delimiter would be given by its bytes, and which by the row of the longest declared
    /// prefix that it begins with.
    fn by_key_and_by_row(text: &str, key: &str) -> (String, String) {
        let settings = Settings::parse(Path::new("test.toml"), text).expect("a good configuration");
        let declared = settings.declared().into_iter();
        let longest = declared
            .filter(|declared| key.as_bytes().starts_with(declared))
            .max_by_key(Vec::len);
        let rules = Rules::new(&settings).expect("compiles");
        let row = super::super::printable(&longest.expect("declared"));
        (tenant(&rules, key).into(), tenant(&rules, &row).into())
    }

    #[test]
    fn the_row_of_the_longest_declared_prefix_belongs_to_whom_the_key_would() {
        for (first, second) in [("cart-*", "cart-eu-*"), ("cart-eu-*", "cart-*")] {
            let text = format!(
                "[[tenant]]\nname = \"first\"\nprefixes = [\"{first}\"]\n\
                 [[tenant]]\nname = \"second\"\nprefixes = [\"{second}\", \"c*\"]"
            );
            for key in ["cart-eu-17", "cart-17", "cart", "cart-eu"] {
                let (by_key, by_row) = by_key_and_by_row(&text, key);
                assert_eq!(by_key, by_row, "{key}, {first} first");
            }
        }
    }

    #[test]
    fn a_special_row_belongs_to_nobody_unless_a_rule_names_it() {
        let rules = rules("[[tenant]]\nname = \"all\"\nprefixes = [\"*\", \"(keyless)\"]");
        assert_eq!(tenant(&rules, "(none)"), UNASSIGNED);
        assert_eq!(tenant(&rules, "(other)"), UNASSIGNED);
        assert_eq!(tenant(&rules, "(keyless)"), "all");
        assert_eq!(tenant(&rules, r"\x28none)"), "all");
    }

    #[test]
    fn a_glob_sees_slashes_dots_and_backslashes_as_ordinary_characters() {
        let rules = rules(
            r#"
            [keys]
            delimiters = "|"
            [[tenant]]
            name = "a"
            prefixes = ["svc*", '\xff*', "**/deep"]
            "#,
        );
        assert_eq!(tenant(&rules, "svc/a/b.c"), "a");
        assert_eq!(tenant(&rules, r"\xff\x00"), "a");
        assert_eq!(tenant(&rules, "xff"), UNASSIGNED);
    }

    #[test]
    fn tenants_beyond_the_limit_are_other_by_their_place_in_the_file() {
        let rules = rules(&format!("[limits]\ntenants = 1\n{TWO}"));
        assert_eq!(tenant(&rules, "cart"), "checkout");
        assert_eq!(tenant(&rules, "x-cache"), OTHER);
        assert_eq!(tenant(&rules, "nobody"), UNASSIGNED);
        let names: Vec<_> = rules.configured().iter().map(|info| &*info.name).collect();
        assert_eq!(names, ["checkout"]);
    }
}
