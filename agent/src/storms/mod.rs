//! What is wrong: detectors look at the servers every 100 ms and find storms. Pure policy: a moment and numbers in, findings out;
//! no clock, no I/O.

mod storm;

pub use storm::{Culprit, Figure, Kind, Moment, Severity, Storm, Subject};
