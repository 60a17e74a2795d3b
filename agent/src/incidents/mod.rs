//! Incidents: what is known of a storm's minutes, kept as evidence. docs/INCIDENTS.md describes the files.
//!
//! | file | what it knows |
//! |---|---|
//! | `record` | what is recorded |
//! | `flight` | the last minutes of each server in memory, and when they become an incident |
//! | `past` | what is kept of them |
//! | `file` | records as bytes, and back |
//! | `archive` | the folder: writing, reading, what is kept for how long |
//!
//! `record`, `flight`, `past` and `file` are pure: no clock, no I/O.
#![forbid(unsafe_code)]

mod archive;
mod file;
mod flight;
mod past;
mod record;
#[cfg(test)]
mod tests;

pub use archive::{Archive, ArchiveStatus, Keeper, Summary, read_folder, read_incident};
pub use file::{Fault, Incident};
pub use flight::{Flight, Work};
pub use record::{
    ClientAt, Clients, Course, Record, Sample, TenantAt, TenantsAt, Told, Traffic, TrafficAt, WorkloadAt,
};
