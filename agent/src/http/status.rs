//! `/`, the status page: the servers, and the tenants that move the most bytes, for a person with a browser.

use std::borrow::Cow;

use agent_common::abi::PrefixCounters;

use super::{Report, config};
use crate::metrics::{distributions::Quantiles, rows};
use crate::storms::Storm;

/// Tenants that are shown; `/api/v1/tenants` has them all.
const TENANTS: usize = 20;

/// What the page's text has in the place of the tables.
const PLACE: &str = "REPORT";

const PAGE: &str = include_str!("status.html");

/// The page.
pub(super) fn page(report: &Report) -> String {
    let tables = [
        config::paragraph(&report.config),
        storms(report),
        table("Servers", SERVER_HEAD, &server_rows(report)),
        table("Tenants", TENANT_HEAD, &tenant_rows(report)),
    ];
    PAGE.replacen(PLACE, &tables.concat(), 1)
}

/// The page when there are no numbers.
pub(super) fn page_without_report(reason: &str) -> String {
    PAGE.replacen(PLACE, &format!("<p>No numbers: {}</p>", escape(reason)), 1)
}

/// Storms that are over and shown.
const STORMS: usize = 10;

const STORM_HEAD: &[&str] = &["server", "storm", "severity", "seconds", "what"];

/// Those that go on first. Without any there is a sentence.
fn storms(report: &Report) -> String {
    let over = report.storms.over.iter().take(STORMS);
    let rows: Vec<Vec<String>> = report.storms.active.iter().chain(over).map(storm_row).collect();
    if rows.is_empty() {
        return "<p>No storm since the agent started.</p>".into();
    }
    table("Storms", STORM_HEAD, &rows)
}

fn storm_row(storm: &Storm) -> Vec<String> {
    let goes_on = if storm.ended.is_some() { "" } else { ", goes on" };
    let expected = if storm.expected { ", expected" } else { "" };
    vec![
        storm.server.clone(),
        storm
            .kinds
            .iter()
            .map(|kind| kind.label())
            .collect::<Vec<_>>()
            .join(", "),
        format!("{}{goes_on}{expected}", storm.severity.label()),
        storm.ended.map_or_else(String::new, |ended| {
            format!("{:.1}", ended.since(storm.onset) as f64 / 1e3)
        }),
        storm.summary.clone(),
    ]
}

const SERVER_HEAD: &[&str] = &[
    "server",
    "connections",
    "commands",
    "bytes in",
    "bytes out",
    "unattributed bytes",
];

fn server_rows(report: &Report) -> Vec<Vec<String>> {
    let rows = report.snapshot.servers.iter().map(|server| {
        let sum = sum(server.prefixes.iter().map(|prefix| &prefix.counters));
        let unattributed: u64 = server.unattributed.iter().map(|(_, _, bytes)| bytes).sum();
        vec![
            server.label.clone(),
            server.connections.to_string(),
            sum.commands().to_string(),
            sum.bytes_in.to_string(),
            sum.bytes_out.to_string(),
            unattributed.to_string(),
        ]
    });
    rows.collect()
}

const TENANT_HEAD: &[&str] = &[
    "tenant",
    "owner",
    "commands",
    "bytes in",
    "bytes out",
    "duration p50",
    "duration p99",
    "reply p99",
    "errors",
    "hits",
];

/// Those with the most bytes first.
fn tenant_rows(report: &Report) -> Vec<Vec<String>> {
    let by_tenant = rows::by_tenant(report);
    let mut rows: Vec<_> = report
        .tenant_infos
        .iter()
        .filter_map(|info| {
            let sum = sum(by_tenant.get(&*info.name)?.iter().map(|row| &row.counters));
            let bytes = sum.bytes_in + sum.bytes_out;
            (bytes != 0).then(|| (bytes, tenant_row(&info.name, &info.owner, &sum)))
        })
        .collect();
    rows.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    rows.into_iter().map(|(_, row)| row).take(TENANTS).collect()
}

fn tenant_row(name: &str, owner: &str, sum: &PrefixCounters) -> Vec<String> {
    let durations = Quantiles::durations(&sum.durations);
    let replies = Quantiles::sizes(&sum.reply_sizes);
    vec![
        name.to_owned(),
        owner.to_owned(),
        sum.commands().to_string(),
        sum.bytes_in.to_string(),
        sum.bytes_out.to_string(),
        durations.map_or_else(String::new, |quantiles| duration(quantiles.p50)),
        durations.map_or_else(String::new, |quantiles| duration(quantiles.p99)),
        replies.map_or_else(String::new, |quantiles| format!("<= {} B", quantiles.p99)),
        sum.errors.iter().sum::<u64>().to_string(),
        hit_ratio(sum),
    ]
}

