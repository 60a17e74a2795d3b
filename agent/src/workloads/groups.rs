//! Addresses added up to workloads.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Rules, ServerSurvey, Tally};
use crate::snapshot::{ClientSnapshot, Introduction};

/// Who is followed from survey to survey.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    /// A workload of the configuration, by its place in the file.
    Rule(usize),
    /// Clients that no rule has.
    Default(Lonely),
}

/// Clients that no rule has, by what they are called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Lonely {
    /// The pods of one owner.
    Owner(Arc<str>),
    /// An address that is no known pod's.
    Address(IpAddr),
}

/// What is known of the clients of one server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources<'a> {
    /// The kernel's counters by address.
    pub(super) clients: &'a [ClientSnapshot],
    /// What they have said of themselves.
    pub(super) introductions: &'a [Introduction],
    /// Opens of each address that are counted for workloads by name already, since the kernel forgot the names.
    pub(super) settled: &'a HashMap<IpAddr, u64>,
    /// The survey.
    pub(super) survey: Option<&'a ServerSurvey>,
}

/// The clients of one server, added up.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Workloads with a row of their own.
    pub(super) rules: BTreeMap<usize, Gathered>,
    /// Owners and addresses without a workload that have a row of their own.
    pub(super) lonely: BTreeMap<Lonely, Gathered>,
    /// Those that have none.
    pub(super) beyond: Gathered,
    /// Both of them.
    pub(super) unassigned: Gathered,
    /// Workloads beyond the limit, and connections of unknown addresses.
    pub(super) other: Gathered,
}

/// Some addresses together.
#[derive(Debug, Clone, Default)]
pub(super) struct Gathered {
    /// Established now.
    pub(super) connections: u64,
    /// Established since the agent watches, by addresses that the kernel still keeps.
    pub(super) opened: u64,
    /// Connections of each address that has some.
    pub(super) per_instance: Vec<u64>,
    /// Busy connections of each address that has some, by the survey.
    pub(super) busy_per_instance: Vec<u64>,
    /// What the survey found.
    pub(super) tally: Tally,
}

/// One address at one server.
#[derive(Debug, Clone, Copy, Default)]
struct Client {
    connections: u64,
    opened: u64,
    tally: Tally,
}

impl Groups {
    pub(super) fn new(rules: &Rules, sources: Sources<'_>) -> Self {
        let mut groups = Self::default();
        let mut known = groups.by_address(sources);
        let mut named = groups.by_name(rules, sources, &mut known);
        let mut owners: HashMap<Arc<str>, Gathered> = HashMap::new();
        let mut lonely = Vec::new();
        for (address, client) in known {
            match rules.rule_of(address) {
                Some(rule) => match named.get_mut(&(rule, address)) {
                    // The same instance.
                    Some(by_name) => by_name.add(client),
                    None => groups.of_rule(rules, rule).add(&client),
                },
                None => {
                    groups.unassigned.add(&client);
                    match rules.owner_label(address) {
                        Some(owner) => owners.entry(Arc::clone(owner)).or_default().add(&client),
                        None => lonely.push((address, client)),
                    }
                }
            }
        }
        for ((rule, _), client) in named {
            groups.of_rule(rules, rule).add(&client);
        }
        let room = rules.room_for_others();
        let room = room - groups.give_rows_to_owners(owners.into_iter().collect(), room);
        groups.give_rows_to_addresses(lonely, room);
        groups
    }

    /// Where the clients of a rule are added up.
    fn of_rule(&mut self, rules: &Rules, rule: usize) -> &mut Gathered {
        match rules.name(rule) {
            Some(_) => self.rules.entry(rule).or_default(),
            None => &mut self.other,
        }
    }

    /// Everybody who is followed.
    pub(super) fn followed(&self) -> impl Iterator<Item = (Group, &Gathered)> {
        let rules = self.rules.iter().map(|(rule, sum)| (Group::Rule(*rule), sum));
        let lonely = self.lonely.iter();
        rules.chain(lonely.map(|(who, sum)| (Group::Default(who.clone()), sum)))
    }

    /// The addresses that are known, in order; what belongs to unknown ones is added to `other`. Sorted rather than put into a map:
    /// there may be tens of thousands, and those of a snapshot are in order.
    fn by_address(&mut self, sources: Sources<'_>) -> Vec<(IpAddr, Client)> {
        let surveyed = sources.survey.map_or(0, |survey| survey.addresses.len());
        let mut known = Vec::with_capacity(sources.clients.len() + surveyed);
        for client in sources.clients {
            let tally = Tally::default();
            let (connections, opened) = (client.connections, client.opened);
            match client.address {
                Some(address) => known.push((
                    address.to_canonical(),
                    Client {
                        connections,
                        opened,
                        tally,
                    },
                )),
                None => {
                    self.other.connections += connections;
                    self.other.opened += opened;
                }
            }
        }
        if let Some(survey) = sources.survey {
            let surveyed = survey.addresses.iter().map(|(address, tally)| {
                let client = Client {
                    tally: *tally,
                    ..Client::default()
                };
                (*address, client)
            });
            known.extend(surveyed);
            self.other.tally.add(survey.beyond);
        }
        // Stable: that makes use of what is in order already.
        known.sort_by_key(|(address, _)| *address);
        known.dedup_by(|(address, client), (first, sum)| {
            let is_same = address == first;
            if is_same {
                sum.connections += client.connections;
                sum.opened += client.opened;
                sum.tally.add(client.tally);
            }
            is_same
        });
        known
    }

