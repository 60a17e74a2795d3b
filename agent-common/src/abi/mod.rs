//! Structs that cross the kernel boundary.
mod reason;
pub use reason::{Direction, REASONS, Reason};