fn sum<'a>(rows: impl Iterator<Item = &'a PrefixCounters>) -> PrefixCounters {
    let mut sum = PrefixCounters::default();
    rows.for_each(|row| sum.add(row));
    sum
}

/// Seconds in the unit that suits them, to two digits: what is known of them.
fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        long if long >= 1.0 => (long, "s"),
        middling if middling >= 1e-3 => (middling * 1e3, "ms"),
        short => (short * 1e6, "us"),
    };
    let decimals = usize::from(value < 10.0);
    format!("{value:.decimals$} {unit}")
}

fn hit_ratio(sum: &PrefixCounters) -> String {
    let reads = sum.hits + sum.misses;
    if reads == 0 {
        return String::new();
    }
    format!("{:.1} %", sum.hits as f64 / reads as f64 * 100.0)
}

fn table(title: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("<h2>{title}</h2>\n<table>\n");
    push_row(&mut text, "th", head.iter().copied());
    for row in rows {
        push_row(&mut text, "td", row.iter().map(String::as_str));
    }
    text.push_str("</table>\n");
    text
}

fn push_row<'a>(text: &mut String, tag: &str, cells: impl Iterator<Item = &'a str>) {
    text.push_str("<tr>");
    for cell in cells {
        text.push_str(&format!("<{tag}>{}</{tag}>", escape(cell)));
    }
    text.push_str("</tr>\n");
}

/// Names come from the configuration and from processes of the host: none of them may become markup.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            plain => escaped.push(plain),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::counters;
    use crate::tenants::{TenantInfo, TenantRow};

    fn report(tenants: &[(&str, PrefixCounters)]) -> Report {
        Report {
            tenants: tenants
                .iter()
                .map(|(name, counters)| TenantRow {
                    server: "a:1".into(),
                    tenant: (*name).into(),
                    counters: *counters,
                })
                .collect(),
            tenant_infos: tenants
                .iter()
                .map(|(name, _)| TenantInfo {
                    name: (*name).into(),
                    ..TenantInfo::default()
                })
                .collect(),
            ..Report::default()
        }
    }

    #[test]
    fn tenants_stand_in_the_order_of_their_bytes_and_idle_ones_are_left_out() {
        let rows = tenant_rows(&report(&[
            ("small", counters(1, 10, 10)),
            ("large", counters(1, 10, 900)),
            ("idle", counters(0, 0, 0)),
        ]));
        let names: Vec<_> = rows.iter().map(|row| &*row[0]).collect();
        assert_eq!(names, ["large", "small"]);
    }

    #[test]
    fn only_so_many_tenants_are_shown() {
        let names: Vec<_> = (0..TENANTS + 5).map(|number| format!("t{number}")).collect();
        let all: Vec<_> = names.iter().map(|name| (&**name, counters(1, 1, 1))).collect();
        assert_eq!(tenant_rows(&report(&all)).len(), TENANTS);
    }

    #[test]
    fn a_row_has_what_a_person_asks_first() {
        let mut sum = counters(4, 40, 400);
        (sum.hits, sum.misses, sum.errors[1], sum.reply_sizes[10]) = (3, 1, 2, 4);
        sum.durations[40] = 4;
        let row = tenant_row("a", "team", &sum);
        assert_eq!(
            row,
            [
                "a",
                "team",
                "4",
                "40",
                "400",
                "590 us",
                "590 us",
                "<= 1024 B",
                "2",
                "75.0 %"
            ]
        );
    }

    #[test]
    fn durations_are_written_in_the_unit_that_suits_them() {
        for (seconds, text) in [
            (0.000_001_2, "1.2 us"),
            (0.052, "52 ms"),
            (1.25, "1.2 s"),
            (31.0, "31 s"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn no_name_becomes_markup() {
        let page = page(&report(&[("<b>&\"'", counters(1, 1, 1))]));
        assert!(page.contains("<td>&lt;b&gt;&amp;&quot;&#39;</td>"), "{page}");
        assert!(page_without_report("<i>").contains("No numbers: &lt;i&gt;"));
    }
}
