//! Any rule on any labels: refused or applied, never a panic, and never an empty name or value.
#![no_main]
libfuzzer_sys::fuzz_target!(|text: &str| ferula_model::relabel::check_rule(text));
