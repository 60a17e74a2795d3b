//! libFuzzer's way into [`stormglass_fuzz::conversations`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stormglass_fuzz::conversations(input));
