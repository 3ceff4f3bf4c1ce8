//! What the fuzz targets check, here so that a normal test replays their seeds.
#![allow(clippy::panic)] // a violated claim is to stop the fuzzer

use crate::{ParseOptions, parse_expr_with, pretty, series_description, to_json};

/// Every gate open: all of the grammar.
pub fn everything() -> ParseOptions {
    ParseOptions {
        experimental_functions: true,
        extended_range_selectors: true,
        fill_modifiers: true,
        ..ParseOptions::default()
    }
}

/// Whatever parses prints, and the print parses to the same print.
pub fn query(text: &str) {
    let options = everything();
    let Ok(e) = parse_expr_with(text, &options) else { return };
    let printed = e.to_string();
    // Strings that are no UTF-8 print longer than they were, and in matchers as U+FFFD, which no query may hold.
    if printed.len() > options.length_max || printed.contains(char::REPLACEMENT_CHARACTER) {
        return;
    }
    for again in [printed.clone(), pretty(&e)] {
        match parse_expr_with(&again, &options) {
            Ok(second) if second.to_string() == printed => {}
            Ok(second) => panic!("{text:?} prints as {printed:?}, and that as {:?}", second.to_string()),
            Err(error) => panic!("{text:?} prints as {again:?}: {error}"),
        }
    }
    assert!(to_json(&e).starts_with('{'));
}

/// No series description faults.
pub fn series(text: &str) {
    let _ = series_description::parse(text);
    let _ = series_description::parse_metric(text);
}

#[cfg(test)]
mod tests {
    fn replay(folder: &str, check: impl Fn(&str)) -> usize {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(folder);
        let files = std::fs::read_dir(dir).unwrap().map(|f| std::fs::read_to_string(f.unwrap().path()).unwrap());
        files.map(|text| check(&text)).count()
    }

    #[test]
    fn seeds_replay() {
        assert!(replay("query", super::query) >= 12);
        assert!(replay("series", super::series) >= 4);
    }

    mod properties {
        use proptest::prelude::*;

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(128))]

            /// Words of the grammar in any order.
            #[test]
            fn print_and_parse_agree(words in proptest::collection::vec(prop_oneof![
                Just("a"), Just("sum"), Just("("), Just(")"), Just("{b=\"c\"}"), Just("[5m]"), Just("[5m:]"), Just("+"), Just("-"),
                Just("^"), Just("offset"), Just("1"), Just("1h"), Just("@"), Just("start()"), Just(" by (a)"), Just("step()"),
                Just(","), Just("=="), Just(" bool "), Just(" on (a) "), Just("group_left"), Just("min_of("), Just("'x'"),
                Just("anchored"), Just("fill(1)"), Just("and"), Just("</"), Just("rate("), Just(" (2*step()) "), Just("-(")
            ], 0..12)) {
                crate::fuzzing::query(&words.join(" "));
                crate::fuzzing::query(&words.concat());
            }

            #[test]
            fn no_text_faults(text in "\\PC{0,60}") {
                crate::fuzzing::query(&text);
                crate::fuzzing::series(&text);
                crate::fuzzing::series(&format!("m {text}"));
            }
        }
    }
}
