//! The four tables: which columns they have, and what is in their cells.

use std::cmp::Ordering;

use stormglass::numbers::{bytes, span};
use stormglass::storms::{Culprit, Figure, Moment, Severity, Storm};

use super::data::{Pair, Server, Tenant};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Servers,
    Tenants,
    Clients,
    Storms,
}

impl View {
    pub(super) const ALL: [Self; 4] = [Self::Servers, Self::Tenants, Self::Clients, Self::Storms];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Servers => "Servers",
            Self::Tenants => "Tenants",
            Self::Clients => "Clients",
            Self::Storms => "Storms",
        }
    }

    pub(super) const fn columns(self) -> &'static [Column] {
        match self {
            Self::Servers => SERVERS,
            Self::Tenants => TENANTS,
            Self::Clients => CLIENTS,
            Self::Storms => STORMS,
        }
    }

    /// The column that it is sorted by at first.
    pub(super) const fn first_sort(self) -> usize {
        match self {
            Self::Servers => 1,
            Self::Tenants => 4,
            Self::Clients => 2,
            Self::Storms => 0,
        }
    }

    /// Its rows, in the order of the agent's answer.
    pub(super) fn rows(self, pair: &Pair, now: Moment) -> Vec<Row> {
        match self {
            Self::Servers => servers(pair),
            Self::Tenants => tenants(pair),
            Self::Clients => clients(pair),
            Self::Storms => storms(pair, now),
        }
    }
}

/// A column: on a narrow terminal those with the highest rank are left out first.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) number: bool,
    pub(super) rank: u8,
    /// Characters that it has at least: what is usual fits, so that nothing moves when numbers change.
    pub(super) width: u8,
}

const fn words(name: &'static str, rank: u8, width: u8) -> Column {
    Column {
        name,
        number: false,
        rank,
        width,
    }
}

const fn number(name: &'static str, rank: u8, width: u8) -> Column {
    Column {
        name,
        number: true,
        rank,
        width,
    }
}

const SERVERS: &[Column] = &[
    words("SERVER", 0, 18),
    number("CONNS", 0, 6),
    number("OPENS/S", 0, 8),
    number("CLOSES/S", 4, 9),
    number("CMDS/S", 0, 7),
    number("IN/S", 0, 7),
    number("OUT/S", 0, 7),
    number("QUEUE", 1, 6),
    number("LIMIT", 5, 6),
    number("CLIENTS", 3, 8),
    number("MAX", 6, 6),
    words("VERSION", 7, 8),
    number("UPTIME", 8, 7),
    words("STORM", 2, 15),
];

const TENANTS: &[Column] = &[
    words("TENANT", 0, 14),
    words("OWNER", 2, 14),
    number("CMDS/S", 0, 7),
    number("IN/S", 0, 7),
    number("OUT/S", 0, 7),
    number("ERRORS/S", 1, 9),
    number("HITS", 3, 7),
    number("P50 MS", 4, 7),
    number("P99 MS", 1, 7),
    number("COMMANDS", 5, 10),
    number("ERRORS", 6, 7),
];

const CLIENTS: &[Column] = &[
    words("CLIENT", 0, 14),
    words("SERVER", 0, 18),
    number("CONNS", 0, 6),
    number("INST", 0, 5),
    number("PER INST", 2, 9),
    number("OPENS/S", 0, 8),
    number("IDLE", 1, 5),
    number("BUSY P99", 3, 9),
    number("MEMORY", 4, 7),
    number("OPENED", 5, 8),
];

const STORMS: &[Column] = &[
    words("STATE", 0, 8),
    words("SEVERITY", 0, 9),
    words("KIND", 0, 15),
    words("SERVER", 0, 18),
    number("BEGAN", 2, 10),
    number("LASTED", 1, 7),
    words("WHO", 3, 14),
    words("WHAT", 4, 20),
];

/// How loud a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Over,
    Info,
    Warning,
    Critical,
}

/// A row: its cells, and what there is to say beyond them.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// What it is about, whatever its numbers.
    pub(super) subject: String,
    /// The same for people.
    pub(super) title: String,
    pub(super) cells: Vec<Cell>,
    pub(super) tone: Tone,
    pub(super) detail: Vec<String>,
}

impl Row {
    fn new(subject: String, cells: Vec<Cell>) -> Self {
        Self {
            title: subject.clone(),
            subject,
            cells,
            tone: Tone::Plain,
            detail: Vec::new(),
        }
    }

    /// Whether some cell has this text, in whatever case.
    pub(super) fn contains(&self, filter: &str) -> bool {
        let filter = filter.to_lowercase();
        let mut cells = self.cells.iter();
        cells.any(|cell| cell.text.to_lowercase().contains(&filter))
    }
}

