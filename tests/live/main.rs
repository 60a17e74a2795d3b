//! Live tests: the real agent binary beside real servers and clients. `cargo xtask test` runs them, as root.
#![forbid(unsafe_code)]

mod clients;

mod agent_lifecycle;
mod alerts;
mod browser;
mod byte_equality;
mod command_line;
mod connections;
mod container;
mod dashboards;
mod endings;
mod errors;
mod every_command;
mod existing_connections;
mod flood;
mod handshakes;
mod hashed_prefixes;
mod histograms;
mod identities;
mod incidents;
mod inventory;
mod keys;
mod kubernetes;
mod libraries;
mod lossy_link;
mod mid_stream;
mod pages;
mod pipelines;
mod placement;
mod privileges;
mod protocol;
mod reads;
mod reload;
mod secrets;
mod server_lifecycle;
mod storms;
mod tenants;
mod tenants_of_connections;
mod top;
mod web;
mod who_owns_what;
mod workloads;
mod workloads_by_name;
