//! Incident: one server through a storm, one signal below the other, on one axis of time.

use super::{ONE_SERVER, TO_TENANT, bursts, of_server};
use crate::dashboard::{Dashboard, row};
use crate::panel::{Panel, curves, heatmap, states, top, top_rate};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "incident",
        title: "Stormglass / Incident",
        description: "One server through a storm: what came first, what followed, and who did it. Each 100 ms of it is in the agent's own record (stormglass incidents).",
        from: "now-30m",
        variables: ONE_SERVER.to_vec(),
        storms: "instance=\"$instance\",server=\"$server\"",
        rows: vec![row("What", what()), row("Signals", signals()), row("Who", who())],
    }
}

fn what() -> Vec<Panel> {
    vec![
        states(
            "Storms",
            "By kind. What to do about each: RUNBOOKS, or the agent's page /runbooks/KIND.",
        )
        .size(24, 7)
        .ask(
            of_server("max by (kind) (stormglass_storm_active{SERVER})"),
            "{{kind}}",
        ),
    ]
}

fn signals() -> Vec<Panel> {
    vec![
        curves("Connections opened and closed", "Per second. Opened far above closed: they came anew. Both high: churn.")
            .unit("cps")
            .ask(of_server("rate(stormglass_connections_opened_total{SERVER}[$__rate_interval])"), "opened")
            .ask(of_server("rate(stormglass_connections_closed_total{SERVER}[$__rate_interval])"), "closed")
            .ask(of_server("rate(stormglass_connections_closed_waiting_total{SERVER}[$__rate_interval])"), "closed while waiting")
            .ask(of_server("rate(stormglass_connections_rejected_total{SERVER}[$__rate_interval])"), "refused"),
        curves("Connections held", "And how many of them wait to be accepted, against how many may.")
            .dashed(&["may wait"])
            .ask(of_server("stormglass_connections{SERVER}"), "held")
            .ask(of_server("stormglass_accept_queue_length{SERVER}"), "wait")
            .ask(of_server("stormglass_accept_queue_limit{SERVER}"), "may wait"),
        bursts("New connections in 100 ms, by how often."),
        heatmap("Duration of commands", "From their arrival at the host to their reply: what clients suffer.")
            .unit("s")
            .ask(of_server("sum by (le) (increase(stormglass_tenant_request_duration_seconds_bucket{SERVER}[$__rate_interval]))"), "{{le}}"),
        curves("Commands and errors", "Per second. Commands that rise while replies are slow are repeated ones.")
            .unit("ops")
            .ask(of_server("sum(rate(stormglass_tenant_commands_total{SERVER}[$__rate_interval]))"), "commands")
            .ask(of_server("sum(rate(stormglass_tenant_errors_total{SERVER}[$__rate_interval])) or vector(0)"), "errors"),
        curves("Bytes", "Per second, in and out.")
            .unit("Bps")
            .ask(of_server("sum(rate(stormglass_tenant_bytes_total{SERVER,direction=\"in\"}[$__rate_interval]))"), "in")
            .ask(of_server("sum(rate(stormglass_tenant_bytes_total{SERVER,direction=\"out\"}[$__rate_interval]))"), "out"),
    ]
}

fn who() -> Vec<Panel> {
    vec![
        curves("Opened by workload", "Connections per second: the twelve with most of them in the time shown.")
            .unit("cps")
            .stacked()
            .ask(
                of_server(&top_rate("workload", "stormglass_workload_connections_opened_total{SERVER}")),
                "{{workload}}",
            ),
        curves("Opened by address", "Connections per second: the twelve with most of them in the time shown.")
            .unit("cps")
            .ask(
                of_server(&top_rate("client", "stormglass_client_connections_opened_total{SERVER}")),
                "{{client}}",
            ),
        curves("Bytes by tenant", "Per second in both directions: the twelve largest of the time shown.")
            .unit("Bps")
            .stacked()
            .link(TO_TENANT)
            .ask(
                of_server(&top_rate("tenant", "stormglass_tenant_bytes_total{SERVER}")),
                "{{tenant}}",
            ),
        curves("Commands by prefix", "Per second: the twelve with most of them in the time shown.")
            .unit("ops")
            .stacked()
            .ask(
                of_server(&top_rate("prefix", "stormglass_prefix_commands_total{SERVER}")),
                "{{prefix}}",
            ),
        curves("Errors by word", "Per second, by the first word of the reply.")
            .unit("ops")
            .stacked()
            .or_else("No error.")
            .ask(of_server("sum by (error) (rate(stormglass_tenant_errors_total{SERVER}[$__rate_interval]))"), "{{error}}"),
        curves("Duration at the 99th percentile, by tenant", "Who suffers: the twelve longest of the time shown.")
            .unit("s")
            .limits(0.05, 0.1)
            .link(TO_TENANT)
            .ask(
                of_server(&top(
                    "histogram_quantile(0.99, sum by (tenant, le) (rate(stormglass_tenant_request_duration_seconds_bucket{SERVER}[$__rate_interval])))",
                    "histogram_quantile(0.99, sum by (tenant, le) (increase(stormglass_tenant_request_duration_seconds_bucket{SERVER}[$__range] @ end())))",
                )),
                "{{tenant}}",
            ),
    ]
}
