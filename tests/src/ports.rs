//! Ports for servers: below the ephemeral range, so that no client's own port can take them.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, bail};

const LOWEST: u16 = 10_000;

/// How many have been tried by this process: none is given twice.
static TRIED: AtomicU16 = AtomicU16::new(0);

/// A port that nobody listens on, neither with IPv4 nor with IPv6, and that this process has not given before.
pub fn free_port() -> Result<u16> {
    let range = first_ephemeral()?.saturating_sub(LOWEST);
    if range == 0 {
        bail!("net.ipv4.ip_local_port_range leaves no port from {LOWEST}; let it begin higher");
    }
    // Two runs at once begin at different places.
    let start = (std::process::id().wrapping_mul(127) % u32::from(range)) as u16;
    for _ in 0..range {
        let step = TRIED.fetch_add(1, Ordering::Relaxed);
        let port = LOWEST + (u32::from(start) + u32::from(step)).rem_euclid(u32::from(range)) as u16;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() && TcpListener::bind(("::", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("every port from {LOWEST} to the ephemeral range is taken")
}

fn first_ephemeral() -> Result<u16> {
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first
        .parse()
        .with_context(|| format!("{path} does not begin with a port"))
}
