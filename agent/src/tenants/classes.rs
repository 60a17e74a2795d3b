//! Classes: the tenant of a connection by its user, client name or address, as a number that the kernel programs keep.
//!
//! A number stands for a tenant's name as long as the agent runs, whatever becomes of the rules. So nothing that is counted
//! under it while a reload is on its way can be taken for another tenant's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use agent_common::abi::NameKind;

use super::OTHER;
use crate::clients::DEFAULT_USER;
use crate::config::{AddressRange, NamePattern, Settings, TenantRule};

/// Names of tenants by number; 0 is nobody's.
#[derive(Debug, Default)]
pub struct Classes {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u16>,
}

/// A number for each tenant that configurations ever named since the agent started, in 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than 65535 different tenants since the start of stormglass: restart it")]
pub struct TooManyTenants;

impl Classes {
    /// The tenant's name. `None`: no class.
    #[must_use]
    pub fn name(&self, class: u16) -> Option<Arc<str>> {
        let index = usize::from(class).checked_sub(1)?;
        self.names.get(index).cloned()
    }

    /// The number of a tenant that some configuration named; 0 else.
    #[must_use]
    pub fn number_of(&self, name: &str) -> u16 {
        self.numbers.get(name).copied().unwrap_or(0)
    }

    /// The number of a tenant, a new one if need be.
    pub(super) fn number(&mut self, name: &str) -> Result<u16, TooManyTenants> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        let number = u16::try_from(self.names.len() + 1).map_err(|_| TooManyTenants)?;
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        Ok(number)
    }
}

/// What the rules say of connections, so that the longest match decides: each entry has the class of the first rule of the
/// file that matches whatever the entry does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassTables {
    /// Users and client names.
    pub names: BTreeMap<(NameKind, NamePattern), u16>,
    /// Addresses.
    pub addresses: BTreeMap<AddressRange, u16>,
    /// The user that a connection has before it names one.
    pub default_user: u16,
}

impl ClassTables {
    /// The tables of a configuration.
    ///
    /// # Errors
    ///
    /// [`TooManyTenants`].
    pub fn new(settings: &Settings, classes: &mut Classes) -> Result<Self, TooManyTenants> {
        let mut tables = Self::default();
        for (rule, tenant) in settings.tenants.iter().enumerate() {
            let class = classes.number(tenant_of_rule(settings, rule))?;
            for (kind, pattern) in name_patterns(tenant) {
                tables.names.entry((kind, pattern.clone())).or_insert(class);
            }
            for range in &tenant.addresses {
                tables.addresses.entry(*range).or_insert(class);
            }
        }
        tables.let_first_rule_win(settings, classes);
        tables.default_user = tables.class_of_name(NameKind::User, DEFAULT_USER.as_bytes());
        Ok(tables)
    }

    /// The class of a name: its own entry's, else that of the longest beginning; 0: none.
    #[must_use]
    pub fn class_of_name(&self, kind: NameKind, name: &[u8]) -> u16 {
        let whole = self.names.get(&(kind, NamePattern::Whole(name.to_vec())));
        let beginnings = (0..=name.len()).rev();
        let mut beginnings = beginnings.filter_map(|length| {
            self.names
                .get(&(kind, NamePattern::Beginning(name[..length].to_vec())))
        });
        whole.or_else(|| beginnings.next()).copied().unwrap_or(0)
    }

    /// An entry lies in others, which may stand earlier in the file.
    fn let_first_rule_win(&mut self, settings: &Settings, classes: &Classes) {
        let mut names: HashMap<(NameKind, &NamePattern), usize> = HashMap::new();
        let mut addresses: HashMap<AddressRange, usize> = HashMap::new();
        for (rule, tenant) in settings.tenants.iter().enumerate() {
            for named in name_patterns(tenant) {
                names.entry(named).or_insert(rule);
            }
            for range in &tenant.addresses {
                addresses.entry(*range).or_insert(rule);
            }
        }
        let class = |rule: usize| classes.number_of(tenant_of_rule(settings, rule));
        for ((kind, pattern), entry) in &mut self.names {
            let wider = pattern
                .wider()
                .filter_map(|wider| names.get(&(*kind, &wider)).copied());
            if let Some(first) = wider.min() {
                *entry = class(first);
            }
        }
        for (range, entry) in &mut self.addresses {
            let wider = range.wider().filter_map(|wider| addresses.get(&wider).copied());
            if let Some(first) = wider.min() {
                *entry = class(first);
            }
        }
    }
}

/// The name under which a rule's tenant is counted.
pub(super) fn tenant_of_rule(settings: &Settings, rule: usize) -> &str {
    match settings.tenants.get(rule) {
        Some(tenant) if rule < settings.limits.tenants.get() => tenant.name.as_str(),
        _ => OTHER,
    }
}

