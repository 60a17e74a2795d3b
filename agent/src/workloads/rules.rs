//! Address to workload: one lookup for each length of range that the rules use; the first rule of the file wins.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::config::{AddressRange, Settings};

/// The rules, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// In file order; only those within `limits.workloads`.
    names: Vec<String>,
    /// How many workloads have a row of their own, with and without a name.
    limit: usize,
    /// The first rule that has a range.
    ranges: HashMap<AddressRange, usize>,
    /// Lengths of ranges in use, of IPv4 and IPv6.
    lengths: [BTreeSet<u8>; 2],
}

impl Rules {
    /// Takes the rules over.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let limit = settings.limits.workloads.get();
        let mut rules = Self {
            limit,
            ..Self::default()
        };
        for (rule, workload) in settings.workloads.iter().enumerate() {
            if rule < limit {
                rules.names.push(workload.name.as_str().into());
            }
            for range in &workload.addresses {
                rules.ranges.entry(*range).or_insert(rule);
                rules.lengths[usize::from(range.is_ipv4())].insert(range.length());
            }
        }
        rules
    }

    /// The first rule that has this address, by its place in the file; it may lie beyond the limit.
    #[must_use]
    pub fn rule_of(&self, address: IpAddr) -> Option<usize> {
        let address = address.to_canonical();
        self.lengths[usize::from(address.is_ipv4())]
            .iter()
            .filter_map(|length| {
                let range = AddressRange::around(address, *length)?;
                self.ranges.get(&range).copied()
            })
            .min()
    }

    /// The name of a rule; `None` beyond the limit.
    #[must_use]
    pub fn name(&self, rule: usize) -> Option<&str> {
        self.names.get(rule).map(String::as_str)
    }

    /// How many addresses without a workload may have a row of their own, per server.
    pub(super) fn room_for_addresses(&self) -> usize {
        self.limit.saturating_sub(self.names.len())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn rules(text: &str) -> Rules {
        Rules::new(&Settings::parse(Path::new("test.toml"), text).expect("accepted"))
    }

    #[test]
    fn the_first_match_wins_whatever_the_lengths() {
        let rules = rules(
            r#"
            [[workload]]
            name = "one"
            addresses = ["10.1.4.7"]
            [[workload]]
            name = "wide"
            addresses = ["10.0.0.0/8", "fd00::/8"]
            [[workload]]
            name = "never"
            addresses = ["10.1.4.0/24"]
            "#,
        );
        for (address, rule) in [
            ("10.1.4.7", Some(0)),
            ("::ffff:10.1.4.7", Some(0)),
            ("10.1.4.8", Some(1)),
            ("10.255.255.255", Some(1)),
            ("11.0.0.0", None),
            ("fdff::1", Some(1)),
            ("fe00::1", None),
        ] {
            assert_eq!(
                rules.rule_of(address.parse().expect("an address")),
                rule,
                "{address}"
            );
        }
    }

    #[test]
    fn every_address_of_a_family_is_one_range() {
        let rules = rules("[[workload]]\nname = \"all\"\naddresses = [\"0.0.0.0/0\"]");
        assert_eq!(rules.rule_of("192.0.2.1".parse().expect("an address")), Some(0));
        assert_eq!(rules.rule_of("2001:db8::1".parse().expect("an address")), None);
    }

    #[test]
    fn rules_beyond_the_limit_have_no_name_and_leave_no_room() {
        let rules = rules(
            "[limits]\nworkloads = 1\n[[workload]]\nname = \"a\"\naddresses = [\"10.0.0.1\"]\n\
             [[workload]]\nname = \"b\"\naddresses = [\"10.0.0.2\"]",
        );
        assert_eq!(rules.rule_of("10.0.0.2".parse().expect("an address")), Some(1));
        assert_eq!((rules.name(0), rules.name(1)), (Some("a"), None));
        assert_eq!(rules.room_for_addresses(), 0);
    }
}
