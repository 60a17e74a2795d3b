//! The table of `stormglass servers`: as many columns as the terminal is wide, those that people ask for first before
//! others. Rows are never cut, and no cell but the list of tenants.

use serde_json::Value;
use terminal_size::{Width, terminal_size_of};

use stormglass::numbers;

/// Width where there is no terminal: a pipe or a file gets every column.
const UNLIMITED: usize = usize::MAX;
/// Space between two columns.
const GAP: usize = 2;
/// Digits of a container's id that tell it, as other tools show it.
const ID_DIGITS: usize = 12;
/// Rank up to which a column is shown even if no server has anything in it: a table should not change its face from one
/// second to the next.
const ALWAYS_SHOWN: u8 = 2;
/// Tenants that are named; the number of further ones follows.
const TENANTS: usize = 3;

/// One column: its name, how important it is (0 is never left out), and what it shows.
struct Column {
    name: &'static str,
    rank: u8,
    number: bool,
    cell: fn(&Value) -> String,
}

/// In the order in which they are shown.
const COLUMNS: &[Column] = &[
    column("SERVER", 0, false, |server| plain(&server["server"])),
    column("VERSION", 1, false, |server| plain(&server["version"])),
    column("PID", 5, true, |server| plain(&server["pid"])),
    column("UPTIME", 3, true, |server| duration(&server["uptime_seconds"])),
    column("CONNS", 0, true, |server| plain(&server["connections"])),
    column("MAX", 4, true, |server| plain(&server["clients_at_most"])),
    column("QUEUE", 9, true, queue),
    column("IN/S", 2, true, |server| bytes(&server["bytes_per_second"]["in"])),
    column("OUT/S", 2, true, |server| {
        bytes(&server["bytes_per_second"]["out"])
    }),
    column("CONTAINER", 6, false, container),
    column("POD", 7, false, pod),
    column("OWNER", 7, false, |server| owner(&server["pod"]["owner"])),
    column("TENANTS", 8, false, tenants),
    column("LISTENS ON", 10, false, |server| list(&server["listeners"])),
    column("CGROUP", 11, false, |server| plain(&server["cgroup"])),
];

const fn column(name: &'static str, rank: u8, number: bool, cell: fn(&Value) -> String) -> Column {
    Column {
        name,
        rank,
        number,
        cell,
    }
}

/// How wide the table may be: `COLUMNS`, else the terminal that it is written to, else unlimited.
pub(super) fn width() -> usize {
    let named = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok());
    let terminal = || terminal_size_of(std::io::stdout()).map(|(Width(width), _)| usize::from(width));
    named.or_else(terminal).unwrap_or(UNLIMITED)
}

