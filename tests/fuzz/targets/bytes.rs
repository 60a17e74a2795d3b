//! libFuzzer's way into [`stormglass_fuzz::bytes`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stormglass_fuzz::bytes(input));
