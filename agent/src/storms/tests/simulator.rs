//! A server and its fleets, simulated: connections opened, held and closed per 100 ms, from which the counters come that the
//! kernel would have.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::baseline::{Exporter, ZScore};
use crate::config::Storms;
use crate::storms::{
    ClientDetail, Detail, Engine, Event, Expectation, Kind, Moment, Observation, Sizes, Storm, Traffic,
    TrafficRow,
};
use crate::tenants::PrefixNames;

pub(super) const SERVER: &str = "valkey-server:6379";
const TICK: u64 = 100;

/// The midnight at which every world begins.
pub(super) const BEGINNING: u64 = 86_400_000 * 20_000;

/// Numbers that look random and are the same for a seed (SplitMix64, Steele et al. 2014).
pub(super) struct Dice(u64);

impl Dice {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Mixed, and not a multiple of the step: such seeds would give one sequence, each a step later than the one before.
    pub(super) fn new(seed: u64) -> Self {
        Self(mixed(seed.wrapping_add(Self::STEP)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::STEP);
        mixed(self.0)
    }

    /// From 0 to 1.
    pub(super) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// How many events happen where `mean` are expected.
    pub(super) fn events(&mut self, mean: f64) -> u64 {
        // Knuth for small means, which are all that ticks have; beyond, the mean itself.
        if mean > 30.0 {
            return (mean * (0.9 + 0.2 * self.share())).round() as u64;
        }
        let (mut product, mut count) = (self.share(), 0);
        let least = (-mean).exp();
        while product > least {
            product *= self.share();
            count += 1;
        }
        count
    }
}

fn mixed(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[derive(Debug, Clone, Default)]
struct Client {
    workload: Option<&'static str>,
    library: Option<&'static str>,
    opened: u64,
    held: u64,
}

/// One server as the kernel counts it, and the engine that looks at it.
pub(super) struct World {
    pub(super) dice: Dice,
    now: u64,
    seen: Observation,
    clients: BTreeMap<IpAddr, Client>,
    engine: Engine,
    pub(super) events: Vec<Event>,
    /// When each of them was.
    moments: Vec<Moment>,
    /// Milliseconds between two quiet looks at the clients.
    pub(super) look_every: u64,
    /// Share of a CPU that the server has, if it is known.
    pub(super) busy: Option<f64>,
    /// What is asked every second while ticks pass; nothing, if it is empty.
    pub(super) loads: Vec<Load>,
    /// Whether the server would answer INFO, and what it would say.
    pub(super) answers: bool,
    /// The z-score of what INFO says, if anybody wants it.
    pub(super) score: Option<Box<ZScore>>,
    /// The exporter of INFO, if anybody wants it.
    pub(super) exporter: Option<Exporter>,
    info: Info,
    names: BTreeMap<&'static str, Arc<str>>,
}

/// What INFO counts, cumulative but for the first.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Info {
    pub(super) connected_clients: f64,
    pub(super) connections_received: f64,
    pub(super) rejected_connections: f64,
    pub(super) commands_processed: f64,
    pub(super) net_input_bytes: f64,
    pub(super) net_output_bytes: f64,
    pub(super) error_replies: f64,
}

impl World {
    /// Empty.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            now: BEGINNING,
            seen: Observation {
                queue_limit: 511,
                clients_limit: Some(10_000),
                ..Observation::default()
            },
            clients: BTreeMap::new(),
            engine: Engine::new(Storms::default()),
            events: Vec::new(),
            moments: Vec::new(),
            look_every: 10_000,
            busy: None,
            loads: Vec::new(),
            answers: true,
            score: None,
            exporter: None,
            info: Info::default(),
            names: BTreeMap::new(),
        }
    }

    pub(super) fn set_limit(&mut self, clients: u64) {
        self.seen.clients_limit = Some(clients);
    }

    /// Milliseconds since the beginning.
    pub(super) fn elapsed(&self) -> u64 {
        self.now - BEGINNING
    }

    pub(super) fn moment(&self) -> Moment {
        Moment(self.now)
    }

    pub(super) fn connections(&self) -> u64 {
        self.seen.connections
    }

    /// Instances with so many connections each, there before anything is looked at.
    pub(super) fn adopt(&mut self, fleet: &Fleet) {
        for address in fleet.addresses() {
            let client = self.client(fleet, address);
            client.held += fleet.pool;
            self.seen.connections += fleet.pool;
        }
    }

    fn client(&mut self, fleet: &Fleet, address: IpAddr) -> &mut Client {
        self.clients.entry(address).or_insert_with(|| Client {
            workload: fleet.workload,
            library: fleet.library,
            ..Client::default()
        })
    }

    pub(super) fn open(&mut self, fleet: &Fleet, address: IpAddr, connections: u64) {
        let client = self.client(fleet, address);
        client.opened += connections;
        client.held += connections;
        self.seen.opened_total += connections;
        self.seen.connections += connections;
    }

    /// All instances open their pools at once.
    pub(super) fn open_all(&mut self, fleet: &Fleet) {
        for address in fleet.addresses() {
            self.open(fleet, address, fleet.pool);
        }
    }

    /// All instances close their pools at once.
    pub(super) fn close_all(&mut self, fleet: &Fleet) {
        for address in fleet.addresses() {
            self.close(address, fleet.pool);
        }
    }

    /// Closes as many as there are.
    pub(super) fn close(&mut self, address: IpAddr, connections: u64) -> u64 {
        let Some(client) = self.clients.get_mut(&address) else {
            return 0;
        };
        let closed = connections.min(client.held);
        client.held -= closed;
        self.seen.closed_total += closed;
        self.seen.connections -= closed;
        closed
    }

    pub(super) fn give_up(&mut self, address: IpAddr, connections: u64) {
        let closed = self.close(address, connections);
        self.seen.closed_waiting_total += closed;
    }

    pub(super) fn reject(&mut self, fleet: &Fleet, address: IpAddr, connections: u64) {
        self.open(fleet, address, connections);
        self.close(address, connections);
        self.seen.rejected_total += connections;
    }

    pub(super) fn queue(&mut self, length: u64, drops: u64) {
        self.seen.queue_length = length.min(self.seen.queue_limit);
        self.seen.queue_drops_total += drops;
    }

    /// A tick passes, and the engine looks.
    pub(super) fn tick(&mut self) {
        self.long_tick(TICK);
    }

    /// The same with a tick of another length.
    pub(super) fn long_tick(&mut self, milliseconds: u64) {
        self.now += milliseconds;
        let clients = &self.clients;
        if self.elapsed().is_multiple_of(self.look_every) {
            self.engine.remember(SERVER, Moment(self.now), &detail(clients));
        }
        let mut look = || Some(detail(clients));
        let events = self
            .engine
            .observe(SERVER, Moment(self.now), &self.seen, &mut look);
        self.hear(events);
        if !self.loads.is_empty() && self.now % 1_000 < milliseconds {
            let loads = std::mem::take(&mut self.loads);
            self.ask(&loads);
            self.loads = loads;
            let (now, info) = (self.now, self.info());
            if let Some(score) = &mut self.score {
                score.poll(now, info);
            }
            if let Some(exporter) = &mut self.exporter {
                exporter.poll(now, info, self.seen.clients_limit);
            }
        }
    }

    /// What INFO says; `None` while the server does not answer.
    fn info(&self) -> Option<Info> {
        let info = Info {
            connected_clients: self.seen.connections as f64,
            connections_received: self.seen.opened_total as f64,
            rejected_connections: self.seen.rejected_total as f64,
            ..self.info
        };
        self.answers.then_some(info)
    }

    /// Announces restarts.
    pub(super) fn expect(&mut self, expectations: Vec<Expectation>) {
        self.engine.expect(expectations);
    }

    /// A second in which these loads are all that there is.
    pub(super) fn second(&mut self, loads: &[Load]) {
        self.now += 1_000;
        self.ask(loads);
    }

    fn ask(&mut self, loads: &[Load]) {
        let (dice, names) = (&mut self.dice, &mut self.names);
        let rows: Vec<TrafficRow> = loads.iter().map(|load| load.row(dice, names)).collect();
        for row in &rows {
            self.info.commands_processed += row.answered as f64;
            self.info.net_input_bytes += row.bytes_in as f64;
            self.info.net_output_bytes += row.bytes_out as f64;
            self.info.error_replies += row.errors.iter().map(|(_, count)| *count as f64).sum::<f64>();
        }
        let traffic = Traffic {
            milliseconds: 1_000,
            bytes_in: rows.iter().map(|row| row.bytes_in).sum(),
            bytes_out: rows.iter().map(|row| row.bytes_out).sum(),
            link: Some(LINK),
            busy: self.busy,
            rows,
        };
        let events = self.engine.observe_traffic(SERVER, Moment(self.now), &traffic);
        self.hear(events);
    }

    fn hear(&mut self, events: Vec<Event>) {
        self.events.extend(events);
        self.moments.resize(self.events.len(), Moment(self.now));
    }

    /// When it was first said that there is a storm of this kind, with this culprit at its head.
    pub(super) fn heard(&self, kind: Kind, culprit: &str) -> Option<Moment> {
        let mut events = self.events.iter().zip(&self.moments);
        let first = events.find(|(event, _)| is_right(event.storm(), kind, culprit));
        first.map(|(_, at)| *at)
    }

    /// Whether it was said at first that it is of another kind, or somebody else's. It may be that nobody is named yet.
    pub(super) fn misheard(&self, kind: Kind, culprit: &str) -> bool {
        let first = self.events.first().map(Event::storm);
        first.is_some_and(|storm| {
            let is_nobodys = storm.kind == kind && storm.culprits.is_empty();
            !is_nobodys && !is_right(storm, kind, culprit)
        })
    }

    /// Prefixes have other names from now on.
    pub(super) fn show_prefixes_as(&mut self, names: PrefixNames) {
        let events = self.engine.show_prefixes_as(names, Moment(self.now));
        self.hear(events);
    }

    /// The server is gone.
    pub(super) fn leave(&mut self) {
        let events = self.engine.forget(SERVER, Moment(self.now));
        self.hear(events);
    }

    /// Storms that are over, as the engine remembers them.
    pub(super) fn over(&self) -> Vec<Storm> {
        self.engine.over().cloned().collect()
    }

    /// So many milliseconds pass, in each tick of which `life` goes on.
    pub(super) fn pass(&mut self, milliseconds: u64, mut life: impl FnMut(&mut Self)) {
        for _ in 0..milliseconds / TICK {
            life(self);
            self.tick();
        }
    }

    /// Storms that began, as they were at the last event about them.
    pub(super) fn storms(&self) -> Vec<Storm> {
        let mut storms: BTreeMap<String, Storm> = BTreeMap::new();
        for event in &self.events {
            storms.insert(event.storm().id.clone(), event.storm().clone());
        }
        storms.into_values().collect()
    }

    /// The only storm that there was: its kind and leading culprit are these, it began once and is over.
    pub(super) fn one_storm(&self, kind: Kind, culprit: &str) -> Storm {
        let started = self
            .events
            .iter()
            .filter(|event| matches!(event, Event::Started(_)))
            .count();
        let ended = self
            .events
            .iter()
            .filter(|event| matches!(event, Event::Ended(_)))
            .count();
        let storms = self.storms();
        assert_eq!((started, ended, storms.len()), (1, 1, 1), "{storms:#?}");
        let storm = storms[0].clone();
        assert_eq!(storm.kind, kind, "{storm:#?}");
        assert_eq!(
            storm.culprits.first().map(|culprit| &*culprit.name),
            Some(culprit),
            "{storm:#?}"
        );
        storm
    }

    /// Silence, or what broke it.
    pub(super) fn assert_silent(&self) {
        assert!(self.events.is_empty(), "{:#?}", self.storms());
    }
}

