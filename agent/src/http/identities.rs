//! Who the clients are, as JSON.

use std::net::IpAddr;

use serde::Serialize;

use super::Report;
use crate::snapshot::ConnectionSnapshot;

/// `/api/v1/connections`: one entry per established connection.
pub(super) fn connections(connections: &[ConnectionSnapshot]) -> serde_json::Result<Vec<u8>> {
    let connections = connections.iter().map(|connection| Connection {
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

/// `/api/v1/libraries`: connections by client library and version, and by user, per server.
pub(super) fn libraries(report: &Report) -> serde_json::Result<Vec<u8>> {
    let servers = report.snapshot.servers.iter();
    let libraries = servers.clone().flat_map(|server| {
        server.libraries.iter().map(|row| Library {
            server: &server.label,
            library: &row.library,
            version: &row.version,
            connections: row.connections,
        })
    });
    let users = servers.flat_map(|server| {
        server.users.iter().map(|row| User {
            server: &server.label,
            user: &row.user,
            connections: row.connections,
        })
    });
    serde_json::to_vec(&Libraries {
        libraries: libraries.collect(),
        users: users.collect(),
    })
}

#[derive(Serialize)]
struct Connections<'a> {
    connections: Vec<Connection<'a>>,
}

#[derive(Serialize)]
struct Connection<'a> {
    server: &'a str,
    address: IpAddr,
    port: u16,
    user: &'a str,
    name: &'a str,
    library: &'a str,
    library_version: &'a str,
    database: Option<u32>,
    protocol: u8,
    before_agent: bool,
    synchronised: bool,
}

#[derive(Serialize)]
struct Libraries<'a> {
    libraries: Vec<Library<'a>>,
    users: Vec<User<'a>>,
}

#[derive(Serialize)]
struct Library<'a> {
    server: &'a str,
    library: &'a str,
    version: &'a str,
    connections: u64,
}

#[derive(Serialize)]
struct User<'a> {
    server: &'a str,
    user: &'a str,
    connections: u64,
}
