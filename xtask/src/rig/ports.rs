//! Free ports on loopback, near the ones that people expect.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result};

/// How far from the first wish a port may be.
const TRIES: u16 = 1000;

/// The first port from `wish` on that nobody listens on.
pub(crate) fn free_from(wish: u16) -> Result<u16> {
    (wish..wish.saturating_add(TRIES))
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .with_context(|| format!("no port is free from {wish} on"))
}
