//! What Stormglass counted and what the others say, side by side.

use super::load::Report;
use super::screen::Style;
use crate::rig::scrape::Scrape;
use crate::rig::server::Totals;
use crate::text::number;

const DIRECTIONS: [&str; 2] = ["in", "out"];

/// Columns of a row's name, and of a number.
const NAME: usize = 22;
const CELL: usize = 14;

/// All counts, read while nothing moved.
pub(crate) struct Verdict {
    servers: Vec<ServerCounts>,
    tenants: Vec<TenantCounts>,
}

struct ServerCounts {
    label: String,
    directions: [Direction; 2],
}

/// Bytes of one server in one direction.
struct Direction {
    /// Sum of the prefix rows.
    attributed: u64,
    unattributed: u64,
    /// As INFO states it.
    info: u64,
    /// What INFO leaves out: its own reply.
    reply: u64,
}

struct TenantCounts {
    name: String,
    /// By the client's own count and by Stormglass': commands, bytes in, bytes out.
    client: [u64; 3],
    stormglass: [u64; 3],
}

/// Every byte that Stormglass counted for these servers, both directions.
pub(crate) fn all_bytes(scrape: &Scrape, servers: &[String]) -> u64 {
    servers
        .iter()
        .flat_map(|server| DIRECTIONS.map(|direction| counted(scrape, server, direction)))
        .map(|(attributed, unattributed)| attributed + unattributed)
        .sum()
}

impl Verdict {
    /// `scrape` was taken after `totals`, with nothing in between.
    pub(crate) fn new(scrape: &Scrape, totals: Vec<(String, Totals)>, reports: &[Report]) -> Self {
        let servers = totals.into_iter().map(|(label, totals)| {
            let direction = |name, info, reply| {
                let (attributed, unattributed) = counted(scrape, &label, name);
                Direction {
                    attributed,
                    unattributed,
                    info,
                    reply,
                }
            };
            let directions = [
                direction("in", totals.input, 0),
                direction("out", totals.output, totals.reply),
            ];
            ServerCounts { label, directions }
        });
        Self {
            servers: servers.collect(),
            tenants: reports
                .iter()
                .map(|report| TenantCounts::new(scrape, report))
                .collect(),
        }
    }

    /// In words what differs, if anything does.
    pub(crate) fn difference(&self) -> Option<String> {
        let servers = self.servers.iter().filter(|server| !server.is_equal());
        let tenants = self.tenants.iter().filter(|tenant| !tenant.is_equal());
        let names: Vec<&str> = servers
            .map(|server| server.label.as_str())
            .chain(tenants.map(|tenant| tenant.name.as_str()))
            .collect();
        (!names.is_empty()).then(|| {
            format!(
                "Stormglass counted other bytes than there were at {}; this is a defect, please report the table above",
                names.join(", ")
            )
        })
    }

    /// The tables, at most 80 columns wide.
    pub(crate) fn lines(&self, style: Style) -> Vec<String> {
        let mut lines = vec![
            String::new(),
            " The load has ended and the servers are quiet. All bytes since they started:".to_owned(),
            String::new(),
        ];
        self.server_table(&style, &mut lines);
        lines.push(String::new());
        self.tenant_table(&style, &mut lines);
        lines.push(String::new());
        lines.push(self.conclusion(&style));
        lines
    }

    fn server_table(&self, style: &Style, lines: &mut Vec<String>) {
        let mut names = format!(" {:<w$}", "SERVER", w = NAME - 1);
        let mut directions = " ".repeat(NAME);
        for server in &self.servers {
            names.push_str(&format!("{:>w$}", server.label, w = 2 * CELL));
            directions.push_str(&format!("{}{}", cell("in"), cell("out")));
        }
        lines.push(style.heading(&names));
        lines.push(style.faint(&directions));
        lines.push(self.server_row("prefix rows", |bytes| number(bytes.attributed)));
        lines.push(self.server_row("unattributed", |bytes| number(bytes.unattributed)));
        lines.push(style.heading(&self.server_row("Stormglass", |bytes| number(bytes.stormglass()))));
        lines.push(self.server_row("INFO total_net_*", |bytes| number(bytes.info)));
        lines.push(self.server_row("that INFO's reply", |bytes| match bytes.reply {
            0 => String::new(),
            reply => number(reply),
        }));
        lines.push(style.heading(&self.server_row("Valkey", |bytes| number(bytes.valkey()))));
        let row = self.server_row("difference", |bytes| signed(bytes.stormglass(), bytes.valkey()));
        let equal = self.servers.iter().all(ServerCounts::is_equal);
        lines.push(if equal { style.good(&row) } else { style.bad(&row) });
        let note = " An INFO counts its own request but not its own reply, so the reply is added.";
        lines.push(style.faint(note));
    }

