//! The life of alerts, evaluation by evaluation, against the real promtool: the alert-generator rules of the Prometheus
//! compliance programme, and rules that hold, keep firing, flap, chain and record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ferula_promql_engine::test_language::MemoryStore;
use ferula_promql_rules::unit_test::{UnitTestOptions, run};

const OWN: &str = r#"
groups:
- name: states
  interval: 30s
  rules:
  - {alert: NoHold, expr: v > 10}
  - {alert: Hold, expr: v > 10, for: 2m, labels: {sev: "{{ if gt $value 20.0 }}high{{ else }}low{{ end }}"}, annotations: {v: "{{ $value }}"}}
  - {alert: Keeps, expr: v > 10, keep_firing_for: 2m}
  - {alert: HoldsAndKeeps, expr: v > 10, for: 1m, keep_firing_for: 90s}
  - {alert: OnAlert, expr: 'ALERTS{alertname="Hold",alertstate="firing"}', labels: {alertstate: mine}}
  - {alert: Absent, expr: 'absent(v{i="none"})', for: 45s}
  - {alert: Scalar, expr: 1}
  - {record: v:sum, expr: sum by (i) (v), labels: {team: a}}
  - {record: "v:next", expr: "v:sum + 1"}
- name: limited
  limit: 1
  rules:
  - {alert: OneOnly, expr: v > 10}
"#;

/// Values for every 30 s: below and above ten, gaps, stale markers.
const VALUES: [&str; 4] = [
    "5 5 15 15 15 15 15 15 5 5 15 5 25 25 5 5 5 5 5 5 15 _ _ 15 stale 15 15 15 15 15 5 5 5 5",
    "15x8 5x3 15x1 5x1 15x1 5x1 15x12",
    "_ _ _ 11+1x10 stale _ 11x9",
    "15 5 15 5 15 5 15 5 _x6 15x10 5",
];

fn tests(rules: &str, series: &[String], alerts: &[&str]) -> String {
    let mut t = format!("rule_files: [{rules}]\nevaluation_interval: 30s\ntests:\n- interval: 30s\n  input_series:\n");
    for s in series {
        for (i, values) in VALUES.iter().enumerate() {
            let labels = s.trim_end_matches('}');
            let sep = if labels.ends_with('{') { "" } else { "," };
            let _ = writeln!(t, "  - {{series: '{labels}{sep}i=\"{i}\"}}', values: '{values}'}}");
        }
    }
    t.push_str("  promql_expr_test:\n");
    for step in 0..60 {
        for expr in ["ALERTS", "ALERTS_FOR_STATE", "v:sum", "v:next"] {
            let _ = writeln!(
                t,
                "  - {{expr: '{expr}', eval_time: {}s, exp_samples: [{{labels: none, value: 1}}]}}",
                step * 30
            );
        }
    }
    t.push_str("  alert_rule_test:\n");
    for step in 0..60 {
        for name in alerts {
            let _ = writeln!(
                t,
                "  - {{alertname: '{name}', eval_time: {}s, exp_alerts: [{{exp_labels: {{none: none}}}}]}}",
                step * 30
            );
        }
    }
    t
}

/// Both reports, for a rule file written to `dir`.
fn reports(promtool: &Path, dir: &Path, rules: &str, tests: &str) -> (String, String) {
    std::fs::write(dir.join("rules.yml"), rules).unwrap();
    let file = dir.join("tests.yml");
    std::fs::write(&file, tests).unwrap();
    let out = Command::new(promtool).args(["test", "rules"]).arg(&file).output().unwrap();
    let theirs = String::from_utf8_lossy(&out.stderr).into_owned();
    let ours = run(&file, &UnitTestOptions::default(), &|| Arc::new(MemoryStore::new())).report();
    (ours, theirs)
}

fn compare(name: &str, ours: &str, theirs: &str) {
    assert!(theirs.lines().count() > 100, "{theirs}");
    for (i, (a, b)) in ours.trim_end().lines().zip(theirs.trim_end().lines()).enumerate() {
        assert_eq!(a, b, "{name}, line {i}");
    }
    assert_eq!(ours.trim_end().lines().count(), theirs.trim_end().lines().count(), "{name}");
    println!("alert states, {name}: {} lines as promtool", theirs.trim_end().lines().count());
}

#[test]
fn states_are_promtools() {
    let Some(promtool) = std::env::var_os("PEERS").map(|p| PathBuf::from(p).join("promtool")).filter(|p| p.exists())
    else {
        println!("SKIPPED rules/alert_states: PEERS names no promtool");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let own = OWN.split("- name: limited").next().unwrap();
    let names = ["NoHold", "Hold", "Keeps", "HoldsAndKeeps", "OnAlert", "Absent", "Scalar"];
    let (ours, theirs) = reports(&promtool, dir.path(), own, &tests("rules.yml", &["v{}".into()], &names));
    compare("own rules", &ours, &theirs);
    // A rule over its limit is an error, which ends the test.
    let (ours, theirs) = reports(&promtool, dir.path(), OWN, &tests("rules.yml", &["v{}".into()], &[]));
    assert_eq!(ours.trim_end(), theirs.trim_end());

    let Some(corpus) = std::env::var_os("FERULA_CORPUS").map(PathBuf::from).filter(|p| p.is_dir()) else {
        println!("SKIPPED rules/alert_generator: FERULA_CORPUS names no directory");
        return;
    };
    let rules = std::fs::read_to_string(corpus.join("rules/alert-generator/rules.yaml")).unwrap();
    let (mut series, mut names) = (Vec::new(), Vec::new());
    for line in rules.lines() {
        if let Some(name) = line.trim().strip_prefix("- alert: ") {
            names.push(name);
        }
        if let Some(selector) = line.trim().strip_prefix("expr: '{__name__=\"alert_generator_test_suite\", ") {
            let labels = selector.split('}').next().unwrap();
            for variant in ["one", "two"] {
                series.push(format!("alert_generator_test_suite{{{labels},variant=\"{variant}\"}}"));
            }
        }
    }
    assert_eq!((series.len(), names.len()), (12, 7));
    let (ours, theirs) = reports(&promtool, dir.path(), &rules, &tests("rules.yml", &series, &names));
    compare("alert generator", &ours, &theirs);
}
