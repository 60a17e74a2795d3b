//! Servers and clients by their pods: by the word of a double of the API server, found through a service account as in a pod.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use stormglass_tests::agent::{Agent, command_at};
use stormglass_tests::cgroup;
use stormglass_tests::exposition::Scrape;
use stormglass_tests::kubernetes::{ApiServer, pod};
use stormglass_tests::resp::Connection;
use stormglass_tests::server::{Plan, Server};

const UID: &str = "dd1bf9d1-241d-47f5-8e25-12de83135812";
const CONTAINER: &str = "f45298cd514d1930c4fe3afc4412e59547f7e3148fddd22ca33cefce046eb830";

const WORKLOADS: &str = r#"
[clients]
survey_seconds = 1

[[workload]]
name = "carts"
kubernetes = "shop/Deployment/cart-*"
"#;

/// Clients: last byte of the address, namespace and Deployment of the pod that has it.
const PODS: &[(u8, &str, &str)] = &[
    (1, "shop", "cart-eu"),
    (2, "shop", "cart-us"),
    (3, "pay", "ledger"),
    (4, "pay", "ledger"),
];
/// Nobody's.
const STRANGER: u8 = 9;

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn servers_and_clients_go_by_their_pods_also_while_the_api_server_is_away() -> Result<()> {
    let api = ApiServer::start_tls(pods())?;
    let agent = Agent::start_in_pod(&api, WORKLOADS)?;
    let (_outer, cgroup) = cgroup::of_pod(UID, CONTAINER)?;
    let server = Plan::valkey()?.cgroup(&cgroup).start()?;
    let label = format!("shop/cache-0:{}", server.port());
    agent.sees(&label)?;
    let mut clients = Vec::new();
    for client in PODS.iter().map(|(client, ..)| *client).chain([STRANGER]) {
        clients.push(connect(&server, client)?);
    }
    knows_everybody(&agent, &label)?;

    api.set_away(true);
    let away = agent.scrape_until("attempts in vain", |scrape| {
        scrape.count(
            "stormglass_kubernetes_watch_restarts_total",
            &[("reason", "unreachable")],
        ) > 0
    })?;
    assert_eq!(away.value("stormglass_kubernetes_connected", &[]), Some(0.0));
    knows_everybody(&agent, &label)?;
    // A pod that comes meanwhile is known afterwards: the watch goes on where it was.
    api.apply(client_pod(STRANGER, "shop", "cart-asia"));
    api.set_away(false);
    agent.scrape_until("the API server again", |scrape| {
        scrape.value("stormglass_kubernetes_pods", &[]) == Some(PODS.len() as f64 + 2.0)
    })?;
    agent.scrape_until("the new pod's workload", |scrape| {
        instances(scrape, &label, "carts") == Some(3.0)
    })?;

    let lists = api.requests().into_iter().filter(|request| !request.is_watch());
    assert_eq!(lists.count(), 1, "everything was listed once");
    let table = command_at(Some(200), &["servers"], Some(agent.config()))?.stdout;
    for word in [&*label, "shop/cache-0", "StatefulSet/cache"] {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root and the lab: cargo xtask test"]
fn without_a_service_account_pods_are_not_asked_for_and_the_log_says_so_once() -> Result<()> {
    let agent = Agent::start()?;
    agent.rewrite(WORKLOADS)?;
    agent.scrape_until("the reload", |scrape| {
        scrape.count("stormglass_config_reloads_total", &[("result", "applied")]) == 1
    })?;
    assert!(!agent.metrics()?.contains("\nstormglass_kubernetes_"));
    assert_eq!(
        agent.log().matches("pods are not asked for").count(),
        1,
        "{}",
        agent.log()
    );
    Ok(())
}

fn pods() -> Vec<Value> {
    let clients = PODS
        .iter()
        .map(|(client, namespace, deployment)| client_pod(*client, namespace, deployment));
    let mut server = pod(UID, "shop", "cache", "here", "10.1.0.1");
    server["metadata"]["name"] = "cache-0".into();
    server["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "cache", "uid": "s", "controller": true}]);
    clients.chain([server]).collect()
}

fn client_pod(client: u8, namespace: &str, deployment: &str) -> Value {
    let address = address(client).to_string();
    pod(&format!("uid-{client}"), namespace, deployment, "there", &address)
}

const fn address(client: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 64, client)
}

fn connect(server: &Server, client: u8) -> Result<Connection> {
    let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.port());
    Connection::open_from(address(client), server)
}

/// Everything that is shown of the server's and the clients' pods.
fn knows_everybody(agent: &Agent, label: &str) -> Result<()> {
    let scrape = agent.scrape_until("the workloads of all clients", |scrape| {
        instances(scrape, label, "carts") == Some(2.0)
            && instances(scrape, label, "(unassigned)") == Some(3.0)
    })?;
    let labels = [
        ("server", label),
        ("namespace", "shop"),
        ("pod", "cache-0"),
        ("pod_owner", "StatefulSet/cache"),
        ("pod_uid", UID),
    ];
    assert_eq!(scrape.series("stormglass_server_info", &labels).count(), 1);

    let page = json(agent, "/api/v1/clients")?;
    for (client, namespace, deployment) in PODS {
        let shown = row(&page["clients"], label, "client", &address(*client).to_string())?;
        let pod = &shown["pod"];
        assert_eq!(
            (&pod["namespace"], &pod["owner"]),
            (
                &json!(namespace),
                &json!({"kind": "Deployment", "name": deployment})
            ),
            "{shown}"
        );
    }
    let stranger = address(STRANGER).to_string();
    assert_eq!(
        row(&page["clients"], label, "client", &stranger)?["pod"],
        Value::Null
    );

    let page = json(agent, "/api/v1/workloads")?;
    for (workload, kind, instances) in [
        ("carts", "rule", 2),
        ("pay/ledger", "owner", 2),
        (&*stranger, "address", 1),
    ] {
        let shown = row(&page["workloads"], label, "workload", workload)?;
        assert_eq!(
            (&shown["kind"], &shown["instances"]),
            (&json!(kind), &json!(instances))
        );
    }
    Ok(())
}

fn instances(scrape: &Scrape, label: &str, workload: &str) -> Option<f64> {
    scrape.value(
        "stormglass_workload_instances",
        &[("server", label), ("workload", workload)],
    )
}

fn json(agent: &Agent, path: &str) -> Result<Value> {
    Ok(serde_json::from_str(&agent.get(path)?.1)?)
}

/// The row of a list that is this server's and has this value under a key.
fn row(rows: &Value, label: &str, key: &str, value: &str) -> Result<Value> {
    let mut rows = rows.as_array().context("a list")?.iter();
    let found = rows.find(|row| row["server"] == *label && row[key] == *value);
    found.cloned().with_context(|| format!("no {key} {value}"))
}
