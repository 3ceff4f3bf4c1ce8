//! Our own promqltest scripts: what every build has to pass, with or without a corpus.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::Arc;

use ferula_promql_engine::test_language::{MemoryStore, run, test_engine};

#[test]
fn scripts() {
    for (name, text) in [
        ("selectors", include_str!("scripts/selectors.test")),
        ("operators", include_str!("scripts/operators.test")),
        ("functions", include_str!("scripts/functions.test")),
    ] {
        let outcomes = run(text, &test_engine(), &|| Arc::new(MemoryStore::new())).expect("the script can be read");
        for o in &outcomes {
            assert!(o.failure.is_none(), "{name}.test:{} {}\n{}", o.line, o.expr, o.failure.as_deref().unwrap_or(""));
        }
        println!("{name}: {} passed", outcomes.len());
    }
}

#[test]
fn fuzz_seeds() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/evaluate");
    let mut n = 0;
    for seed in std::fs::read_dir(folder).expect("seeds are part of the crate") {
        let text = std::fs::read_to_string(seed.unwrap().path()).unwrap();
        ferula_promql_parser::parse_expr_with(&text, &ferula_promql_engine::test_language::test_parse_options())
            .unwrap_or_else(|e| panic!("{text}: {e}"));
        ferula_promql_engine::test_language::evaluate_anything(&text);
        n += 1;
    }
    assert!(n >= 6);
}

#[test]
fn wrong_scripts_say_where() {
    for (text, line) in [
        ("load 1x\n", 1),
        ("load 1m\n  up{ 1\n", 2),
        ("\nfrobnicate\n", 2),
        ("eval instant at 1m up\n  expect soon\n", 2),
        ("eval range from 0 until 5m step 1m up\n", 1),
    ] {
        let error = run(text, &test_engine(), &|| Arc::new(MemoryStore::new())).expect_err(text);
        assert_eq!(error.line, line, "{text:?}: {error}");
    }
}
