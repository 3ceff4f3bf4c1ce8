//! The corpus's rule unit tests, and the same files through the real promtool: one report each, letter by letter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use ferula_promql_engine::test_language::MemoryStore;
use ferula_promql_rules::unit_test::{FileResult, UnitTestOptions, run};

fn ours(path: &std::path::Path) -> FileResult {
    run(path, &UnitTestOptions::default(), &|| Arc::new(MemoryStore::new()))
}

fn corpus() -> Option<PathBuf> {
    std::env::var_os("FERULA_CORPUS").map(|c| PathBuf::from(c).join("rules/promtool")).filter(|p| p.is_dir())
}

#[test]
fn the_corpus_passes_and_fails_where_it_should() {
    let Some(dir) = corpus() else {
        println!("SKIPPED rules/unit_tests: FERULA_CORPUS names no directory");
        return;
    };
    let mut right = 0;
    let expected = [
        ("unittest.yml", true),
        ("at-modifier-test.yml", true),
        ("negative-offset-test.yml", true),
        ("start-time-test.yml", true),
        ("no-test-group-interval.yml", true),
        ("long-period.yml", true),
        ("failing.yml", false),
        ("rules_run.yml", false),
        ("rules_run_fuzzy.yml", false),
        ("rules_run_no_fuzzy.yml", false),
        ("bad-input-series.yml", false),
        ("bad-promql.yml", false),
        ("bad-rules-error-test.yml", false),
        ("bad-rules-syntax-test.yml", false),
        ("rules_run_extrafields.yml", false),
    ];
    for (name, passes) in expected {
        let result = ours(&dir.join(name));
        assert_eq!(result.is_success(), passes, "{name}: {}", result.report());
        right += 1;
    }
    println!("rule unit tests: {right} of {} corpus files as named", expected.len());
    let fuzzy = ours(&dir.join("rules_run_fuzzy.yml"));
    let failed: Vec<&str> = fuzzy.tests.iter().filter(|t| !t.failures.is_empty()).map(|t| t.name.as_str()).collect();
    assert_eq!(failed, ["wrong fuzzy match"]);
    let only = UnitTestOptions { only: vec!["^correct".into()], ..UnitTestOptions::default() };
    assert!(run(&dir.join("rules_run.yml"), &only, &|| Arc::new(MemoryStore::new())).is_success());
}

#[test]
fn reports_read_as_promtools() {
    let promtool = std::env::var_os("PEERS").map(|p| PathBuf::from(p).join("promtool")).filter(|p| p.exists());
    let (Some(dir), Some(promtool)) = (corpus(), promtool) else {
        println!("SKIPPED rules/promtool: FERULA_CORPUS or PEERS is missing");
        return;
    };
    let files = [
        "unittest.yml",
        "failing.yml",
        "rules_run.yml",
        "rules_run_fuzzy.yml",
        "rules_run_no_fuzzy.yml",
        "bad-input-series.yml",
        "bad-rules-syntax-test.yml",
        "no-test-group-interval.yml",
        "long-period.yml",
        "at-modifier-test.yml",
        "negative-offset-test.yml",
        "bad-promql.yml",
        "bad-rules-error-test.yml",
    ];
    for name in files {
        let out = Command::new(&promtool).args(["test", "rules"]).arg(dir.join(name)).output().unwrap();
        // Blank lines apart: promtool puts one to standard output for every failure.
        let printed = if out.status.success() { &out.stdout } else { &out.stderr };
        let theirs = String::from_utf8_lossy(printed).into_owned();
        let result = ours(&dir.join(name));
        assert_eq!(result.is_success(), out.status.success(), "{name}");
        if !name.starts_with("bad-promql") && !name.starts_with("bad-rules-error") {
            // Those two name series in the order a map gives them.
            assert_eq!(result.report().trim_end(), theirs.trim_end(), "{name}");
        }
    }
    println!("rule unit tests: {} reports as promtool's", files.len());
}
