//! The Prometheus rules as they can be read, and the names in their expressions.
//!
//! | module | what it knows |
//! |---|---|
//! | `rules` | the rules in `prometheus/` and their tests |
//! | `promql` | names in an expression |
#![forbid(unsafe_code)]

pub mod promql;
pub mod rules;
