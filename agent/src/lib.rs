//! The Stormglass daemon as a library: `main.rs` is only the command line.

pub mod metrics;
pub mod snapshot;
pub mod tenants;
pub mod valkey;
