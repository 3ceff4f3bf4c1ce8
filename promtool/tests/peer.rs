//! The real promtool and this one on the same input: one standard output, one exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ferula_testkit::{Peer, Running, skipped};

/// What a run gave.
#[derive(Debug, PartialEq)]
struct Ran {
    code: u8,
    out: String,
    err: String,
}

fn ours(words: &[&str], input: &[u8]) -> Ran {
    let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    let (mut out, mut err, mut input) = (Vec::new(), Vec::new(), input);
    let mut streams = ferula_promtool::Streams { input: &mut input, out: &mut out, err: &mut err };
    let code = ferula_promtool::run(&words, "promtool, version test", &mut streams);
    Ran { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

fn theirs(promtool: &Path, words: &[&str], input: &[u8]) -> Ran {
    let mut child = Command::new(promtool)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input))); // it may stop reading early
    let done = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Ran {
        code: u8::try_from(done.status.code().unwrap()).unwrap(),
        out: String::from_utf8_lossy(&done.stdout).into_owned(),
        err: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

fn promtool() -> Option<PathBuf> {
    Peer::find("promtool", (3, 0, 0)).map(|p| p.path).map_err(|why| skipped("promtool/peer", &why)).ok()
}

fn corpus(folder: &str) -> Option<PathBuf> {
    let found = std::env::var_os("FERULA_CORPUS").map(|c| PathBuf::from(c).join(folder)).filter(|p| p.is_dir());
    if found.is_none() {
        skipped("promtool/peer", "FERULA_CORPUS names no directory");
    }
    found
}

/// All files below a folder, sorted.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Runs both on every file; those that differ are listed. Answers how many were equal.
fn compare(what: &str, runs: impl Iterator<Item = (Vec<String>, Vec<u8>)>, full: bool, known: &[&str]) -> usize {
    let Some(promtool) = promtool() else { return 0 };
    let (mut equal, mut different) = (0, Vec::new());
    for (words, input) in runs {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (mut a, mut b) = (ours(&words, &input), theirs(&promtool, &words, &input));
        if !full {
            (a.err, b.err) = (String::new(), String::new());
        }
        if a.code == 1 && what == "check metrics" {
            // Parsers differ in how they say what is wrong.
            (a.err, b.err) = (String::new(), String::new());
        }
        if a == b {
            equal += 1;
        } else if !known.iter().any(|k| words.iter().any(|w| w.ends_with(k))) {
            different.push(format!("{words:?}\n   ours: {a:?}\n theirs: {b:?}"));
        }
    }
    println!("promtool {what}: {equal} runs equal, {} differ", different.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
    equal
}

fn on_files(words: &[&str], files: Vec<PathBuf>) -> Vec<(Vec<String>, Vec<u8>)> {
    let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    files.into_iter().map(|f| ([&words[..], &[f.display().to_string()]].concat(), Vec::new())).collect()
}

#[test]
fn rule_files() {
    let Some(dir) = corpus("rules") else { return };
    let yaml = |f: &PathBuf| f.extension().is_some_and(|e| e == "yml" || e == "yaml");
    let all: Vec<PathBuf> = files(&dir).into_iter().filter(yaml).collect();
    let mut runs = on_files(&["check", "rules"], all.clone());
    runs.extend(on_files(&["check", "rules", "--lint-fatal"], all.clone()));
    runs.extend(on_files(&["check", "rules", "--lint=none"], all.into_iter().step_by(5).collect()));
    compare("check rules", runs.into_iter(), false, &[]);
}

#[test]
fn configurations() {
    let Some(dir) = corpus("config") else { return };
    let yaml = |f: &PathBuf| f.extension().is_some_and(|e| e == "yml" || e == "yaml");
    let mut all: Vec<PathBuf> =
        ["prometheus", "examples", "operator-golden-prometheus"].iter().flat_map(|d| files(&dir.join(d))).collect();
    all.retain(yaml);
    let Some(promtool) = promtool() else { return };
    // Files are named after what 3.14 says of them; where the installed one is older, the name decides.
    let (mut same, mut newer, mut wrong) = (Vec::new(), 0, Vec::new());
    for file in all {
        let name = file.display().to_string();
        let words = ["check", "config", name.as_str()];
        let (mut a, mut b) = (ours(&words, b""), theirs(&promtool, &words, b""));
        (a.err, b.err) = (String::new(), String::new());
        if a == b {
            same.push(file);
        } else if name.contains(".good.") && a.code == 0 || name.contains(".bad.") && a.code == 1 {
            newer += 1;
        } else if !KNOWN.iter().any(|k| name.contains(k)) {
            wrong.push(format!("{name}\n   ours: {a:?}\n theirs: {b:?}"));
        }
    }
    println!("promtool check config: {} equal, {newer} as 3.14 has them, {} differ", same.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut runs = on_files(&["check", "config", "--syntax-only"], same.clone());
    runs.extend(on_files(&["check", "config", "--lint=all", "--agent"], same));
    // Without its files a configuration is checked further here than there, and one uses what is newer.
    let known = ["conf.good.yml", "_import.bad.yml", "_duplicate.bad.yml", "_files_global.bad.yml"];
    compare("check config with flags", runs.into_iter(), false, &known);
}

/// What this build cannot judge: sections of discovery mechanisms that it does not have.
const KNOWN: &[&str] = &[
    "/azure_",
    "/ec2_",
    "/eureka_",
    "/lightsail_",
    "/marathon_",
    "/outscale_",
    "/stackit_",
    "/uyuni_",
    // Entries of discovery that the scraper lets through.
    "/empty_static_config.bad.yml",
    "/kubernetes_selectors_incorrect_selector.bad.yml",
    // Newer than the installed one, and named after nothing.
    "/scrape_config_local_infer_escaping.yml",
    "/examples/prometheus.yml",
    "/examples/prometheus-nomad.yml",
    "/examples/prometheus-outscale.yml",
    "/examples/prometheus-stackit.yml",
];

#[test]
fn web_configurations() {
    let dir = tempfile::tempdir().unwrap();
    let hash = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"; // of an example
    let mut all = Vec::new();
    for (i, text) in [
        "",
        "http_server_config: {http2: false}\n",
        "http_server_config: {headers: {X-Frame-Options: deny}}\n",
        "http_server_config: {headers: {Server: x}}\n",
        &format!("basic_auth_users: {{a: {hash}}}\n"),
        "basic_auth_users: {a: b}\n",
        "tls_server_config: {cert_file: a, key_file: b}\n",
        "tls_server_config: {cert_file: a}\n",
        "tls_server_config: {min_version: TLS9}\n",
        "unknown: 1\n",
    ]
    .iter()
    .enumerate()
    {
        let file = dir.path().join(format!("{i}.yml"));
        std::fs::write(&file, text).unwrap();
        all.push(file);
    }
    let together = all.iter().map(|f| f.display().to_string()).collect::<Vec<_>>();
    let mut runs = on_files(&["check", "web-config"], all);
    runs.push(([&["check".to_owned(), "web-config".to_owned()], &together[..]].concat(), Vec::new()));
    compare("check web-config", runs.into_iter(), false, &[]);
}

#[test]
fn rule_tests() {
    let Some(dir) = corpus("rules/promtool") else { return };
    let test =
        |f: &PathBuf| std::fs::read_to_string(f).is_ok_and(|t| t.contains("\ntests:") || t.starts_with("tests:"));
    let all: Vec<PathBuf> = files(&dir).into_iter().filter(test).collect();
    assert!(all.len() > 5);
    compare("test rules", on_files(&["test", "rules"], all).into_iter(), false, &["start-time-test.yml"]);
}

const RULES: &str = r#"
groups:
- name: g
  rules:
  - {alert: Up, expr: up == 0, for: 1m, labels: {severity: page}, annotations: {summary: "down {{ $labels.i }}"}}
  - {alert: Bare, expr: up == 0}
  - {record: 'a:b', expr: sum(up)}
"#;

/// Each differs in its own way: more, less, nothing, something, other labels, other values, text to be escaped.
const TESTS: &str = r#"
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
- name: more and less
  input_series:
  - {series: 'up{i="1"}', values: '1 0 0 0 0'}
  - {series: 'up{i="2"}', values: '1 0 0 0 0'}
  alert_rule_test:
  - {eval_time: 3m, alertname: Up, exp_alerts: [{exp_labels: {severity: page, i: "1"}, exp_annotations: {summary: down 1}}]}
  - {eval_time: 4m, alertname: Bare, exp_alerts: [{exp_labels: {i: "1"}}, {exp_labels: {i: "2"}}, {exp_labels: {i: "3"}}, {exp_labels: {i: "4"}}]}
  promql_expr_test:
  - {expr: 'a:b', eval_time: 2m, exp_samples: [{labels: 'a:b', value: 7}]}
- input_series:
  - {series: 'up{i="1",z="<q\"&\nñ"}', values: '1 0 0 0 0'}
  - {series: 'h', values: '{{schema:0 sum:3 count:2 buckets:[1 1]}} _ stale 2.5'}
  alert_rule_test:
  - {eval_time: 3m, alertname: Up, exp_alerts: [{exp_labels: {severity: low, b: "1"}, exp_annotations: {other: x}}]}
  - {eval_time: 1m, alertname: Up, exp_alerts: [{exp_labels: {severity: page}}]}
  - {eval_time: 1m, alertname: Bare, exp_alerts: []}
- name: fine
  input_series: [{series: 'up{i="1"}', values: '1 1 1'}]
  alert_rule_test: [{eval_time: 2m, alertname: Up, exp_alerts: []}]
"#;

#[test]
fn rule_tests_with_differences_and_dumps() {
    let Some(promtool) = promtool() else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yml"), RULES).unwrap();
    let file = dir.path().join("tests.yml");
    std::fs::write(&file, TESTS).unwrap();
    // How long a test took differs from run to run.
    let timeless = |text: &str| -> Vec<String> {
        text.lines().map(|l| l.split_once(", took ").map_or(l, |(before, _)| before).to_owned()).collect()
    };
    for flags in [&["--diff"][..], &["--debug"], &["--debug", "--diff", "--run=fine"], &[]] {
        let words: Vec<&str> = [&["test", "rules"], flags, &[file.to_str().unwrap()]].concat();
        let (ours, theirs) = (ours(&words, b""), theirs(&promtool, &words, b""));
        assert_eq!(ours.code, theirs.code, "{words:?}");
        assert_eq!(timeless(&ours.out), timeless(&theirs.out), "{words:?}");
        assert_eq!(ours.err, theirs.err, "{words:?}");
    }
}

#[test]
fn expositions() {
    let Some(dir) = corpus("exposition") else { return };
    let small = |f: &PathBuf| f.metadata().is_ok_and(|m| m.len() < 2 << 20);
    let words = |extended: bool| {
        let mut words = vec!["check".to_owned(), "metrics".to_owned()];
        if extended {
            words.push("--extended".to_owned());
        }
        words
    };
    let bodies: Vec<Vec<u8>> = files(&dir).into_iter().filter(small).map(|f| std::fs::read(f).unwrap()).collect();
    let runs = bodies.into_iter().filter(|b| b.starts_with(b"# ")).map(|b| (words(false), b));
    compare("check metrics", runs, true, &[]);
    let fine = b"# HELP a_total x\n# TYPE a_total counter\na_total{b=\"1\"} 1\na_total{b=\"2\"} 1\n# HELP h_bytes x\n# TYPE h_bytes histogram\nh_bytes_bucket{le=\"1\"} 1\nh_bytes_bucket{le=\"+Inf\"} 1\nh_bytes_sum 1\nh_bytes_count 1\n";
    compare("check metrics --extended", [(words(true), fine.to_vec())].into_iter(), true, &[]);
}

#[test]
fn queries_as_text() {
    let Some(dir) = corpus("exprs") else { return };
    drop(dir);
    let run = |words: &[&str]| (words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>(), Vec::new());
    let runs = [
        run(&["promql", "format", "up"]),
        run(&["--experimental", "promql", "format", "sum(rate(foo{a=\"b\"}[5m]))by(x)"]),
        run(&["--experimental", "promql", "format", "sum("]),
        run(&["--experimental", "promql", "label-matchers", "set", "foo / bar{x=\"y\"}", "a", "b"]),
        run(&["--experimental", "promql", "label-matchers", "set", "-t", "=~", "foo / bar{a=\"y\"}", "a", "b.*"]),
        run(&["--experimental", "promql", "label-matchers", "delete", "foo / bar{x=\"y\"}", "x"]),
        run(&["--experimental", "promql", "label-matchers", "set", "-t", "zz", "foo", "a", "b"]),
        run(&["bogus"]),
        run(&["check"]),
        run(&["check", "config"]),
        run(&["check", "config", "/nonexistent"]),
        run(&["check", "rules", "--zz"]),
        run(&["check", "rules", "-z"]),
        run(&["query", "instant"]),
        run(&["query", "series", "http://127.0.0.1:1"]),
        run(&["query", "range", "--header=X", "http://127.0.0.1:1", "up"]),
        run(&["query", "instant", "--time=zz", "http://127.0.0.1:1", "up"]),
        run(&["query", "range", "--start=2", "--end=1", "http://127.0.0.1:1", "up"]),
        run(&["tsdb", "list", "/nonexistent"]),
        run(&["tsdb", "dump", "/nonexistent"]),
    ];
    compare("command lines", runs.into_iter(), true, &[]);
}

const OPENMETRICS: &str = "# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{code=\"200\",service=\"user\"} 123 1609954636
http_requests_total{code=\"200\",service=\"user\"} 133 1609954736
http_requests_total{code=\"500\",service=\"user\"} 1 1609954636
# TYPE q gauge
q{le=\"1\"} 1e+21 1609954636
q{le=\"+Inf\"} NaN 1609954636
q 1.5 1609994636
# EOF
";

/// Each makes blocks of the same input; each lists and dumps what either made.
#[test]
fn blocks() {
    let Some(promtool) = promtool() else { return };
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("input");
    std::fs::write(&input, OPENMETRICS).unwrap();
    let input = input.display().to_string();
    let (a, b) = (dir.path().join("ours").display().to_string(), dir.path().join("theirs").display().to_string());
    let made = ours(&["tsdb", "create-blocks-from", "openmetrics", "--label=x=y", &input, &a], b"");
    assert_eq!(made.code, 0, "{made:?}");
    let made = theirs(&promtool, &["tsdb", "create-blocks-from", "openmetrics", "--label=x=y", &input, &b], b"");
    assert_eq!(made.code, 0, "{made:?}");
    let run = |words: &[&str]| (words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>(), Vec::new());
    let mut runs = Vec::new();
    for folder in [&a, &b] {
        std::fs::create_dir_all(Path::new(folder).join("wal")).unwrap();
        runs.push(run(&["tsdb", "list", folder]));
        runs.push(run(&["tsdb", "list", "-r", folder]));
        runs.push(run(&["tsdb", "dump", folder]));
        runs.push(run(&["tsdb", "dump-openmetrics", folder]));
        runs.push(run(&["tsdb", "dump", "--match={code=\"500\"}", "--match=q", folder]));
        runs.push(run(&["tsdb", "dump", "--min-time=1609954700000", folder]));
        runs.push(run(&["tsdb", "analyze", folder, "nope"]));
    }
    compare("tsdb", runs.into_iter(), true, &[]);
    let dumped = |folder: &str| theirs(&promtool, &["tsdb", "dump", folder], b"").out;
    assert_eq!(dumped(&a), dumped(&b));
    // Lists of equal counts have no defined order: as sets of lines.
    let sorted = |r: Ran| {
        let mut lines: Vec<String> = r.out.lines().filter(|l| !l.starts_with("Block ID")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(ours(&["tsdb", "analyze", &b], b"")), sorted(theirs(&promtool, &["tsdb", "analyze", &b], b"")));
}

/// A real server with some blocks.
fn prometheus() -> Option<Running> {
    let peer = Peer::find("prometheus", (3, 0, 0)).map_err(|why| skipped("promtool/peer", &why)).ok()?;
    Some(peer.start(|launch| {
        let (input, config) =
            (launch.file("input", OPENMETRICS), launch.file("config", "global: {scrape_interval: 1h}\n"));
        let data = launch.dir.join("blocks").display().to_string();
        assert_eq!(ours(&["tsdb", "create-blocks-from", "openmetrics", &input, &data], b"").code, 0);
        vec![
            format!("--config.file={config}"),
            format!("--storage.tsdb.path={data}"),
            "--storage.tsdb.retention.time=100y".to_owned(),
            "--web.enable-remote-write-receiver".to_owned(),
            format!("--web.listen-address={}", launch.addr),
        ]
    }))
}

#[test]
fn queries() {
    if promtool().is_none() {
        return;
    }
    let Some(server) = prometheus() else { return };
    let url = server.url("");
    let url = url.as_str();
    let (at, start, end) = ("--time=1609954750", "--start=1609954600", "--end=1609954800");
    let run = |words: &[&str]| (words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>(), Vec::new());
    let status = format!("--url={url}");
    let mut runs = vec![run(&["check", "healthy", &status]), run(&["check", "ready", &status])];
    for query in
        ["http_requests_total", "http_requests_total[5m]", "1", "nope", "sum(", "sum(http_requests_total)", "q"]
    {
        runs.push(run(&["query", "instant", at, url, query]));
        runs.push(run(&["query", "instant", "-o", "json", at, url, query]));
    }
    for query in ["http_requests_total", "nope", "1", "sum by (code) (http_requests_total)"] {
        runs.push(run(&["query", "range", start, end, url, query]));
        runs.push(run(&["query", "range", "--step=60s", start, end, url, query]));
        runs.push(run(&["query", "range", "-o", "json", "--step=100", start, end, url, query]));
    }
    runs.push(run(&["query", "series", "--match=http_requests_total", start, end, url]));
    runs.push(run(&["query", "series", "--match=q", "--match=nope", "-o", "json", start, end, url]));
    runs.push(run(&["query", "labels", start, end, url, "code"]));
    runs.push(run(&["query", "labels", "-o", "json", start, end, url, "code"]));
    runs.push(run(&["query", "labels", "--match=q{", start, end, url, "code"]));
    runs.push(run(&["query", "instant", "--time=2021-01-06T17:39:10Z", url, "q"]));
    let pushed = format!("{url}/api/v1/write");
    runs.push((vec!["push".into(), "metrics".into(), pushed], b"# TYPE p gauge\np 1\n".to_vec()));
    compare("query", runs.into_iter(), true, &[]);
    assert!(ours(&["query", "instant", url, "p"], b"").out.starts_with("p{job=\"promtool\"} => 1 @["));
}

#[test]
fn scripts() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("a.test");
    std::fs::write(&script, "load 1m\n  up 1 2 3\n\neval instant at 1m up\n  up 2\n\neval instant at 1m up\n  up 3\n")
        .unwrap();
    let ran = ours(&["test", "promql", &script.display().to_string()], b"");
    assert_eq!(ran.code, 1);
    assert!(ran.out.ends_with("1 passed, 1 failed\n"), "{ran:?}");
    assert!(ran.err.contains("a.test:7: up: "), "{ran:?}");
}
