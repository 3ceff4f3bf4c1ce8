//! Configuration files: read or refused, and printable without secrets.
#![no_main]
use ferula_alertmanager::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(config) = Config::check("fuzz", text) {
        let _ = config.to_yaml();
    }
});
