//! cargo-fuzz's program around [`weft_fuzz::protobuf`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::protobuf::run(data));
