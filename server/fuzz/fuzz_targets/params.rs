//! No parameter faults, and no time is accepted that an answer could not print.
#![no_main]
libfuzzer_sys::fuzz_target!(|query: &str| ferula_server::fuzzing::params(query));