/// A cell: what it shows, and what it is sorted by if that is a number.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub(super) text: String,
    order: Option<f64>,
}

impl Cell {
    /// Numbers by their size, words by the alphabet; what is unknown is less than anything known.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        match (self.order, other.order) {
            (None, None) => self.text.cmp(&other.text),
            (one, other) => one.unwrap_or(f64::MIN).total_cmp(&other.unwrap_or(f64::MIN)),
        }
    }
}

fn word(text: &str) -> Cell {
    let text = if text.is_empty() { "-" } else { text };
    Cell {
        text: text.to_owned(),
        order: None,
    }
}

fn measured(value: Option<f64>, text: impl FnOnce(f64) -> String) -> Cell {
    Cell {
        text: value.map_or_else(|| "-".into(), text),
        order: Some(value.unwrap_or(f64::MIN)),
    }
}

fn count(value: u64) -> Cell {
    measured(Some(value as f64), |_| value.to_string())
}

fn rate(value: Option<f64>) -> Cell {
    measured(value, per_second)
}

fn amount(value: Option<f64>) -> Cell {
    measured(value, bytes)
}

fn servers(pair: &Pair) -> Vec<Row> {
    let changes = pair.servers();
    let rows = changes.rows.iter().map(|row| {
        let (server, _) = row;
        let storms = pair.now.active.iter();
        let storm = storms
            .filter(|storm| storm.server == server.server)
            .max_by_key(|storm| loudness(storm));
        let cells = vec![
            word(&server.server),
            count(server.connections),
            rate(changes.rate(row, |server| server.opened)),
            rate(changes.rate(row, |server| server.closed)),
            rate(changes.rate(row, |server| server.commands)),
            amount(changes.rate(row, Server::all_in)),
            amount(changes.rate(row, Server::all_out)),
            count(server.accept_queue.length),
            count(server.accept_queue.limit),
            count(server.clients),
            measured(server.clients_at_most.map(|most| most as f64), |most| {
                format!("{most:.0}")
            }),
            word(server.version.as_deref().unwrap_or("")),
            measured(Some(server.uptime_seconds as f64), |_| {
                span(server.uptime_seconds * 1000)
            }),
            word(&storm.map_or_else(String::new, |storm| plainly(storm.kind.label()))),
        ];
        let mut row = Row::new(server.server.clone(), cells);
        if let Some(storm) = storm {
            row.tone = tone(storm);
            row.detail = told(storm);
        }
        row
    });
    rows.collect()
}

fn tenants(pair: &Pair) -> Vec<Row> {
    let changes = pair.tenants();
    let milliseconds = |seconds: f64| format!("{:.3}", seconds * 1e3);
    let rows = changes.rows.iter().map(|row| {
        let (tenant, _) = row;
        let durations = tenant.duration_seconds;
        let cells = vec![
            word(&tenant.tenant),
            word(&tenant.owner),
            rate(changes.rate(row, |tenant| tenant.commands)),
            amount(changes.rate(row, |tenant| tenant.bytes_in)),
            amount(changes.rate(row, |tenant| tenant.bytes_out)),
            rate(changes.rate(row, Tenant::errors)),
            measured(tenant.hit_ratio, |ratio| format!("{:.1} %", ratio * 100.0)),
            measured(durations.map(|quantiles| quantiles.p50), milliseconds),
            measured(durations.map(|quantiles| quantiles.p99), milliseconds),
            count(tenant.commands),
            count(tenant.errors()),
        ];
        Row::new(tenant.tenant.clone(), cells)
    });
    rows.collect()
}

fn clients(pair: &Pair) -> Vec<Row> {
    let changes = pair.workloads();
    let rows = changes.rows.iter().map(|row| {
        let (workload, _) = row;
        let per_instance = workload.connections_per_instance;
        let busy = workload.busy_per_instance;
        let cells = vec![
            word(&workload.workload),
            word(&workload.server),
            count(workload.connections),
            count(workload.instances),
            measured(per_instance.map(|of| of.median), |median| median.to_string()),
            rate(changes.rate(row, |workload| workload.opened)),
            measured(workload.idle_share, |share| format!("{:.0} %", share * 100.0)),
            measured(busy.map(|busy| busy.p99 as f64), |busy| busy.to_string()),
            amount(workload.socket_memory_bytes.map(|bytes| bytes as f64)),
            count(workload.opened),
        ];
        let advice = workload.pool_advice.as_ref();
        Row {
            detail: advice.map(|advice| advice.text.clone()).into_iter().collect(),
            ..Row::new(workload.key(), cells)
        }
    });
    rows.collect()
}

