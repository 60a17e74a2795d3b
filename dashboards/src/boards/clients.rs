//! Clients: n instances times p connections, how many of them are used, and by which library.

use super::{SERVERS, of_servers};
use crate::dashboard::{Dashboard, Values, Variable, row};
use crate::panel::{Panel, bars, curves, figure, label, share, stat, table, top, top_rate};

pub(super) fn dashboard() -> Dashboard {
    let workload = Variable {
        name: "workload",
        label: "Workload",
        values: Values::Several(
            "label_values(stormglass_workload_connections{server=~\"$server\"}, workload)",
        ),
    };
    Dashboard {
        name: "clients",
        title: "Stormglass / Clients",
        description: "Who is connected: instances times connections per instance, how many of them are idle, who opens, by which library and user.",
        from: "now-6h",
        variables: SERVERS.into_iter().chain([workload]).collect(),
        storms: "cluster=~\"$cluster\",instance=~\"$instance\",server=~\"$server\"",
        rows: vec![
            row("Now", now()),
            row("Workloads", workloads()),
            row("Libraries and users", libraries()),
            row("Addresses", addresses()),
        ],
    }
}

/// In which `WORKLOADS` stands for the labels of the chosen workloads at the chosen servers.
fn of_workloads(expression: &str) -> String {
    of_servers(&expression.replace("WORKLOADS", "SERVERS,workload=~\"$workload\""))
}

fn now() -> Vec<Panel> {
    vec![
        stat("Connections", "That the chosen workloads hold at the chosen servers.")
            .size(6, 4)
            .ask(of_workloads("sum(stormglass_workload_connections{WORKLOADS})"), "connections"),
        stat("Idle", "Share of them without data for minutes, by the last survey.")
            .size(6, 4)
            .unit("percentunit")
            .worth_a_look(0.8)
            .ask(of_workloads("sum(stormglass_workload_connections_idle{WORKLOADS}) / sum(stormglass_workload_connections{WORKLOADS})"), "idle"),
        stat("Kernel memory", "Of the servers' ends of these connections.")
            .size(6, 4)
            .unit("bytes")
            .ask(of_workloads("sum(stormglass_workload_socket_memory_bytes{WORKLOADS})"), "memory"),
        stat("Opened", "Connections per second.")
            .size(6, 4)
            .unit("cps")
            .ask(of_workloads("sum(rate(stormglass_workload_connections_opened_total{WORKLOADS}[$__rate_interval]))"), "opened"),
    ]
}

fn workloads() -> Vec<Panel> {
    vec![
        table(
            "n instances times p connections",
            "Per instance: connections to each server, on average. Idle ones are the pools' surplus; all of them come back at once after a restart.",
        )
        .size(24, 9)
        .ask(of_workloads("sum by (workload) (stormglass_workload_connections{WORKLOADS})"), "")
        .ask(of_workloads("max by (workload) (stormglass_workload_instances{WORKLOADS})"), "")
        .ask(of_workloads("sum by (workload) (stormglass_workload_connections{WORKLOADS}) / (sum by (workload) (stormglass_workload_instances{WORKLOADS}) > 0)"), "")
        .ask(of_workloads("clamp_max(sum by (workload) (stormglass_workload_connections_idle{WORKLOADS}) / (sum by (workload) (stormglass_workload_connections{WORKLOADS}) > 0), 1)"), "")
        .ask(of_workloads("sum by (workload) (stormglass_workload_socket_memory_bytes{WORKLOADS})"), "")
        .ask(of_workloads("sum by (workload) (rate(stormglass_workload_connections_opened_total{WORKLOADS}[5m]))"), "")
        .ask(of_workloads("count by (workload) (stormglass_workload_connections{WORKLOADS} > 0)"), "")
        .columns(&[
            label("workload", "Workload"),
            figure("Value #A", "Connections", "short"),
            figure("Value #B", "Instances (n)", "none"),
            figure("Value #C", "Per instance (p)", "short"),
            share("Value #D", "Idle"),
            figure("Value #E", "Kernel memory", "bytes"),
            figure("Value #F", "Opened", "cps"),
            figure("Value #G", "Servers", "none"),
        ]),
        curves("Connections", "By workload: the twelve with most of them.")
            .stacked()
            .ask(
                top(
                    &of_workloads("sum by (workload) (stormglass_workload_connections{WORKLOADS})"),
                    &of_workloads("sum by (workload) (max_over_time(stormglass_workload_connections{WORKLOADS}[$__range] @ end()))"),
                ),
                "{{workload}}",
            ),
        curves("Opened", "Connections per second, by workload: the twelve with most of them.")
            .unit("cps")
            .ask(
                of_workloads(&top_rate("workload", "stormglass_workload_connections_opened_total{WORKLOADS}")),
                "{{workload}}",
            ),
        curves("Instances", "Addresses with a connection, by workload, at the server where they are most: autoscaling, and rollouts.")
            .ask(
                top(
                    &of_workloads("max by (workload) (stormglass_workload_instances{WORKLOADS})"),
                    &of_workloads("max by (workload) (max_over_time(stormglass_workload_instances{WORKLOADS}[$__range] @ end()))"),
                ),
                "{{workload}}",
            ),
        curves("Idle", "Share of a workload's connections without data for minutes: the twelve with most connections.")
            .unit("percentunit")
            .up_to(1.0)
            .ask(
                top(
                    &of_workloads("clamp_max(sum by (workload) (stormglass_workload_connections_idle{WORKLOADS}) / (sum by (workload) (stormglass_workload_connections{WORKLOADS}) > 0), 1)"),
                    &of_workloads("sum by (workload) (max_over_time(stormglass_workload_connections{WORKLOADS}[$__range] @ end()))"),
                ),
                "{{workload}}",
            ),
    ]
}

fn libraries() -> Vec<Panel> {
    vec![
        table(
            "Client libraries",
            "As clients name themselves (CLIENT SETINFO). Who still runs an old one: stormglass libraries, on the host.",
        )
        .size(12, 9)
        .ask(
            of_servers("sum by (library, version) (stormglass_library_connections{SERVERS})"),
            "",
        )
        .ask(
            of_servers("count by (library, version) (stormglass_library_connections{SERVERS} > 0)"),
            "",
        )
        .ask(
            of_servers("sum by (library, version) (rate(stormglass_library_connections_opened_total{SERVERS}[5m]))"),
            "",
        )
        .columns(&[
            label("library", "Library"),
            label("version", "Version"),
            figure("Value #A", "Connections", "short"),
            figure("Value #B", "Servers", "none"),
            figure("Value #C", "Opened", "cps"),
        ]),
        bars("ACL users", "Connections: the twelve users with most of them.")
            .size(12, 9)
            .ask(
                of_servers("topk(12, sum by (user) (stormglass_user_connections{SERVERS}))"),
                "{{user}}",
            ),
    ]
}

fn addresses() -> Vec<Panel> {
    vec![
        bars("Connections by address", "The twelve addresses with most of them.")
            .size(12, 9)
            .ask(of_servers("topk(12, sum by (client) (stormglass_client_connections{SERVERS}))"), "{{client}}"),
        bars("Opened by address", "Connections opened in the time shown: the twelve addresses with most of them.")
            .size(12, 9)
            .ask(of_servers("topk(12, sum by (client) (increase(stormglass_client_connections_opened_total{SERVERS}[$__range])))"), "{{client}}"),
    ]
}
