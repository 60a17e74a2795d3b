//! The watch against what a real API server said: recordings of `tests/captures/kubernetes`, played over HTTP. The watcher has
//! to ask for what was asked for then, in the same order, and to know in the end what that server knew.

use std::{collections::BTreeSet, net::IpAddr, path::Path, time::Duration};

use serde_json::Value;
use stormglass_tests::{
    kubernetes::{
        player::Player,
        recording::{End, Exchange, Piece, Recording},
    },
    poll,
};

use super::{Fault, Kubernetes, Pod};
use crate::{
    config::{self, KubernetesSwitch},
    valkey::{self, Container, Place},
};

/// Longer than all pauses after the failures of a recording.
const SOON: Duration = Duration::from_secs(90);
const HERE: &str = "here";
const LABELS: [&str; 2] = ["app", "tier"];

/// What keeps the pods whose names begin like this.
const OWNERS: &[(&str, &str)] = &[
    ("cart-7d4b9c6f5-", "Deployment/cart"),
    ("cache-0", "StatefulSet/cache"),
    ("debug", "Pod/debug"),
    ("ledger-5c9d8b7f64-", "Deployment/ledger"),
    ("nightly-29764800-", "CronJob/nightly"),
    ("import-", "Job/import"),
    ("canary-", "ReplicaSet/canary"),
    ("kube-proxy-", "DaemonSet/kube-proxy"),
    ("registry-cache-here", "Pod/registry-cache-here"),
];

fn recording(name: &str) -> Recording {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures/kubernetes");
    Recording::read(&folder.join(format!("{name}.jsonl"))).expect("a recording")
}

