//! Alert templates through the real promtool and through this crate: the same annotations, errors included.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use ferula_promql_engine::test_language::MemoryStore;
use ferula_promql_rules::unit_test::{UnitTestOptions, run};

const TEXTS: &[&str] = &[
    "{{ $value }} {{ $value | humanize }} {{ $value | humanize1024 }} {{ $value | humanizeDuration }} {{ $value | humanizePercentage }} {{ $value | humanizeTimestamp }}",
    "{{ humanize 0.0 }} {{ humanize 1e-10 }} {{ humanize -1234 }} {{ humanize \"12345\" }} {{ humanize 5 }} {{ humanize 1e30 }} {{ humanize 0.999999 }}",
    "{{ humanize \"x\" }}",
    "{{ humanize true }}",
    "{{ humanize1024 1048576 }} {{ humanize1024 1 }} {{ humanize1024 0.5 }} {{ humanize1024 -3000 }} {{ humanize1024 1e30 }}",
    "{{ humanizeDuration 0 }} {{ humanizeDuration 59.9999 }} {{ humanizeDuration 60 }} {{ humanizeDuration 3661 }} {{ humanizeDuration 90061.5 }} {{ humanizeDuration -65 }} {{ humanizeDuration 0.00012 }} {{ humanizeDuration -0.5 }} {{ humanizeDuration 1e-12 }} {{ humanizeDuration \"1\" }}",
    "{{ humanizePercentage 0.1234567 }} {{ humanizePercentage 2 }} {{ humanizePercentage 0 }} {{ humanizePercentage 1e-9 }}",
    "{{ humanizeTimestamp 0 }} {{ humanizeTimestamp 1435065584.128 }} {{ humanizeTimestamp -1.5 }} {{ humanizeTimestamp 1e300 }}",
    "{{ (1435065584.128 | toTime).Format \"2006-01-02T15:04:05.000Z07:00\" }} {{ toTime 0 }} {{ (toTime 1435065584).Year }}",
    "{{ $labels.instance }} {{ $labels.none }} {{ $labels.alertname }} {{ $labels }} {{ .Labels.job }} {{ .Value }} {{ .Nope }}",
    "{{ $externalLabels.dc }} {{ $externalURL }} {{ .ExternalLabels }} {{ .ExternalURL }}",
    "{{ range $k, $v := $labels }}{{ $k }}={{ $v }},{{ end }}",
    "{{ toUpper \"abcß\" }} {{ toLower \"ABC\" }} {{ title \"foo bar-baz FOO o'neil x_y\" }} {{ match \"^a.c$\" \"abc\" }} {{ match \"a(\" \"abc\" }}",
    "{{ reReplaceAll \"(.*):(.*)\" \"$2-${1}\" $labels.instance }} {{ reReplaceAll \"a\" \"$0$0\" \"banana\" }}",
    "{{ reReplaceAll \"(\" \"\" \"x\" }}",
    "{{ stripPort \"host:80\" }} {{ stripPort \"host\" }} {{ stripPort \"[::1]:80\" }} {{ stripPort \"a:b:c\" }} {{ stripPort \"1.2.3.4:9\" }} {{ stripPort \"::1\" }}",
    "{{ stripDomain \"host.example.com:80\" }} {{ stripDomain \"host.example.com\" }} {{ stripDomain \"1.2.3.4\" }} {{ stripDomain \"1.2.3.4:80\" }} {{ stripDomain \"[::1]:80\" }} {{ stripDomain \"x\" }}",
    "{{ graphLink \"up == 0\" }} {{ tableLink \"rate(x{a=\\\"b\\\"}[5m])\" }}",
    "{{ parseDuration \"1h30m\" }} {{ parseDuration \"1d\" }} {{ parseDuration \"90s\" | humanizeDuration }}",
    "{{ parseDuration \"x\" }}",
    "{{ parseDuration \"\" }}",
    "{{ query \"other\" | sortByLabel \"z\" | first | value }} {{ query \"other\" | len }} {{ query \"none\" | len }} {{ with query \"none\" }}x{{ else }}empty{{ end }}",
    "{{ query \"none\" | first | value }}",
    "{{ query \"up +\" | first }}",
    "{{ range query \"other\" | sortByLabel \"z\" }}{{ .Labels.z }}={{ .Value }} {{ . | label \"z\" }} {{ . | strvalue }};{{ end }}",
    "{{ with printf \"other{z='%s'}\" \"b\" | query }}{{ . | first | value | humanize }}{{ end }}",
    "{{ (query \"other\" | sortByLabel \"z\" | first).Labels }} {{ query \"count(other)\" | first | value }} {{ query \"5\" | first | value }}",
    "{{ label \"x\" 1 }}",
    "{{ first 1 }}",
    "{{ define \"t\" }}[{{ .arg0 }}|{{ .arg1 }}]{{ end }}{{ template \"t\" (args 1 \"b\") }}",
    "{{ safeHtml \"<b>\" }} {{ \"<b>\" }} {{ html \"<b>\" }}",
    "{{ args 1 \"a\" 2.5 }} {{ len (args) }}",
    "{{ printf \"%.2f %v %d %s %q %e\" $value $value 3 $labels.job $labels.job $value }}",
    "{{ if gt $value 100.0 }}big{{ else if gt $value 10.0 }}mid{{ else }}small{{ end }} {{ eq $labels.job \"node\" }}",
    "{{ if gt $value 100 }}big{{ end }}",
    "{{ $value.Foo }}",
    "{{ $labels.job.Foo }}",
    "{{ index $labels \"job\" }} {{ index $labels \"none\" }}",
    "{{ nil }}",
    "{{ $x := 5 }}{{ range 3 }}{{ $x }}{{ end }}",
    "a\n{{ $labels.job.x }}",
    "{{ template \"nope\" }}",
    "{{ len $value }}",
    "{{ $value | printf \"%.1f%%\" }} {{ 100 | printf \"%d\" }}",
    "{{ urlquery \"a b/c\" }} {{ js \"'<\" }}",
    "{{ slice \"abcdef\" 1 3 }} {{ print 1 2 \"x\" }} {{ println }}",
    "{{- $labels.job -}}  x",
    "{{ /* no comment */ }}",
    "plain } text {",
    "{{ toTime $value | printf \"%v\" }} {{ toTime \"x\" }}",
    "{{ 1 | value }}",
    "{{ strvalue \"x\" }}",
    "{{ sortByLabel \"a\" 1 }}",
];

