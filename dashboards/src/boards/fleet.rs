//! Fleet: how many, who is hot, which storms, what would happen if.

use super::{TO_INCIDENT, TO_SERVER};
use crate::dashboard::{CLUSTER, Dashboard, row};
use crate::panel::{Panel, bars, curves, figure, label, share, stat, states, table, top, top_gauge};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "fleet",
        title: "Stormglass / Fleet",
        description: "All servers of all clusters: how many there are, which storms go on, who is hot, and what would happen if some of them restarted.",
        from: "now-6h",
        variables: vec![CLUSTER],
        storms: "",
        rows: vec![
            row("Now", now()),
            row("Storms", storms()),
            row("Who is hot", hot()),
            row("Blast radius: who would come back, all at once", blast_radius()),
        ],
    }
}

/// In which `FLEET` stands for the chosen clusters.
fn fleet(expression: &str) -> String {
    expression.replace("FLEET", "cluster=~\"$cluster\"")
}

fn now() -> Vec<Panel> {
    vec![
        stat("Servers", "Valkey and Redis servers that agents watch.")
            .size(4, 4)
            .ask(fleet("count(stormglass_connections{FLEET})"), "servers"),
        stat("In a storm", "Servers at which a storm goes on now.")
            .size(4, 4)
            .limit(1.0)
            .ask(
                fleet("count(max by (instance, server) (stormglass_storm_active{FLEET}) == 1) or vector(0)"),
                "in a storm",
            ),
        stat("Connections", "Client connections that are held now.")
            .size(4, 4)
            .ask(fleet("sum(stormglass_connections{FLEET})"), "connections"),
        stat("Commands", "Commands per second, over five minutes.")
            .size(4, 4)
            .unit("ops")
            .ask(fleet("sum(server:stormglass_commands:rate5m{FLEET})"), "commands"),
        stat("Bytes", "Bytes per second in both directions, over five minutes.")
            .size(4, 4)
            .unit("Bps")
            .ask(fleet("sum(server:stormglass_bytes:rate5m{FLEET})"), "bytes"),
        stat("Agents", "Agents that answer, of those that did within a day.")
            .size(4, 4)
            .unit("percentunit")
            .at_least(1.0)
            .ask(
                fleet("count(stormglass_build_info{FLEET}) / count(last_over_time(stormglass_build_info{FLEET}[1d]))"),
                "answering",
            ),
    ]
}

fn storms() -> Vec<Panel> {
    vec![
        states("Storms by kind", "When a storm of the kind went on at any server. Kinds above cause those below.")
            .size(24, 8)
            .ask(fleet("max by (kind) (stormglass_storm_active{FLEET})"), "{{kind}}"),
        curves(
            "Servers with the same kind of storm",
            "Within five minutes. Several at once have one cause, outside of the servers: StormglassStormsCorrelated fires at three.",
        )
        .size(12, 8)
        .limit(3.0)
        .ask(
            fleet("count by (kind) (server:stormglass_storm:seen5m{FLEET})"),
            "{{kind}}",
        ),
        curves(
            "Share of each cluster's servers with a storm",
            "Within five minutes. Clusters that rise together react to the same event.",
        )
        .size(12, 8)
        .unit("percentunit")
        .up_to(1.0)
        .ask(
            fleet("cluster:stormglass_storm_servers:ratio5m{FLEET}"),
            "{{cluster}}",
        ),
        curves(
            "Clusters with the same kind of storm",
            "Within five minutes, of all clusters, whichever is chosen above. In two at once, independent clients react to the same event: StormglassStormsAcrossClusters fires.",
        )
        .size(12, 8)
        .limit(2.0)
        .or_else("No storm.")
        .ask("kind:stormglass_storm_clusters:count5m", "{{kind}}"),
        table(
            "Correlated events across clusters",
            "By kind, the most clusters, hosts and servers that had it within five minutes, in the time shown; of all clusters, whichever is chosen above.",
        )
        .size(12, 8)
        .or_else("No storm.")
        .ask("max_over_time(kind:stormglass_storm_clusters:count5m[$__range])", "")
        .ask("max_over_time(kind:stormglass_storm_instances:count5m[$__range])", "")
        .ask("max_over_time(kind:stormglass_storm_servers:count5m[$__range])", "")
        .columns(&[
            label("kind", "Kind"),
            figure("Value #A", "Clusters", "none"),
            figure("Value #B", "Hosts", "none"),
            figure("Value #C", "Servers", "none"),
        ]),
        table("Storms in the time shown", "Servers and kinds, by how many storms. A click leads to what happened.")
            .size(24, 9)
            .or_else("No storm.")
            .link(TO_INCIDENT)
            .ask(
                fleet("round(sum by (cluster, instance, server, kind) (increase(stormglass_storms_total{FLEET}[$__range]))) > 0"),
                "",
            )
            .ask(
                fleet("sum by (cluster, instance, server, kind) (stormglass_storm_active{FLEET}) and round(sum by (cluster, instance, server, kind) (increase(stormglass_storms_total{FLEET}[$__range]))) > 0"),
                "",
            )
            .columns(&[
                label("cluster", "Cluster"),
                label("server", "Server"),
                label("instance", "Host"),
                label("kind", "Kind"),
                figure("Value #A", "Storms", "none"),
                figure("Value #B", "Going on", "bool_yes_no"),
            ]),
    ]
}

