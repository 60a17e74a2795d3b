//! Harness of the live tests: real servers, agents, cgroups and namespaces that end with the test, and an account of
//! what the agent counted beside what the server counted.
//!
//! | file | what it knows |
//! |---|---|
//! | `lab` | where programs and clients are |
//! | `poll`, `process`, `ports` | waiting, children, addresses |
//! | `cgroup`, `netns`, `wire`, `container` | places to put a server, or the agent |
//! | `server`, `resp` | a server, and connections whose bytes are counted |
//! | `starved` | processes that get no CPU |
//! | `agent`, `exposition`, `found` | the agent, and what it shows |
//! | `terminal` | a terminal for what is not a list |
//! | `threads` | what the threads of a process may do |
//! | `ledger` | both counts over the same interval |
//! | `bpf` | what is loaded into and attached in the kernel |
//! | `kubernetes` | a double of the Kubernetes API server, recordings of a real one |
//! | `alertmanager`, `prometheus` | the real ones |
//! | `images`, `secrets` | the bytes that the agent holds, and what is left of secrets in them |
//!
//! Everything that is made is a guard: it is undone when it goes out of scope, also when a test panics.
#![forbid(unsafe_code)]

pub mod agent;
pub mod alertmanager;
pub mod bpf;
pub mod cgroup;
pub mod container;
pub mod exposition;
pub mod found;
pub mod images;
pub mod kubernetes;
pub mod lab;
pub mod ledger;
pub mod netns;
pub mod poll;
pub mod ports;
pub mod process;
pub mod prometheus;
pub mod receiver;
pub mod resp;
pub mod secrets;
pub mod server;
pub mod starved;
pub mod terminal;
pub mod threads;
pub mod wire;
