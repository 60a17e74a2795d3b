//! Tenant: everything of one tenant, on all of its servers.

use super::{TO_SERVER, of_servers};
use crate::dashboard::{CLUSTER, Dashboard, INSTANCE, Values, Variable, row};
use crate::panel::{Panel, curves, figure, heatmap, label, share, stat, table, top, top_rate};

pub(super) fn dashboard() -> Dashboard {
    let tenant = Variable {
        name: "tenant",
        label: "Tenant",
        values: Values::One("label_values(stormglass_tenant_commands_total{cluster=~\"$cluster\"}, tenant)"),
    };
    let server = Variable {
        name: "server",
        label: "Server",
        values: Values::Several(
            "label_values(stormglass_tenant_commands_total{instance=~\"$instance\",tenant=\"$tenant\"}, server)",
        ),
    };
    Dashboard {
        name: "tenant",
        title: "Stormglass / Tenant",
        description: "One tenant on all of its servers: how much, how fast, how large, what fails, and who else is at its keys.",
        from: "now-3h",
        variables: vec![CLUSTER, tenant, INSTANCE, server],
        storms: "cluster=~\"$cluster\",instance=~\"$instance\",server=~\"$server\"",
        rows: vec![
            row("Now", now()),
            row("Traffic", traffic()),
            row("How long", durations()),
            row("How large", sizes()),
            row("Whose connections", clients()),
        ],
    }
}

/// In which `TENANT` stands for the labels of the tenant at its servers.
fn of_tenant(expression: &str) -> String {
    of_servers(&expression.replace("TENANT", "SERVERS,tenant=\"$tenant\""))
}

fn now() -> Vec<Panel> {
    vec![
        stat("Owner", "Who answers for it, by the agents' configuration.")
            .size(4, 4)
            .of_names()
            .or_else("nobody named")
            .ask("max by (owner) (stormglass_tenant_info{cluster=~\"$cluster\",tenant=\"$tenant\"})", "{{owner}}"),
        stat("Servers", "Servers that it has traffic on.")
            .size(4, 4)
            .ask(of_tenant("count(stormglass_tenant_commands_total{TENANT})"), "servers"),
        stat("Bytes", "Per second in both directions.")
            .size(4, 4)
            .unit("Bps")
            .ask(of_tenant("sum(rate(stormglass_tenant_bytes_total{TENANT}[$__rate_interval]))"), "bytes"),
        stat("Commands", "Per second.")
            .size(4, 4)
            .unit("ops")
            .ask(of_tenant("sum(rate(stormglass_tenant_commands_total{TENANT}[$__rate_interval]))"), "commands"),
        stat("Errors", "Share of commands that are answered by an error.")
            .size(4, 4)
            .unit("percentunit")
            .limits(0.01, 0.05)
            .ask(of_tenant("(sum(rate(stormglass_tenant_errors_total{TENANT}[$__rate_interval])) or vector(0)) / sum(rate(stormglass_tenant_commands_total{TENANT}[$__rate_interval]))"), "errors"),
        stat("Duration, 99 %", "One command in a hundred takes longer.")
            .size(4, 4)
            .unit("s")
            .limits(0.05, 0.1)
            .ask(of_tenant("histogram_quantile(0.99, sum by (le) (rate(stormglass_tenant_request_duration_seconds_bucket{TENANT}[$__rate_interval])))"), "99 %"),
    ]
}

