//! `/`: what goes on at this host. Storms first, then who is there, then how the agent is.

use axum::http::StatusCode;

use super::agent;
use super::frame::Page;
use super::html::{Html, name};
use super::numbers::{bytes, count, duration, percent, span, value};
use super::table::{Column, Row, Section, cell, maybe, number, words};
use crate::http::identities::{self, Library};
use crate::http::inventory::{self, Server};
use crate::http::views::{self, Tenant, TenantsQuery};
use crate::http::workloads::{self, Workload};
use crate::http::{Health, Report};
use crate::storms::{Culprit, Moment, Storm};
use crate::time::utc;

/// Rows of a table; the API has them all.
const TENANTS: usize = 20;
const CLIENTS: usize = 20;
const PREFIXES: usize = 10;
const LIBRARIES: usize = 10;
const STORMS: usize = 10;

/// Culprits that are named of a storm that goes on.
const CULPRITS: usize = 3;

const TITLE: &str = "Now";

/// Whether something is recorded of a storm.
pub(in crate::http) type Recorded<'a> = &'a dyn Fn(&str) -> bool;

/// The page. `recorded`: of which storms there is an incident.
pub(in crate::http) fn status(report: &Report, health: &Health, now: Moment, recorded: Recorded<'_>) -> Page {
    let servers: Vec<_> = inventory::servers(report).collect();
    Page {
        status: StatusCode::OK,
        title: TITLE.into(),
        live: true,
        main: [
            weather(report, health, now, recorded),
            sums(&servers),
            server_section(&servers).html(),
            tenants(report).html(),
            clients(report).html(),
            past(report, recorded).html(),
            html!("<div class=\"beside\">\n" (prefixes(report).html()) (libraries(report).html()) "</div>\n"),
            agent::section(report, health),
            agent::pages(),
        ]
        .iter()
        .collect(),
    }
}

/// The page when there are no numbers.
pub(in crate::http) fn without_report(reason: &str) -> Page {
    Page {
        status: StatusCode::SERVICE_UNAVAILABLE,
        title: TITLE.into(),
        live: true,
        main: html!("<h1>No numbers</h1>\n<p>The agent has none now: " (reason) "</p>\n" (agent::pages())),
    }
}

/// Storms that go on, the worst first, or that there is none.
fn weather(report: &Report, health: &Health, now: Moment, recorded: Recorded<'_>) -> Html {
    let mut active: Vec<&Storm> = report.storms.active.iter().collect();
    active.sort_by_key(|storm| (std::cmp::Reverse(storm.severity), storm.onset));
    let headline = match (active.len(), &health.not_ready) {
        (0, Some(reason)) => html!("<h1>Not ready yet</h1>\n<p>" (reason) "</p>\n"),
        (0, None) => html!("<h1 class=\"calm\">No storm</h1>\n"),
        (1, _) => html!("<h1>A storm goes on</h1>\n"),
        (many, _) => html!("<h1>" (many) " storms go on</h1>\n"),
    };
    let storms: Html = active.iter().map(|storm| card(storm, now, recorded)).collect();
    html!(
        "<p class=\"note\">As of " (time(now)) "</p>\n" (headline)
        "<div id=\"storms\">\n" (storms) "</div>\n"
    )
}

fn card(storm: &Storm, now: Moment, recorded: Recorded<'_>) -> Html {
    // One alone is named by the summary.
    let culprits: Html = storm.culprits.iter().take(CULPRITS).map(culprit).collect();
    let culprits = (storm.culprits.len() > 1).then(|| html!("<ul>" (culprits) "</ul>\n"));
    let record =
        recorded(&storm.id).then(|| html!("<a href=\"/incidents/" (storm.id) "\">Course and evidence</a> "));
    html!(
        "<article class=\"storm " (storm.severity.label()) "\" data-key=\"storm-" (storm.id) "\" data-storm=\"" (storm.id) "\">\n"
        "<h2>" (severity(storm)) " " (kinds(storm)) " at " (name(&storm.server)) "</h2>\n"
        "<p data-summary>" (name(&storm.summary)) "</p>\n" (culprits)
        "<p class=\"note\">For " (span(now.since(storm.onset))) ", since " (time(storm.onset)) "</p>\n"
        "<p>" (record) "<a href=\"/runbooks/" (storm.kind.label()) "\">What to do</a></p>\n</article>\n"
    )
}

