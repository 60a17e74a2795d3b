//! `/incidents` and `/incidents/ID`: what was recorded of storms.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::task::spawn_blocking;

use super::course::{self, Step};
use super::frame::Page;
use super::html::{Html, name};
use super::numbers::{bytes, count, percent, span, value};
use super::plot::{Frame, from_onset};
use super::status::{STORM_COLUMNS, kinds, named, severity, storm_row, time};
use super::table::{Column, Row, Section, cell, maybe, number, words};
use crate::http::routes::Pages;
use crate::incidents::{ClientAt, Clients, Incident, Summary, TrafficAt, WorkloadAt};
use crate::storms::{Culprit, Figure, Moment, Storm};

/// Incidents that are listed; the API has them all.
const LISTED: usize = 200;

/// Addresses and tenants that are shown of an incident; the API has them all.
const ADDRESSES: usize = 10;
const TENANTS: usize = 10;

/// An incident whose last tick is older is not recorded any more, whatever became of its end.
const GOES_ON_MILLISECONDS: u64 = 20_000;

const ONE: &str = "Incident";

/// `/incidents`.
pub(in crate::http) async fn list(State(pages): State<Pages>) -> Response {
    let archive = pages.source.incidents();
    let made = spawn_blocking(move || listed(&archive.list())).await;
    made.unwrap_or_else(|error| sorry(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))
        .into_response()
}

