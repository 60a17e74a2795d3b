//! The bodies of the fuzz targets are those of the meter's own tests: here they are compiled once more, for the fuzzer.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "the tests use more of these modules than the targets do")]

#[path = "../../../agent-common/tests/meter/books.rs"]
mod books;
#[path = "../../../agent-common/tests/meter/capture.rs"]
mod capture;
#[path = "../../../agent-common/tests/meter/fragments.rs"]
mod fragments;
#[path = "../../../agent-common/tests/meter/model/mod.rs"]
mod model;
#[path = "../../../agent-common/tests/meter/noise.rs"]
mod noise;
#[path = "../../../agent-common/tests/meter/random/mod.rs"]
mod random;
#[path = "../../../agent-common/tests/meter/wire.rs"]
mod wire;

/// Any bytes, in both directions and any segments: no panic, every byte in the books once, and the same books however the
/// bytes are cut.
pub fn bytes(input: &[u8]) {
    noise::check(input);
}

/// A conversation that the input's bytes make: the books are those of the model.
pub fn conversations(input: &[u8]) {
    if let Err(difference) = random::checks::check(&random::Script::from_bytes(input)) {
        panic!("{difference}");
    }
}
