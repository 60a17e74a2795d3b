//! Agent: what Stormglass itself costs, loses and tells.

use crate::dashboard::{CLUSTER, Dashboard, INSTANCE, row};
use crate::panel::{Panel, bars, curves, figure, label, stat, table, top};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "agent",
        title: "Stormglass / Agent",
        description: "Stormglass itself: what it costs, what it could not count, how full its maps are, whom it told, and whether its configuration is in force.",
        from: "now-6h",
        variables: vec![CLUSTER, INSTANCE],
        storms: "",
        rows: vec![
            row("Now", now()),
            row("Cost", cost()),
            row("Losses", losses()),
            row("Telling", telling()),
            row("Surroundings", surroundings()),
        ],
    }
}

/// In which `AGENTS` stands for the labels of the chosen ones.
fn of_agents(expression: &str) -> String {
    expression.replace("AGENTS", "cluster=~\"$cluster\",instance=~\"$instance\"")
}

fn now() -> Vec<Panel> {
    vec![
        stat("Agents", "That answer.")
            .size(4, 4)
            .ask(of_agents("count(stormglass_build_info{AGENTS})"), "agents"),
        stat("Losses", "Events lost in the last hour, of all kinds.")
            .size(4, 4)
            .limit(1.0)
            .ask(of_agents("sum(increase(stormglass_dropped_total{AGENTS}[1h]))"), "losses"),
        stat("Fullest map", "Of the kernel's maps, on any host.")
            .size(4, 4)
            .unit("percentunit")
            .limits(0.7, 0.9)
            .ask(of_agents("max(stormglass_map_entries{AGENTS} / stormglass_map_capacity{AGENTS})"), "fullest"),
        stat("Bytes of nobody", "Share that could not be attributed, TLS left out.")
            .size(4, 4)
            .unit("percentunit")
            .limits(0.01, 0.05)
            .ask(of_agents("sum(rate(stormglass_unattributed_bytes_total{AGENTS,reason!=\"tls\"}[$__rate_interval])) / (sum(rate(stormglass_unattributed_bytes_total{AGENTS}[$__rate_interval])) + sum(rate(stormglass_prefix_bytes_total{AGENTS}[$__rate_interval])))"), "of nobody"),
        stat("Alerts that wait", "For receivers that do not take them.")
            .size(4, 4)
            .limits(1.0, 10.0)
            .or_else("no receiver")
            .ask(of_agents("sum(stormglass_alerts_queued{AGENTS})"), "waiting"),
        stat("Configurations refused", "Agents that go on with an older file.")
            .size(4, 4)
            .limit(1.0)
            .ask(of_agents("count(stormglass_config_last_reload_successful{AGENTS} == 0) or vector(0)"), "refused"),
    ]
}

/// The twelve chosen agents with the largest value of their processes, by host. Whatever Prometheus scrapes may have such a series, so
/// those count that have Stormglass' own beside them.
fn top_processes(now: &str, ranking: &str) -> String {
    let of_hosts = |series: &str, agents: &str| {
        of_agents(&format!(
            "max by (instance) ({series} and on (cluster, instance, job) {agents})"
        ))
    };
    top(
        &of_hosts(now, "stormglass_build_info{AGENTS}"),
        &of_hosts(
            ranking,
            "last_over_time(stormglass_build_info{AGENTS}[$__range] @ end())",
        ),
    )
}

