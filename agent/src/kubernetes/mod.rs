//! Pods, by the word of the Kubernetes API server: names, owners and labels of those that servers run in, and of those
//! that clients are. One watch, no polling; without an API server the agent goes on with what it knows.
//!
//! | file | what it knows |
//! |---|---|
//! | `pod` | what is kept of a pod, who owns it |
//! | `index` | pods by UID, by container, by address; pure |
//! | `status` | how the watch is |
//! | `watch` | the API server, on a thread of its own |
#![forbid(unsafe_code)]

mod index;
mod pod;
#[cfg(test)]
mod replays;
mod status;
#[cfg(test)]
mod tests;
mod watch;

pub use index::Index;
pub use pod::{Owner, Pod};
pub use status::{Fault, Status};
pub use watch::Kubernetes;
