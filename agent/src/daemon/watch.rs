//! Which servers there are, which slots they have, which cgroups are watched.
//!
//! A slot is one listening address in the kernel's maps. A server has as many as it has listening sockets; when one
//! goes, its slot is kept until its last connection has ended, then its counters are added to the server's earlier
//! ones and it is free again. So nothing is lost over a restart, and no connection ever counts for another server.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use agent_common::abi::{ClientKey, Event, EventKind, ListenerKey, Scope, Seed, address_words};
use anyhow::Result;

use super::{
    Evidence,
    accept_queue::Drops,
    collect::{current_window, monotonic_nanoseconds},
    inventory::Inventory,
    rates::Rates,
    retire::Usage,
    storms::Judge,
    survey::Surveys,
    totals::{BySlot, Totals},
    traffic::TrafficBook,
    wanted::Wanted,
};
use crate::{
    clients::{LibraryOpens, Names},
    config::{Discovery, LibraryLimit, Settings},
    kernel::Kernel,
    kubernetes::Kubernetes,
    tenants::{ClassTables, Classes, PrefixTable, Rules as TenantRules},
    valkey::{DiscoverySettings, FoundServer, Host, Listener, attach_points, labels},
    workloads::{Rules, Workloads},
};

/// How often every process of the host is looked at when nothing calls for it.
const SCAN_INTERVAL: Duration = Duration::from_secs(5);
/// The same when ports are configured: their processes are not announced.
const PORT_SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// Scans follow each other no faster.
const LEAST_SCAN_INTERVAL: Duration = Duration::from_millis(50);
/// Scans after the start of a server process, until it listens.
const SCANS_AFTER_EXEC: [Duration; 4] = [
    Duration::from_millis(30),
    Duration::from_millis(150),
    Duration::from_millis(600),
    Duration::from_millis(1_800),
];
/// How long the cgroup of a new server process is watched before it listens.
const PATIENCE_WITH_EXEC: Duration = Duration::from_secs(30);
/// How long a socket may listen in a watched cgroup without belonging to a server that discovery knows.
const PATIENCE_WITH_STRANGERS: Duration = Duration::from_secs(3);
/// How long a slot rests after its listener went: packets of its last connections are still on their way.
const SLOT_REST: Duration = Duration::from_secs(2);
/// How long the counters of a stopped server are kept for its return.
const MEMORY_OF_STOPPED: Duration = Duration::from_secs(600);
/// How often clients without a connection are looked for. One that had none, and opened none, twice in a row goes.
const CLIENT_SWEEP: Duration = Duration::from_secs(300);

/// How often names without a connection are looked for. One that had none twice in a row goes.
const NAME_SWEEP: Duration = Duration::from_secs(60);

/// A server that is, or was not long ago.
#[derive(Debug, Default)]
pub(super) struct Server {
    /// What discovery says; `None` while it is stopped.
    pub(super) found: Option<FoundServer>,
    /// Slots of its listening sockets.
    listeners: BTreeMap<Bound, u32>,
    /// Slots of listening sockets that are gone, since when.
    resting: BTreeMap<u32, Instant>,
    /// What slots that were freed had counted.
    pub(super) earlier: Totals,
    /// When it stopped.
    stopped: Option<Instant>,
    /// The configuration has changed, and leaves it out.
    unwanted: bool,
}

/// Scope (namespace cookie), address, port: what a listening socket is registered under.
type Bound = (u64, IpAddr, u16);

impl Server {
    pub(super) fn is_live(&self) -> bool {
        self.found.is_some()
    }

    /// Whether it is to be seen: live, and wanted by the configuration.
    pub(super) fn is_shown(&self) -> bool {
        self.is_live() && !self.unwanted
    }

    /// Whether it is this process.
    fn is(&self, process: &FoundServer) -> bool {
        let same = |known: &FoundServer| (known.pid, known.start_time) == (process.pid, process.start_time);
        self.found.as_ref().is_some_and(same)
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        let listening: BTreeSet<u32> = self.listeners.values().copied().collect();
        listening.into_iter().chain(self.resting.keys().copied())
    }
}

