//! Real client libraries, and what each of them sent by its own count.

mod benchmark;
mod redis_rs;
mod valkey_py;

use std::collections::BTreeMap;

pub(crate) use self::benchmark::{Benchmark, endless_benchmark};

/// Commands by key prefix.
pub(crate) type Sent = BTreeMap<String, u64>;

pub(crate) use self::redis_rs::drive as redis_rs;
pub(crate) use self::valkey_py::drive as valkey_py;
