//! Any body: no panic, an end, and the short cut for known lines finds what the full parse finds.
#![no_main]
use ferula_exposition::parse::{Syntax, check_short_cut};

libfuzzer_sys::fuzz_target!(|body: &[u8]| check_short_cut(body, Syntax::OpenMetrics));