/// Plays it to its end, and looks whether everything is known. The watch has not ended by then.
fn play(recording: &Recording, client_pods: bool) -> Kubernetes {
    let player = Player::start(recording.clone()).expect("started");
    let kubernetes = Kubernetes::start(&config::Kubernetes {
        enabled: KubernetesSwitch::Auto,
        kubeconfig: Some(player.kubeconfig().display().to_string()),
        node: Some(HERE.into()),
        client_pods,
        labels: LABELS.map(Into::into).to_vec(),
    });
    poll::until_true("the end", SOON, || player.is_at_end())
        .unwrap_or_else(|error| panic!("{error:#}\nafter {} exchanges", player.played()));
    let all = items(recording);
    let wanted: Vec<&Value> = all
        .iter()
        .filter(|pod| is_running(pod) && (client_pods || pod["spec"]["nodeName"] == HERE))
        .collect();
    poll::until_true("the last event", SOON, || {
        Ok(kubernetes.status().pods == wanted.len() as u64
            && wanted.iter().all(|pod| is_known(&kubernetes, pod)))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?} instead of\n{wanted:#?}", kubernetes.status()));
    for pod in &wanted {
        resolves(&kubernetes, pod);
    }
    nobody_else(&kubernetes, recording, &wanted);
    assert!(player.is_at_end().expect("nothing else was asked for"));
    kubernetes
}

fn items(recording: &Recording) -> Vec<Value> {
    recording.pods["items"].as_array().expect("a list").clone()
}

fn is_running(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running"
}

/// The UID in the names of its cgroups.
fn uid(pod: &Value) -> &str {
    let metadata = &pod["metadata"];
    let made_up = metadata["annotations"]["kubernetes.io/config.hash"].as_str();
    made_up.or(metadata["uid"].as_str()).expect("a UID")
}

fn of_uid(kubernetes: &Kubernetes, uid: &str) -> Option<Pod> {
    let place = Place {
        container: None,
        pod: Some(valkey::Pod {
            uid: uid.into(),
            qos: None,
        }),
    };
    kubernetes.of_place(&place).map(|pod| (*pod).clone())
}

fn of_container(kubernetes: &Kubernetes, id: &str) -> Option<Pod> {
    let place = Place {
        container: Some(Container {
            id: id.into(),
            runtime: None,
        }),
        pod: None,
    };
    kubernetes.of_place(&place).map(|pod| (*pod).clone())
}

fn of_address(kubernetes: &Kubernetes, address: &str) -> Option<Pod> {
    let address: IpAddr = address.parse().expect("an address");
    let pods = kubernetes.of_addresses([address].into_iter());
    pods.get(&address).map(|pod| (**pod).clone())
}

/// Whether the last that happened to it has arrived.
fn is_known(kubernetes: &Kubernetes, pod: &Value) -> bool {
    of_uid(kubernetes, uid(pod)).is_some_and(|known| labels(&known) == wanted_labels(pod))
}

fn labels(pod: &Pod) -> Vec<(String, String)> {
    let labels = pod.labels.iter();
    labels
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

fn wanted_labels(pod: &Value) -> Vec<(String, String)> {
    let value = |name: &str| {
        Some((
            name.to_owned(),
            pod["metadata"]["labels"][name].as_str()?.to_owned(),
        ))
    };
    LABELS.iter().filter_map(|name| value(name)).collect()
}

/// Its UID, its containers and its addresses lead to it, and it is what the API server says.
fn resolves(kubernetes: &Kubernetes, pod: &Value) {
    let name = pod["metadata"]["name"].as_str().expect("a name");
    let known = of_uid(kubernetes, uid(pod)).expect(name);
    let owner = OWNERS.iter().find(|(beginning, _)| name.starts_with(beginning));
    assert_eq!(
        (&*known.name, &known.owner.to_string()),
        (name, &owner.expect(name).1.to_owned())
    );
    assert_eq!(pod["metadata"]["namespace"], *known.namespace);
    assert_eq!(pod["spec"]["nodeName"].as_str(), known.node.as_deref());
    assert_eq!(labels(&known), wanted_labels(pod), "{name}");
    for container in pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let (_, id) = container["containerID"]
            .as_str()
            .and_then(|id| id.split_once("://"))
            .expect("an id");
        let found = of_container(kubernetes, id);
        // Those of other nodes are not kept.
        let is_here = pod["spec"]["nodeName"] == HERE;
        assert_eq!(found, is_here.then(|| known.clone()), "{name}");
    }
    let is_on_its_own = pod["spec"]["hostNetwork"] != true;
    for address in pod["status"]["podIPs"].as_array().into_iter().flatten() {
        let address = address["ip"].as_str().expect("an address");
        let found = of_address(kubernetes, address);
        assert_eq!(found, is_on_its_own.then(|| known.clone()), "{address} of {name}");
    }
}

/// Of all that the API server ever told of, nothing else is known.
fn nobody_else(kubernetes: &Kubernetes, recording: &Recording, wanted: &[&Value]) {
    let lists = recording.asked(false).filter(|list| status(list) == Some(200));
    let listed = lists.flat_map(|list| {
        let list: Value = serde_json::from_str(&list.body()).expect("a list");
        list["items"].as_array().expect("pods").clone()
    });
    let told = recording
        .asked(true)
        .flat_map(events)
        .map(|event| event["object"].clone());
    let told = told.filter(|pod| pod["metadata"]["uid"].is_string());
    let is_wanted = |uid: &str| wanted.iter().any(|pod| self::uid(pod) == uid);
    let addresses = wanted.iter().flat_map(|pod| addresses(pod));
    let addresses: BTreeSet<String> = addresses.collect();
    for pod in listed.chain(told) {
        let uid = uid(&pod);
        assert_eq!(of_uid(kubernetes, uid).is_some(), is_wanted(uid), "{uid}");
        for address in self::addresses(&pod) {
            let is_known = of_address(kubernetes, &address).is_some();
            assert_eq!(is_known, addresses.contains(&address), "{address}");
        }
    }
}

/// Its own.
fn addresses(pod: &Value) -> Vec<String> {
    let addresses = pod["status"]["podIPs"].as_array().into_iter().flatten();
    let own = addresses.filter(|_| pod["spec"]["hostNetwork"] != true);
    own.filter_map(|address| Some(address["ip"].as_str()?.to_owned()))
        .collect()
}

fn status(exchange: &Exchange) -> Option<u16> {
    exchange.head.as_ref().map(|head| head.status)
}

/// The whole lines of a watch.
fn events(watch: &Exchange) -> Vec<Value> {
    let body = watch.body();
    let whole = body.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let events = whole.filter_map(|line| serde_json::from_str(line).ok());
    events
        .filter(|event: &Value| event["object"].is_object())
        .collect()
}

fn parameter<'a>(exchange: &'a Exchange, name: &str) -> Option<&'a str> {
    let (_, query) = exchange.get.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn version(object: &Value) -> Option<&str> {
    object["metadata"]["resourceVersion"].as_str()
}

/// What has to be asked for after an exchange.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    List,
    Page(String),
    WatchBehind(String),
}

fn asked(exchange: &Exchange) -> Next {
    if exchange.get.contains("watch=true") {
        return Next::WatchBehind(parameter(exchange, "resourceVersion").expect("a version").into());
    }
    parameter(exchange, "continue").map_or(Next::List, |token| Next::Page(token.into()))
}

/// By the documentation of the API: a page until there is none, then a watch behind the last version that was told of, by an
/// event or a bookmark; a list when that version, or the token of the page, is too old.
fn next(exchange: &Exchange) -> Next {
    let body = exchange.body();
    match (asked(exchange), status(exchange)) {
        (_, Some(401 | 410)) => Next::List,
        (Next::WatchBehind(version), Some(200)) => {
            let events = events(exchange);
            if events.last().is_some_and(|event| event["object"]["code"] == 410) {
                return Next::List;
            }
            let told = events
                .iter()
                .rev()
                .find_map(|event| self::version(&event["object"]));
            Next::WatchBehind(told.unwrap_or(&version).into())
        }
        (watch @ Next::WatchBehind(_), _) => watch,
        (_, Some(200)) => {
            let list: Value = serde_json::from_str(&body).expect("a list");
            match list["metadata"]["continue"].as_str() {
                Some(token) => Next::Page(token.into()),
                None => Next::WatchBehind(version(&list).expect("a version").into()),
            }
        }
        _ => Next::List,
    }
}