fn culprit(culprit: &Culprit) -> Html {
    let held = (culprit.connections != 0).then(|| html!(", " (count(culprit.connections)) " connections"));
    let spread = (culprit.instances > 1).then(|| html!(" of " (count(culprit.instances)) " addresses"));
    html!(
        "<li><b>" (percent(culprit.share)) "</b> " (culprit.subject.label()) " " (name(&culprit.name)) (held) (spread) "</li>"
    )
}

/// How bad it is: a word, since colours are not for everybody.
pub(super) fn severity(storm: &Storm) -> Html {
    let severity = storm.severity.label();
    let expected = storm
        .expected
        .then(|| html!(" <span class=\"badge\">expected</span>"));
    html!("<span class=\"badge " (severity) "\">" (severity) "</span>" (expected))
}

/// What was found, the leading cause first.
pub(super) fn kinds(storm: &Storm) -> String {
    let others = storm.kinds.iter().filter(|kind| **kind != storm.kind);
    let all: Vec<_> = std::iter::once(&storm.kind)
        .chain(others)
        .map(|kind| kind.label().replace('_', " "))
        .collect();
    all.join(", ")
}

/// A moment.
pub(super) fn time(at: Moment) -> Html {
    let machine = utc(at.0);
    let people = machine.replace('T', " ").replace('Z', " UTC");
    html!("<time datetime=\"" (machine) "\">" (people) "</time>")
}

