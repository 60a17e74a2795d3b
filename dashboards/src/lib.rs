//! Grafana dashboards, written from here, and the Prometheus rules beside them as they can be read.
//!
//! | module | what it knows |
//! |---|---|
//! | `boards` | the six dashboards: which panels, which questions |
//! | `panel`, `dashboard` | how Grafana writes them |
//! | `shipped` | the files in `grafana/`: whether they are what `boards` says, their panels and queries |
//! | `rules` | the rules in `prometheus/` and their tests |
//! | `promql` | names in an expression |
#![forbid(unsafe_code)]

pub mod boards;
pub mod dashboard;
pub mod panel;
pub mod promql;
pub mod rules;
pub mod shipped;