/// Whether a watcher was recorded that asks as it should; it is held to that by being played to. Returns how many watches
/// began behind a version that nothing but a bookmark told of, and how many lists there were.
fn is_as_it_should_be(recording: &Recording) -> (usize, usize) {
    let exchanges = &recording.exchanges;
    assert_eq!(asked(&exchanges[0]), Next::List);
    let mut behind_bookmarks = 0;
    for (number, pair) in exchanges.windows(2).enumerate() {
        assert_eq!(
            asked(&pair[1]),
            next(&pair[0]),
            "after exchange {number}: {}",
            pair[0].get
        );
        let events = events(&pair[0]);
        let (bookmarks, others): (Vec<_>, Vec<_>) =
            events.iter().partition(|event| event["type"] == "BOOKMARK");
        let told = |events: &[&Value]| {
            events
                .last()
                .and_then(|event| version(&event["object"])?.parse().ok())
        };
        let before = parameter(&pair[0], "resourceVersion").and_then(|version| version.parse().ok());
        let (last, bookmark): (Option<u64>, _) = (told(&others).or(before), told(&bookmarks));
        behind_bookmarks += usize::from(bookmark > last);
    }
    let lists = exchanges.iter().filter(|exchange| asked(exchange) == Next::List);
    (behind_bookmarks, lists.count())
}

fn answers(recording: &Recording, code: u16) -> u64 {
    let answers = recording
        .exchanges
        .iter()
        .filter(|exchange| status(exchange) == Some(code));
    answers.count() as u64
}

/// Watches that were told, after they had been let in, that their version is too old.
fn expired_watches(recording: &Recording) -> u64 {
    let told = recording.asked(true).flat_map(events);
    told.filter(|event| event["type"] == "ERROR" && event["object"]["code"] == 410)
        .count() as u64
}

fn faults(kubernetes: &Kubernetes, fault: Fault) -> u64 {
    kubernetes.status().faults[fault as usize]
}

#[test]
fn what_a_real_api_server_tells_of_pods_is_followed_over_bookmarks_and_broken_connections() {
    let recording = recording("pods");
    let (behind_bookmarks, lists) = is_as_it_should_be(&recording);
    let pages = recording.asked(false).count();
    assert!(behind_bookmarks > 0 && pages > 2 && lists == 1);
    let broken = recording.asked(true).filter(|watch| watch.end == End::Broken);
    let broken: Vec<_> = broken.map(|watch| watch.pieces.last()).collect();
    let is_inside = |last: &Option<&Piece>| last.is_some_and(|last| last.length > last.text.len());
    assert!(broken.len() > 1 && broken.iter().any(is_inside) && !broken.iter().all(is_inside));
    let kubernetes = play(&recording, true);
    assert_eq!(faults(&kubernetes, Fault::Expired), 0);
}

#[test]
fn a_restart_of_the_real_api_server_loses_nothing() {
    let recording = recording("restart");
    is_as_it_should_be(&recording);
    let refused = recording
        .exchanges
        .iter()
        .filter(|exchange| exchange.end == End::Refused);
    assert!(refused.count() > 1);
    let kubernetes = play(&recording, true);
    assert_eq!(faults(&kubernetes, Fault::Expired), expired_watches(&recording));
}

#[test]
fn history_that_the_real_api_server_has_forgotten_is_made_up_for_by_a_list() {
    let recording = recording("compaction");
    let (_, lists) = is_as_it_should_be(&recording);
    // Between two pages, and between two watches.
    let expired = (answers(&recording, 410), expired_watches(&recording));
    assert_eq!((expired, lists), ((1, 1), 3));
    let kubernetes = play(&recording, true);
    assert_eq!(faults(&kubernetes, Fault::Expired), 2);
}

#[test]
fn rights_and_accounts_that_come_late_or_anew_are_noticed() {
    let recording = recording("refusals");
    is_as_it_should_be(&recording);
    let (forbidden, unauthorized) = (answers(&recording, 403), answers(&recording, 401));
    assert!(forbidden > 1 && unauthorized > 1);
    let kubernetes = play(&recording, true);
    assert_eq!(
        (
            faults(&kubernetes, Fault::Forbidden),
            faults(&kubernetes, Fault::Unauthorized)
        ),
        (forbidden, unauthorized)
    );
}

#[test]
fn of_one_nodes_pods_the_real_api_server_tells_when_they_are_scheduled_there() {
    let recording = recording("node");
    assert_eq!(is_as_it_should_be(&recording).1, 1);
    let selects = |exchange: &Exchange| parameter(exchange, "fieldSelector") == Some("spec.nodeName%3Dhere");
    assert!(recording.exchanges.iter().all(selects));
    play(&recording, false);
}