    /// What belongs to workloads by users and client names. It is taken from the addresses, and so is what may do so in a
    /// moment; where an address is not known, from `other`.
    fn by_name(
        &mut self,
        rules: &Rules,
        sources: Sources<'_>,
        known: &mut [(IpAddr, Client)],
    ) -> HashMap<(usize, IpAddr), Client> {
        let mut named: HashMap<(usize, IpAddr), Client> = HashMap::new();
        let mut take = |address: IpAddr, connections: u64, opened: u64| {
            let place = known.binary_search_by_key(&address, |(address, _)| *address);
            let (of_connections, of_opened) = match place.ok().and_then(|place| known.get_mut(place)) {
                Some((_, client)) => (&mut client.connections, &mut client.opened),
                None => (&mut self.other.connections, &mut self.other.opened),
            };
            *of_connections = of_connections.saturating_sub(connections);
            *of_opened = of_opened.saturating_sub(opened);
        };
        for (address, opened) in sources.settled {
            take(*address, 0, *opened);
        }
        let introductions = sources.introductions.iter().filter(|_| rules.have_names());
        let mut decided: HashMap<(&str, &str), Option<usize>> = HashMap::new();
        for said in introductions {
            let names = (&*said.user, &*said.name);
            let address = said.address.to_canonical();
            let rule = decided
                .entry(names)
                .or_insert_with(|| rules.rule_of_names(names.0, names.1));
            let Some(rule) = *rule else {
                take(address, 0, said.introducing);
                continue;
            };
            take(address, said.connections, said.claimed);
            let sum = named.entry((rule, address)).or_default();
            sum.connections += said.connections;
            sum.opened += said.opened;
        }
        if let Some(survey) = sources.survey {
            for (who, tally) in &survey.named {
                named.entry(*who).or_default().tally.add(*tally);
            }
        }
        named
    }

    /// Those with the most connections get a row, before any address: a name says more. Returns how many got one.
    fn give_rows_to_owners(&mut self, mut owners: Vec<(Arc<str>, Gathered)>, room: usize) -> usize {
        owners.sort_unstable_by(|(left, more), (right, less)| {
            let size = |sum: &Gathered| (sum.connections.max(sum.tally.connections), sum.opened);
            size(less).cmp(&size(more)).then_with(|| left.cmp(right))
        });
        let beyond = owners.split_off(room.min(owners.len()));
        for (_, sum) in &beyond {
            self.beyond = std::mem::take(&mut self.beyond).and(sum);
        }
        let shown = owners.len();
        let rows = owners.into_iter().map(|(owner, sum)| (Lonely::Owner(owner), sum));
        self.lonely.extend(rows);
        shown
    }

    /// Those with the most connections get a row. There may be tens of thousands: they are divided, not sorted.
    fn give_rows_to_addresses(&mut self, mut lonely: Vec<(IpAddr, Client)>, room: usize) {
        if room < lonely.len() {
            lonely.select_nth_unstable_by_key(room, |(address, client)| {
                let connections = client.connections.max(client.tally.connections);
                (Reverse(connections), Reverse(client.opened), *address)
            });
        }
        let (shown, beyond) = lonely.split_at(room.min(lonely.len()));
        for (address, client) in shown {
            let who = Lonely::Address(*address);
            self.lonely.entry(who).or_default().add(client);
        }
        for (_, client) in beyond {
            self.beyond.add(client);
        }
    }
}

impl Client {
    fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.opened += other.opened;
        self.tally.add(other.tally);
    }
}

impl Gathered {
    fn add(&mut self, client: &Client) {
        self.connections += client.connections;
        self.opened += client.opened;
        if client.connections > 0 {
            self.per_instance.push(client.connections);
        }
        if client.tally.connections > 0 {
            self.busy_per_instance.push(client.tally.busy);
        }
        self.tally.add(client.tally);
    }

    /// Both together.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.connections += other.connections;
        self.opened += other.opened;
        self.per_instance.extend(&other.per_instance);
        self.busy_per_instance.extend(&other.busy_per_instance);
        self.tally.add(other.tally);
        self
    }
}