/// Both reports list the alert's annotations as they came out.
#[test]
fn annotations_are_promtools() {
    let Some(promtool) = std::env::var_os("PEERS").map(|p| PathBuf::from(p).join("promtool")).filter(|p| p.exists())
    else {
        println!("SKIPPED rules/templates: PEERS names no promtool");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let quote = |s: &str| serde_json::to_string(s).unwrap();
    let (mut same, mut refused, mut differ) = (0, 0, Vec::new());
    for text in TEXTS {
        let rules = format!(
            "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up > 0\n    annotations: {{a: {}}}\n",
            quote(text)
        );
        let tests = "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  external_labels: {dc: eu}\n  external_url: http://p:9090/x\n  input_series:\n  - {series: 'up{job=\"node\",instance=\"h.ex.org:9100\"}', values: '1234567.891 1234567.891'}\n  - {series: 'other{z=\"b\"}', values: '42 42'}\n  - {series: 'other{z=\"a\",__value__=\"v\"}', values: '0.5 0.5'}\n  alert_rule_test:\n  - {eval_time: 1m, alertname: A, exp_alerts: []}\n";
        std::fs::write(dir.path().join("rules.yml"), rules).unwrap();
        let file = dir.path().join("test.yml");
        std::fs::write(&file, tests).unwrap();
        let out = Command::new(&promtool).args(["test", "rules"]).arg(&file).output().unwrap();
        let theirs = String::from_utf8_lossy(&out.stderr).into_owned();
        let ours = run(&file, &UnitTestOptions::default(), &|| Arc::new(MemoryStore::new())).report();
        if ours.trim_end() == theirs.trim_end() {
            same += 1;
            refused += usize::from(!theirs.contains("Annotations"));
        } else {
            differ.push(format!("{text:?}\n  theirs: {theirs}\n  ours:   {ours}"));
        }
    }
    println!("alert templates: {same} of {} as promtool ({refused} refused at load)", TEXTS.len());
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
