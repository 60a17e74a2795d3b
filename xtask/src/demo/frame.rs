//! One picture of the show: what changed between two scrapes.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::screen::Style;
use super::stage::Stage;
use crate::rig::scrape::Scrape;
use crate::text::{self, byte_rate, number};

/// Upper bounds of the accept bursts' columns; a further one holds what is above.
const BURSTS: [&str; 7] = ["1", "2", "4", "8", "16", "32", "64"];

/// Columns of one cell of the clients' grid.
const CLIENT_WIDTH: usize = 19;

/// Columns before what is said of the storm.
const STORM_MARGIN: usize = 22;

/// Columns of a log's line, and of those in front of what it says.
const BLOCK_WIDTH: usize = 80;
const BLOCK_MARGIN: usize = 7;

/// Lines of the table without clients and prefixes.
const FIXED_LINES: usize = 22;

/// A scrape and its moment.
pub(crate) struct Reading {
    at: Instant,
    scrape: Scrape,
}

/// Two scrapes and where the show is.
pub(crate) struct Frame<'a> {
    pub(crate) before: &'a Reading,
    pub(crate) now: &'a Reading,
    /// Labels of the servers.
    pub(crate) servers: &'a [String],
    /// What is known of the storm, if there is to be one.
    pub(crate) storm: Option<&'a str>,
    /// Where the agent serves.
    pub(crate) url: &'a str,
    pub(crate) elapsed: Duration,
    pub(crate) length: Duration,
}

/// Traffic per second.
struct Traffic {
    commands: f64,
    bytes_in: f64,
    bytes_out: f64,
}

impl Reading {
    pub(crate) fn take(stage: &mut Stage<'_>) -> Result<Self> {
        let scrape = stage.scrape()?;
        Ok(Self {
            at: Instant::now(),
            scrape,
        })
    }
}

