//! No series description faults.
#![no_main]
libfuzzer_sys::fuzz_target!(|text: &str| ferula_promql_parser::fuzzing::series(text));
