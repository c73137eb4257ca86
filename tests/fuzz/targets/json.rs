//! cargo-fuzz's program around [`weft_fuzz::json`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::json::run(data));
