//! cargo-fuzz's program around [`weft_fuzz::expressions`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::expressions::run(data));
