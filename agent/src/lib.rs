//! The Stormglass daemon as a library: `main.rs` is only the command line.

pub mod alerts;
pub mod clients;
pub mod config;
pub mod daemon;
pub mod http;
pub mod incidents;
pub mod kernel;
pub mod kubernetes;
pub mod metrics;
pub mod numbers;
pub mod privileges;
pub mod snapshot;
pub mod storms;
pub mod tenants;
mod time;
pub mod valkey;
pub mod workloads;
