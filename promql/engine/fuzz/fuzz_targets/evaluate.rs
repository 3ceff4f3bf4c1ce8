//! Any text that parses evaluates, as an instant and as a range query, within its limits and without a panic.
#![no_main]
libfuzzer_sys::fuzz_target!(|text: &str| ferula_promql_engine::test_language::evaluate_anything(text));