/// State of the watching thread.
pub(super) struct Watch {
    pub(super) kernel: Kernel,
    pub(super) host: Host,
    wanted: Wanted,
    pub(super) servers: BTreeMap<String, Server>,
    pub(super) inventory: Inventory,
    pub(super) rates: Rates,
    /// Cgroups of processes that started and do not listen yet, until when.
    expected: BTreeMap<PathBuf, Instant>,
    /// Slots that the kernel gave to sockets nobody knows, since when.
    strangers: HashMap<u32, Instant>,
    /// Slots of strangers that were let go, and still have connections.
    resting_strangers: BTreeMap<u32, Instant>,
    /// When to scan, beside the regular scans.
    scans: BTreeSet<Instant>,
    last_scan: Instant,
    next_regular_scan: Instant,
    next_client_sweep: Instant,
    idle_clients: HashMap<ClientKey, u64>,
    failed_cgroups: BTreeSet<PathBuf>,
    pub(super) surveys: Surveys,
    pub(super) workloads: Workloads,
    pub(super) drops: Drops,
    pub(super) names: Names,
    /// How many versions of libraries have a row.
    pub(super) libraries: LibraryLimit,
    /// What each has opened.
    pub(super) library_opens: LibraryOpens,
    pub(super) kubernetes: Kubernetes,
    /// Numbers of names that no connection had at the last look.
    pub(super) unused_names: HashSet<u32>,
    /// Numbers of names that are forgotten, and may have a class.
    pub(super) forgotten_names: HashSet<u32>,
    /// Tenants' names by the numbers that the kernel has.
    pub(super) classes: Classes,
    /// What rows moved, by supply.
    pub(super) usage: [Usage; 2],
    pub(super) next_retirement: Instant,
    /// Prefixes that have given up their rows.
    pub(super) retired: u64,
    /// The classes of names are to be looked at again.
    pub(super) names_to_judge: bool,
    next_name_sweep: Instant,
    pub(super) judge: Judge,
    pub(super) traffic: TrafficBook,
}

impl Watch {
    pub(super) fn new(
        kernel: Kernel,
        host: Host,
        kubernetes: Kubernetes,
        settings: &Settings,
        rules: TenantRules,
        classes: Classes,
        evidence: Evidence,
    ) -> Self {
        let wanted = Wanted::new(DiscoverySettings::from(&settings.discovery));
        let now = Instant::now();
        Self {
            kernel,
            host,
            kubernetes,
            wanted,
            servers: BTreeMap::new(),
            inventory: Inventory::new(),
            rates: Rates::default(),
            expected: BTreeMap::new(),
            strangers: HashMap::new(),
            resting_strangers: BTreeMap::new(),
            scans: BTreeSet::new(),
            last_scan: now,
            next_regular_scan: now,
            next_client_sweep: now + CLIENT_SWEEP,
            idle_clients: HashMap::new(),
            failed_cgroups: BTreeSet::new(),
            surveys: Surveys::new(settings.clients),
            workloads: Workloads::new(Rules::new(settings)),
            drops: Drops::default(),
            names: Names::default(),
            libraries: settings.limits.libraries,
            library_opens: LibraryOpens::default(),
            unused_names: HashSet::new(),
            forgotten_names: HashSet::new(),
            classes,
            usage: Default::default(),
            next_retirement: now,
            retired: 0,
            names_to_judge: false,
            next_name_sweep: now + NAME_SWEEP,
            judge: Judge::new(settings, evidence, now),
            traffic: TrafficBook::new(settings, rules),
        }
    }

    /// Looks for other servers from now on.
    ///
    /// # Errors
    ///
    /// When the kernel does not take the names, and then nothing changes.
    pub(super) fn set_discovery(&mut self, discovery: &Discovery, now: Instant) -> Result<()> {
        self.kernel.announce_processes(&discovery.processes)?;
        self.wanted.change(DiscoverySettings::from(discovery));
        self.scans.insert(now);
        Ok(())
    }

    /// Gives connections the tenants of these rules from now on.
    ///
    /// # Errors
    ///
    /// When the kernel does not take them all; those before can be set again.
    pub(super) fn set_classes(&mut self, settings: &Settings) -> Result<()> {
        let tables = ClassTables::new(settings, &mut self.classes)?;
        self.kernel
            .set_tenant_prefixes(&PrefixTable::new(settings, &mut self.classes)?)?;
        self.kernel.set_classes(&tables)?;
        self.names_to_judge = true;
        Ok(())
    }

    /// When the next scan is due.
    pub(super) fn next_scan(&self) -> Instant {
        self.scans
            .first()
            .copied()
            .unwrap_or(self.next_regular_scan)
            .min(self.next_regular_scan)
    }

