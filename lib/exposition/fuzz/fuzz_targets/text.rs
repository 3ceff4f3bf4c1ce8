//! Any body: no panic, an end, and the short cut for known lines finds what the full parse finds.
#![no_main]
use ferula_exposition::parse::{Syntax, check_text};

libfuzzer_sys::fuzz_target!(|body: &[u8]| check_text(body, Syntax::Text));