    fn server_row(&self, name: &str, text: impl Fn(&Direction) -> String) -> String {
        let directions = self.servers.iter().flat_map(|server| &server.directions);
        let cells = directions.map(|direction| cell(&text(direction)));
        format!(" {name:<w$}{}", cells.collect::<String>(), w = NAME - 1)
    }

    fn tenant_table(&self, style: &Style, lines: &mut Vec<String>) {
        let row = |name: &str, cells: &[String; 3]| {
            let cells: String = cells.iter().map(|text| cell(text)).collect();
            format!(" {name:<w$}{cells}", w = NAME - 1)
        };
        let head = ["commands", "bytes in", "bytes out"].map(str::to_owned);
        lines.push(style.heading(&row("TENANT", &head)));
        for tenant in &self.tenants {
            let ours = row(&tenant.name, &tenant.stormglass.map(number));
            if tenant.is_equal() {
                lines.push(format!("{ours}  {}", style.good("= client's own")));
                continue;
            }
            lines.push(ours);
            let theirs = row("  by its client", &tenant.client.map(number));
            lines.push(style.bad(&format!("{theirs}  DIFFERENT")));
        }
    }

    fn conclusion(&self, style: &Style) -> String {
        if self.difference().is_some() {
            return style.bad(" DIFFERENT: see above.");
        }
        let sum = |direction: usize| -> u64 {
            let all = self.servers.iter().map(|server| &server.directions[direction]);
            all.map(Direction::valkey).sum()
        };
        let unattributed: u64 = self.servers.iter().map(ServerCounts::unattributed).sum();
        let rest = match unattributed {
            0 => "none unattributed".to_owned(),
            bytes => format!("{} of them unattributed", number(bytes)),
        };
        style.good(&format!(
            " EQUAL: {} bytes in and {} out, {rest}.",
            number(sum(0)),
            number(sum(1))
        ))
    }
}

impl ServerCounts {
    fn is_equal(&self) -> bool {
        self.directions
            .iter()
            .all(|bytes| bytes.stormglass() == bytes.valkey())
    }

    fn unattributed(&self) -> u64 {
        self.directions.iter().map(|bytes| bytes.unattributed).sum()
    }
}

impl Direction {
    fn stormglass(&self) -> u64 {
        self.attributed + self.unattributed
    }

    fn valkey(&self) -> u64 {
        self.info + self.reply
    }
}

impl TenantCounts {
    fn new(scrape: &Scrape, report: &Report) -> Self {
        let tenant = ("tenant", report.tenant.as_str());
        let bytes = |direction| {
            scrape.sum(
                "stormglass_tenant_bytes_total",
                &[tenant, ("direction", direction)],
            )
        };
        Self {
            name: report.tenant.clone(),
            client: [report.commands(), report.sent(), report.received()],
            stormglass: [
                scrape.sum("stormglass_tenant_commands_total", &[tenant]),
                bytes("in"),
                bytes("out"),
            ],
        }
    }

    fn is_equal(&self) -> bool {
        self.client == self.stormglass
    }
}

/// Attributed and unattributed bytes of one server in one direction.
fn counted(scrape: &Scrape, server: &str, direction: &str) -> (u64, u64) {
    let labels = [("server", server), ("direction", direction)];
    (
        scrape.sum("stormglass_prefix_bytes_total", &labels),
        scrape.sum("stormglass_unattributed_bytes_total", &labels),
    )
}

/// Numbers keep their distance even where they outgrow their column.
fn cell(text: &str) -> String {
    format!(" {text:>w$}", w = CELL - 1)
}

fn signed(ours: u64, theirs: u64) -> String {
    let sign = if ours > theirs {
        "+"
    } else if ours < theirs {
        "-"
    } else {
        ""
    };
    format!("{sign}{}", number(ours.abs_diff(theirs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direction(attributed: u64, unattributed: u64, info: u64, reply: u64) -> Direction {
        Direction {
            attributed,
            unattributed,
            info,
            reply,
        }
    }

    fn verdict(output: Direction, client: [u64; 3]) -> Verdict {
        Verdict {
            servers: vec![ServerCounts {
                label: "valkey-server:7001".into(),
                directions: [direction(100, 0, 100, 0), output],
            }],
            tenants: vec![TenantCounts {
                name: "checkout".into(),
                client,
                stormglass: [1, 2, 3],
            }],
        }
    }

    #[test]
    fn unattributed_bytes_and_the_reply_to_info_belong_to_the_sum() {
        let verdict = verdict(direction(40, 2, 30, 12), [1, 2, 3]);
        assert_eq!(verdict.difference(), None);
    }

    #[test]
    fn one_byte_more_or_less_is_a_difference() {
        for attributed in [39, 41] {
            let difference = verdict(direction(attributed, 2, 30, 12), [1, 2, 3]).difference();
            assert!(difference.unwrap().contains("valkey-server:7001"));
        }
        let difference = verdict(direction(40, 2, 30, 12), [1, 2, 4]).difference();
        assert!(difference.unwrap().contains("checkout"));
    }
}