    /// Announcements of the kernel programs.
    pub(super) fn handle(&mut self, events: &[Event], now: Instant) {
        for event in events {
            if event.kind == EventKind::Exec as u32 {
                self.expect(event.pid as i32, now);
            } else if event.kind == EventKind::Listen as u32 && event.slot != u32::MAX {
                self.strangers.insert(event.slot, now);
            }
        }
        if events.iter().any(|event| event.kind == EventKind::Listen as u32) {
            // At once, unless sockets begin to listen by the dozen.
            self.scans.insert(now.max(self.last_scan + LEAST_SCAN_INTERVAL));
        } else {
            self.watch_cgroups();
        }
    }

    /// A server process started: its cgroup is watched before it listens.
    fn expect(&mut self, pid: i32, now: Instant) {
        self.inventory.started(pid, now);
        match self.host.cgroups().of_process(pid) {
            Ok(cgroup) => {
                tracing::debug!(pid, cgroup = %cgroup.display(), "a server process started");
                self.expected.insert(cgroup, now + PATIENCE_WITH_EXEC);
            }
            // It may have ended already.
            Err(error) => tracing::debug!(pid, %error, "a server process started, its cgroup is unknown"),
        }
        self.scans.extend(SCANS_AFTER_EXEC.map(|after| now + after));
    }

    /// Once a second: notices stopped servers, frees what has rested.
    pub(super) fn tick(&mut self, now: Instant) {
        let stopped = self.servers.values().any(|server| {
            server
                .found
                .as_ref()
                .is_some_and(|found| self.host.start_time(found.pid) != Some(found.start_time))
        });
        if stopped {
            self.discover(now);
        }
        self.release_rested(now);
        // For what sockets that go before the next scrape have dropped.
        self.accept_queues();
        self.note_rates(now);
        self.judge.heed_announcements();
        self.kernel.sweep_parking(monotonic_nanoseconds());
        self.forget_stopped(now);
        if std::mem::take(&mut self.names_to_judge)
            && let Err(error) = self.kernel.judge_names_again()
        {
            tracing::warn!(
                error = format!("{error:#}"),
                "a user or client name may have an old tenant"
            );
        }
        if now >= self.next_name_sweep {
            self.next_name_sweep = now + NAME_SWEEP;
            self.sweep_names();
        }
        if now >= self.next_client_sweep {
            self.next_client_sweep = now + CLIENT_SWEEP;
            let (idle, gone) = self.kernel.sweep_clients(&self.idle_clients);
            self.idle_clients = idle;
            self.depart(&gone);
        }
        self.survey(now);
    }

    fn forget_stopped(&mut self, now: Instant) {
        let forgotten = self.servers.iter().filter(|(_, server)| {
            let long_ago = |since| now.duration_since(since) > MEMORY_OF_STOPPED;
            !server.is_live() && server.resting.is_empty() && server.stopped.is_some_and(long_ago)
        });
        let forgotten: Vec<String> = forgotten.map(|(label, _)| label.clone()).collect();
        for label in forgotten {
            tracing::info!(server = label, "forgetting a server that stopped");
            self.servers.remove(&label);
            self.workloads.forget(&label);
            self.library_opens.forget(&label);
            self.stop_judging(&label, now);
        }
    }

    /// Cgroups of processes that listen by now, or never will, need not be watched for them any more.
    fn drop_expectations(&mut self, now: Instant) {
        let servers = self.servers.values().filter_map(|server| server.found.as_ref());
        let listening: BTreeSet<&PathBuf> = servers
            .filter_map(|found| found.cgroup_of_process.as_ref())
            .collect();
        self.expected
            .retain(|cgroup, until| *until > now && !listening.contains(cgroup));
    }

    /// Looks at every process and brings slots and cgroups in line with what it finds.
    pub(super) fn discover(&mut self, now: Instant) {
        self.scans.retain(|due| *due > now);
        self.last_scan = now;
        let interval = if self.wanted.looked_for().ports.is_empty() {
            SCAN_INTERVAL
        } else {
            PORT_SCAN_INTERVAL
        };
        self.next_regular_scan = now + interval;
        let found = match self.host.servers(self.wanted.looked_for()) {
            Ok(found) => found,
            Err(error) => return tracing::warn!(%error, "cannot look for servers; trying again"),
        };
        let watched = |server: &FoundServer| self.servers.values().any(|known| known.is(server));
        let found = self.wanted.choose(found, watched);
        let labels = self.stable_labels(&found);
        // First out, then in: another server may have taken over a listening address.
        self.retire_missing(&labels.iter().cloned().collect(), now);
        let mut unseeded = Vec::new();
        for (label, server) in labels.into_iter().zip(found) {
            unseeded.extend(self.register(&label, server, now));
        }
        self.retire_strangers(now);
        self.drop_expectations(now);
        self.forget_old_cgroups();
        self.watch_ports();
        self.watch_cgroups();
        for (netns, sockets) in group(unseeded) {
            self.seed(netns, &sockets);
        }
        let servers = self.servers.values().filter_map(|server| server.found.as_ref());
        self.inventory.learn(servers, now);
    }

