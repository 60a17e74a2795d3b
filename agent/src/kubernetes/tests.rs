//! The watch against a double of the API server: each way in which it can go wrong, and that it goes on afterwards.

use std::{net::IpAddr, time::Duration};

use stormglass_tests::{
    kubernetes::{ApiServer, Request, pod},
    poll,
};

use super::{Fault, Kubernetes};
use crate::config::{self, KubernetesSwitch};

/// Longer than the pauses after a failure.
const SOON: Duration = Duration::from_secs(20);

fn start(server: &ApiServer) -> Kubernetes {
    start_with(server, |_| {})
}

fn start_with(server: &ApiServer, change: impl FnOnce(&mut config::Kubernetes)) -> Kubernetes {
    let kubernetes = start_without_waiting(server, change);
    kubernetes.wait(SOON);
    kubernetes
}

fn start_without_waiting(server: &ApiServer, change: impl FnOnce(&mut config::Kubernetes)) -> Kubernetes {
    let mut settings = config::Kubernetes {
        enabled: KubernetesSwitch::Auto,
        kubeconfig: Some(server.kubeconfig().display().to_string()),
        node: Some("here".into()),
        ..config::Kubernetes::default()
    };
    change(&mut settings);
    Kubernetes::start(&settings)
}

fn owner(kubernetes: &Kubernetes, address: &str) -> Option<String> {
    let address: IpAddr = address.parse().expect("an address");
    let pods = kubernetes.of_addresses([address].into_iter());
    pods.get(&address)
        .map(|pod| format!("{}/{}", pod.namespace, pod.owner))
}

fn until(what: &str, condition: impl Fn() -> bool) {
    poll::until_true(what, SOON, || Ok(condition())).expect(what);
}

fn is_known(kubernetes: &Kubernetes, address: &str, expected: Option<&str>) {
    until(&format!("{address} of {expected:?}"), || {
        owner(kubernetes, address).as_deref() == expected
    });
}

fn faults(kubernetes: &Kubernetes, fault: Fault) -> u64 {
    kubernetes.status().faults[fault as usize]
}

fn cart() -> serde_json::Value {
    pod("u1", "shop", "cart", "here", "10.1.0.1")
}

fn pay() -> serde_json::Value {
    pod("u2", "pay", "pay", "there", "10.1.0.2")
}

fn lists(server: &ApiServer) -> usize {
    let requests = server.requests();
    requests.iter().filter(|request| !request.is_watch()).count()
}

fn watches(server: &ApiServer) -> Vec<Request> {
    let mut requests = server.requests();
    requests.retain(Request::is_watch);
    requests
}

#[test]
fn pods_are_listed_once_and_then_followed() {
    let server = ApiServer::start(vec![cart()]).expect("started");
    let kubernetes = start(&server);
    assert_eq!(
        owner(&kubernetes, "10.1.0.1").as_deref(),
        Some("shop/Deployment/cart")
    );
    until("a watch", || !watches(&server).is_empty());
    server.apply(pay());
    is_known(&kubernetes, "10.1.0.2", Some("pay/Deployment/pay"));
    let mut moved = cart();
    moved["status"]["podIP"] = "10.1.0.9".into();
    moved["status"]["podIPs"][0]["ip"] = "10.1.0.9".into();
    server.apply(moved);
    is_known(&kubernetes, "10.1.0.9", Some("shop/Deployment/cart"));
    is_known(&kubernetes, "10.1.0.1", None);
    let mut ended = pay();
    ended["status"]["phase"] = "Succeeded".into();
    server.apply(ended);
    is_known(&kubernetes, "10.1.0.2", None);
    server.delete("u1");
    is_known(&kubernetes, "10.1.0.9", None);
    let status = kubernetes.status();
    assert!(
        status.connected && status.complete && status.pods == 0,
        "{status:?}"
    );
    assert_eq!((lists(&server), status.faults), (1, [0; 9]));
}

#[test]
fn many_pods_are_listed_in_pages_so_that_they_are_never_held_at_once() {
    let many = (0..600).map(|at| {
        let address = format!("10.2.{}.{}", at / 200, at % 200);
        pod(&format!("u{at}"), "shop", "cart", "there", &address)
    });
    let server = ApiServer::start(many.collect()).expect("started");
    let kubernetes = start(&server);
    assert_eq!((kubernetes.status().pods, lists(&server)), (600, 3));
    assert_eq!(
        owner(&kubernetes, "10.2.2.199").as_deref(),
        Some("shop/Deployment/cart")
    );
}

