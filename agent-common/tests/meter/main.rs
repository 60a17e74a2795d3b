//! The RESP meter as the kernel drives it, on the host: recorded conversations, TCP's surprises, restarts, and random
//! conversations compared with a model. See `tests/captures/README.md` for the recordings.
#![forbid(unsafe_code)]

mod books;
mod capture;
mod classes;
mod corpus;
mod corpus_of_fuzz;
mod details;
mod findings;
mod fragments;
mod identities;
mod model;
mod noise;
mod openings;
mod property;
mod random;
mod repeated;
mod resp;
mod restarts;
mod subscriptions;
mod tcp;
mod whole;
mod wire;