    /// Labels of the servers found; one that has a label keeps it.
    fn stable_labels(&mut self, found: &[FoundServer]) -> Vec<String> {
        let leaves: HashMap<(i32, u64), Option<String>> = found
            .iter()
            .map(|server| {
                let cgroup = server.listeners.first().map(|listener| listener.cgroup_id);
                let cgroups = self.host.cgroups();
                let leaf = cgroup
                    .and_then(|id| cgroups.path_of(id))
                    .and_then(|path| cgroups.leaf(&path));
                ((server.pid, server.start_time), leaf)
            })
            .collect();
        let pod = |server: &FoundServer| {
            let pod = self.kubernetes.of_place(&server.place)?;
            Some(format!("{}/{}", pod.namespace, pod.name))
        };
        let fresh = labels(found, pod, |server| {
            leaves.get(&(server.pid, server.start_time)).cloned().flatten()
        });
        let mut taken = BTreeSet::new();
        let mut result = Vec::with_capacity(found.len());
        for (server, fresh) in found.iter().zip(fresh) {
            let known = self.servers.iter().find(|(_, known)| known.is(server));
            let mut label = known.map_or(fresh, |(label, _)| label.clone());
            while !taken.insert(label.clone()) {
                label.push('+');
            }
            result.push(label);
        }
        result
    }

    /// Takes up a server. Returns its listeners whose connections have to be seeded.
    fn register(&mut self, label: &str, found: FoundServer, now: Instant) -> Vec<(u64, Listener, u32)> {
        let mut fresh = Vec::new();
        let mut server = self.servers.remove(label).unwrap_or_default();
        if !server.is_live() {
            let ports: BTreeSet<u16> = found.listeners.iter().map(|listener| listener.port).collect();
            tracing::info!(server = label, pid = found.pid, ?ports, "watching server");
        }
        let mut current = BTreeSet::new();
        for listener in &found.listeners {
            let key = (found.netns_cookie, listener.address, listener.port);
            current.insert(key);
            let Some((slot, known)) = self.slot_of(&server, &key) else {
                tracing::warn!(
                    server = label,
                    port = listener.port,
                    "no free slot for a listening socket"
                );
                continue;
            };
            self.strangers.remove(&slot);
            server.listeners.insert(key, slot);
            self.register_cgroup(listener, slot);
            if !known {
                fresh.push((found.netns, listener.clone(), slot));
            }
        }
        let gone: Vec<Bound> = server
            .listeners
            .keys()
            .filter(|key| !current.contains(*key))
            .copied()
            .collect();
        for key in gone {
            self.rest(&mut server, &key, now);
        }
        let unwanted = !self.wanted.wants(&found);
        match (server.unwanted, unwanted) {
            (false, true) => tracing::info!(
                server = label,
                "the configuration leaves this server out: not shown"
            ),
            (true, false) => tracing::info!(server = label, "the configuration takes this server in again"),
            _ => {}
        }
        server.unwanted = unwanted;
        server.found = Some(found);
        server.stopped = None;
        self.servers.insert(label.to_owned(), server);
        fresh
    }

    /// The slot of a listening address, and whether its connections are known from the first one on.
    fn slot_of(&mut self, server: &Server, key: &Bound) -> Option<(u32, bool)> {
        if let Some(slot) = server.listeners.get(key) {
            return Some((*slot, true));
        }
        let kernel_key = listener_key(key.0, Scope::NetworkNamespace, key.1, key.2);
        if let Some(slot) = self.kernel.listener(&kernel_key) {
            // The kernel saw it begin to listen.
            return Some((slot, self.strangers.contains_key(&slot)));
        }
        let slot = self.kernel.take_slot()?;
        match self.kernel.add_listener(kernel_key, slot) {
            Ok(slot) => Some((slot, false)),
            Err(error) => {
                tracing::warn!(%error, "cannot register a listening socket");
                None
            }
        }
    }

