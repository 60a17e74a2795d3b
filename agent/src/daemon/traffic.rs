//! What the commands of each server have come to since the second before, for the detectors.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use agent_common::abi::{ERROR_CELLS, ErrorWord, PrefixCounters, PrefixKey, Row};

use super::watch::Watch;
use crate::{
    config::Settings,
    storms::{SIZES, Sizes, Traffic, TrafficRow},
    tenants::{Classes, Rules, client_text},
};

/// How often rows are read, at least, and how many times its cost lies between two readings: half a percent of a core.
const INTERVAL: Duration = Duration::from_secs(1);
const REST: u32 = 200;

/// How often the speed of the link is read again.
const LINK_INTERVAL: Duration = Duration::from_secs(60);

/// One unit of the kernel's durations, in seconds.
const DURATION_UNIT_SECONDS: f64 = 256e-9;

/// What rows had counted at the last reading.
#[derive(Debug)]
pub(super) struct TrafficBook {
    rows: HashMap<PrefixKey, Counted>,
    /// Unattributed bytes by slot, in and out.
    unattributed: HashMap<u32, [u64; 2]>,
    last: Option<Instant>,
    next: Option<Instant>,
    /// CPU time that each server had had at the last reading, and which process it was.
    cpu_times: HashMap<String, (i32, Duration)>,
    /// Bytes per second of the link by the configuration; `None`: what the host says counts.
    configured_link: Option<u64>,
    link: Option<u64>,
    next_link: Option<Instant>,
    rules: Rules,
}

/// What is kept of a row: a quarter of what the kernel has.
#[derive(Debug, Clone, Copy)]
struct Counted {
    bytes_in: u64,
    bytes_out: u64,
    duration_units: u64,
    commands: u64,
    answered: u64,
    sizes: [u64; SIZES],
    errors: [u64; ERROR_CELLS],
}

impl Default for Counted {
    fn default() -> Self {
        Self::of(&PrefixCounters::default())
    }
}

impl Counted {
    fn of(row: &PrefixCounters) -> Self {
        Self {
            bytes_in: row.bytes_in,
            bytes_out: row.bytes_out,
            duration_units: row.duration_units,
            commands: row.commands(),
            answered: row.durations.iter().sum(),
            sizes: std::array::from_fn(|cell| row.request_sizes[cell] + row.reply_sizes[cell]),
            errors: row.errors,
        }
    }

    /// Adds to a row what has been counted since `before`.
    fn add_growth(&self, before: &Self, row: &mut TrafficRow) {
        row.bytes_in += self.bytes_in.saturating_sub(before.bytes_in);
        row.bytes_out += self.bytes_out.saturating_sub(before.bytes_out);
        row.commands += self.commands.saturating_sub(before.commands);
        row.answered += self.answered.saturating_sub(before.answered);
        let units = self.duration_units.saturating_sub(before.duration_units);
        row.seconds += units as f64 * DURATION_UNIT_SECONDS;
        let Sizes(sizes) = &mut row.sizes;
        for (cell, size) in sizes.iter_mut().enumerate() {
            *size += self.sizes[cell].saturating_sub(before.sizes[cell]);
        }
        for (cell, word) in ErrorWord::ALL.iter().enumerate() {
            let errors = self.errors[cell].saturating_sub(before.errors[cell]);
            if errors > 0 {
                row.errors.push((word.label(), errors));
            }
        }
    }

    fn has_grown(&self, before: &Self) -> bool {
        let moved = |of: &Self| (of.bytes_in, of.bytes_out, of.commands, of.answered);
        moved(self) != moved(before)
    }
}

impl TrafficBook {
    pub(super) fn new(settings: &Settings, rules: Rules) -> Self {
        Self {
            rows: HashMap::new(),
            unattributed: HashMap::new(),
            last: None,
            next: None,
            cpu_times: HashMap::new(),
            configured_link: configured_link(settings),
            link: None,
            next_link: None,
            rules,
        }
    }

