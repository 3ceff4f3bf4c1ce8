//! A pattern (first line) is translated or refused; its literals agree with its matches on the other lines.
#![no_main]
libfuzzer_sys::fuzz_target!(|text: &str| ferula_regex::fuzzing::pattern(text));
