//! No request faults, and what prost reads our reader reads alike.
#![no_main]
libfuzzer_sys::fuzz_target!(|request: &[u8]| ferula_server::fuzzing::remote_write(request));