impl Frame<'_> {
    /// The live table. Lines are at most `style.width` columns wide.
    pub(crate) fn table(&self, style: &Style) -> Vec<String> {
        let mut lines = vec![self.title(style), String::new()];
        self.servers_section(style, &mut lines);
        self.storm_section(style, &mut lines);
        lines.push(String::new());
        self.tenants_section(style, &mut lines);
        lines.push(String::new());
        let room = style.height.saturating_sub(1 + FIXED_LINES);
        self.clients_section(style, room.clamp(1, 6), &mut lines);
        lines.push(String::new());
        self.bursts_section(style, &mut lines);
        let room = style.height.saturating_sub(1 + lines.len());
        self.prefixes_section(style, room, &mut lines);
        lines
    }

    /// The same for a log: a few lines without colours, at most 80 columns wide.
    pub(crate) fn block(&self) -> Vec<String> {
        let servers = self.servers.iter().map(|server| {
            let connections = self
                .now
                .scrape
                .sum("stormglass_connections", &[("server", server)]);
            let traffic = self.server_traffic(server);
            traffic.line(server, &format!("{connections} conns"))
        });
        let tenants = self.tenants();
        let tenants = tenants.iter().map(|(tenant, _)| {
            let traffic = self.tenant_traffic(tenant);
            traffic.line(tenant, "")
        });
        let mut time = format!("{} s", self.elapsed.as_secs());
        let table = servers
            .chain(tenants)
            .map(|line| format!("{:>5}  {line}", std::mem::take(&mut time)));
        let mut lines: Vec<String> = table.collect();
        let mut storm = self.storm.unwrap_or_default();
        while !storm.is_empty() {
            let (line, rest) = text::folded(storm, BLOCK_WIDTH - BLOCK_MARGIN);
            lines.push(format!("{}{line}", " ".repeat(BLOCK_MARGIN)));
            storm = rest;
        }
        lines
    }

    fn title(&self, style: &Style) -> String {
        let name = " STORMGLASS";
        let page = format!("  {}/metrics", self.url);
        let time = format!(
            "{} s of {}, Ctrl-C ends it ",
            self.elapsed.as_secs(),
            self.length.as_secs()
        );
        let gap = style.width.saturating_sub(name.len() + page.len() + time.len());
        format!(
            "{}{}{}{time}",
            style.heading(name),
            style.faint(&page),
            " ".repeat(gap)
        )
    }

    fn servers_section(&self, style: &Style, lines: &mut Vec<String>) {
        let head = format!(
            " {:<21}{:>8}{:>9}{}",
            "SERVER",
            "conns",
            "opened/s",
            Traffic::HEAD
        );
        lines.push(style.heading(&head));
        let all: Vec<Traffic> = self
            .servers
            .iter()
            .map(|server| self.server_traffic(server))
            .collect();
        let sum: f64 = all.iter().map(Traffic::bytes).sum();
        for (server, traffic) in self.servers.iter().zip(&all) {
            let label = [("server", server.as_str())];
            let connections = self.now.scrape.sum("stormglass_connections", &label);
            let opened = self.rate("stormglass_connections_opened_total", &label);
            let name = format!(" {server:<21}{:>8}{opened:>9.1}", number(connections));
            lines.push(row(style, &name, traffic, sum));
        }
        let lost = |server: &String| {
            let label = [("server", server.as_str())];
            self.now.scrape.sum("stormglass_unattributed_bytes_total", &label)
        };
        let lost: u64 = self.servers.iter().map(lost).sum();
        let verdict = format!(" unattributed bytes so far: {}", number(lost));
        lines.push(if lost == 0 {
            style.faint(&verdict)
        } else {
            style.bad(&verdict)
        });
    }

    /// One line, or two if it says much.
    fn storm_section(&self, style: &Style, lines: &mut Vec<String>) {
        let Some(storm) = self.storm else { return };
        let (first, rest) = text::folded(storm, style.width - STORM_MARGIN);
        lines.push(format!("{}{first}", style.bad(&format!(" {:<21}", "STORM"))));
        if !rest.is_empty() {
            let (second, _) = text::folded(rest, style.width - STORM_MARGIN);
            lines.push(format!("{}{second}", " ".repeat(STORM_MARGIN)));
        }
    }

    fn tenants_section(&self, style: &Style, lines: &mut Vec<String>) {
        let head = format!(" {:<21}{:<17}{}", "TENANT", "owner", Traffic::HEAD);
        lines.push(style.heading(&head));
        let tenants = self.tenants();
        let all: Vec<Traffic> = tenants
            .iter()
            .map(|(tenant, _)| self.tenant_traffic(tenant))
            .collect();
        let sum: f64 = all.iter().map(Traffic::bytes).sum();
        for ((tenant, owner), traffic) in tenants.iter().zip(&all) {
            lines.push(row(style, &format!(" {tenant:<21}{owner:<17}"), traffic, sum));
        }
    }

    fn clients_section(&self, style: &Style, most_lines: usize, lines: &mut Vec<String>) {
        let by_client = self.now.scrape.by("stormglass_client_connections", "client", &[]);
        let mut clients: Vec<_> = by_client
            .into_iter()
            .filter(|(_, connections)| *connections > 0)
            .collect();
        let address = |client: &str| client.parse::<IpAddr>().ok();
        clients.sort_by_cached_key(|(client, connections)| (Reverse(*connections), address(client)));
        let per_line = (style.width - 1) / CLIENT_WIDTH;
        let shown = clients.len().min(per_line * most_lines);
        let more = match clients.len() - shown {
            0 => String::new(),
            more => format!(", {more} more"),
        };
        let head = format!(" {:<21}", "CLIENTS");
        let note = format!("{} addresses and their connections now{more}", clients.len());
        lines.push(format!("{}{}", style.heading(&head), style.faint(&note)));
        for line in clients[..shown].chunks(per_line) {
            let cells = line
                .iter()
                .map(|(client, connections)| format!("{client:<11}{connections:>5}   "));
            lines.push(format!(" {}", cells.collect::<String>()));
        }
        if clients.is_empty() {
            lines.push(style.faint(" none"));
        }
    }

    fn bursts_section(&self, style: &Style, lines: &mut Vec<String>) {
        let columns: String = BURSTS
            .iter()
            .map(|bound| format!("{:>7}", format!("<={bound}")))
            .collect();
        lines.push(style.heading(&format!(" {:<21}{columns}{:>7}", "ACCEPT BURSTS", "more")));
        for server in self.servers {
            let buckets = self.now.scrape.by(
                "stormglass_accept_burst_connections_bucket",
                "le",
                &[("server", server)],
            );
            let mut below = 0;
            let bounds = BURSTS.iter().chain(&["+Inf"]);
            let cells = bounds.map(|bound| {
                let cumulative = buckets.get(*bound).copied().unwrap_or(below);
                let windows = cumulative.saturating_sub(below);
                below = cumulative;
                format!("{:>7}", number(windows))
            });
            lines.push(format!(" {server:<21}{}", cells.collect::<String>()));
        }
        let note = " how many windows of 100 ms brought that many new connections";
        lines.push(style.faint(note));
    }

    /// For terminals with room to spare.
    fn prefixes_section(&self, style: &Style, room: usize, lines: &mut Vec<String>) {
        let mut prefixes: Vec<(String, Traffic)> = self
            .now
            .scrape
            .by("stormglass_prefix_commands_total", "prefix", &[])
            .into_iter()
            .filter(|(_, commands)| *commands > 0)
            .map(|(prefix, _)| {
                let traffic = self.traffic("stormglass_prefix", &[("prefix", &prefix)]);
                (prefix, traffic)
            })
            .collect();
        let wanted = prefixes.len().min(10);
        if wanted == 0 || room < wanted + 2 {
            return;
        }
        prefixes.sort_by(|(_, left), (_, right)| right.bytes().total_cmp(&left.bytes()));
        let sum: f64 = prefixes.iter().map(|(_, traffic)| traffic.bytes()).sum();
        lines.push(String::new());
        lines.push(style.heading(&format!(" {:<38}{}", "PREFIX", Traffic::HEAD)));
        for (prefix, traffic) in prefixes.iter().take(wanted) {
            lines.push(row(style, &format!(" {prefix:<38}"), traffic, sum));
        }
    }

    /// The configured tenants, and what belongs to none.
    fn tenants(&self) -> Vec<(String, String)> {
        let mut tenants = self.now.scrape.pairs("stormglass_tenant_info", "tenant", "owner");
        tenants.retain(|(tenant, _)| tenant != "(other)");
        tenants.sort_by_key(|(tenant, _)| tenant.starts_with('('));
        tenants
    }

    fn server_traffic(&self, server: &str) -> Traffic {
        self.traffic("stormglass_prefix", &[("server", server)])
    }

    fn tenant_traffic(&self, tenant: &str) -> Traffic {
        self.traffic("stormglass_tenant", &[("tenant", tenant)])
    }

    fn traffic(&self, family: &str, labels: &[(&str, &str)]) -> Traffic {
        let bytes = |direction| {
            let mut labels = labels.to_vec();
            labels.push(("direction", direction));
            self.rate(&format!("{family}_bytes_total"), &labels)
        };
        Traffic {
            commands: self.rate(&format!("{family}_commands_total"), labels),
            bytes_in: bytes("in"),
            bytes_out: bytes("out"),
        }
    }

    /// Growth per second of a counter.
    fn rate(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let grown = self
            .now
            .scrape
            .sum(name, labels)
            .saturating_sub(self.before.scrape.sum(name, labels));
        let seconds = (self.now.at - self.before.at).as_secs_f64();
        grown as f64 / seconds.max(0.001)
    }
}

