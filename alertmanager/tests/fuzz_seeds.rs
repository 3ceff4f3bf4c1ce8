//! Replays the seeds of the fuzz targets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use ferula_alertmanager::config::Config;
use ferula_alertmanager::matcher::{parse_matcher, parse_matchers, print_set};
use std::path::Path;

fn seeds(target: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files = std::fs::read_dir(folder).unwrap().map(|e| std::fs::read_to_string(e.unwrap().path()).unwrap());
    files.collect()
}

#[test]
fn matchers_are_read_or_refused_and_print_as_they_read() {
    for text in seeds("matchers") {
        let _ = parse_matcher(&text, "seed");
        if let Ok(set) = parse_matchers(&text, "seed") {
            assert_eq!(parse_matchers(&print_set(&set), "seed").unwrap(), set, "{text}");
        }
    }
}

#[test]
fn configurations_are_read_or_refused() {
    let read =
        seeds("config").iter().filter(|t| Config::check("seed", t).is_ok_and(|c| !c.to_yaml().is_empty())).count();
    assert_eq!(read, 1);
}