fn hot() -> Vec<Panel> {
    vec![
        curves("Bytes", "Per second in both directions: the twelve largest of the time shown.")
            .size(24, 8)
            .unit("Bps")
            .link(TO_SERVER)
            .ask(
                top(
                    &fleet("sum without (direction) (server:stormglass_bytes:rate5m{FLEET})"),
                    &fleet("max_over_time(sum without (direction) (server:stormglass_bytes:rate5m{FLEET})[$__range:] @ end())"),
                ),
                "{{server}} {{instance}}",
            ),
        curves("Commands", "Per second: the twelve largest of the time shown.")
            .size(24, 8)
            .unit("ops")
            .link(TO_SERVER)
            .ask(
                top_gauge(&fleet("server:stormglass_commands:rate5m{FLEET}")),
                "{{server}} {{instance}}",
            ),
        curves("Connections opened", "Per second: the twelve largest of the time shown.")
            .size(24, 8)
            .unit("cps")
            .link(TO_SERVER)
            .ask(
                top_gauge(&fleet("server:stormglass_connections_opened:rate5m{FLEET}")),
                "{{server}} {{instance}}",
            ),
        curves(
            "Duration at the 99th percentile",
            "From a command's arrival at the host to its reply: the twelve longest of the time shown.",
        )
        .size(24, 8)
        .unit("s")
        .limits(0.05, 0.1)
        .link(TO_SERVER)
        .ask(
            top_gauge(&fleet("server:stormglass_request_duration_seconds:p99_rate5m{FLEET}")),
            "{{server}} {{instance}}",
        ),
        table("Fullest servers", "By clients of those that they take, with idle connections, accept queue and errors.")
            .size(24, 9)
            .link(TO_SERVER)
            .ask(fleet("topk(50, server:stormglass_connections:utilization{FLEET})"), "")
            .ask(fleet("stormglass_connections{FLEET} and topk(50, server:stormglass_connections:utilization{FLEET})"), "")
            .ask(fleet("server:stormglass_connections_idle:ratio{FLEET} and topk(50, server:stormglass_connections:utilization{FLEET})"), "")
            .ask(fleet("server:stormglass_accept_queue:utilization{FLEET} and topk(50, server:stormglass_connections:utilization{FLEET})"), "")
            .ask(fleet("server:stormglass_errors:ratio_rate5m{FLEET} and topk(50, server:stormglass_connections:utilization{FLEET})"), "")
            .columns(&[
                label("cluster", "Cluster"),
                label("server", "Server"),
                label("instance", "Host"),
                share("Value #A", "Of its clients"),
                figure("Value #B", "Connections", "short"),
                share("Value #C", "Idle"),
                share("Value #D", "Accept queue"),
                share("Value #E", "Errors"),
            ]),
    ]
}

fn blast_radius() -> Vec<Panel> {
    vec![
        bars(
            "Queues' worth of connections",
            "How many times over a server's connections would fill its accept queue if it restarted. Beyond some ten, most of them are dropped first.",
        )
        .size(24, 8)
        .limits(10.0, 20.0)
        .link(TO_SERVER)
        .ask(fleet("topk(12, server:stormglass_blast_radius:queues{FLEET})"), "{{server}} {{instance}}"),
        bars("If a host restarts", "Connections that come back to it.")
            .size(12, 8)
            .link(super::Link { board: "clients", title: "Clients", labels: &["instance"] })
            .ask(fleet("topk(12, instance:stormglass_connections:sum{FLEET})"), "{{instance}}"),
        bars("If a workload restarts", "Servers at which it opens its connections anew.")
            .size(12, 8)
            .link(super::Link { board: "clients", title: "Clients", labels: &["workload"] })
            .ask(fleet("topk(12, workload:stormglass_servers:count{FLEET})"), "{{workload}} {{cluster}}"),
        table(
            "If half of a cluster restarts",
            "Connections of each cluster, and of the half of its servers that has most.",
        )
        .size(12, 7)
        .ask(fleet("cluster:stormglass_connections:sum{FLEET}"), "")
        .ask(fleet("cluster:stormglass_worst_half_connections:sum{FLEET}"), "")
        .ask(fleet("cluster:stormglass_servers:count{FLEET}"), "")
        .columns(&[
            label("cluster", "Cluster"),
            figure("Value #A", "Connections", "short"),
            figure("Value #B", "Of its worst half", "short"),
            figure("Value #C", "Servers", "none"),
        ]),
        table("Versions", "Servers by what they run.")
            .size(12, 7)
            .ask(fleet("count by (process, version) (stormglass_server_info{FLEET})"), "")
            .columns(&[
                label("process", "Process"),
                label("version", "Version"),
                figure("Value", "Servers", "none"),
            ]),
    ]
}
