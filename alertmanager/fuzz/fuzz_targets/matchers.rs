//! Both matcher grammars: any text is read or refused, and what was read prints as something that reads the same.
#![no_main]
use ferula_alertmanager::matcher::{parse_matcher, parse_matchers, print_set};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = parse_matcher(text, "fuzz");
    if let Ok(set) = parse_matchers(text, "fuzz") {
        let printed = print_set(&set);
        if let Ok(again) = parse_matchers(&printed, "fuzz") {
            assert_eq!(again, set, "{printed}");
        }
    }
});
