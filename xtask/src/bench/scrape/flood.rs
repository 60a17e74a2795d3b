//! The flood: more prefixes and addresses than the agent has rows for. The live test `flood` checks what is counted of such a
//! one; this one only has to fill the tables.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

const PREFIXES: u32 = 1_000_000;
const ADDRESSES: u32 = 200_000;

/// Commands at once.
const PIPELINE: u32 = 1_000;

/// Connections that one thread holds at once: both fewer than a process may open by default.
const HELD: usize = 400;

/// Prefixes of the tenant that [`TENANT`] configures: more than there are rows for tenants.
const OF_TENANT: u32 = 5_000;

/// Further lines of the agent's configuration.
pub(super) const TENANT: &str = "[[tenant]]\nname = \"late\"\nprefixes = [\"late-*\"]\n";

/// Lines of the server's configuration.
pub(super) const SERVER: &str = "maxclients 12000\n";

/// Fills the tables.
pub(super) fn run(server: SocketAddr) -> Result<()> {
    thread::scope(|scope| -> Result<()> {
        let floods = [
            scope.spawn(move || prefixes(server, "flood", 0..PREFIXES / 2)),
            scope.spawn(move || prefixes(server, "flood", PREFIXES / 2..PREFIXES)),
            scope.spawn(move || addresses(server.port(), 0..ADDRESSES / 2)),
            scope.spawn(move || addresses(server.port(), ADDRESSES / 2..ADDRESSES)),
        ];
        for flood in floods {
            flood.join().map_err(|_| anyhow!("a flood panicked"))??;
        }
        Ok(())
    })?;
    prefixes(server, "late-", 0..OF_TENANT)
}

/// Reads a key below each of these prefixes, in pipelines.
fn prefixes(server: SocketAddr, name: &str, numbers: Range<u32>) -> Result<()> {
    const MISSED: &[u8] = b"$-1\r\n";
    let mut connection = TcpStream::connect(server).context("cannot connect to the server")?;
    let mut replies = vec![0; PIPELINE as usize * MISSED.len()];
    let mut batch = Vec::new();
    for start in numbers.clone().step_by(PIPELINE as usize) {
        let end = numbers.end.min(start + PIPELINE);
        batch.clear();
        for number in start..end {
            let key = format!("{name}{number:x}:1");
            write!(batch, "*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len())?;
        }
        connection.write_all(&batch)?;
        connection.read_exact(&mut replies[..(end - start) as usize * MISSED.len()])?;
    }
    Ok(())
}

/// Connects from as many addresses, and holds each connection for a while.
fn addresses(port: u16, numbers: Range<u32>) -> Result<()> {
    let server = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    let mut held = Vec::with_capacity(HELD);
    for number in numbers {
        let client = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        // 127.1.0.0 and on: nobody else's.
        let source = Ipv4Addr::from_bits(0x7f01_0000 + number);
        bind(
            client.as_raw_fd(),
            &SockaddrIn::from(SocketAddrV4::new(source, 0)),
        )
        .with_context(|| format!("cannot use {source} as source"))?;
        connect(client.as_raw_fd(), &server).context("cannot connect to the server")?;
        held.push(client);
        if held.len() == HELD {
            held.clear();
        }
    }
    Ok(())
}