impl Traffic {
    const HEAD: &str = "    cmds/s         in        out";

    fn bytes(&self) -> f64 {
        self.bytes_in + self.bytes_out
    }

    /// For a log, 72 columns.
    fn line(&self, name: &str, note: &str) -> String {
        format!(
            "{name:<18}{note:>12}{:>8} cmds/s in {:>9} out {:>9}",
            number(self.commands.round() as u64),
            byte_rate(self.bytes_in),
            byte_rate(self.bytes_out)
        )
    }
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{:>10}{:>11}{:>11}",
            number(self.commands.round() as u64),
            byte_rate(self.bytes_in),
            byte_rate(self.bytes_out)
        )
    }
}

/// A row with its traffic and, in the columns that are left, its share of all bytes as a bar.
fn row(style: &Style, name: &str, traffic: &Traffic, sum: f64) -> String {
    let numbers = traffic.to_string();
    let left = style
        .width
        .saturating_sub(name.chars().count() + numbers.len() + 2);
    format!("{name}{numbers} {}", style.bar(traffic.bytes() / sum, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"
stormglass_connections{server="valkey-server:7001"} 12000
stormglass_connections_opened_total{server="valkey-server:7001"} 99999
stormglass_accept_burst_connections_bucket{server="valkey-server:7001",le="1"} 3
stormglass_accept_burst_connections_bucket{server="valkey-server:7001",le="2"} 5
stormglass_accept_burst_connections_bucket{server="valkey-server:7001",le="+Inf"} 6
stormglass_tenant_info{tenant="checkout",owner="team-checkout"} 1
stormglass_tenant_info{tenant="(other)",owner=""} 1
stormglass_tenant_info{tenant="(unassigned)",owner=""} 1
stormglass_tenant_bytes_total{server="valkey-server:7001",tenant="checkout",direction="in"} 987654321
stormglass_prefix_bytes_total{server="valkey-server:7001",prefix="cart",direction="in"} 987654321
stormglass_prefix_commands_total{server="valkey-server:7001",prefix="cart"} 999999
stormglass_prefix_commands_total{server="valkey-server:7001",prefix="(none)"} 0
stormglass_unattributed_bytes_total{server="valkey-server:7001",direction="in",reason="hole"} 17
"#;

    /// What the show has when the page has come to `PAGE` within a second.
    fn with_frame<T>(look: impl FnOnce(&Frame<'_>) -> T) -> T {
        let at = Instant::now();
        let clients = (0..200).map(|number| {
            format!("stormglass_client_connections{{server=\"valkey-server:7001\",client=\"127.0.11.{number}\"}} 60\n")
        });
        let page = PAGE.to_owned() + &clients.collect::<String>();
        let reading = |at, page: &str| Reading {
            at,
            scrape: Scrape::parse(page).unwrap(),
        };
        look(&Frame {
            before: &reading(at, ""),
            now: &reading(at + Duration::from_secs(1), &page),
            servers: &["valkey-server:7001".to_owned(), "valkey-server:7002".to_owned()],
            storm: Some(
                "reconnect churn at valkey-server:7003, 100 % of 2,000 connections, by the workload cart-api",
            ),
            url: "http://127.0.0.1:9466",
            elapsed: Duration::from_secs(12),
            length: Duration::from_secs(30),
        })
    }

    fn style(width: usize, height: usize) -> Style {
        Style {
            colours: false,
            unicode: true,
            width,
            height,
        }
    }

    fn widest(lines: &[String]) -> Option<usize> {
        lines.iter().map(|line| line.chars().count()).max()
    }

    #[test]
    fn the_table_fits_the_terminal() {
        for (width, height) in [(80, 24), (80, 60), (120, 40)] {
            let lines = with_frame(|frame| frame.table(&style(width, height)));
            assert!(lines.len() < height, "{} lines in {height}", lines.len());
            assert!(widest(&lines) <= Some(width), "{lines:#?}");
        }
    }

    #[test]
    fn a_block_of_the_log_fits_80_columns() {
        assert!(with_frame(|frame| widest(&frame.block())) <= Some(80));
    }

    #[test]
    fn the_table_tells_rates_bursts_and_what_is_unattributed() {
        let text = with_frame(|frame| frame.table(&style(80, 40))).join("\n");
        for expected in [
            " valkey-server:7001     12,000  99999.0   999,999   988 MB/s",
            " checkout             team-checkout",
            " unattributed bytes so far: 17",
            " valkey-server:7001         3      2      0",
            " cart ",
            " STORM                reconnect churn at valkey-server:7003, 100 % of 2,000",
        ] {
            assert!(text.contains(expected), "no {expected:?} in\n{text}");
        }
        assert!(!text.contains("(none)") && !text.contains("(other)"), "{text}");
    }
}
