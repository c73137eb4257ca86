//! cargo-fuzz's program around [`weft_fuzz::patch`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::patch::run(data));