/// Whether it is of this kind, and who it is leads.
fn is_right(storm: &Storm, kind: Kind, culprit: &str) -> bool {
    let first = storm.culprits.first();
    storm.kind == kind && first.is_some_and(|leader| leader.name == culprit)
}

fn detail(clients: &BTreeMap<IpAddr, Client>) -> Detail {
    let known = clients.iter().map(|(address, client)| ClientDetail {
        address: *address,
        workload: client.workload.map(Into::into),
        library: client.library.map(Into::into),
        user: None,
        opened: client.opened,
        connections: client.held,
    });
    Detail {
        clients: known.collect(),
    }
}

/// Bytes per second of the simulated link: a gigabit.
pub(super) const LINK: u64 = 125_000_000;

/// What is asked below one prefix, each second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) prefix: &'static str,
    pub(super) tenant: Option<&'static str>,
    pub(super) commands: f64,
    /// Share of the commands that is answered within the second.
    pub(super) answered: f64,
    /// Bytes of a command, and of its reply.
    pub(super) asks: u64,
    pub(super) gets: u64,
    /// Seconds from command to reply.
    pub(super) latency: f64,
    /// Share of the replies that are errors, and their word.
    pub(super) errors: f64,
    pub(super) word: &'static str,
}

/// Four prefixes of three tenants.
pub(super) const USUAL: [Load; 4] = [
    Load {
        prefix: "cart",
        tenant: Some("checkout"),
        commands: 2_000.0,
        answered: 1.0,
        asks: 300,
        gets: 40,
        latency: 0.000_2,
        errors: 0.000_5,
        word: "WRONGTYPE",
    },
    Load {
        prefix: "session",
        tenant: Some("login"),
        commands: 3_000.0,
        answered: 1.0,
        asks: 60,
        gets: 200,
        latency: 0.000_2,
        errors: 0.000_5,
        word: "WRONGTYPE",
    },
    Load {
        prefix: "search",
        tenant: Some("search"),
        commands: 500.0,
        answered: 1.0,
        asks: 80,
        gets: 4_000,
        latency: 0.000_2,
        errors: 0.000_5,
        word: "WRONGTYPE",
    },
    Load {
        prefix: "promo",
        tenant: None,
        commands: 50.0,
        answered: 1.0,
        asks: 90,
        gets: 1_000,
        latency: 0.000_2,
        errors: 0.000_5,
        word: "WRONGTYPE",
    },
];