fn traffic() -> Vec<Panel> {
    vec![
        curves("Bytes", "Per second: commands (in) and replies (out).")
            .size(8, 8)
            .unit("Bps")
            .stacked()
            .ask(of_tenant("sum by (direction) (rate(stormglass_tenant_bytes_total{TENANT}[$__rate_interval]))"), "{{direction}}"),
        curves("Errors", "Per second, by the first word of the reply.")
            .size(8, 8)
            .unit("ops")
            .stacked()
            .or_else("No error.")
            .ask(of_tenant("sum by (error) (rate(stormglass_tenant_errors_total{TENANT}[$__rate_interval]))"), "{{error}}"),
        curves("Reads that hit", "Share of the values that were read and found.")
            .size(8, 8)
            .unit("percentunit")
            .up_to(1.0)
            .ask(
                of_tenant("sum(rate(stormglass_tenant_reads_total{TENANT,result=\"hit\"}[$__rate_interval])) / (sum(rate(stormglass_tenant_reads_total{TENANT}[$__rate_interval])) > 0)"),
                "hit",
            ),
        curves("Bytes by server", "Per second in both directions: the twelve servers with most of it.")
            .size(24, 8)
            .unit("Bps")
            .stacked()
            .link(TO_SERVER)
            .ask(
                of_tenant(&top_rate("server, instance", "stormglass_tenant_bytes_total{TENANT}")),
                "{{server}} {{instance}}",
            ),
        curves("Share of its servers' bytes", "What it takes of each server, and so from others: the twelve servers with the largest share in the time shown.")
            .size(24, 8)
            .unit("percentunit")
            .up_to(1.0)
            .link(TO_SERVER)
            .ask(
                of_tenant(&top(
                    "sum by (server, instance) (rate(stormglass_tenant_bytes_total{TENANT}[$__rate_interval])) / (sum by (server, instance) (rate(stormglass_tenant_bytes_total{SERVERS}[$__rate_interval])) > 0)",
                    "sum by (server, instance) (increase(stormglass_tenant_bytes_total{TENANT}[$__range] @ end())) / (sum by (server, instance) (increase(stormglass_tenant_bytes_total{SERVERS}[$__range] @ end())) > 0)",
                )),
                "{{server}} {{instance}}",
            ),
        curves("Commands", "Per second: the twelve servers with most of them.")
            .size(24, 8)
            .unit("ops")
            .stacked()
            .link(TO_SERVER)
            .ask(
                of_tenant(&top_rate("server, instance", "stormglass_tenant_commands_total{TENANT}")),
                "{{server}} {{instance}}",
            ),
    ]
}

fn durations() -> Vec<Panel> {
    vec![
        heatmap("Duration", "Commands by how long they took, from their arrival at the host to their reply.")
            .size(16, 9)
            .unit("s")
            .ask(of_tenant("sum by (le) (increase(stormglass_tenant_request_duration_seconds_bucket{TENANT}[$__rate_interval]))"), "{{le}}"),
        curves("Duration, percentiles", "Half, one in a hundred, and one in a thousand of the commands take longer.")
            .size(8, 9)
            .unit("s")
            .ask(of_tenant("histogram_quantile(0.5, sum by (le) (rate(stormglass_tenant_request_duration_seconds_bucket{TENANT}[$__rate_interval])))"), "50 %")
            .ask(of_tenant("histogram_quantile(0.99, sum by (le) (rate(stormglass_tenant_request_duration_seconds_bucket{TENANT}[$__rate_interval])))"), "99 %")
            .ask(of_tenant("histogram_quantile(0.999, sum by (le) (rate(stormglass_tenant_request_duration_seconds_bucket{TENANT}[$__rate_interval])))"), "99.9 %"),
    ]
}

fn sizes() -> Vec<Panel> {
    vec![
        heatmap("Commands' bytes", "Commands by their size, headers included.")
            .unit("bytes")
            .ask(of_tenant("sum by (le) (increase(stormglass_tenant_request_bytes_bucket{TENANT}[$__rate_interval]))"), "{{le}}"),
        heatmap("Replies' bytes", "Replies by their size, headers included.")
            .unit("bytes")
            .ask(of_tenant("sum by (le) (increase(stormglass_tenant_reply_bytes_bucket{TENANT}[$__rate_interval]))"), "{{le}}"),
    ]
}

fn clients() -> Vec<Panel> {
    vec![
        table(
            "Workloads at its servers",
            "Clients of the servers that the tenant is on, its own among them: the kernel counts bytes by key and connections by client, not both at once. Instances at the server where they are most: the same ones use many. Whose each connection is: stormglass connections, on the host.",
        )
        .size(14, 8)
        .ask(of_tenant("sum by (workload) (stormglass_workload_connections{SERVERS} and on (instance, server) stormglass_tenant_commands_total{TENANT})"), "")
        .ask(of_tenant("max by (workload) (stormglass_workload_instances{SERVERS} and on (instance, server) stormglass_tenant_commands_total{TENANT})"), "")
        .ask(of_tenant("sum by (workload) (stormglass_workload_connections_idle{SERVERS} and on (instance, server) stormglass_tenant_commands_total{TENANT}) / (sum by (workload) (stormglass_workload_connections{SERVERS} and on (instance, server) stormglass_tenant_commands_total{TENANT}) > 0)"), "")
        .columns(&[
            label("workload", "Workload"),
            figure("Value #A", "Connections", "short"),
            figure("Value #B", "Instances", "short"),
            share("Value #C", "Idle"),
        ]),
        curves(
            "On connections of other tenants",
            "Commands per second below prefixes of this tenant on connections that are another's by user, name or address.",
        )
        .size(10, 8)
        .unit("ops")
        .or_else("None: everybody uses their own keys.")
        .ask(of_tenant("sum by (connection_tenant) (rate(stormglass_tenant_disagreement_commands_total{TENANT}[$__rate_interval]))"), "{{connection_tenant}}"),
    ]
}
