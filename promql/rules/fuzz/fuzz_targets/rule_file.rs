//! Any text as a rule file: accepted, or refused with reasons; no panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Err(errors) = ferula_promql_rules::file::parse("f.yml", text) {
        assert!(!errors.is_empty());
    }
});
