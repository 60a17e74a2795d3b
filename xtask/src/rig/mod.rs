//! What the demo and the benchmarks put on stage: servers in cgroups of their own, the agent, and their end, whatever
//! happens. Dropping a piece ends it.

pub(crate) mod agent;
pub(crate) mod cgroup;
pub(crate) mod child;
pub(crate) mod interrupt;
pub(crate) mod ports;
pub(crate) mod scrape;
pub(crate) mod server;
pub(crate) mod storm;
