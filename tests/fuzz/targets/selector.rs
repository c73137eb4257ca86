//! cargo-fuzz's program around [`weft_fuzz::selector`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::selector::run(data));
