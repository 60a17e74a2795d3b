//! The label `server`: unique on the host, and the same again after a restart.

use std::collections::{HashMap, HashSet};

use super::FoundServer;

/// One label per server, in the order given: `namespace/pod:port` where the pod is known, else `process:port`, with the
/// lowest port; where two would be equal, both get `@leaf` of their cgroup; what is equal even then is numbered, `#2` and up,
/// in the order of (namespace, start time).
///
/// Pure, so it knows nothing of labels given earlier: a caller that wants a server to keep its label while others come
/// and go remembers it.
pub fn labels(
    servers: &[FoundServer],
    pod_of: impl Fn(&FoundServer) -> Option<String>,
    leaf_of: impl Fn(&FoundServer) -> Option<String>,
) -> Vec<String> {
    let plain: Vec<String> = servers
        .iter()
        .map(|server| plain(server, pod_of(server)))
        .collect();
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for label in &plain {
        *uses.entry(label).or_default() += 1;
    }
    let wanted: Vec<String> = servers
        .iter()
        .zip(&plain)
        .map(|(server, label)| match leaf_of(server) {
            Some(leaf) if uses[label.as_str()] > 1 => format!("{label}@{leaf}"),
            _ => label.clone(),
        })
        .collect();
    numbered(servers, wanted)
}

fn plain(server: &FoundServer, pod: Option<String>) -> String {
    let name = pod.unwrap_or_else(|| server.process.clone());
    match server.port() {
        Some(port) => format!("{name}:{port}"),
        None => name,
    }
}

/// Appends `#2`, `#3` ... to all but the first of those that want the same label.
fn numbered(servers: &[FoundServer], mut wanted: Vec<String>) -> Vec<String> {
    let mut order: Vec<usize> = (0..servers.len()).collect();
    order.sort_by_key(|&at| (servers[at].netns, servers[at].start_time, servers[at].pid));
    // A process may be named so that it already looks numbered: go on until the label is free.
    let mut taken: HashSet<String> = HashSet::new();
    for at in order {
        let first = wanted[at].clone();
        let mut number = 1;
        while !taken.insert(wanted[at].clone()) {
            number += 1;
            wanted[at] = format!("{first}#{number}");
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, path::PathBuf};

    use super::{
        super::{Listener, Place},
        *,
    };

    fn server(process: &str, ports: &[u16], netns: u64, start_time: u64, cgroup: &str) -> FoundServer {
        let listener = |&port| Listener {
            address: Ipv4Addr::UNSPECIFIED.into(),
            port,
            v6only: false,
            inode: 1,
            cookie: 1,
            cgroup_id: 1,
            queue_length: 0,
            queue_limit: 511,
            drops: 0,
        };
        FoundServer {
            pid: 7,
            start_time,
            process: process.to_owned(),
            netns,
            netns_cookie: 1,
            listeners: ports.iter().map(listener).collect(),
            cgroup_of_process: (!cgroup.is_empty()).then(|| PathBuf::from(cgroup)),
            place: Place::default(),
        }
    }

    fn leaf(server: &FoundServer) -> Option<String> {
        Some(
            server
                .cgroup_of_process
                .as_ref()?
                .file_name()?
                .to_string_lossy()
                .into_owned(),
        )
    }

    #[test]
    fn a_label_is_the_process_and_its_lowest_port() {
        let servers = [
            server("valkey-server", &[7000, 6379], 1, 1, "/a"),
            server("redis-server", &[6379], 1, 1, "/b"),
        ];
        assert_eq!(
            labels(&servers, |_| None, leaf),
            ["valkey-server:6379", "redis-server:6379"]
        );
    }

    #[test]
    fn the_cgroup_is_named_only_where_two_would_be_equal() {
        let servers = [
            server("valkey-server", &[6379], 1, 1, "/s/one.service"),
            server("valkey-server", &[6380], 1, 1, "/s/x.service"),
            server("valkey-server", &[6379], 2, 1, "/s/two.service"),
        ];
        assert_eq!(
            labels(&servers, |_| None, leaf),
            [
                "valkey-server:6379@one.service",
                "valkey-server:6380",
                "valkey-server:6379@two.service"
            ]
        );
    }

    #[test]
    fn a_server_goes_by_its_pod_and_two_of_one_pod_by_their_cgroups_too() {
        let servers = [
            server("valkey-server", &[6379], 1, 1, "/s/one"),
            server("valkey-server", &[6379], 2, 1, "/s/two"),
            server("valkey-server", &[6379], 3, 1, "/s/three"),
            server("valkey-server", &[6379], 4, 1, "/s/four"),
        ];
        let pod = |server: &FoundServer| match server.netns {
            1 => Some("shop/cache-0".to_owned()),
            2 | 3 => Some("shop/cache-1".to_owned()),
            _ => None,
        };
        assert_eq!(
            labels(&servers, pod, leaf),
            [
                "shop/cache-0:6379",
                "shop/cache-1:6379@two",
                "shop/cache-1:6379@three",
                "valkey-server:6379"
            ]
        );
    }

    #[test]
    fn what_is_still_equal_is_numbered_by_namespace_and_age_whatever_the_order_given() {
        let young = server("valkey-server", &[6379], 1, 200, "/s/v");
        let old = server("valkey-server", &[6379], 1, 100, "/s/v");
        let elsewhere = server("valkey-server", &[6379], 2, 50, "/s/v");
        assert_eq!(
            labels(&[elsewhere, young, old], |_| None, leaf),
            [
                "valkey-server:6379@v#3",
                "valkey-server:6379@v#2",
                "valkey-server:6379@v"
            ]
        );
    }

    #[test]
    fn servers_without_a_known_cgroup_are_numbered() {
        let servers = [server("v", &[1], 1, 1, ""), server("v", &[1], 2, 1, "")];
        assert_eq!(labels(&servers, |_| None, leaf), ["v:1", "v:1#2"]);
    }

    #[test]
    fn a_process_with_a_crafted_name_cannot_take_the_label_of_another() {
        let servers = [
            server("v", &[1], 1, 1, ""),
            server("v:1#2", &[], 2, 1, ""),
            server("v", &[1], 3, 1, ""),
        ];
        let found = labels(&servers, |_| None, leaf);
        assert_eq!(found, ["v:1", "v:1#2", "v:1#3"]);
    }
}
