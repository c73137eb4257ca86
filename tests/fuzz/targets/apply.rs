//! cargo-fuzz's program around [`weft_fuzz::apply`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::apply::run(data));