fn name_patterns(tenant: &TenantRule) -> impl Iterator<Item = (NameKind, &NamePattern)> {
    let users = tenant.users.iter().map(|pattern| (NameKind::User, pattern));
    let clients = tenant.client_names.iter();
    users.chain(clients.map(|pattern| (NameKind::Client, pattern)))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::Path;

    use super::*;

    struct Fixture(Classes, ClassTables);

    impl Fixture {
        fn new(text: &str) -> Self {
            let mut classes = Classes::default();
            let tables = tables(text, &mut classes);
            Self(classes, tables)
        }

        fn named(&self, kind: NameKind, name: &str) -> String {
            self.name(self.1.class_of_name(kind, name.as_bytes()))
        }

        /// As the kernel's trie finds it: by the longest range.
        fn at(&self, address: &str) -> String {
            let address: IpAddr = address.parse().expect("an address");
            let longest = (0..=128).rev().find_map(|length| {
                let range = AddressRange::around(address, length)?;
                self.1.addresses.get(&range).copied()
            });
            self.name(longest.unwrap_or(0))
        }

        fn name(&self, class: u16) -> String {
            self.0
                .name(class)
                .map_or_else(String::new, |name| name.to_string())
        }
    }

    fn tables(text: &str, classes: &mut Classes) -> ClassTables {
        let settings = Settings::parse(Path::new("test.toml"), text).expect("a good configuration");
        ClassTables::new(&settings, classes).expect("few tenants")
    }

    const RULES: &str = r#"
        [[tenant]]
        name = "first"
        users = ["a-*", "default"]
        addresses = ["10.1.0.0/16"]
        [[tenant]]
        name = "second"
        users = ["a-svc", "b"]
        client_names = ["a-svc"]
        addresses = ["10.0.0.0/8", "10.1.4.0/24"]
        [[tenant]]
        name = "rest"
        users = ["*"]
        addresses = ["::/0", "0.0.0.0/0"]
    "#;

    #[test]
    fn the_longest_match_has_the_first_rule_of_the_file_that_matches() {
        let rules = Fixture::new(RULES);
        let users = ["a-svc", "a-", "a", "b", "bb", "default"].map(|name| rules.named(NameKind::User, name));
        assert_eq!(users, ["first", "first", "rest", "second", "rest", "first"]);
        assert_eq!(rules.name(rules.1.default_user), "first");
        let clients = ["a-svc", "a-sv"].map(|name| rules.named(NameKind::Client, name));
        assert_eq!(clients, ["second", ""]);
        let addresses = ["10.1.4.7", "10.1.5.7", "10.2.0.1", "11.0.0.1", "fd00::1"].map(|at| rules.at(at));
        assert_eq!(addresses, ["first", "first", "second", "rest", "rest"]);
    }

    #[test]
    fn a_later_rule_does_not_take_a_wider_match_from_an_earlier_one() {
        let rules = Fixture::new(
            "[[tenant]]\nname = \"all\"\nusers = [\"*\"]\n[[tenant]]\nname = \"one\"\nusers = [\"one\", \"on*\"]",
        );
        assert_eq!(rules.named(NameKind::User, "one"), "all");
        assert_eq!(rules.named(NameKind::User, "only"), "all");
    }

    #[test]
    fn a_number_stays_with_its_name_over_reloads() {
        let mut classes = Classes::default();
        let rule = |name: &str| format!("[[tenant]]\nname = \"{name}\"\nusers = [\"u\"]\n");
        let number = |tables: &ClassTables| tables.class_of_name(NameKind::User, b"u");
        let before = number(&tables(&rule("a"), &mut classes));
        let between = number(&tables(&rule("b"), &mut classes));
        assert_ne!(before, between);
        assert_eq!(number(&tables(&rule("a"), &mut classes)), before);
        assert_eq!(classes.name(between).as_deref(), Some("b"));
        assert_eq!(classes.name(0), None);
        let none = tables("[[tenant]]\nname = \"c\"\nprefixes = [\"u\"]", &mut classes);
        assert_eq!(
            (number(&none), classes.number_of("c"), classes.number_of("d")),
            (0, 3, 0)
        );
    }

    #[test]
    fn tenants_beyond_the_limit_are_one_class() {
        let rules = Fixture::new(&format!("[limits]\ntenants = 1\n{RULES}"));
        assert_eq!(rules.named(NameKind::User, "b"), OTHER);
        assert_eq!(rules.at("10.2.0.1"), OTHER);
        assert_eq!(rules.at("10.1.0.1"), "first");
    }

    #[test]
    fn there_are_as_many_numbers_as_fit() {
        let mut classes = Classes::default();
        for number in 0..65_535 {
            classes.number(&number.to_string()).expect("fits");
        }
        assert_eq!(classes.number("one more"), Err(TooManyTenants));
        assert_eq!(classes.number("65534"), Ok(65_535));
    }
}