fn cost() -> Vec<Panel> {
    vec![
        curves(
            "CPU",
            "Share of one core that the agent's process takes, by host: the twelve with most of it. Its kernel programs run on the time of whoever sends: below.",
        )
        .unit("percentunit")
        .ask(
            top_processes(
                "rate(process_cpu_seconds_total{AGENTS}[$__rate_interval])",
                "increase(process_cpu_seconds_total{AGENTS}[$__range] @ end())",
            ),
            "{{instance}}",
        ),
        curves(
            "Memory",
            "That the agent's process holds, by host: the twelve with most of it. The kernel's maps come on top.",
        )
        .unit("bytes")
        .ask(
            top_processes(
                "process_resident_memory_bytes{AGENTS}",
                "max_over_time(process_resident_memory_bytes{AGENTS}[$__range] @ end())",
            ),
            "{{instance}}",
        ),
        curves(
            "Time in kernel programs",
            "Seconds per second, that is cores, by program; the sum over hosts. Measured while kernel.bpf_stats_enabled is 1.",
        )
        .size(8, 8)
        .unit("percentunit")
        .stacked()
        .ask(of_agents("sum by (program) (rate(stormglass_bpf_program_run_seconds_total{AGENTS}[$__rate_interval]))"), "{{program}}"),
        curves("Time of one run", "On average, by program. Measured while kernel.bpf_stats_enabled is 1.")
            .size(8, 8)
            .unit("s")
            .or_else("kernel.bpf_stats_enabled is 0.")
            .ask(of_agents("sum by (program) (rate(stormglass_bpf_program_run_seconds_total{AGENTS}[$__rate_interval])) / (sum by (program) (rate(stormglass_bpf_program_runs_total{AGENTS}[$__rate_interval])) > 0)"), "{{program}}"),
        curves("Runs", "Per second, by program. Measured while kernel.bpf_stats_enabled is 1.")
            .size(8, 8)
            .unit("ops")
            .stacked()
            .ask(of_agents("sum by (program) (rate(stormglass_bpf_program_runs_total{AGENTS}[$__rate_interval]))"), "{{program}}"),
        curves("Age of the last survey", "Of the connections, by host, beside the interval that is aimed at. It grows if surveys fail.")
            .unit("s")
            .dashed(&["interval"])
            .ask(
                top(
                    &of_agents("max by (instance) (stormglass_survey_age_seconds{AGENTS})"),
                    &of_agents("max by (instance) (max_over_time(stormglass_survey_age_seconds{AGENTS}[$__range] @ end()))"),
                ),
                "{{instance}}",
            )
            .ask(of_agents("max(stormglass_survey_interval_seconds{AGENTS})"), "interval"),
        curves(
            "Incidents on disk",
            "Bytes of the recorded incidents, by host: the twelve largest.",
        )
        .unit("bytes")
        .ask(
            top(
                &of_agents("max by (instance) (stormglass_incidents_bytes{AGENTS})"),
                &of_agents(
                    "max by (instance) (max_over_time(stormglass_incidents_bytes{AGENTS}[$__range] @ end()))",
                ),
            ),
            "{{instance}}",
        ),
        bars("Maps", "How full each kernel map is, on the host where it is fullest.")
            .size(24, 9)
            .unit("percentunit")
            .up_to(1.0)
            .limits(0.7, 0.9)
            .ask(of_agents("sort_desc(max by (map) (stormglass_map_entries{AGENTS} / stormglass_map_capacity{AGENTS}))"), "{{map}}"),
    ]
}

fn losses() -> Vec<Panel> {
    vec![
        curves(
            "Losses",
            "Per second, by reason; TROUBLESHOOTING has each of them.",
        )
        .unit("ops")
        .stacked()
        .ask(
            of_agents("sum by (reason) (rate(stormglass_dropped_total{AGENTS}[$__rate_interval]))"),
            "{{reason}}",
        ),
        curves("Bytes of nobody", "Per second, by reason.")
            .unit("Bps")
            .stacked()
            .ask(
                of_agents(
                    "sum by (reason) (rate(stormglass_unattributed_bytes_total{AGENTS}[$__rate_interval]))",
                ),
                "{{reason}}",
            ),
    ]
}

fn telling() -> Vec<Panel> {
    vec![
        curves("Alerts sent", "Requests per second that were taken, by receiver.")
            .unit("reqps")
            .or_else("No receiver.")
            .ask(
                of_agents(
                    "sum by (sink, receiver) (rate(stormglass_alerts_sent_total{AGENTS}[$__rate_interval]))",
                ),
                "{{sink}} {{receiver}}",
            ),
        curves(
            "Alerts that failed",
            "Attempts per second, by receiver and reason. They are repeated for a day.",
        )
        .unit("reqps")
        .or_else("No receiver.")
        .ask(
            of_agents(
                "sum by (receiver, reason) (rate(stormglass_alerts_failed_total{AGENTS}[$__rate_interval]))",
            ),
            "{{receiver}} {{reason}}",
        ),
    ]
}

fn surroundings() -> Vec<Panel> {
    vec![
        table("Versions", "Agents by version and commit: one row, unless an upgrade goes on.")
            .size(8, 7)
            .ask(of_agents("count by (version, commit) (stormglass_build_info{AGENTS})"), "")
            .columns(&[
                label("version", "Version"),
                label("commit", "Commit"),
                figure("Value", "Agents", "none"),
            ]),
        table("Configuration", "When the file in force was read, and whether a newer one was refused.")
            .size(8, 7)
            .ask(of_agents("1000 * stormglass_config_last_reload_success_timestamp_seconds{AGENTS}"), "")
            .ask(of_agents("stormglass_config_last_reload_successful{AGENTS}"), "")
            .ask(of_agents("max by (cluster, instance, job) (stormglass_config_restart_required{AGENTS})"), "")
            .columns(&[
                label("instance", "Host"),
                figure("Value #A", "Read", "dateTimeFromNow"),
                figure("Value #B", "In force", "bool_yes_no"),
                figure("Value #C", "Waits for a restart", "bool_yes_no"),
            ]),
        curves("Kubernetes", "Watches of pods that had to begin again, per second by reason, and pods that are known.")
            .size(8, 7)
            .or_else("Not asked.")
            .ask(of_agents("sum by (reason) (rate(stormglass_kubernetes_watch_restarts_total{AGENTS}[$__rate_interval]))"), "{{reason}}")
            .ask(of_agents("sum(stormglass_kubernetes_pods{AGENTS})"), "pods known"),
    ]
}
