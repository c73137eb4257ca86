//! cargo-fuzz's program around [`weft_fuzz::spdy`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::spdy::run(data));
