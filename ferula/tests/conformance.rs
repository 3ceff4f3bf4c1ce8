//! The PromQL conformance scripts over HTTP, by the corpus's own runner, against the built binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::process::Command;

use support::{named, stderr, stdout};

/// What has passed before must go on passing; raise it when more does.
const PASSED_MIN: usize = 1542;

/// All that the scripts use.
const FEATURES: &str = "promql-experimental-functions,promql-duration-expr,promql-delayed-name-removal,native-histograms,exemplar-storage,promql-extended-range-selectors,promql-binop-fill-modifiers,st-storage,use-start-timestamps,xor2-encoding,histograms-st-encoding,type-and-unit-labels";

#[test]
fn promqltest_over_http() {
    const SUITE: &str = "promqltest over HTTP";
    let Some(corpus) = ferula_testkit::corpus(SUITE, "promqltest") else { return };
    if Command::new("python3").arg("--version").output().is_err() {
        return ferula_testkit::skipped(SUITE, "python3 is not there");
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("python3")
        .arg(corpus.parent().unwrap().join("runners/promqltest_http.py"))
        .arg(&corpus)
        .arg("--bin")
        .arg(named(dir.path(), "prometheus"))
        .args(["--features", FEATURES])
        .env("CONF_TMP", dir.path())
        .output()
        .unwrap();
    let text = stdout(&output);
    println!("{text}");
    let total = text.lines().find(|l| l.starts_with("TOTAL ")).unwrap_or_else(|| panic!("{text}{}", stderr(&output)));
    let passed: usize = total["TOTAL ".len()..].split('/').next().unwrap().parse().unwrap();
    assert!(passed >= PASSED_MIN, "{total}: at least {PASSED_MIN} passed before");
}