    /// Lets packets of connections from before the agent find the slot.
    fn register_cgroup(&mut self, listener: &Listener, slot: u32) {
        let key = listener_key(listener.cgroup_id, Scope::Cgroup, listener.address, listener.port);
        if let Err(error) = self.kernel.add_listener(key, slot) {
            tracing::warn!(%error, "cannot register a listening socket's cgroup");
        }
    }

    /// A listening socket is gone: its slot rests until its connections have ended.
    fn rest(&mut self, server: &mut Server, key: &Bound, now: Instant) {
        let Some(slot) = server.listeners.remove(key) else {
            return;
        };
        self.forget_keys(slot);
        server.resting.insert(slot, now);
    }

    fn forget_keys(&mut self, slot: u32) {
        let keys: Vec<ListenerKey> = self
            .kernel
            .listeners()
            .into_iter()
            .filter(|(_, of)| *of == slot)
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.kernel.remove_listener(&key);
        }
    }

    fn retire_missing(&mut self, seen: &BTreeSet<String>, now: Instant) {
        let missing: Vec<String> = self
            .servers
            .iter()
            .filter(|(label, server)| server.is_live() && !seen.contains(*label))
            .map(|(label, _)| label.clone())
            .collect();
        for label in missing {
            tracing::info!(server = label, "server stopped");
            let Some(mut server) = self.servers.remove(&label) else {
                continue;
            };
            let keys: Vec<Bound> = server.listeners.keys().copied().collect();
            for key in keys {
                self.rest(&mut server, &key, now);
            }
            server.found = None;
            server.stopped = Some(now);
            self.servers.insert(label, server);
        }
    }

    /// Sockets of other programs in a shared cgroup are let go.
    fn retire_strangers(&mut self, now: Instant) {
        let gone: Vec<u32> = self
            .strangers
            .iter()
            .filter(|(_, since)| now.duration_since(**since) > PATIENCE_WITH_STRANGERS)
            .map(|(slot, _)| *slot)
            .collect();
        for slot in gone {
            self.strangers.remove(&slot);
            self.forget_keys(slot);
            self.resting_strangers.insert(slot, now);
        }
    }

    /// Frees slots that have rested and have no connection left.
    fn release_rested(&mut self, now: Instant) {
        let window = current_window();
        let rested = |watch: &Self, slot: u32, since: Instant| {
            let counters = watch.kernel.counters(slot);
            now.duration_since(since) > SLOT_REST && counters.opened + counters.adopted <= counters.closed
        };
        let mut free: Vec<(Option<String>, u32)> = Vec::new();
        for (label, server) in &self.servers {
            let slots = server
                .resting
                .iter()
                .filter(|(slot, since)| rested(self, **slot, **since));
            free.extend(slots.map(|(slot, _)| (Some(label.clone()), *slot)));
        }
        let strangers = self
            .resting_strangers
            .iter()
            .filter(|(slot, since)| rested(self, **slot, **since));
        free.extend(strangers.map(|(slot, _)| (None, *slot)));
        if free.is_empty() {
            return;
        }
        let readings = self.kernel.readings();
        let by_slot = BySlot::new(&readings);
        for (label, slot) in free {
            self.release(label.as_deref(), slot, &by_slot, window);
        }
    }

    fn release(&mut self, label: Option<&str>, slot: u32, by_slot: &BySlot<'_>, window: u64) {
        self.depart(&by_slot.opens_of(slot));
        // Of clients that the kernel had no room for.
        self.settle_names(|key| key.slot == slot);
        if let Some(label) = label {
            let Some(mut server) = self.servers.remove(label) else {
                return;
            };
            server.resting.remove(&slot);
            self.add_slot(&mut server.earlier, slot, by_slot, window);
            server.earlier.settle();
            self.servers.insert(label.to_owned(), server);
        } else {
            self.resting_strangers.remove(&slot);
        }
        if let Err(error) = self.kernel.release_slot(slot) {
            tracing::warn!(%error, slot, "cannot free a slot");
        }
    }

    /// Slots that are not free.
    pub(super) fn slots_in_use(&self) -> usize {
        let of_servers: usize = self.servers.values().map(|server| server.slots().count()).sum();
        of_servers + self.strangers.len() + self.resting_strangers.len()
    }

    /// A server that came back in another cgroup leaves the key of the old one behind.
    fn forget_old_cgroups(&mut self) {
        let current = self.listening_cgroups();
        let old: Vec<ListenerKey> = self
            .kernel
            .listeners()
            .into_iter()
            .map(|(key, _)| key)
            .filter(|key| key.scope_kind == Scope::Cgroup as u16 && !current.contains(&key.scope))
            .collect();
        for key in old {
            self.kernel.remove_listener(&key);
        }
    }

    /// Cgroups of all listening sockets.
    fn listening_cgroups(&self) -> BTreeSet<u64> {
        self.servers
            .values()
            .filter_map(|server| server.found.as_ref())
            .flat_map(|found| found.listeners.iter().map(|listener| listener.cgroup_id))
            .collect()
    }

    fn watch_ports(&mut self) {
        let ports = self.kernel.listeners().iter().map(|(key, _)| key.port).collect();
        self.kernel.set_ports(&ports);
    }

    /// Attaches to the cgroups of the listening sockets, and of the server processes that do not listen yet.
    fn watch_cgroups(&mut self) {
        let mut wanted: BTreeSet<PathBuf> = self.expected.keys().cloned().collect();
        for id in self.listening_cgroups() {
            match self.host.cgroups().path_of(id) {
                Some(path) => {
                    wanted.insert(path);
                }
                None => tracing::debug!(cgroup = id, "the cgroup of a listening socket has been removed"),
            }
        }
        for failure in self.kernel.watch_cgroups(&attach_points(&wanted)) {
            if self.failed_cgroups.insert(failure.cgroup.clone()) {
                tracing::warn!(cgroup = %failure.cgroup.display(), error = format!("{:#}", failure.error), "cannot watch a cgroup");
            }
        }
    }

    /// Gives the connections that these sockets have already their state.
    fn seed(&mut self, netns: u64, sockets: &[(Listener, u32)]) {
        let ports: Vec<u16> = sockets.iter().map(|(listener, _)| listener.port).collect();
        let established = match self.host.established(netns, &ports) {
            Ok(established) => established,
            Err(error) => return tracing::warn!(%error, "cannot list the connections from before the agent"),
        };
        let seeds: Vec<(u64, Seed)> = established
            .iter()
            .filter_map(|connection| {
                let slot = owner(sockets, connection.local.ip(), connection.local.port())?;
                Some((
                    connection.cookie,
                    Seed {
                        slot,
                        client: address_words(connection.remote.ip()),
                        port: connection.remote.port(),
                        reserved: 0,
                    },
                ))
            })
            .collect();
        if seeds.is_empty() {
            return;
        }
        let kernel = &mut self.kernel;
        let result = self.host.in_netns(netns, || kernel.seed(&seeds));
        match result {
            Ok(Ok(())) => tracing::info!(
                connections = seeds.len(),
                "took up connections from before the agent"
            ),
            Ok(Err(error)) => tracing::warn!(
                error = format!("{error:#}"),
                "cannot take up connections from before the agent"
            ),
            Err(error) => tracing::warn!(%error, "cannot take up connections from before the agent"),
        }
    }
}

