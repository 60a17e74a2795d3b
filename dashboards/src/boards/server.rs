//! Server: everything of one server.

use super::{ONE_SERVER, TO_TENANT, bursts, of_server};
use crate::dashboard::{Dashboard, row};
use crate::panel::{Panel, curves, figure, heatmap, label, share, stat, states, table, top_rate};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "server",
        title: "Stormglass / Server",
        description: "One server: connections, accepts, bytes against the link, how long commands take, and whose they are.",
        from: "now-1h",
        variables: ONE_SERVER.to_vec(),
        storms: "instance=\"$instance\",server=\"$server\"",
        rows: vec![
            row("Now", now()),
            row("Connections", connections()),
            row("Bytes", bytes()),
            row("Commands", commands()),
            row("Tenants", tenants()),
        ],
    }
}

fn now() -> Vec<Panel> {
    vec![
        stat("Connections", "Client connections that are held now.")
            .size(3, 4)
            .ask(of_server("stormglass_connections{SERVER}"), "connections"),
        stat(
            "Of its clients",
            "Share of the clients that it takes. At 100 % it refuses.",
        )
        .size(3, 4)
        .unit("percentunit")
        .limits(0.7, 0.85)
        .ask(
            of_server("server:stormglass_connections:utilization{SERVER}"),
            "of its clients",
        ),
        stat("Idle", "Share of connections without data for minutes.")
            .size(3, 4)
            .unit("percentunit")
            .ask(
                of_server("server:stormglass_connections_idle:ratio{SERVER}"),
                "idle",
            ),
        stat(
            "Accept queue",
            "Share of the connections that may wait to be accepted.",
        )
        .size(3, 4)
        .unit("percentunit")
        .limits(0.2, 0.5)
        .ask(
            of_server("server:stormglass_accept_queue:utilization{SERVER}"),
            "accept queue",
        ),
        stat(
            "Of the link",
            "Bytes per second in the larger direction, of what the link carries. Unknown: storms.bandwidth_saturation.bytes_per_second says it where the network card does not.",
        )
        .size(3, 4)
        .unit("percentunit")
        .limits(0.6, 0.8)
        .or_else("unknown")
        .ask(
            of_server(
                "max(server:stormglass_bytes:rate5m{SERVER}) / max(stormglass_link_bytes_per_second{SERVER})",
            ),
            "of the link",
        ),
        stat(
            "Duration, 99 %",
            "One command in a hundred takes longer, from its arrival at the host to its reply.",
        )
        .size(3, 4)
        .unit("s")
        .limits(0.05, 0.1)
        .ask(
            of_server("server:stormglass_request_duration_seconds:p99_rate5m{SERVER}"),
            "99 %",
        ),
        stat("Errors", "Share of commands that are answered by an error.")
            .size(3, 4)
            .unit("percentunit")
            .limits(0.01, 0.05)
            .ask(
                of_server("server:stormglass_errors:ratio_rate5m{SERVER}"),
                "errors",
            ),
        stat("Up", "Since its process began.")
            .size(3, 4)
            .unit("s")
            .ask(of_server("stormglass_server_uptime_seconds{SERVER}"), "up"),
        states("Storms", "When the agent found a storm, by kind.")
            .size(24, 7)
            .ask(
                of_server("max by (kind) (stormglass_storm_active{SERVER})"),
                "{{kind}}",
            ),
    ]
}

fn connections() -> Vec<Panel> {
    vec![
        curves("Held", "Connections now, those of them that are idle, and how many the server takes.")
            .dashed(&["limit"])
            .ask(of_server("stormglass_connections{SERVER}"), "connections")
            .ask(of_server("stormglass_connections_idle{SERVER}"), "idle")
            .ask(of_server("stormglass_server_clients_limit{SERVER}"), "limit"),
        curves("Opened and closed", "Per second.")
            .unit("cps")
            .ask(of_server("rate(stormglass_connections_opened_total{SERVER}[$__rate_interval])"), "opened")
            .ask(of_server("rate(stormglass_connections_closed_total{SERVER}[$__rate_interval])"), "closed"),
        curves(
            "Ended badly",
            "Per second: closed while a command waited (clients gave up), without any data command (for nothing), refused (maxclients).",
        )
        .unit("cps")
        .ask(of_server("rate(stormglass_connections_closed_waiting_total{SERVER}[$__rate_interval])"), "gave up waiting")
        .ask(of_server("rate(stormglass_connections_closed_without_command_total{SERVER}[$__rate_interval])"), "for nothing")
        .ask(of_server("rate(stormglass_connections_rejected_total{SERVER}[$__rate_interval])"), "refused"),
        curves("Accept queue", "Connections that wait to be accepted, how many may, and how many were dropped per second because more came.")
            .dashed(&["may wait"])
            .ask(of_server("stormglass_accept_queue_length{SERVER}"), "wait")
            .ask(of_server("stormglass_accept_queue_limit{SERVER}"), "may wait")
            .ask(of_server("rate(stormglass_accept_queue_drops_total{SERVER}[$__rate_interval])"), "dropped per second"),
        bursts("New connections in 100 ms, by how often: a burst between two scrapes is seen here and nowhere else."),
        heatmap("Lifetime", "How long the connections lived that ended.")
            .unit("s")
            .ask(of_server("sum by (le) (increase(stormglass_connection_lifetime_seconds_bucket{SERVER}[$__rate_interval]))"), "{{le}}"),
    ]
}