/// What it comes to.
fn sums(servers: &[Server<'_>]) -> Html {
    let sum = |of: fn(&Server<'_>) -> u64| count(servers.iter().map(of).sum());
    let rate = |of: fn(&inventory::BytesPerSecond) -> f64| {
        let rates = servers
            .iter()
            .filter_map(|server| server.bytes_per_second.as_ref());
        bytes(rates.map(of).fold(0.0, |sum, rate| sum + rate))
    };
    let tiles = [
        ("servers", sum(|_| 1)),
        ("connections", sum(|server| server.connections)),
        ("waiting to be accepted", sum(|server| server.accept_queue.length)),
        ("in, per second", rate(|rate| rate.bytes_in)),
        ("out, per second", rate(|rate| rate.bytes_out)),
    ];
    let tiles: Html = tiles
        .iter()
        .map(|(what, how_much)| html!("<div><dt>" (what) "</dt><dd>" (how_much) "</dd></div>"))
        .collect();
    html!("<dl class=\"sums\">" (tiles) "</dl>\n")
}

const SERVERS: &[Column] = &[
    words("server"),
    words("version"),
    number("connections"),
    number("of at most"),
    number("waiting"),
    number("in /s"),
    number("out /s"),
    number("commands"),
    number("bytes in"),
    number("bytes out"),
    number("unattributed"),
];

fn server_section(servers: &[Server<'_>]) -> Section {
    Section {
        id: "servers",
        title: "Servers",
        note: html!("Connections now, bytes per second of late; commands and bytes since the agent watches."),
        columns: SERVERS,
        rows: servers.iter().map(server_row).collect(),
        empty: html!(
            "No server listens on this host. Servers are found by the names of their processes and by ports: "
            "<code>[discovery]</code> in the configuration says which."
        ),
    }
}

fn server_row(server: &Server<'_>) -> Row {
    let unattributed: u64 = server.unattributed.iter().map(|row| row.bytes).sum();
    let rate = |of: fn(&inventory::BytesPerSecond) -> f64| {
        maybe(server.bytes_per_second.as_ref().map(|rate| bytes(of(rate))))
    };
    Row {
        key: format!("server-{}", server.server),
        cells: vec![
            name(server.server),
            maybe(server.process.version),
            cell(count(server.connections)),
            maybe(server.process.clients_at_most.map(count)),
            cell(count(server.accept_queue.length)),
            rate(|rate| rate.bytes_in),
            rate(|rate| rate.bytes_out),
            cell(count(server.commands)),
            cell(bytes(server.bytes_in as f64)),
            cell(bytes(server.bytes_out as f64)),
            cell(bytes(unattributed as f64)),
        ],
    }
}

const TENANT_COLUMNS: &[Column] = &[
    words("tenant"),
    words("owner"),
    number("of all bytes"),
    number("commands"),
    number("bytes in"),
    number("bytes out"),
    number("p50"),
    number("p99"),
    number("reply p99"),
    number("errors"),
    number("hits"),
];

/// Those with the most bytes first; those without any are left out.
fn tenants(report: &Report) -> Section {
    let query = TenantsQuery::default();
    let mut tenants: Vec<_> = views::tenants(report, &query)
        .filter(|tenant| !tenant.traffic.is_nothing())
        .map(|tenant| (tenant.traffic.bytes_in + tenant.traffic.bytes_out, tenant))
        .collect();
    tenants.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    let all: u64 = tenants.iter().map(|(bytes, _)| bytes).sum();
    let shown = tenants.iter().take(TENANTS);
    Section {
        id: "tenants",
        title: "Tenants",
        note: html!("Since the agent watches, by bytes" (more(tenants.len(), TENANTS, "/api/v1/tenants")) "."),
        columns: TENANT_COLUMNS,
        rows: shown
            .map(|(bytes, tenant)| tenant_row(tenant, *bytes as f64 / all.max(1) as f64))
            .collect(),
        empty: html!("Nothing has moved yet."),
    }
}

/// That a table does not have everything.
fn more(there_are: usize, shown: usize, all: &'static str) -> Option<Html> {
    (there_are > shown).then(|| html!("; " (shown) " of " (there_are) ", <a href=\"" (all) "\">all</a>"))
}

fn tenant_row(tenant: &Tenant<'_>, share: f64) -> Row {
    let durations = tenant.details.duration_seconds.as_ref();
    Row {
        key: format!("tenant-{}", tenant.tenant),
        cells: vec![
            name(tenant.tenant),
            named(tenant.owner),
            html!((bar(share))(percent(share))),
            cell(count(tenant.traffic.commands)),
            cell(bytes(tenant.traffic.bytes_in as f64)),
            cell(bytes(tenant.traffic.bytes_out as f64)),
            maybe(durations.map(|of| duration(of.p50))),
            maybe(durations.map(|of| duration(of.p99))),
            maybe(
                tenant
                    .details
                    .reply_bytes
                    .as_ref()
                    .map(|of| format!("≤ {}", bytes(of.p99 as f64))),
            ),
            cell(count(tenant.details.errors.values().sum())),
            maybe(tenant.details.hit_ratio.map(percent)),
        ],
    }
}

/// A name that may be missing.
pub(super) fn named(text: &str) -> Html {
    if text.is_empty() {
        maybe(None::<&str>)
    } else {
        name(text)
    }
}

/// A share as a bar, for the eye alone.
fn bar(share: f64) -> Html {
    let width = format!("{:.1}", share.clamp(0.0, 1.0) * 48.0);
    html!(
        "<svg class=\"bar\" width=\"48\" height=\"6\" aria-hidden=\"true\"><rect width=\"48\" height=\"6\" rx=\"3\"/>"
        "<rect class=\"part\" width=\"" (width) "\" height=\"6\" rx=\"3\"/></svg>"
    )
}

const CLIENT_COLUMNS: &[Column] = &[
    words("workload"),
    words("server"),
    number("connections"),
    number("addresses"),
    number("per address"),
    number("idle"),
    number("kernel memory"),
    number("opened"),
    number("opened /min"),
];

/// Those with the most connections first.
fn clients(report: &Report) -> Section {
    let page = workloads::page(report, &views::ClientsQuery::default());
    let mut all: Vec<_> = page
        .workloads
        .into_iter()
        .filter(|row| row.connections != 0)
        .collect();
    all.sort_by_key(|row| std::cmp::Reverse(row.connections));
    Section {
        id: "clients",
        title: "Clients",
        note: html!(
            "Workloads now, by connections; opened since the agent watches"
            (more(all.len(), CLIENTS, "/api/v1/workloads")) "."
        ),
        columns: CLIENT_COLUMNS,
        rows: all.iter().take(CLIENTS).map(client_row).collect(),
        empty: html!("Nobody is connected."),
    }
}

fn client_row(row: &Workload<'_>) -> Row {
    Row {
        key: format!("client-{}-{}", row.server, row.workload),
        cells: vec![
            name(row.workload),
            name(row.server),
            cell(count(row.connections)),
            cell(count(row.instances)),
            maybe(row.connections_per_instance.as_ref().map(|of| value(of.median))),
            row.idle_share.map_or_else(
                || maybe(None::<&str>),
                |share| html!((bar(share))(percent(share))),
            ),
            maybe(row.socket_memory_bytes.map(|memory| bytes(memory as f64))),
            cell(count(row.opened)),
            maybe(row.opens_per_minute.map(value)),
        ],
    }
}

pub(super) const STORM_COLUMNS: &[Column] = &[
    words("began"),
    number("lasted"),
    words("server"),
    words("storm"),
    words("severity"),
    words("what"),
];

fn past(report: &Report, recorded: Recorded<'_>) -> Section {
    let over = report.storms.over.iter().take(STORMS);
    let all = html!("<a href=\"/incidents\">what is recorded</a>");
    Section {
        id: "past",
        title: "Storms that are over",
        note: html!("The latest first, since the agent started; " (all) " goes further back."),
        columns: STORM_COLUMNS,
        rows: over.map(|storm| storm_row(storm, recorded(&storm.id))).collect(),
        empty: html!("None since the agent started; " (all) " goes further back."),
    }
}

/// A storm that is over, or was when it was last written down.
pub(super) fn storm_row(storm: &Storm, recorded: bool) -> Row {
    let began = if recorded {
        html!("<a href=\"/incidents/" (storm.id) "\">" (time(storm.onset)) "</a>")
    } else {
        time(storm.onset)
    };
    let lasted = storm.ended.map(|ended| span(ended.since(storm.onset)));
    Row {
        key: format!("storm-{}", storm.id),
        cells: vec![
            began,
            cell(lasted.as_deref().unwrap_or("goes on")),
            name(&storm.server),
            cell(kinds(storm)),
            severity(storm),
            html!("<span class=\"long\">" (name(&storm.summary)) "</span>"),
        ],
    }
}

const PREFIX_COLUMNS: &[Column] = &[
    words("prefix"),
    number("commands"),
    number("bytes in"),
    number("bytes out"),
];

/// What a rule is missing for.
fn prefixes(report: &Report) -> Section {
    let query = TenantsQuery {
        prefixes: PREFIXES,
        ..TenantsQuery::default()
    };
    let unassigned = views::tenants(report, &query).find_map(|tenant| tenant.unassigned);
    let (there_are, rows) = unassigned.map_or((0, Vec::new()), |found| (found.count, found.prefixes));
    let advice = if report.prefixes_hashed {
        html!("; as keyed hashes: <code>stormglass hash-prefix</code> finds that of a prefix you know.")
    } else {
        html!("; <code>stormglass tenants --suggest</code> writes rules.")
    };
    let row = |row: views::UnassignedPrefix| Row {
        key: format!("prefix-{}", row.prefix),
        cells: vec![
            name(&row.prefix),
            cell(count(row.traffic.commands)),
            cell(bytes(row.traffic.bytes_in as f64)),
            cell(bytes(row.traffic.bytes_out as f64)),
        ],
    };
    Section {
        id: "prefixes",
        title: "Prefixes without a tenant",
        note: html!("By bytes"(more(
            there_are,
            PREFIXES,
            "/api/v1/tenants?prefixes=4096"
        ))(advice)),
        columns: PREFIX_COLUMNS,
        rows: rows.into_iter().map(row).collect(),
        empty: html!("Every prefix belongs to a tenant."),
    }
}

const LIBRARY_COLUMNS: &[Column] = &[words("library"), words("version"), number("connections")];

/// Those with the most connections first, over all servers.
fn libraries(report: &Report) -> Section {
    let mut sums: std::collections::BTreeMap<(&str, &str), u64> = std::collections::BTreeMap::new();
    let all = identities::libraries(report, &views::ClientsQuery::default()).libraries;
    for Library {
        library,
        version,
        connections,
        ..
    } in &all
    {
        *sums.entry((library, version)).or_default() += connections;
    }
    let mut rows: Vec<_> = sums
        .into_iter()
        .filter(|(_, connections)| *connections != 0)
        .collect();
    rows.sort_by_key(|(_, connections)| std::cmp::Reverse(*connections));
    let row = |((library, version), connections): &((&str, &str), u64)| Row {
        key: format!("library-{library}-{version}"),
        cells: vec![name(library), name(version), cell(count(*connections))],
    };
    Section {
        id: "libraries",
        title: "Client libraries",
        note: html!(
            "Connections now, as clients name their library"
            (more(rows.len(), LIBRARIES, "/api/v1/libraries")) "."
        ),
        columns: LIBRARY_COLUMNS,
        rows: rows.iter().take(LIBRARIES).map(row).collect(),
        empty: html!("Nobody is connected."),
    }
}
