//! Nothing of a value, a password, or of a key behind its prefix is left where the agent could show it: in its maps, its
//! pages, its log, its memory. Secrets are marked by being random, so that eight bytes of one are proof.
//!
//! What is not searched: blocks that the kernel has freed (the state of a connection that is gone), and the stack of the
//! programs; neither is in reach of anybody who reads maps.

mod configuration;
mod parked;
mod real_server;
mod scripted_server;
mod search;
mod speech;
