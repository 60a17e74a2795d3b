//! Client to workload: by its user, else its client name, else its address: one lookup for each length of range that the rules
//! use, and one for the pod that has the address. Of each the first rule of the file wins.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use globset::{Glob, GlobSet};

use super::Owners;
use crate::clients::DEFAULT_USER;
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
    /// Over the owners of pods.
    owners: Globs,
    /// Over ACL users, and over client names.
    users: Globs,
    client_names: Globs,
    /// What the globs come to for the addresses of known pods.
    pods: HashMap<IpAddr, OfPod>,
}

/// Globs, and the rule of each.
#[derive(Debug, Clone, Default)]
struct Globs {
    set: GlobSet,
    rules: Vec<usize>,
}

impl Globs {
    /// `globs` are those of the rules in file order.
    fn new<'a>(globs: impl Iterator<Item = &'a [Glob]>, what: &str) -> Self {
        let mut builder = GlobSet::builder();
        let mut rules = Vec::new();
        for (rule, globs) in globs.enumerate() {
            for glob in globs {
                builder.add(glob.clone());
                rules.push(rule);
            }
        }
        let set = builder.build().unwrap_or_else(|error| {
            tracing::warn!(%error, "the {what} of all workloads together cannot be compiled: nobody belongs to one by them");
            GlobSet::empty()
        });
        Self { set, rules }
    }

    /// The first rule with a glob that matches.
    fn first(&self, text: &str) -> Option<usize> {
        let matches = self.set.matches(text).into_iter();
        matches.filter_map(|glob| self.rules.get(glob).copied()).min()
    }
}

/// An address that is a pod's.
#[derive(Debug, Clone)]
struct OfPod {
    /// What it is called without a rule.
    label: Arc<str>,
    /// The first rule that has the pod's owner.
    rule: Option<usize>,
}

