//! The six dashboards.

mod agent;
mod clients;
mod fleet;
mod incident;
mod server;
mod tenant;

use crate::dashboard::{CLUSTER, Dashboard, INSTANCE, Values, Variable};
use crate::panel::{Link, Panel, heatmap};

/// All of them, in the order in which people go through them.
#[must_use]
pub fn all() -> [Dashboard; 6] {
    [
        fleet::dashboard(),
        server::dashboard(),
        tenant::dashboard(),
        clients::dashboard(),
        incident::dashboard(),
        agent::dashboard(),
    ]
}

/// To the dashboard of one server.
const TO_SERVER: Link = Link {
    board: "server",
    title: "Server",
    labels: &["server", "instance"],
};

/// To the dashboard of one tenant.
const TO_TENANT: Link = Link {
    board: "tenant",
    title: "Tenant",
    labels: &["tenant"],
};

/// To what happened at one server.
const TO_INCIDENT: Link = Link {
    board: "incident",
    title: "Incident",
    labels: &["server", "instance"],
};

/// One host, and one server of it: the name of a server is its own only there.
const ONE_SERVER: [Variable; 3] = [
    CLUSTER,
    Variable {
        name: "instance",
        label: "Host",
        values: Values::One("label_values(stormglass_connections{cluster=~\"$cluster\"}, instance)"),
    },
    Variable {
        name: "server",
        label: "Server",
        values: Values::One("label_values(stormglass_connections{instance=\"$instance\"}, server)"),
    },
];

/// Servers, any number of them.
const SERVERS: [Variable; 3] = [
    CLUSTER,
    INSTANCE,
    Variable {
        name: "server",
        label: "Server",
        values: Values::Several("label_values(stormglass_connections{instance=~\"$instance\"}, server)"),
    },
];

/// A question in which `SERVER` stands for the labels of the one server.
fn of_server(expression: &str) -> String {
    expression.replace("SERVER", "instance=\"$instance\",server=\"$server\"")
}

/// A question in which `SERVERS` stands for the labels of the chosen ones.
fn of_servers(expression: &str) -> String {
    expression.replace(
        "SERVERS",
        "cluster=~\"$cluster\",instance=~\"$instance\",server=~\"$server\"",
    )
}

/// Accept bursts of the one server.
fn bursts(description: &'static str) -> Panel {
    heatmap("Bursts", description).ask(
        of_server(
            "sum by (le) (increase(stormglass_accept_burst_connections_bucket{SERVER}[$__rate_interval]))",
        ),
        "{{le}}",
    )
}
