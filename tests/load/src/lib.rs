//! Load and storms: real sockets from source addresses of their own, and clients that behave as those did that were reported.
//!
//! | file | what it knows |
//! |---|---|
//! | `place` | where it is brought: a server, and the network namespace from which it is reached |
//! | `crowd` | many clients with pools of connections, in one thread |
//! | `slow` | what makes a server slow |
//! | `storms` | storms of every kind, by seed, and the normal life in which nothing is to be found |
//!
//! The binary `stormglass-load` plays them at any server, and tenants besides, through a client library.
#![forbid(unsafe_code)]

pub mod crowd;
pub mod place;
mod replies;
pub mod slow;
pub mod storms;
