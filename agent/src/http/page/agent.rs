//! How the agent is: what somebody asks who doubts the numbers; and where programs find them.

use super::html::{Html, name};
use super::numbers::{bytes, count, percent};
use super::status::time;
use crate::config::ConfigStatus;
use crate::http::{Health, Report};
use crate::metrics::{COMMIT, VERSION};
use crate::snapshot::MapUsage;
use crate::storms::Moment;

/// The section.
pub(super) fn section(report: &Report, health: &Health) -> Html {
    let state = health
        .not_ready
        .as_deref()
        .map_or_else(|| html!("ready"), |reason| html!("<b>not ready</b>: "(reason)));
    let rows = [
        ("state", Some(state)),
        ("version", Some(html!((VERSION) " (" (COMMIT) ")"))),
        ("configuration", Some(configuration(&report.config))),
        ("lost", Some(lost(report))),
        ("fullest kernel map", fullest(&report.snapshot.maps)),
        ("cost in the kernel", cost(report)),
        ("last look at connections", survey(report)),
        ("incidents", Some(incidents(report))),
        ("alerts", alerts(report)),
        ("Kubernetes", kubernetes(report)),
    ];
    let rows: Html = rows
        .into_iter()
        .filter_map(|(term, text)| Some(html!("<dt>" (term) "</dt><dd>" (text?) "</dd>\n")))
        .collect();
    html!("<section aria-labelledby=\"agent\">\n<h2 id=\"agent\">Agent</h2>\n<dl>\n" (rows) "</dl>\n</section>\n")
}

/// What is in force, and what is not.
fn configuration(status: &ConfigStatus) -> Html {
    let file = status.file.as_ref().map_or_else(
        || html!("the defaults"),
        |file| html!("<code>" (name(file)) "</code>"),
    );
    let mut text = html!((file) ", read at " (time(Moment(status.read_at_ms))));
    for key in &status.waiting {
        text.add(html!(
            ". <b><code>" (key.key) " = " (name(&key.wanted)) "</code> waits for a restart</b>; " (name(&key.running)) " is in force"
        ));
    }
    if let Some(refusal) = &status.refused {
        text.add(html!(
            ". <b>A newer file was refused at " (time(Moment(refusal.at_ms))) "</b>: " (name(&refusal.reason))
        ));
    }
    text
}

/// By reason, those that there were.
fn lost(report: &Report) -> Html {
    let lost = report.snapshot.dropped.iter().filter(|(_, times)| *times != 0);
    let lost: Vec<_> = lost
        .map(|(reason, times)| format!("{} {}", count(*times), reason.replace('_', " ")))
        .collect();
    if lost.is_empty() {
        html!("nothing")
    } else {
        html!((lost.join(", ")))
    }
}

fn fullest(maps: &[MapUsage]) -> Option<Html> {
    let share = |map: &MapUsage| map.entries as f64 / map.capacity.max(1) as f64;
    let map = maps
        .iter()
        .max_by(|one, other| share(one).total_cmp(&share(other)))?;
    Some(html!(
        "<code>" (map.map) "</code>, " (percent(share(map))) ": " (count(map.entries)) " of " (count(map.capacity)) " entries"
    ))
}

/// Per run of a program; not known unless the kernel measures it.
fn cost(report: &Report) -> Option<Html> {
    let programs = &report.snapshot.programs;
    let runs: u64 = programs.iter().map(|program| program.runs).sum();
    let seconds: f64 = programs.iter().map(|program| program.run_seconds).sum();
    (runs != 0).then(|| html!((format!("{:.0} ns", seconds / runs as f64 * 1e9)) " per run of a program, " (count(runs)) " runs"))
}

fn survey(report: &Report) -> Option<Html> {
    let survey = report.workloads.survey?;
    let (age, cost) = (survey.age.as_secs_f64(), survey.cost.as_secs_f64() * 1e3);
    Some(html!((format!("{age:.0} s")) " ago, took " (format!("{cost:.1} ms")) " of CPU"))
}

fn incidents(report: &Report) -> Html {
    let status = report.incidents;
    let unwritten = status.dropped + status.errors;
    let unwritten = (unwritten != 0).then(|| html!(", <b>" (count(unwritten)) " pieces not written</b>"));
    html!((count(status.kept)) " recorded, " (bytes(status.bytes as f64)) (unwritten))
}

/// One line for each receiver.
fn alerts(report: &Report) -> Option<Html> {
    let receivers = &report.alerts.receivers;
    let line = |receiver: &crate::alerts::ReceiverStatus| {
        let sum = |reasons: &[(&str, u64)]| reasons.iter().map(|(_, times)| times).sum::<u64>();
        let (failed, lost) = (sum(&receiver.failed), sum(&receiver.dropped));
        let lost = (lost != 0).then(|| html!(", <b>" (count(lost)) " lost</b>"));
        html!(
            "<li>" (receiver.sink) " " (name(&receiver.receiver)) ": " (count(receiver.sent)) " sent, " (count(receiver.queued))
            " waiting, " (count(failed)) " attempts failed" (lost) "</li>"
        )
    };
    let lines: Html = receivers.iter().map(line).collect();
    (!receivers.is_empty()).then(|| html!("<ul>" (lines) "</ul>"))
}

fn kubernetes(report: &Report) -> Option<Html> {
    let status = &report.kubernetes;
    let state = if status.connected {
        "connected"
    } else {
        "not connected"
    };
    status
        .wanted
        .then(|| html!((state) ", " (count(status.pods)) " pods known"))
}

/// What else is served.
pub(super) fn pages() -> Html {
    html!(
        "<section aria-labelledby=\"programs\">\n<h2 id=\"programs\">For programs</h2>\n<ul class=\"pages\">\n"
        "<li><a href=\"/metrics\">/metrics</a>: Prometheus text, or OpenMetrics where the scraper accepts it</li>\n"
        "<li><a href=\"/healthz\">/healthz</a>: whether the agent's loop turns</li>\n"
        "<li><a href=\"/readyz\">/readyz</a>: whether its numbers can be relied on</li>\n"
        "<li><a href=\"/api/v1/servers\">/api/v1/servers</a>: the servers of this host</li>\n"
        "<li><a href=\"/api/v1/tenants\">/api/v1/tenants</a>: tenants, their owners, traffic, sizes, durations, errors and hits</li>\n"
        "<li><a href=\"/api/v1/clients\">/api/v1/clients</a>: client addresses and their connections</li>\n"
        "<li><a href=\"/api/v1/connections\">/api/v1/connections</a>: each connection, and what its client has said of itself</li>\n"
        "<li><a href=\"/api/v1/libraries\">/api/v1/libraries</a>: connections by client library and version, and by user</li>\n"
        "<li><a href=\"/api/v1/workloads\">/api/v1/workloads</a>: how groups of clients use their connections, and what a restart "
        "would bring</li>\n"
        "<li><a href=\"/api/v1/storms\">/api/v1/storms</a>: storms that go on, and those that are over</li>\n"
        "<li><a href=\"/api/v1/incidents\">/api/v1/incidents</a>: what was recorded of storms</li>\n"
        "<li><a href=\"/api/v1/announcements\">/api/v1/announcements</a>: restarts that somebody has announced</li>\n"
        "<li><a href=\"/api/v1/config\">/api/v1/config</a>: the configuration in force, and what has become of a newer one</li>\n"
        "<li><a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a>: the description of this API, for programs</li>\n"
        "</ul>\n</section>\n"
    )
}