/// The servers as a table that fits this width, if its first columns do.
pub(super) fn table(servers: &[Value], width: usize) -> String {
    let columns: Vec<(&Column, Vec<String>)> = COLUMNS
        .iter()
        .map(|column| (column, servers.iter().map(column.cell).collect()))
        // What no server has (a pod, without Kubernetes) needs no room.
        .filter(|(column, cells): &(&Column, Vec<String>)| {
            column.rank <= ALWAYS_SHOWN || cells.iter().any(|cell| cell != "-")
        })
        .collect();
    let columns = fitting(columns, width);
    let widths: Vec<usize> = columns.iter().map(width_of).collect();
    let names = columns.iter().map(|(column, _)| column.name.to_owned()).collect();
    let rows = (0..servers.len()).map(|row| columns.iter().map(|(_, cells)| cells[row].clone()).collect());
    let mut text = String::new();
    for row in std::iter::once::<Vec<String>>(names).chain(rows) {
        let mut line = String::new();
        for ((cell, width), (column, _)) in row.iter().zip(&widths).zip(&columns) {
            let padding = " ".repeat(width - cell.chars().count());
            let (before, after) = if column.number {
                (&*padding, "")
            } else {
                ("", &*padding)
            };
            line.extend([before, cell, after, "  "]);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The columns that fit, the most important ones first, those of one rank together. One too many ends it: what is left
/// out is always the least important.
fn fitting(columns: Vec<(&Column, Vec<String>)>, width: usize) -> Vec<(&Column, Vec<String>)> {
    let mut ranks: Vec<u8> = columns.iter().map(|(column, _)| column.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let needed = |most: u8| {
        let shown = columns.iter().filter(|(column, _)| column.rank <= most);
        shown
            .map(|column| width_of(column) + GAP)
            .sum::<usize>()
            .saturating_sub(GAP)
    };
    let most = ranks
        .into_iter()
        .take_while(|rank| *rank == 0 || needed(*rank) <= width)
        .last()
        .unwrap_or(0);
    columns
        .into_iter()
        .filter(|(column, _)| column.rank <= most)
        .collect()
}

fn width_of((column, cells): &(&Column, Vec<String>)) -> usize {
    let cells = cells.iter().map(|cell| cell.chars().count());
    cells.chain([column.name.len()]).max().unwrap_or(0)
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> String {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return "-".into();
    }
    items.iter().map(plain).collect::<Vec<_>>().join(",")
}

fn queue(server: &Value) -> String {
    let queue = &server["accept_queue"];
    if queue.is_null() {
        return "-".into();
    }
    format!("{}/{}", plain(&queue["length"]), plain(&queue["limit"]))
}

/// Namespace and name, where they are known; else the UID.
fn pod(server: &Value) -> String {
    let pod = &server["pod"];
    match (pod["namespace"].as_str(), pod["name"].as_str()) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => plain(&pod["uid"]),
    }
}

/// Kind and name.
fn owner(owner: &Value) -> String {
    match (owner["kind"].as_str(), owner["name"].as_str()) {
        (Some(kind), Some(name)) => format!("{kind}/{name}"),
        _ => "-".into(),
    }
}

/// Runtime and the first digits of the id.
fn container(server: &Value) -> String {
    let container = &server["container"];
    let Some(id) = container["id"].as_str() else {
        return "-".into();
    };
    let id = id.get(..ID_DIGITS).unwrap_or(id);
    match container["runtime"].as_str() {
        Some(runtime) => format!("{runtime}:{id}"),
        None => id.into(),
    }
}

/// Those with the most bytes.
fn tenants(server: &Value) -> String {
    let tenants = server["blast_radius"]["tenants"].as_array();
    let tenants = tenants.map(Vec::as_slice).unwrap_or_default();
    if tenants.is_empty() {
        return "-".into();
    }
    let mut named: Vec<String> = tenants
        .iter()
        .take(TENANTS)
        .map(|tenant| plain(&tenant["tenant"]))
        .collect();
    if tenants.len() > TENANTS {
        named.push(format!("+{}", tenants.len() - TENANTS));
    }
    named.join(",")
}

/// Seconds in the two units that suit them.
fn duration(seconds: &Value) -> String {
    let Some(seconds) = seconds.as_u64() else {
        return "-".into();
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match () {
        () if days > 0 => format!("{days}d{}h", hours % 24),
        () if hours > 0 => format!("{hours}h{}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m{}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

/// Bytes, if they are known.
fn bytes(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".into(), numbers::bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn servers() -> Vec<Value> {
        vec![
            json!({
                "server": "valkey-server:6379", "version": "8.0.1", "pid": 4711, "uptime_seconds": 93_784,
                "connections": 12_345, "clients_at_most": 20_000, "accept_queue": {"length": 0, "limit": 511},
                "bytes_per_second": {"in": 1_500_000.0, "out": 12.0, "over_seconds": 5.0},
                "container": {"id": "f45298cd514d1930c4fe3afc4412e59547f7e3148fddd22ca33cefce046eb830", "runtime": "containerd"},
                "pod": {"uid": "dd1bf9d1-241d-47f5-8e25-12de83135812", "qos": "BestEffort"},
                "blast_radius": {"tenants": [{"tenant": "a"}, {"tenant": "b"}, {"tenant": "c"}, {"tenant": "d"}, {"tenant": "e"}]},
                "listeners": ["0.0.0.0:6379", "[::]:6379"], "cgroup": "/kubepods/x",
            }),
            json!({
                "server": "redis-server:7000", "version": null, "pid": 1, "uptime_seconds": 59, "connections": 0,
                "clients_at_most": null, "accept_queue": {"length": 3, "limit": 511}, "bytes_per_second": null,
                "container": null, "pod": null, "blast_radius": {"tenants": []}, "listeners": ["127.0.0.1:7000"],
                "cgroup": "/",
            }),
        ]
    }

    #[test]
    fn eighty_columns_show_what_matters_most() {
        assert_eq!(
            table(&servers(), 80),
            "\
SERVER              VERSION   PID  UPTIME  CONNS    MAX    IN/S  OUT/S
valkey-server:6379  8.0.1    4711    1d2h  12345  20000  1.5 MB   12 B
redis-server:7000   -           1     59s      0      -       -      -
"
        );
    }

    #[test]
    fn a_hundred_and_sixty_columns_show_where_it_runs_and_for_whom() {
        assert_eq!(
            table(&servers(), 160),
            "\
SERVER              VERSION   PID  UPTIME  CONNS    MAX  QUEUE    IN/S  OUT/S  CONTAINER                POD                                   TENANTS
valkey-server:6379  8.0.1    4711    1d2h  12345  20000  0/511  1.5 MB   12 B  containerd:f45298cd514d  dd1bf9d1-241d-47f5-8e25-12de83135812  a,b,c,+2
redis-server:7000   -           1     59s      0      -  3/511       -      -  -                        -                                     -
"
        );
    }

    #[test]
    fn whatever_the_width_the_table_is_no_wider_unless_its_first_columns_are() {
        let columns = |width: usize| {
            let table = table(&servers(), width);
            let names = table
                .lines()
                .next()
                .unwrap()
                .split("  ")
                .filter(|name| !name.is_empty())
                .count();
            (
                table.lines().map(|line| line.chars().count()).max().unwrap(),
                names,
            )
        };
        let mut last = 0;
        for width in 0..300 {
            let (widest, names) = columns(width);
            assert!(widest <= width.max(25), "{width}: {widest}");
            assert!(names >= last, "{width}");
            last = names;
        }
        assert_eq!(columns(0).1, 2);
        // Owners of pods are not known here.
        assert_eq!(columns(UNLIMITED).1, COLUMNS.len() - 1);
    }

    #[test]
    fn a_pod_that_is_known_goes_by_its_name_and_its_owner() {
        let mut servers = servers();
        servers[0]["pod"]["namespace"] = "shop".into();
        servers[0]["pod"]["name"] = "cache-0".into();
        servers[0]["pod"]["owner"] = json!({"kind": "StatefulSet", "name": "cache"});
        let table = table(&servers, UNLIMITED);
        assert!(table.contains("shop/cache-0  StatefulSet/cache"), "{table}");
        assert!(!table.contains("dd1bf9d1"), "{table}");
    }

    #[test]
    fn a_column_that_says_nothing_of_any_server_is_left_out() {
        let table = table(&servers()[1..], UNLIMITED);
        assert!(!table.contains("POD") && !table.contains("CONTAINER"), "{table}");
        assert!(table.contains("VERSION") && table.contains("IN/S"), "{table}");
    }

    #[test]
    fn what_an_agent_does_not_know_is_a_dash() {
        let table = table(&[json!({"server": "x"})], UNLIMITED);
        assert_eq!(
            table,
            "SERVER  VERSION  CONNS  IN/S  OUT/S\nx       -            -     -      -\n"
        );
    }

    #[test]
    fn uptimes_have_two_units() {
        for (seconds, expected) in [(0, "0s"), (61, "1m1s"), (3_600, "1h0m"), (90_000, "1d1h")] {
            assert_eq!(duration(&json!(seconds)), expected);
        }
    }
}
