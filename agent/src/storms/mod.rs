//! What is wrong: detectors look at the connections of the servers every 100 ms, at their traffic every second, and find storms. Pure policy: a moment and numbers in, findings out;
//! no clock, no I/O, no order of maps.
//!
//! | file | what it knows |
//! |---|---|
//! | `storm` | what a storm is: what alerts, incident files and the API show |
//! | `observation` | what is looked at: counters of a server, and who its clients are |
//! | `course` | the last seconds of a server, tick by tick |
//! | `usual` | what is usual for it: rates with their spread, hours of the day; cumulative sums |
//! | `changes` | what each client did since a quiet moment, and who stands out |
//! | `guests` | who comes and goes |
//! | `traffic` | what the commands come to, second by second; what is usual of it, and who has more |
//! | `excess` | what the detectors of traffic have in common |
//! | `finding` | what a detector is given and answers |
//! | `reconnect_churn` ... | one file for each kind |
//! | `engine` | all detectors at all servers: findings in, storms with a beginning and an end out |
//! | `expectation` | what somebody has announced |
//! | `words` | a storm in one sentence |
#![forbid(unsafe_code)]

mod accept_queue_saturation;
mod bandwidth_saturation;
mod changes;
mod cold_reconnect;
mod connection_growth;
mod course;
mod engine;
mod error_burst;
mod excess;
mod expectation;
mod finding;
mod guests;
mod hot_prefix;
mod maxclients_rejection;
mod observation;
mod oversized_values;
mod reconnect_churn;
mod retry_amplification;
mod storm;
#[cfg(test)]
mod tests;
mod traffic;
mod usual;
mod words;

pub use engine::{Engine, Event};
pub use expectation::Expectation;
pub use observation::{ClientDetail, Detail, Observation};
pub use storm::{Culprit, Figure, Kind, Moment, Severity, Storm, Subject};
pub use traffic::{SIZES, Sizes, Traffic, TrafficRow};
