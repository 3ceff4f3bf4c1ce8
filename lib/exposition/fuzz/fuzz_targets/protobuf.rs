//! Any body: no panic, an end, and only histograms that are valid.
#![no_main]
use ferula_exposition::parse::check_protobuf;

libfuzzer_sys::fuzz_target!(|body: &[u8]| check_protobuf(body));