/// `/incidents/ID`.
pub(in crate::http) async fn one(State(pages): State<Pages>, Path(id): Path<String>) -> Response {
    let (archive, (_, now)) = (pages.source.incidents(), pages.source.announcements());
    let Ok(_permit) = pages.permits.acquire().await else {
        return sorry(StatusCode::SERVICE_UNAVAILABLE, "The agent is stopping.").into_response();
    };
    let asked = id.clone();
    let read =
        spawn_blocking(move || archive.read(&asked).map(|read| read.map(|one| shown(&one, now)))).await;
    let page = match read {
        Ok(Some(Ok(page))) => page,
        Ok(Some(Err(fault))) => sorry(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("What was recorded of {id} cannot be read. {fault}"),
        ),
        Ok(None) => sorry(
            StatusCode::NOT_FOUND,
            &format!(
                "Nothing is recorded of {id} here: it was never recorded, or is older than what is kept."
            ),
        ),
        Err(error) => sorry(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    page.into_response()
}

fn sorry(status: StatusCode, reason: &str) -> Page {
    Page::sorry(status, ONE, reason)
}

fn listed(all: &[Summary]) -> Page {
    let more = (all.len() > LISTED)
        .then(|| html!("; " (LISTED) " of " (all.len()) ", <a href=\"/api/v1/incidents\">all</a>"));
    let list = Section {
        id: "list",
        title: "Recorded storms",
        note: html!("The latest first" (more) ". <code>stormglass incidents export</code> copies one."),
        columns: STORM_COLUMNS,
        rows: all.iter().take(LISTED).map(list_row).collect(),
        empty: html!("None is recorded."),
    };
    Page {
        status: StatusCode::OK,
        title: "Incidents".into(),
        live: true,
        main: html!("<h1 class=\"title\">Incidents</h1>\n"(list.html())),
    }
}

fn list_row(summary: &Summary) -> Row {
    if let Some(storm) = &summary.storm {
        return storm_row(storm, true);
    }
    let reason = summary.fault.as_deref().unwrap_or("nothing is written yet");
    let nothing = || maybe(None::<&str>);
    Row {
        key: format!("storm-{}", summary.id),
        cells: vec![
            html!("<a href=\"/incidents/" (summary.id) "\">" (summary.id) "</a>"),
            nothing(),
            nothing(),
            nothing(),
            nothing(),
            html!("<span class=\"long\">" (name(reason)) "</span>"),
        ],
    }
}

/// The page of an incident. It is brought up to date while it goes on.
fn shown(incident: &Incident, now: Moment) -> Page {
    let storm = &incident.storm;
    let frame = course::frame(incident);
    let last = frame.map_or(storm.found, |frame| frame.last);
    let live = !incident.complete && now.since(last) < GOES_ON_MILLISECONDS;
    Page {
        status: StatusCode::OK,
        title: format!("{} at {}", kinds(storm), storm.server),
        live,
        main: [
            head(storm, (!incident.complete).then_some(last), live),
            culprits(storm).html(),
            frame.map_or_else(
                || html!("<p>No course is recorded of it.</p>\n"),
                |frame| plots(incident, frame),
            ),
            html!("<div class=\"beside\">\n" (evidence(storm).html()) (told(incident)) "</div>\n"),
            workloads(incident).html(),
            addresses(incident).html(),
            tenants(incident).html(),
        ]
        .iter()
        .collect(),
    }
}

/// `until`: of an incident without an end, how far it goes.
fn head(storm: &Storm, until: Option<Moment>, live: bool) -> Html {
    let lasted = match storm.ended {
        Some(ended) => html!((span(ended.since(storm.onset))) ", until " (time(ended))),
        None => html!("not over when it was last recorded"),
    };
    let until = until.map(|until| {
        let what = if live {
            "It is being recorded"
        } else {
            "The agent ended before it did: it was recorded"
        };
        html!("<p class=\"note\">" (what) " until " (time(until)) ".</p>\n")
    });
    html!(
        "<p class=\"note\"><a href=\"/incidents\">Incidents</a> / " (storm.id) "</p>\n"
        "<h1>" (severity(storm)) " " (kinds(storm)) " at " (name(&storm.server)) "</h1>\n"
        "<p class=\"lead\">" (name(&storm.summary)) "</p>\n" (until)
        "<dl class=\"facts\">\n<div><dt>onset</dt><dd>" (time(storm.onset)) "</dd></div>\n"
        "<div><dt>found</dt><dd>" (span(storm.found.since(storm.onset))) " after it</dd></div>\n"
        "<div><dt>lasted</dt><dd>" (lasted) "</dd></div>\n</dl>\n"
        "<p class=\"links\"><a href=\"/runbooks/" (storm.kind.label()) "\">What to do</a> "
        "<a href=\"/api/v1/incidents/" (storm.id) "\">Everything as JSON</a></p>\n"
    )
}

fn plots(incident: &Incident, frame: Frame) -> Html {
    let plots: Html = course::plots(incident)
        .iter()
        .map(|plot| plot.figure(frame))
        .collect();
    html!(
        "<section aria-labelledby=\"course\">\n<h2 id=\"course\">Course</h2>\n"
        "<p class=\"note\">Over the time from the onset. The storm is shaded.</p>\n"
        "<div class=\"plots\">\n" (plots) "</div>\n"
        "<details>\n<summary id=\"steps\">The course as a table</summary>\n" (table(incident)) "</details>\n</section>\n"
    )
}

const COURSE: &[Column] = &[
    words("until"),
    number("connections"),
    number("opened"),
    number("closed"),
    number("while waiting"),
    number("turned away"),
    number("accept queue"),
];

fn table(incident: &Incident) -> Html {
    let row = |step: &Step| Row {
        key: format!("step-{}", step.at.0),
        cells: vec![
            cell(from_onset(step.at, incident.storm.onset)),
            cell(count(step.connections)),
            cell(count(step.opened)),
            cell(count(step.closed)),
            cell(count(step.gave_up)),
            cell(count(step.turned_away)),
            cell(count(step.waiting)),
        ],
    };
    Section {
        id: "steps",
        title: "Step by step",
        note: html!("Connections at the end of each step and the longest queue in it; everything else happened during it."),
        columns: COURSE,
        rows: course::rows(&incident.course).iter().map(row).collect(),
        empty: html!("Nothing is recorded."),
    }
    .table()
}

const CULPRITS: &[Column] = &[
    words("who"),
    words("what it is"),
    number("share"),
    number("addresses"),
    number("connections"),
];

fn culprits(storm: &Storm) -> Section {
    let known = |number: u64| maybe((number != 0).then(|| count(number)));
    let row = |culprit: &Culprit| Row {
        key: format!("culprit-{}-{}", culprit.subject.label(), culprit.name),
        cells: vec![
            name(&culprit.name),
            cell(culprit.subject.label()),
            cell(percent(culprit.share)),
            known(culprit.instances),
            known(culprit.connections),
        ],
    };
    Section {
        id: "who",
        title: "Who",
        note: html!("By their share of what goes beyond the usual."),
        columns: CULPRITS,
        rows: storm.culprits.iter().map(row).collect(),
        empty: html!("Nobody stands out."),
    }
}

const EVIDENCE: &[Column] = &[words("figure"), number("value"), words("unit")];

fn evidence(storm: &Storm) -> Section {
    let row = |figure: &Figure| Row {
        key: format!("figure-{}", figure.name),
        cells: vec![
            name(&figure.name.replace('_', " ")),
            cell(value(figure.value)),
            name(&figure.unit),
        ],
    };
    Section {
        id: "evidence",
        title: "Evidence",
        note: html!("What the detector saw, the most telling first."),
        columns: EVIDENCE,
        rows: storm.evidence.iter().map(row).collect(),
        empty: html!("None."),
    }
}

/// How the storm came to be what it is.
fn told(incident: &Incident) -> Html {
    let lines: Html = incident
        .told
        .iter()
        .map(|told| {
            html!(
                "<li><span class=\"when\">" (from_onset(told.at, incident.storm.onset)) "</span> <span>" (severity(&told.storm)) " "
                (name(&told.storm.summary)) "</span></li>\n"
            )
        })
        .collect();
    html!("<section aria-labelledby=\"told\">\n<h2 id=\"told\">What was told of it</h2>\n<ol class=\"told\">\n" (lines) "</ol>\n</section>\n")
}

const ADDRESS_COLUMNS: &[Column] = &[
    words("address"),
    words("workload"),
    words("library"),
    words("user"),
    number("opened"),
    number("connections"),
];

/// Those that had opened the most when clients were last recorded.
fn addresses(incident: &Incident) -> Section {
    let last = incident.clients.last();
    let row = |client: &ClientAt| Row {
        key: format!("address-{}", client.address),
        cells: vec![
            name(&client.address),
            named(&client.workload),
            named(&client.library),
            named(&client.user),
            cell(count(client.opened)),
            cell(count(client.connections)),
        ],
    };
    Section {
        id: "addresses",
        title: "Addresses",
        note: html!("Those with the most opens since the agent watches" (last.map(|last| html!(", at " (time(last.at))))) "."),
        columns: ADDRESS_COLUMNS,
        rows: last
            .iter()
            .flat_map(|last| &last.clients)
            .take(ADDRESSES)
            .map(row)
            .collect(),
        empty: html!("Its clients were not recorded."),
    }
}

const WORKLOAD_COLUMNS: &[Column] = &[
    words("workload"),
    number("addresses"),
    number("before"),
    number("at most"),
    number("opened"),
];

/// What each workload held before the storm and at most since, and what it has opened since.
fn workloads(incident: &Incident) -> Section {
    let onset = incident.storm.onset;
    let looks = &incident.clients;
    let usual = looks.iter().rev().find(|look| look.at <= onset).or(looks.first());
    let since = || looks.iter().filter(|look| look.at > onset);
    let of = |look: &Clients, workload: &str| {
        let found = look.workloads.iter().find(|one| one.workload == workload);
        found.cloned()
    };
    let names: BTreeSet<&str> = looks
        .iter()
        .flat_map(|look| &look.workloads)
        .map(|workload| &*workload.workload)
        .collect();
    let figures = |workload: &str| {
        let before = usual.and_then(|look| of(look, workload));
        let (held, opened) = before.map_or((0, 0), |before| (before.connections, before.opened));
        let since: Vec<_> = since().filter_map(|look| of(look, workload)).collect();
        let most = |figure: fn(&WorkloadAt) -> u64| since.iter().map(figure).max();
        [
            most(|one| one.instances).unwrap_or(0),
            held,
            most(|one| one.connections).unwrap_or(held),
            most(|one| one.opened).unwrap_or(opened).saturating_sub(opened),
        ]
    };
    let mut rows: Vec<_> = names.into_iter().map(|name| (name, figures(name))).collect();
    rows.sort_by_key(|(name, [.., opened])| (std::cmp::Reverse(*opened), *name));
    Section {
        id: "workloads",
        title: "Workloads",
        note: html!("Connections held before the onset and at most after it, and connections opened after it" (usual.map(|look| html!("; before: at " (time(look.at))))) "."),
        columns: WORKLOAD_COLUMNS,
        rows: rows
            .iter()
            .map(|(workload, figures)| Row {
                key: format!("workload-{workload}"),
                cells: std::iter::once(named(workload))
                    .chain(figures.iter().map(|figure| cell(count(*figure))))
                    .collect(),
            })
            .collect(),
        empty: html!("Its clients were not recorded."),
    }
}

const TENANT_COLUMNS: &[Column] = &[
    words("tenant"),
    number("commands /s before"),
    number("commands /s"),
    number("bytes /s before"),
    number("bytes /s"),
    number("errors /s"),
];

/// What tenants had in a second before the storm and in it, those with the most bytes in it first.
fn tenants(incident: &Incident) -> Section {
    let storm = &incident.storm;
    let over = storm.ended.unwrap_or(Moment(u64::MAX));
    let (before, since): (Vec<_>, Vec<_>) = incident
        .traffic
        .iter()
        .filter(|second| second.at <= over)
        .partition(|second| second.at <= storm.onset);
    let [before, during] = [before, since].map(|seconds| per_second(&seconds));
    let names: BTreeSet<&str> = before.keys().chain(during.keys()).copied().collect();
    let of = |sums: &BTreeMap<&str, [f64; 3]>, name| sums.get(name).copied().unwrap_or_default();
    let mut rows: Vec<_> = names
        .into_iter()
        .map(|name| (name, of(&before, name), of(&during, name)))
        .collect();
    rows.sort_by(|(_, _, left), (_, _, right)| right[1].total_cmp(&left[1]));
    let row = |(tenant, before, during): &(&str, [f64; 3], [f64; 3])| Row {
        key: format!("tenant-{tenant}"),
        cells: vec![
            name(tenant),
            cell(value(before[0])),
            cell(value(during[0])),
            cell(bytes(before[1])),
            cell(bytes(during[1])),
            cell(value(during[2])),
        ],
    };
    Section {
        id: "tenants",
        title: "Tenants",
        note: html!(
            "In a second, before the onset and from it on to the end. Of each second those eight count who have the largest part of it."
        ),
        columns: TENANT_COLUMNS,
        rows: rows.iter().take(TENANTS).map(row).collect(),
        empty: html!("Nothing of them was recorded, or nothing moved."),
    }
}

/// Commands, bytes and errors of each tenant in a second, on average.
fn per_second<'a>(seconds: &[&'a TrafficAt]) -> BTreeMap<&'a str, [f64; 3]> {
    let milliseconds = seconds
        .iter()
        .map(|second| second.milliseconds)
        .sum::<u64>()
        .max(1);
    let mut sums: BTreeMap<&str, [f64; 3]> = BTreeMap::new();
    for tenant in seconds.iter().flat_map(|second| &second.tenants) {
        let sum = sums.entry(&tenant.tenant).or_default();
        let counts = [tenant.commands, tenant.bytes_in + tenant.bytes_out, tenant.errors];
        for (sum, count) in sum.iter_mut().zip(counts) {
            *sum += count as f64 * 1e3 / milliseconds as f64;
        }
    }
    sums
}