impl Rules {
    /// Takes the rules over.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let limit = settings.limits.workloads.get();
        let workloads = || settings.workloads.iter();
        let mut rules = Self {
            limit,
            owners: Globs::new(workloads().map(|workload| &*workload.kubernetes), "owners"),
            users: Globs::new(workloads().map(|workload| &*workload.users), "users"),
            client_names: Globs::new(
                workloads().map(|workload| &*workload.client_names),
                "client names",
            ),
            ..Self::default()
        };
        for (rule, workload) in workloads().enumerate() {
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

    /// Whose pods have which addresses from now on.
    pub(super) fn set_owners(&mut self, owners: &Owners) {
        let mut known: HashMap<String, OfPod> = HashMap::new();
        let pods = owners.iter().map(|(address, pod)| {
            let path = format!("{}/{}", pod.namespace, pod.owner);
            let of_pod = known.entry(path).or_insert_with_key(|path| OfPod {
                label: format!("{}/{}", pod.namespace, pod.owner.name).into(),
                rule: self.owners.first(path),
            });
            (*address, of_pod.clone())
        });
        self.pods = pods.collect();
    }

    /// What an address is called that no rule has, if it is a pod's: `namespace/owner`.
    pub(super) fn owner_label(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.pods.get(&address.to_canonical()).map(|of_pod| &of_pod.label)
    }

    /// The first rule that has this address, by its place in the file; it may lie beyond the limit.
    #[must_use]
    pub fn rule_of(&self, address: IpAddr) -> Option<usize> {
        let address = address.to_canonical();
        let of_pod = self.pods.get(&address).and_then(|of_pod| of_pod.rule);
        let of_range = self.lengths[usize::from(address.is_ipv4())]
            .iter()
            .filter_map(|length| {
                let range = AddressRange::around(address, *length)?;
                self.ranges.get(&range).copied()
            })
            .min();
        of_range.into_iter().chain(of_pod).min()
    }

    /// Whether some rule has users or client names.
    #[must_use]
    pub fn have_names(&self) -> bool {
        !(self.users.rules.is_empty() && self.client_names.rules.is_empty())
    }

    /// The first rule that has the user, else the first that has the client name, as [`crate::clients`] writes them; `None`: the
    /// address decides.
    #[must_use]
    pub fn rule_of_names(&self, user: &str, name: &str) -> Option<usize> {
        // What stands in parentheses is no name.
        let of = |globs: &Globs, name: &str| (!name.starts_with('(')).then(|| globs.first(name)).flatten();
        let of_user = (user != DEFAULT_USER).then(|| of(&self.users, user)).flatten();
        of_user.or_else(|| of(&self.client_names, name))
    }

    /// The name of a rule; `None` beyond the limit.
    #[must_use]
    pub fn name(&self, rule: usize) -> Option<&str> {
        self.names.get(rule).map(String::as_str)
    }

    /// How many owners and addresses without a workload may have a row of their own, per server.
    pub(super) fn room_for_others(&self) -> usize {
        self.limit.saturating_sub(self.names.len())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kubernetes::{Owner, Pod};

    fn rules(text: &str) -> Rules {
        Rules::new(&Settings::parse(Path::new("test.toml"), text).expect("accepted"))
    }

    #[test]
    fn the_user_decides_then_the_client_name_and_of_each_the_first_rule() {
        let rules = rules(
            r#"
            [[workload]]
            name = "by name"
            client_names = ["api-*"]
            [[workload]]
            name = "by user"
            users = ["svc", "a*"]
            client_names = ["*"]
            [[workload]]
            name = "later"
            users = ["*"]
            "#,
        );
        assert!(rules.have_names());
        for (user, name, rule) in [
            ("default", "(none)", None),
            ("default", "api-1", Some(0)),
            ("default", "other", Some(1)),
            ("svc", "api-1", Some(1)),
            ("zoo", "api-1", Some(2)),
            ("(unknown)", "(unknown)", None),
            ("(unknown)", "(forgotten)", None),
            // A client that calls itself so.
            ("default", r"\x28none)", Some(1)),
        ] {
            assert_eq!(rules.rule_of_names(user, name), rule, "{user} {name}");
        }
        assert!(!self::rules("[[workload]]\nname = \"a\"\naddresses = [\"10.0.0.1\"]").have_names());
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

    fn owner(namespace: &str, kind: &str, name: &str) -> Arc<Pod> {
        Arc::new(Pod {
            namespace: namespace.into(),
            owner: Owner {
                kind: kind.into(),
                name: name.into(),
            },
            ..Pod::default()
        })
    }

    #[test]
    fn owners_of_pods_are_matched_part_by_part_and_the_first_rule_wins_over_addresses_too() {
        let mut rules = rules(
            r#"
            [[workload]]
            name = "carts"
            kubernetes = "shop/Deployment/cart-*"
            [[workload]]
            name = "network"
            addresses = ["10.0.0.0/24"]
            [[workload]]
            name = "all of pay"
            kubernetes = ["pay/*/*", "pay-*/StatefulSet/db"]
            "#,
        );
        let pods = [
            ("10.0.0.1", owner("shop", "Deployment", "cart-eu"), Some(0)),
            ("10.0.0.2", owner("shop", "Deployment", "cart"), Some(1)),
            ("10.1.0.3", owner("shop", "StatefulSet", "cart-eu"), None),
            ("10.1.0.4", owner("other-shop", "Deployment", "cart-eu"), None),
            ("10.1.0.5", owner("pay", "CronJob", "x"), Some(2)),
            ("10.1.0.6", owner("pay-eu", "StatefulSet", "db"), Some(2)),
            ("10.0.0.7", owner("pay", "CronJob", "x"), Some(1)),
        ];
        let owners: Owners = pods
            .iter()
            .map(|(address, pod, _)| (address.parse().expect("an address"), Arc::clone(pod)))
            .collect();
        rules.set_owners(&owners);
        for (address, pod, rule) in &pods {
            let address = address.parse().expect("an address");
            assert_eq!(rules.rule_of(address), *rule, "{address}");
            let label = format!("{}/{}", pod.namespace, pod.owner.name);
            assert_eq!(rules.owner_label(address).map(|label| &**label), Some(&*label));
        }
        assert_eq!(rules.owner_label("10.0.0.99".parse().expect("an address")), None);
        let mapped = "::ffff:10.1.0.5".parse().expect("an address");
        assert_eq!(rules.rule_of(mapped), Some(2));
    }

    #[test]
    fn rules_beyond_the_limit_have_no_name_and_leave_no_room() {
        let rules = rules(
            "[limits]\nworkloads = 1\n[[workload]]\nname = \"a\"\naddresses = [\"10.0.0.1\"]\n\
             [[workload]]\nname = \"b\"\naddresses = [\"10.0.0.2\"]",
        );
        assert_eq!(rules.rule_of("10.0.0.2".parse().expect("an address")), Some(1));
        assert_eq!((rules.name(0), rules.name(1)), (Some("a"), None));
        assert_eq!(rules.room_for_others(), 0);
    }
}