    /// Another link and other tenants from now on.
    pub(super) fn change(&mut self, settings: &Settings, rules: Rules) {
        self.configured_link = configured_link(settings);
        self.rules = rules;
    }

    /// Bytes per second that the link carries in one direction, as `bandwidth_saturation` has it.
    pub(super) fn link(&self) -> Option<u64> {
        self.configured_link.or(self.link)
    }

    /// Whose a row is: the tenant's whose prefixes share it, else the prefix decides, then the connections.
    fn tenant(&self, prefix: &str, classes: &Classes, key: &PrefixKey) -> Option<Arc<str>> {
        let of_prefix = || self.rules.tenant_named(prefix).map(Into::into);
        let shared = classes.name(key.tenant());
        shared.or_else(of_prefix).or_else(|| classes.name(key.class()))
    }

    fn read_link(&mut self, now: Instant) {
        if self.next_link.is_none_or(|next| now >= next) {
            self.next_link = Some(now + LINK_INTERVAL);
            self.link = link_speed(Path::new("/sys/class/net"));
        }
    }
}

impl Watch {
    /// What each server has had since the last time; nothing if that was a moment ago, or at the first time.
    pub(super) fn traffic(&mut self, now: Instant) -> BTreeMap<String, Traffic> {
        if self.traffic.next.is_some_and(|next| now < next) {
            return BTreeMap::new();
        }
        let began = Instant::now();
        self.traffic.read_link(now);
        let last = self.traffic.last.replace(now);
        let mut servers = self.rows_grown();
        let cpu_times = self.cpu_times();
        let cpu_times_before = std::mem::replace(&mut self.traffic.cpu_times, cpu_times);
        // Ticks may come late; what came in the meantime is in the next reading.
        self.traffic.next = Some(now + (INTERVAL - INTERVAL / 20).max(began.elapsed() * REST));
        let Some(last) = last else {
            return BTreeMap::new();
        };
        let since = now.saturating_duration_since(last);
        for (label, traffic) in &mut servers {
            traffic.milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
            traffic.link = self.traffic.link;
            let [before, after] = [&cpu_times_before, &self.traffic.cpu_times].map(|times| times.get(label));
            traffic.busy = busy(before, after, since);
        }
        servers
    }

    /// CPU time that each server has had, and which process it is.
    fn cpu_times(&self) -> HashMap<String, (i32, Duration)> {
        let shown = self.servers.iter().filter(|(_, server)| server.is_shown());
        let times = shown.filter_map(|(label, server)| {
            let pid = server.found.as_ref()?.pid;
            Some((label.clone(), (pid, self.host.cpu_time(pid)?)))
        });
        times.collect()
    }

    /// By how much each row has grown.
    fn rows_grown(&mut self) -> BTreeMap<String, Traffic> {
        let mut servers: BTreeMap<String, Growing> = BTreeMap::new();
        let mut labels: HashMap<u32, &str> = HashMap::new();
        for (label, server) in self.servers.iter().filter(|(_, server)| server.is_shown()) {
            servers.insert(label.clone(), Growing::default());
            labels.extend(server.slots().map(|slot| (slot, label.as_str())));
        }
        let book = &self.traffic;
        let mut rows = HashMap::with_capacity(book.rows.len());
        let mut note = |key: PrefixKey, counters: &PrefixCounters| {
            let counted = Counted::of(counters);
            let before = book.rows.get(&key).copied().unwrap_or_default();
            let server = labels.get(&key.slot).and_then(|label| servers.get_mut(*label));
            if let Some(server) = server.filter(|_| counted.has_grown(&before)) {
                let row = server.row(book, &self.classes, &key);
                counted.add_growth(&before, row);
            }
            rows.insert(key, counted);
        };
        self.kernel.each_prefix(&mut note);
        for slot in labels.keys() {
            for (row, counters) in self.kernel.special_rows(*slot).iter().enumerate() {
                note(PrefixKey::special(*slot, 0, row as u32), counters);
            }
        }
        let mut unattributed = HashMap::new();
        for (slot, label) in &labels {
            let now = self
                .kernel
                .counters(*slot)
                .unattributed
                .map(|cells| cells.iter().sum());
            let before = book.unattributed.get(slot).copied().unwrap_or_default();
            if let Some(server) = servers.get_mut(*label) {
                server.bytes_in += u64::saturating_sub(now[0], before[0]);
                server.bytes_out += u64::saturating_sub(now[1], before[1]);
            }
            unattributed.insert(*slot, now);
        }
        (self.traffic.rows, self.traffic.unattributed) = (rows, unattributed);
        let grown = servers.into_iter();
        grown.map(|(label, server)| (label, server.traffic())).collect()
    }
}