/// The slot of the socket that accepted a connection: bound to its address, or to every address.
pub(super) fn owner(sockets: &[(Listener, u32)], local: IpAddr, port: u16) -> Option<u32> {
    let candidates = || sockets.iter().filter(|(listener, _)| listener.port == port);
    let exact = candidates().find(|(listener, _)| listener.address.to_canonical() == local.to_canonical());
    let same_family = || {
        candidates().find(|(listener, _)| {
            listener.address.is_unspecified() && listener.address.is_ipv4() == local.to_canonical().is_ipv4()
        })
    };
    let dual_stack = || {
        candidates().find(|(listener, _)| {
            listener.address.is_unspecified() && listener.address.is_ipv6() && !listener.v6only
        })
    };
    exact
        .or_else(same_family)
        .or_else(dual_stack)
        .map(|(_, slot)| *slot)
}

fn listener_key(scope: u64, kind: Scope, address: IpAddr, port: u16) -> ListenerKey {
    ListenerKey {
        scope,
        address: address_words(address),
        port,
        scope_kind: kind as u16,
        reserved: 0,
    }
}

fn group(unseeded: Vec<(u64, Listener, u32)>) -> BTreeMap<u64, Vec<(Listener, u32)>> {
    let mut groups: BTreeMap<u64, Vec<(Listener, u32)>> = BTreeMap::new();
    for (netns, listener, slot) in unseeded {
        groups.entry(netns).or_default().push((listener, slot));
    }
    groups
}
