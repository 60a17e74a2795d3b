//! Who the clients are, as JSON.

use std::net::IpAddr;

use serde::Serialize;

use super::{Report, views::ClientsQuery};
use crate::snapshot::ConnectionSnapshot;

/// `/api/v1/connections`: one entry per established connection.
pub(super) fn connections(
    connections: &[ConnectionSnapshot],
    query: &ClientsQuery,
) -> serde_json::Result<Vec<u8>> {
    let wanted = connections.iter().filter(|of| query.wants(&of.server));
    let connections = wanted.map(|connection| Connection {
        server: &connection.server,
        address: connection.address,
        port: connection.port,
        user: &connection.user,
        name: &connection.name,
        library: &connection.library,
        library_version: &connection.library_version,
        database: connection.database,
        protocol: connection.protocol,
        before_agent: connection.adopted,
        synchronised: connection.synchronised,
    });
    serde_json::to_vec(&Connections {
        connections: connections.collect(),
    })
}

/// `/api/v1/libraries`.
pub(super) fn json(report: &Report, query: &ClientsQuery) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&libraries(report, query))
}

/// Connections by client library and version, and by user, per server.
pub(super) fn libraries<'a>(report: &'a Report, query: &ClientsQuery) -> Libraries<'a> {
    let servers = report.snapshot.servers.iter();
    let servers = servers.filter(|server| query.wants(&server.label));
    let libraries = servers.clone().flat_map(|server| {
        server.libraries.iter().map(|row| Library {
            server: &server.label,
            library: &row.library,
            version: &row.version,
            connections: row.connections,
            opened: row.opened,
        })
    });
    let users = servers.flat_map(|server| {
        server.users.iter().map(|row| User {
            server: &server.label,
            user: &row.user,
            connections: row.connections,
        })
    });
    Libraries {
        libraries: libraries.collect(),
        users: users.collect(),
    }
}

/// The connections.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Connections<'a> {
    /// Those established now, in the order of servers, then of addresses and ports.
    connections: Vec<Connection<'a>>,
}

/// An established connection, and what its client has said of itself. In place of a name stands `(none)` where it said none,
/// `(unknown)` where that was before the agent, and `(forgotten)` where the name was lost.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Connection<'a> {
    /// Label of the server.
    server: &'a str,
    /// The client's address.
    address: IpAddr,
    /// The client's port.
    port: u16,
    /// ACL user; `default` where none was named.
    user: &'a str,
    /// Client name.
    name: &'a str,
    /// Client library.
    library: &'a str,
    /// Its version.
    library_version: &'a str,
    /// Number of the database; null: unknown.
    database: Option<u32>,
    /// Version of RESP, 2 or 3, as far as has been seen.
    protocol: u8,
    /// Established before the agent.
    before_agent: bool,
    /// Whether its stream is read at this moment.
    synchronised: bool,
}

/// Libraries and users.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Libraries<'a> {
    /// By server, the most used first.
    pub(super) libraries: Vec<Library<'a>>,
    /// Likewise.
    users: Vec<User<'a>>,
}

/// A version of a client library at a server.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Library<'a> {
    /// Label of the server.
    server: &'a str,
    /// Name of the library; `(none)`, `(unknown)`, or `(other)` beyond `limits.libraries`.
    pub(super) library: &'a str,
    /// Its version, likewise.
    pub(super) version: &'a str,
    /// Connections established now.
    pub(super) connections: u64,
    /// Connections opened since the agent watches; each counts once it asked for data, lived two seconds, or ended. Null: no row
    /// of its own among `limits.libraries`.
    opened: Option<u64>,
}

/// An ACL user at a server.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct User<'a> {
    /// Label of the server.
    server: &'a str,
    /// The user; `(unknown)`, or `(other)` beyond the limit of rows.
    user: &'a str,
    /// Connections established now.
    connections: u64,
}
