//! cargo-fuzz's program around [`weft_fuzz::websocket`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::websocket::run(data));