#[test]
fn a_watch_that_ends_goes_on_from_the_last_bookmark_without_a_list() {
    let server = ApiServer::start(vec![cart()]).expect("started");
    let kubernetes = start(&server);
    until("a watch", || watches(&server).len() == 1);
    let version = server.bookmark();
    // Without the bookmark it would begin too early now.
    server.compact();
    server.end(true);
    until("another watch", || watches(&server).len() == 2);
    assert_eq!(watches(&server)[1].version(), Some(version));
    server.apply(pay());
    is_known(&kubernetes, "10.1.0.2", Some("pay/Deployment/pay"));
    assert_eq!(lists(&server), 1);
}

#[test]
fn a_connection_that_breaks_inside_a_line_costs_no_event() {
    let server = ApiServer::start(vec![cart()]).expect("started");
    let kubernetes = start(&server);
    until("a watch", || watches(&server).len() == 1);
    server.write(br#"{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"ha"#);
    server.end(false);
    until("another watch", || watches(&server).len() == 2);
    server.apply(pay());
    is_known(&kubernetes, "10.1.0.2", Some("pay/Deployment/pay"));
    assert_eq!(
        owner(&kubernetes, "10.1.0.1").as_deref(),
        Some("shop/Deployment/cart")
    );
    assert_eq!(lists(&server), 1);
}

#[test]
fn what_changes_while_no_watch_is_open_is_told_to_the_next_one() {
    let server = ApiServer::start(vec![cart()]).expect("started");
    let kubernetes = start(&server);
    until("a watch", || watches(&server).len() == 1);
    server.set_away(true);
    until("the end of the watch", || !kubernetes.status().connected);
    server.apply(pay());
    server.delete("u1");
    server.set_away(false);
    is_known(&kubernetes, "10.1.0.2", Some("pay/Deployment/pay"));
    is_known(&kubernetes, "10.1.0.1", None);
    assert_eq!(lists(&server), 1);
}

#[test]
fn after_an_expiry_all_pods_are_listed_anew_and_those_that_went_meanwhile_are_gone() {
    let server = ApiServer::start(vec![cart()]).expect("started");
    let kubernetes = start(&server);
    until("a watch", || watches(&server).len() == 1);
    server.set_away(true);
    until("the end of the watch", || !kubernetes.status().connected);
    server.apply(pay());
    server.delete("u1");
    // Nobody is told of these two any more.
    server.compact();
    assert!(owner(&kubernetes, "10.1.0.1").is_some(), "known until then");
    server.set_away(false);
    is_known(&kubernetes, "10.1.0.2", Some("pay/Deployment/pay"));
    is_known(&kubernetes, "10.1.0.1", None);
    assert_eq!((lists(&server), faults(&kubernetes, Fault::Expired)), (2, 1));
}

#[test]
fn a_watch_that_expires_while_it_is_open_begins_anew_with_a_list() {
    let server = ApiServer::start(vec![cart()]).expect("started");
    let kubernetes = start(&server);
    until("a watch", || watches(&server).len() == 1);
    server.expire();
    until("another watch", || watches(&server).len() == 2);
    server.apply(pay());
    is_known(&kubernetes, "10.1.0.2", Some("pay/Deployment/pay"));
    assert_eq!((lists(&server), faults(&kubernetes, Fault::Expired)), (2, 1));
}

#[test]
fn a_watch_that_is_refused_as_expired_begins_anew_with_a_list() {
    let server = ApiServer::start(vec![cart()]).expect("started");
    let kubernetes = start(&server);
    until("a watch", || watches(&server).len() == 1);
    server.refuse_next(410, "");
    server.end(true);
    until("the refusal", || faults(&kubernetes, Fault::Expired) == 1);
    until("another list", || lists(&server) == 2);
    server.apply(pay());
    is_known(&kubernetes, "10.1.0.2", Some("pay/Deployment/pay"));
    assert_eq!(faults(&kubernetes, Fault::Expired), 1);
}

#[test]
fn without_an_api_server_what_is_known_stays_known_and_it_is_caught_up_with() {
    let server = ApiServer::start(vec![cart()]).expect("started");
    let kubernetes = start(&server);
    until("a watch", || watches(&server).len() == 1);
    server.set_away(true);
    until("the fault", || faults(&kubernetes, Fault::Unreachable) > 0);
    assert!(!kubernetes.status().connected);
    assert_eq!(
        owner(&kubernetes, "10.1.0.1").as_deref(),
        Some("shop/Deployment/cart")
    );
    server.set_away(false);
    until("a connection", || kubernetes.status().connected);
    server.apply(pay());
    is_known(&kubernetes, "10.1.0.2", Some("pay/Deployment/pay"));
}

#[test]
fn over_tls_only_a_server_with_a_certificate_of_the_named_authority_is_asked() {
    let server = ApiServer::start_tls(vec![cart()]).expect("started");
    let kubernetes = start(&server);
    assert_eq!(
        owner(&kubernetes, "10.1.0.1").as_deref(),
        Some("shop/Deployment/cart")
    );
    // Its last question, which the server may hear of late.
    until("a watch", || watches(&server).len() == 1);
    drop(kubernetes);
    let asked = server.requests().len();
    let other = ApiServer::start_tls(Vec::new()).expect("started");
    let authority = |server: &ApiServer| server.service_account().join("ca.crt");
    std::fs::copy(authority(&other), authority(&server)).expect("copied");
    let kubernetes = start_without_waiting(&server, |_| {});
    until("the fault", || faults(&kubernetes, Fault::Unreachable) > 0);
    assert_eq!((kubernetes.status().pods, server.requests().len()), (0, asked));
}

#[test]
fn nothing_is_asked_for_but_pods_and_nothing_but_read() {
    let server = ApiServer::start(vec![cart()]).expect("started");
    let kubernetes = start(&server);
    until("a watch", || watches(&server).len() == 1);
    server.expire();
    until("another watch", || watches(&server).len() == 2);
    for request in server.requests() {
        assert!(
            request.method == "GET" && request.target.starts_with("/api/v1/pods?"),
            "{request:?}"
        );
    }
    assert_eq!(faults(&kubernetes, Fault::Forbidden), 0);
}

#[test]
fn without_an_account_and_a_kubeconfig_nobody_is_asked() {
    let kubernetes = Kubernetes::start(&config::Kubernetes::default());
    kubernetes.wait(SOON);
    let status = kubernetes.status();
    assert!(!status.wanted && !status.complete, "{status:?}");
}

#[test]
fn a_new_token_is_read_when_the_old_one_is_refused() {
    let server = ApiServer::start(vec![cart()]).expect("started");
    let kubernetes = start(&server);
    until("a watch", || watches(&server).len() == 1);
    server.write_token("second").expect("written");
    server.demand_token("second");
    until("a refusal", || faults(&kubernetes, Fault::Unauthorized) == 1);
    until("a connection", || kubernetes.status().connected);
    server.apply(pay());
    is_known(&kubernetes, "10.1.0.2", Some("pay/Deployment/pay"));
    assert_eq!(faults(&kubernetes, Fault::Unauthorized), 1);
}

#[test]
fn a_missing_right_is_told_and_asked_for_again() {
    let server = ApiServer::start(vec![cart()]).expect("started");
    server.refuse_next(403, "");
    let kubernetes = start(&server);
    assert_eq!(
        owner(&kubernetes, "10.1.0.1").as_deref(),
        Some("shop/Deployment/cart")
    );
    assert_eq!(faults(&kubernetes, Fault::Forbidden), 1);
}

#[test]
fn an_overloaded_api_server_is_left_alone_for_as_long_as_it_says() {
    let server = ApiServer::start(vec![cart()]).expect("started");
    server.refuse_next(429, "retry-after: 2\r\n");
    let kubernetes = start(&server);
    assert_eq!(
        owner(&kubernetes, "10.1.0.1").as_deref(),
        Some("shop/Deployment/cart")
    );
    let requests = server.requests();
    let pause = requests[1].at - requests[0].at;
    assert!(pause >= Duration::from_millis(1_900), "{pause:?}");
}

#[test]
fn without_the_pods_of_clients_only_those_of_the_node_are_asked_for() {
    let server = ApiServer::start(vec![cart(), pay()]).expect("started");
    let kubernetes = start_with(&server, |settings| settings.client_pods = false);
    assert!(kubernetes.status().complete);
    for request in server.requests() {
        assert!(
            request.target.contains("fieldSelector=spec.nodeName%3Dhere"),
            "{}",
            request.target
        );
    }
    assert_eq!(
        (kubernetes.status().pods, owner(&kubernetes, "10.1.0.2")),
        (1, None)
    );
}

#[test]
fn a_reload_that_turns_it_off_forgets_the_pods_and_asks_no_more() {
    let server = ApiServer::start(vec![cart()]).expect("started");
    let mut kubernetes = start(&server);
    until("a watch", || watches(&server).len() == 1);
    let off = config::Kubernetes {
        enabled: KubernetesSwitch::Off,
        ..config::Kubernetes::default()
    };
    kubernetes.change(&off);
    let status = kubernetes.status();
    assert!(!status.wanted && status.pods == 0, "{status:?}");
    assert_eq!(owner(&kubernetes, "10.1.0.1"), None);
}

#[test]
fn a_reload_that_changes_something_keeps_the_pods_until_they_are_listed_anew() {
    let server = ApiServer::start(vec![cart()]).expect("started");
    let mut kubernetes = start(&server);
    server.set_away(true);
    let settings = config::Kubernetes {
        kubeconfig: Some(server.kubeconfig().display().to_string()),
        labels: vec!["tier".into()],
        ..config::Kubernetes::default()
    };
    kubernetes.change(&settings);
    assert_eq!(
        owner(&kubernetes, "10.1.0.1").as_deref(),
        Some("shop/Deployment/cart")
    );
    assert!(!kubernetes.status().complete);
}
