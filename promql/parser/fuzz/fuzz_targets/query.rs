//! Whatever parses prints, and the print parses to the same print.
#![no_main]
libfuzzer_sys::fuzz_target!(|text: &str| ferula_promql_parser::fuzzing::query(text));
