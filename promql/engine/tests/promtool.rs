//! Generated queries answered here and judged by the real `promtool test rules`, which evaluates them with Prometheus's
//! own engine: `PEERS` names the folder that holds it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::fmt::Write as _;
use std::process::Command;

use ferula_model::labels::quoted;
use ferula_model::number::format_f;
use ferula_promql_engine::{Engine, EngineOptions, QueryOptions, Sample, SampleValue, Value};
use ferula_promql_parser::{ParseOptions, parse_expr_with};
use ferula_storage::QueryContext;

/// What Prometheus changed on purpose after 3.5, or does not know yet; and the default subquery step, which is not ours.
const CHANGED: [&str; 6] = ["first_over_time", "mad_over_time", "ts_of_", "histogram_fraction", "minute(", "[10m:]"];
const QUERIES: u64 = 5000;

#[test]
fn answers_are_prometheuss() {
    let Some(promtool) = std::env::var_os("PEERS").map(|p| std::path::Path::new(&p).join("promtool")) else {
        println!("SKIPPED promtool: PEERS is not set");
        return;
    };
    if !promtool.exists() {
        println!("SKIPPED promtool: {} does not exist", promtool.display());
        return;
    }
    let store = support::store();
    let engine = Engine::new(EngineOptions::default());
    let options = ParseOptions { experimental_functions: true, ..ParseOptions::default() };
    let mut file = String::from(
        "rule_files: []\nfuzzy_compare: true\nevaluation_interval: 15s\ntests:\n- interval: 15s\n  input_series:\n",
    );
    for line in support::DATA.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (series, values) = line.split_at(line.find('}').map_or(0, |i| i + 1));
        writeln!(file, "  - series: {}\n    values: {}", quoted(series), quoted(values.trim())).unwrap();
    }
    file.push_str("  promql_expr_test:\n");
    let mut asked = 0;
    for seed in 0..QUERIES {
        let query = support::expression(seed);
        if CHANGED.iter().any(|c| query.contains(c)) {
            continue;
        }
        let t_ms = 60_000 + seed as i64 * 1_380_000 / QUERIES as i64;
        let Ok(expr) = parse_expr_with(&query, &options) else { continue };
        let ctx = QueryContext::background();
        let Ok(answer) = engine.instant(&ctx, &*store, &expr, t_ms, &QueryOptions::default()) else { continue };
        let Value::Vector(samples) = answer.value else { panic!("not a vector") };
        // promtool takes no NaN for equal to another, and compares reset hints that mean nothing in a result.
        let plain = |s: &Sample| matches!(s.value, SampleValue::Float(v) if !v.is_nan());
        if !samples.iter().all(plain) {
            continue;
        }
        writeln!(file, "  - expr: {}\n    eval_time: {t_ms}ms\n    exp_samples:", quoted(&query)).unwrap();
        for s in samples {
            let value = match s.value {
                SampleValue::Float(v) => format!("value: {}", format_f(v).replace("Inf", ".inf")),
                SampleValue::Histogram(h) => format!("histogram: {}", quoted(&h.test_expression())),
            };
            writeln!(file, "    - labels: {}\n      {value}", quoted(&s.labels.to_string())).unwrap();
        }
        asked += 1;
    }
    // promtool loads samples up to about the latest evaluation.
    file.push_str("  - expr: vector(1)\n    eval_time: 40m\n    exp_samples:\n    - value: 1\n");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("generated.yml");
    std::fs::write(&path, file).unwrap();
    let run = Command::new(&promtool)
        .args(["--enable-feature=promql-experimental-functions", "test", "rules"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    println!("promtool: {asked} queries, {} differ", said.matches("expr:").count());
    assert!(run.status.success(), "promtool disagrees:\n{}", said.chars().take(6_000).collect::<String>());
}
