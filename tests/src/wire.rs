//! A network that loses and doubles packets: a namespace for the server's host, one for the client's, and a router between
//! them that is the wire.
//!
//! The wire is a namespace of its own so that each host has what a real one has: what is lost towards it never arrives,
//! what is lost behind it has passed its own hooks. The hosts cut their segments to frames before the wire and put them
//! together again behind it, as network cards do: single frames are lost.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::lab;
use crate::netns::Netns;
use crate::process::{Process, read_output};

const WITHIN: Duration = Duration::from_secs(5);

/// Address of the server's host.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);

/// Address of the client's host.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 1);

/// Two hosts and the wire between them. It ends with the last process in it.
pub struct Wire {
    /// The server's host.
    pub server: Rc<Netns>,
    /// The client's host.
    pub client: Rc<Netns>,
    /// What is between them.
    pub router: Router,
}

/// The wire as something that can be disturbed.
pub struct Router {
    netns: Netns,
}

/// Packets that the wire has lost, doubled and let through, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Toll {
    /// Never arrived.
    pub lost: u64,
    /// Arrived twice.
    pub doubled: u64,
    /// Arrived; those that arrived twice count once.
    pub passed: u64,
}

/// `tcp_rmem` of both hosts, in bytes: least, at first, most. What is in flight behind a lost segment then fits into the
/// parking places of a connection (ADR 11). With the kernel's own bound of 6 MiB a lucky connection has more in flight at times,
/// and a loss costs it its synchronisation.
const WINDOWS: &str = "4096 131072 262144";

impl Wire {
    /// Makes the hosts and a wire that lets everything through. Needs root, `ip` and the lab.
    pub fn create() -> Result<Self> {
        let wire = Self {
            server: Rc::new(Netns::create()?),
            client: Rc::new(Netns::create()?),
            router: Router {
                netns: Netns::create()?,
            },
        };
        wire.join(&wire.server, SERVER, "server")?;
        wire.join(&wire.client, CLIENT, "client")?;
        wire.router.netns.inside(|| {
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("the namespace cannot be made a router")
        })?;
        Ok(wire)
    }

    /// Joins a host to the router. The router's interface is called `name`.
    fn join(&self, host: &Netns, address: Ipv4Addr, name: &str) -> Result<()> {
        let [a, b, c, _] = address.octets();
        let router = Ipv4Addr::new(a, b, c, 254);
        host.link("eth0", &self.router.netns, name)?;
        host.ip(&format!("address add {address}/24 dev eth0"))?;
        self.router
            .netns
            .ip(&format!("address add {router}/24 dev {name}"))?;
        // What Linux does unless told otherwise, and this machine may have been told otherwise.
        host.ip(&format!("route add default via {router} congctl cubic"))?;
        host.inside(|| {
            fs::write("/proc/sys/net/ipv4/tcp_rmem", WINDOWS).context("the windows cannot be bounded")
        })?;
        // A pair of interfaces puts frames together only if the sending one would not have cut them.
        offload(&self.router.netns, name, &["tso", "off"])?;
        offload(host, "eth0", &["tso", "off", "gso", "off", "gro", "on"])
    }
}

impl Router {
    /// From now on, of a thousand packets in each direction so many are lost, and of those that are left so many doubled.
    pub fn disturb(&self, lost: u32, doubled: u32) -> Result<()> {
        let rules = format!(
            "table ip wire {{
                counter in_lost {{ }}
                counter in_doubled {{ }}
                counter in_passed {{ }}
                counter out_lost {{ }}
                counter out_doubled {{ }}
                counter out_passed {{ }}
                chain inward {{
                    numgen random mod 1000 < {lost} counter name in_lost drop
                    counter name in_passed
                    numgen random mod 1000 < {doubled} counter name in_doubled dup to {SERVER} device server
                }}
                chain outward {{
                    numgen random mod 1000 < {lost} counter name out_lost drop
                    counter name out_passed
                    numgen random mod 1000 < {doubled} counter name out_doubled dup to {CLIENT} device client
                }}
                chain forward {{
                    type filter hook forward priority 0;
                    oifname server jump inward
                    oifname client jump outward
                }}
            }}"
        );
        self.rules(&rules)
    }

    /// From now on, packets towards the server whose length with all headers is in `lengths` do not arrive.
    pub fn lose(&self, lengths: &RangeInclusive<u16>) -> Result<()> {
        let (first, last) = (lengths.start(), lengths.end());
        self.rules(&format!(
            "table ip gap {{
                chain forward {{
                    type filter hook forward priority 0;
                    oifname server ip length {first}-{last} drop
                }}
            }}"
        ))
    }

    /// Ends what [`Self::lose`] began.
    pub fn lose_no_more(&self) -> Result<()> {
        self.rules("delete table ip gap")
    }

    /// What the disturbed wire has done towards the server, and towards the client.
    pub fn tolls(&self) -> Result<[Toll; 2]> {
        let mut nft = self.netns.command(&lab::nft()?);
        let text = read_output("nft", nft.args(["-j", "list", "counters"]), WITHIN)?;
        let list: Value = serde_json::from_str(&text).with_context(|| format!("nft wrote {text:?}"))?;
        let packets = |name: &str| {
            let counters = list["nftables"].as_array().into_iter().flatten();
            let mut named = counters.filter(|item| item["counter"]["name"] == name);
            named
                .find_map(|item| item["counter"]["packets"].as_u64())
                .with_context(|| format!("nft lists no counter {name}: {text}"))
        };
        let toll = |direction: &str| -> Result<Toll> {
            Ok(Toll {
                lost: packets(&format!("{direction}_lost"))?,
                doubled: packets(&format!("{direction}_doubled"))?,
                passed: packets(&format!("{direction}_passed"))?,
            })
        };
        Ok([toll("in")?, toll("out")?])
    }

    fn rules(&self, rules: &str) -> Result<()> {
        let mut nft = self.netns.command(&lab::nft()?);
        let finished =
            Process::spawn_with_input("nft", nft.args(["-f", "-"]), rules.as_bytes())?.finish(WITHIN)?;
        ensure!(
            finished.status.success(),
            "nft refuses the rules: {}",
            finished.stderr
        );
        Ok(())
    }
}

fn offload(host: &Netns, interface: &str, settings: &[&str]) -> Result<()> {
    let mut ethtool = host.command(&lab::ethtool()?);
    ethtool.args(["-K", interface]).args(settings);
    read_output("ethtool", &mut ethtool, WITHIN).map(|_| ())
}