/// Bytes per second in one direction, attributed and not: all that the link carries for the server.
fn all_bytes(direction: &str) -> String {
    let question = "sum(rate(stormglass_unattributed_bytes_total{SERVER,DIRECTION}[$__rate_interval])) + (sum(rate(stormglass_tenant_bytes_total{SERVER,DIRECTION}[$__rate_interval])) or vector(0))";
    of_server(&question.replace("DIRECTION", &format!("direction=\"{direction}\"")))
}

fn bytes() -> Vec<Panel> {
    vec![
        curves(
            "Bytes and the link",
            "Per second, replies (out) and commands (in), those of nobody included, and what the link carries each way, if that is known.",
        )
        .unit("Bps")
        .dashed(&["link"])
        .ask(
            all_bytes("out"),
            "out",
        )
        .ask(all_bytes("in"), "in")
        .ask(of_server("max(stormglass_link_bytes_per_second{SERVER})"), "link"),
        curves(
            "Bytes of nobody",
            "Per second, by why they could not be attributed.",
        )
        .unit("Bps")
        .stacked()
        .ask(
            of_server(
                "sum by (reason) (rate(stormglass_unattributed_bytes_total{SERVER}[$__rate_interval]))",
            ),
            "{{reason}}",
        ),
        curves(
            "Tenants",
            "Bytes per second in both directions: the twelve largest of the time shown.",
        )
        .unit("Bps")
        .stacked()
        .link(TO_TENANT)
        .ask(
            of_server(&top_rate("tenant", "stormglass_tenant_bytes_total{SERVER}")),
            "{{tenant}}",
        ),
        curves(
            "Prefixes",
            "Bytes per second in both directions: the twelve largest of the time shown.",
        )
        .unit("Bps")
        .stacked()
        .ask(
            of_server(&top_rate("prefix", "stormglass_prefix_bytes_total{SERVER}")),
            "{{prefix}}",
        ),
    ]
}

fn commands() -> Vec<Panel> {
    vec![
        heatmap(
            "Duration",
            "Commands by how long they took, from their arrival at the host to their reply; the network is not part of it, waiting for the event loop is.",
        )
        .size(24, 9)
        .unit("s")
        .ask(of_server("sum by (le) (increase(stormglass_tenant_request_duration_seconds_bucket{SERVER}[$__rate_interval]))"), "{{le}}"),
        curves("Duration, percentiles", "Half, one in a hundred, and one in a thousand of the commands take longer.")
            .size(8, 8)
            .unit("s")
            .ask(of_server("histogram_quantile(0.5, sum by (le) (rate(stormglass_tenant_request_duration_seconds_bucket{SERVER}[$__rate_interval])))"), "50 %")
            .ask(of_server("histogram_quantile(0.99, sum by (le) (rate(stormglass_tenant_request_duration_seconds_bucket{SERVER}[$__rate_interval])))"), "99 %")
            .ask(of_server("histogram_quantile(0.999, sum by (le) (rate(stormglass_tenant_request_duration_seconds_bucket{SERVER}[$__rate_interval])))"), "99.9 %"),
        curves("Commands", "Per second: the twelve tenants with most of them.")
            .size(8, 8)
            .unit("ops")
            .stacked()
            .link(TO_TENANT)
            .ask(
                of_server(&top_rate("tenant", "stormglass_tenant_commands_total{SERVER}")),
                "{{tenant}}",
            ),
        curves("Errors", "Per second, by the first word of the reply.")
            .size(8, 8)
            .unit("ops")
            .stacked()
            .or_else("No error.")
            .ask(of_server("sum by (error) (rate(stormglass_tenant_errors_total{SERVER}[$__rate_interval]))"), "{{error}}"),
    ]
}

fn tenants() -> Vec<Panel> {
    vec![
        table("Tenants", "Over the last five minutes.")
            .size(24, 9)
            .link(TO_TENANT)
            .ask(of_server("sum by (tenant) (rate(stormglass_tenant_bytes_total{SERVER}[5m]))"), "")
            .ask(of_server("sum by (tenant) (rate(stormglass_tenant_commands_total{SERVER}[5m]))"), "")
            .ask(of_server("histogram_quantile(0.99, sum by (tenant, le) (rate(stormglass_tenant_request_duration_seconds_bucket{SERVER}[5m])))"), "")
            .ask(of_server("sum by (tenant) (rate(stormglass_tenant_errors_total{SERVER}[5m])) / (sum by (tenant) (rate(stormglass_tenant_commands_total{SERVER}[5m])) > 0)"), "")
            .ask(of_server("sum by (tenant) (rate(stormglass_tenant_reads_total{SERVER,result=\"hit\"}[5m])) / (sum by (tenant) (rate(stormglass_tenant_reads_total{SERVER}[5m])) > 0)"), "")
            .columns(&[
                label("tenant", "Tenant"),
                figure("Value #A", "Bytes", "Bps"),
                figure("Value #B", "Commands", "ops"),
                figure("Value #C", "Duration, 99 %", "s"),
                share("Value #D", "Errors"),
                share("Value #E", "Reads that hit"),
            ]),
    ]
}
