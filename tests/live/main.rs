//! Live tests: the real agent binary beside real servers and clients. `cargo xtask test` runs them, as root.
#![forbid(unsafe_code)]

mod clients;

mod agent_lifecycle;
mod byte_equality;
mod command_line;
mod connections;
mod every_command;
mod existing_connections;
mod lossy_link;
mod mid_stream;
mod pages;
mod placement;
mod protocol;
mod server_lifecycle;
mod tenants;