fn storms(pair: &Pair, now: Moment) -> Vec<Row> {
    let all = pair.now.active.iter().chain(&pair.now.ended);
    all.map(|storm| storm_row(storm, now)).collect()
}

fn storm_row(storm: &Storm, now: Moment) -> Row {
    let kind = plainly(storm.kind.label());
    let kind = match storm.kinds.len() {
        0 | 1 => kind,
        all => format!("{kind} +{}", all - 1),
    };
    let cells = vec![
        Cell {
            text: state(storm).into(),
            // Those that go on first, then the latest.
            order: Some(storm.onset.0 as f64 + if storm.ended.is_none() { 1e14 } else { 0.0 }),
        },
        Cell {
            text: storm.severity.label().into(),
            order: Some(f64::from(storm.severity as u8)),
        },
        word(&kind),
        word(&storm.server),
        measured(Some(now.since(storm.onset) as f64), |_| {
            format!("{} ago", span(now.since(storm.onset)))
        }),
        measured(Some(lasted(storm, now) as f64), |_| span(lasted(storm, now))),
        word(storm.culprits.first().map_or("", |culprit| &culprit.name)),
        word(&storm.summary),
    ];
    Row {
        title: format!("{} at {}", plainly(storm.kind.label()), storm.server),
        tone: tone(storm),
        detail: story(storm),
        ..Row::new(storm.id.clone(), cells)
    }
}

const fn state(storm: &Storm) -> &'static str {
    match (storm.ended, storm.expected) {
        (None, false) => "goes on",
        (None, true) => "expected",
        (Some(_), _) => "over",
    }
}

/// For how many milliseconds it has been, or was.
pub(super) fn lasted(storm: &Storm, now: Moment) -> u64 {
    storm.ended.unwrap_or(now).since(storm.onset)
}

/// What a storm is about, in lines: what, who, how much.
fn story(storm: &Storm) -> Vec<String> {
    let mut lines = told(storm);
    let figures: Vec<_> = storm.evidence.iter().take(4).map(figure).collect();
    lines.push(figures.join(", "));
    lines
}

/// What and who.
fn told(storm: &Storm) -> Vec<String> {
    let mut lines = vec![storm.summary.clone()];
    let others = storm.kinds.iter().filter(|kind| **kind != storm.kind);
    let others: Vec<_> = others.map(|kind| plainly(kind.label())).collect();
    if !others.is_empty() {
        lines.push(format!("also {}", others.join(", ")));
    }
    lines.extend(storm.culprits.iter().take(2).map(culprit));
    lines
}

fn culprit(culprit: &Culprit) -> String {
    let mut line = format!("{:>3.0} %  {}", culprit.share * 100.0, culprit.name);
    for (count, what) in [
        (culprit.instances, "instance"),
        (culprit.connections, "connection"),
    ] {
        match count {
            // Where that makes no sense.
            0 => {}
            1 => line += &format!(", 1 {what}"),
            many => line += &format!(", {many} {what}s"),
        }
    }
    line
}

fn figure(figure: &Figure) -> String {
    let value = match figure.unit.as_str() {
        "bytes" => bytes(figure.value),
        "seconds" => format!("{} s", short(figure.value)),
        _ => short(figure.value),
    };
    // Never in two lines.
    format!("{} {value}", plainly(&figure.name)).replace(' ', "\u{a0}")
}

/// A name for programs as people write it.
fn plainly(name: &str) -> String {
    name.replace('_', " ")
}

/// Which of several storms is to be told first: one that was announced is no surprise.
pub(super) fn loudness(storm: &Storm) -> (bool, Severity) {
    (!storm.expected, storm.severity)
}

pub(super) fn tone(storm: &Storm) -> Tone {
    match storm.severity {
        _ if storm.ended.is_some() => Tone::Over,
        Severity::Critical => Tone::Critical,
        Severity::Warning => Tone::Warning,
        Severity::Info => Tone::Info,
    }
}

fn short(value: f64) -> String {
    let decimals = if value.fract() == 0.0 || value.abs() >= 100.0 {
        0
    } else {
        2
    };
    format!("{value:.decimals$}")
}

/// A number per second in at most six characters.
pub(super) fn per_second(rate: f64) -> String {
    match rate {
        0.0 => "0".into(),
        few if few < 10.0 => format!("{few:.1}"),
        some if some < 100_000.0 => format!("{some:.0}"),
        many if many < 10_000_000.0 => format!("{:.0}k", many / 1e3),
        most => format!("{:.0}M", most / 1e6),
    }
}