/// A server whose rows are being added up.
#[derive(Debug, Default)]
struct Growing {
    bytes_in: u64,
    bytes_out: u64,
    rows: HashMap<(Arc<str>, Option<Arc<str>>), TrafficRow>,
}

impl Growing {
    fn row(&mut self, book: &TrafficBook, classes: &Classes, key: &PrefixKey) -> &mut TrafficRow {
        let prefix: Arc<str> = match key.special_row() {
            Some(row) => (*Row::LABELS.get(row as usize).unwrap_or(&"(other)")).into(),
            None => client_text(key.bytes()).into(),
        };
        let tenant = book.tenant(&prefix, classes, key);
        let of = (Arc::clone(&prefix), tenant.clone());
        self.rows.entry(of).or_insert_with(|| TrafficRow {
            prefix,
            tenant,
            ..TrafficRow::default()
        })
    }

    fn traffic(self) -> Traffic {
        let mut rows: Vec<TrafficRow> = self.rows.into_values().collect();
        rows.sort_by(|left, right| (&left.prefix, &left.tenant).cmp(&(&right.prefix, &right.tenant)));
        Traffic {
            bytes_in: self.bytes_in + rows.iter().map(|row| row.bytes_in).sum::<u64>(),
            bytes_out: self.bytes_out + rows.iter().map(|row| row.bytes_out).sum::<u64>(),
            rows,
            ..Traffic::default()
        }
    }
}

/// Share of a CPU that a server has had between two readings; `None` if it is not the same process.
fn busy(before: Option<&(i32, Duration)>, after: Option<&(i32, Duration)>, since: Duration) -> Option<f64> {
    let ((then, before), (now, after)) = (before?, after?);
    let had = after.saturating_sub(*before);
    (then == now && !since.is_zero()).then(|| had.as_secs_f64() / since.as_secs_f64())
}

/// Bytes per second that somebody has set.
fn configured_link(settings: &Settings) -> Option<u64> {
    let configured = settings.storms.bandwidth_saturation.bytes_per_second.get();
    (configured > 0).then_some(configured as u64)
}