impl Load {
    fn row(&self, dice: &mut Dice, names: &mut BTreeMap<&'static str, Arc<str>>) -> TrafficRow {
        let mut name = |of: &'static str| Arc::clone(names.entry(of).or_insert_with(|| of.into()));
        let commands = dice.events(self.commands);
        let answered = (commands as f64 * self.answered).round() as u64;
        let errors = dice.events(answered as f64 * self.errors).min(answered);
        let mut sizes = Sizes::default();
        let cell = |bytes: u64| (bytes.max(1) as f64).log2().ceil() as usize;
        sizes.0[cell(self.asks)] += commands;
        sizes.0[cell(self.gets)] += answered;
        TrafficRow {
            prefix: name(self.prefix),
            tenant: self.tenant.map(&mut name),
            bytes_in: commands * self.asks,
            bytes_out: answered * self.gets,
            commands,
            answered,
            seconds: answered as f64 * self.latency * (0.8 + 0.4 * dice.share()),
            sizes,
            errors: if errors > 0 {
                vec![(self.word, errors)]
            } else {
                Vec::new()
            },
        }
    }

    /// The same with other numbers.
    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Instances of one workload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fleet {
    pub(super) workload: Option<&'static str>,
    pub(super) library: Option<&'static str>,
    pub(super) network: u8,
    pub(super) instances: u64,
    pub(super) pool: u64,
}

pub(super) const CART: Fleet = Fleet {
    workload: Some("cart-api"),
    library: Some("go-redis 8.11"),
    network: 1,
    instances: 150,
    pool: 13,
};

pub(super) const BATCH: Fleet = Fleet {
    workload: Some("batch"),
    library: Some("valkey-py 6.2"),
    network: 2,
    instances: 20,
    pool: 5,
};

impl Fleet {
    pub(super) fn address(&self, instance: u64) -> IpAddr {
        [10, self.network, (instance / 250) as u8, (instance % 250) as u8].into()
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let fleet = *self;
        (0..self.instances).map(move |instance| fleet.address(instance))
    }

    pub(super) fn total(&self) -> u64 {
        self.instances * self.pool
    }
}