/// Bytes per second of the fastest physical link that is up, in one direction. `None`: none of them says.
fn link_speed(interfaces: &Path) -> Option<u64> {
    let entries = fs::read_dir(interfaces).ok()?;
    let speeds = entries.filter_map(|entry| {
        let interface = entry.ok()?.path();
        let read = |file: &str| fs::read_to_string(interface.join(file)).ok();
        let is_up = read("operstate")?.trim() == "up" && interface.join("device").exists();
        // Megabits; what does not know says -1.
        let megabits: u64 = read("speed")?.trim().parse().ok()?;
        is_up.then_some(megabits * 1_000_000 / 8)
    });
    speeds.max().filter(|speed| *speed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenants::ClassTables;

    fn settings(text: &str) -> Settings {
        Settings::parse(Path::new("test.toml"), text).expect("accepted")
    }

    #[test]
    fn the_fastest_physical_link_that_is_up_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let add = |name: &str, speed: &str, state: &str, is_physical: bool| {
            let interface = folder.path().join(name);
            fs::create_dir(&interface).expect("made");
            fs::write(interface.join("speed"), speed).expect("written");
            fs::write(interface.join("operstate"), state).expect("written");
            if is_physical {
                fs::create_dir(interface.join("device")).expect("made");
            }
        };
        assert_eq!(link_speed(folder.path()), None);
        add("lo", "-1\n", "unknown\n", false);
        add("veth0", "10000\n", "up\n", false);
        add("eth1", "-1\n", "up\n", true);
        assert_eq!(link_speed(folder.path()), None, "nobody knows");
        add("eth0", "1000\n", "up\n", true);
        add("eth2", "25000\n", "down\n", true);
        assert_eq!(link_speed(folder.path()), Some(125_000_000));
        assert_eq!(link_speed(Path::new("/nowhere")), None);
    }

    #[test]
    fn the_link_is_the_configured_one_where_there_is_one_and_a_reload_changes_it() {
        let rules = |settings: &Settings| Rules::new(settings).expect("compiles");
        let mut book = TrafficBook::new(&settings(""), rules(&settings("")));
        assert_eq!(book.link(), None);
        book.link = Some(125_000_000);
        assert_eq!(book.link(), Some(125_000_000));
        let slower = settings("[storms.bandwidth_saturation]\nbytes_per_second = 1000\n");
        book.change(&slower, rules(&slower));
        assert_eq!(book.link(), Some(1_000));
        assert_eq!(TrafficBook::new(&slower, rules(&slower)).link(), Some(1_000));
    }

    #[test]
    fn a_row_that_prefixes_of_a_tenant_share_is_that_tenants() {
        let settings = settings(
            "[[tenant]]\nname = \"a\"\nprefixes = [\"a-*\"]\n[[tenant]]\nname = \"b\"\nusers = [\"b\"]",
        );
        let mut classes = Classes::default();
        ClassTables::new(&settings, &mut classes).expect("few tenants");
        let [a, b] = ["a", "b"].map(|name| classes.number_of(name));
        let book = TrafficBook::new(&settings, Rules::new(&settings).expect("compiles"));
        for (key, tenant) in [
            (PrefixKey::other_of(1, 0, a), Some("a")),
            (PrefixKey::other_of(1, b, a), Some("a")),
            (PrefixKey::special(1, b, Row::OTHER), Some("b")),
            (PrefixKey::special(1, 0, Row::OTHER), None),
        ] {
            let mut growing = Growing::default();
            assert_eq!(
                growing.row(&book, &classes, &key).tenant.as_deref(),
                tenant,
                "{key:?}"
            );
        }
    }

    #[test]
    fn a_row_has_what_it_has_grown_by() {
        let mut counters = PrefixCounters {
            bytes_in: 100,
            duration_units: 4,
            ..PrefixCounters::default()
        };
        (
            counters.request_sizes[5],
            counters.reply_sizes[5],
            counters.durations[0],
        ) = (2, 1, 1);
        counters.errors[2] = 7;
        let before = Counted::of(&counters);
        (counters.bytes_in, counters.duration_units) = (150, 12);
        (
            counters.request_sizes[5],
            counters.reply_sizes[20],
            counters.durations[9],
        ) = (3, 1, 2);
        counters.errors[2] = 9;
        let now = Counted::of(&counters);
        assert!(now.has_grown(&before) && !now.has_grown(&now));
        let mut row = TrafficRow::default();
        now.add_growth(&before, &mut row);
        assert_eq!(
            (row.bytes_in, row.bytes_out, row.commands, row.answered),
            (50, 0, 1, 2)
        );
        assert!((row.seconds - 8.0 * 256e-9).abs() < 1e-12);
        assert_eq!((row.sizes.0[5], row.sizes.0[20]), (1, 1));
        assert_eq!(row.errors, [("WRONGTYPE", 2)]);
    }
}
