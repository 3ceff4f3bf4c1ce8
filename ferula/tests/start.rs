//! How the binary starts, and how it refuses to: one clear line, the right exit code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::net::TcpListener;
use std::path::Path;

use ferula_testkit::Running;
use support::{FERULA, named, run, stderr, stdout};

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

/// Runs `ferula server` that must not start; its exit code and what it said.
fn refused(args: &[String]) -> (i32, String) {
    let mut all = vec!["server"];
    all.extend(args.iter().map(String::as_str));
    let output = run(Path::new(FERULA), &all);
    (output.status.code().unwrap(), stderr(&output))
}

fn server_args(dir: &Path, config: &str) -> Vec<String> {
    vec![
        format!("--config.file={}", write(dir, "prometheus.yml", config)),
        format!("--storage.tsdb.path={}", dir.join("data").display()),
        "--web.listen-address=127.0.0.1:0".into(),
    ]
}

#[test]
fn unknown_flags_name_the_nearest_one() {
    let dir = tempfile::tempdir().unwrap();
    for (name, wrong, right) in [
        ("prometheus", "--storage.tsdb.pth=x", "--storage.tsdb.path"),
        ("alertmanager", "--storage.pth=x", "--storage.path"),
        ("node_exporter", "--path.procf=x", "--path.procfs"),
    ] {
        let output = run(&named(dir.path(), name), &[wrong]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(right), "{}", stderr(&output));
    }
    let output = run(Path::new(FERULA), &["sever"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("unknown command"), "{}", stderr(&output));
}

#[test]
fn versions_read_like_the_programs_they_stand_for() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["prometheus", "alertmanager", "node_exporter"] {
        let output = run(&named(dir.path(), name), &["--version"]);
        assert!(output.status.success());
        assert!(stdout(&output).starts_with(&format!("{name}, version ")), "{}", stdout(&output));
    }
}

#[test]
fn a_malformed_configuration_names_file_line_and_field() {
    let dir = tempfile::tempdir().unwrap();
    for (config, words) in [
        ("global:\n  scrape_intervall: 5s\n", &["prometheus.yml:2:", "scrape_intervall"][..]),
        (
            "scrape_configs:\n- job_name: a\n  honor_labels: maybe\n",
            &["prometheus.yml:3:", "scrape_configs[0].honor_labels"],
        ),
        ("scrape_configs:\n- job_name: a\n- job_name: a\n", &["prometheus.yml", "multiple scrape configs", "\"a\""]),
        ("global: [\n", &["prometheus.yml:"]),
    ] {
        let (code, text) = refused(&server_args(dir.path(), config));
        assert_eq!(code, 1, "{text}");
        for word in words {
            assert!(text.contains(word), "{word} is missing in: {text}");
        }
    }
    write(dir.path(), "bad-rules.yml", "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: 'sum(('\n");
    let (code, text) = refused(&server_args(dir.path(), "rule_files: [bad-rules.yml]\n"));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("bad-rules.yml") && text.contains("parse error"), "{text}");
    let (code, text) = refused(&["--config.file=/does/not/exist.yml".to_owned()]);
    assert!(code == 1 && text.contains("/does/not/exist.yml"), "{code}: {text}");
}

#[test]
fn taken_ports_and_folders_are_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut args = server_args(dir.path(), "global: {}\n");
    args[2] = format!("--web.listen-address={}", taken.local_addr().unwrap());
    let (code, text) = refused(&args);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("address already in use") && text.contains(&taken.local_addr().unwrap().to_string()),
        "{text}"
    );

    let mut args = server_args(dir.path(), "global: {}\n");
    args[1] = "--storage.tsdb.path=/proc/nowhere".into();
    let (code, text) = refused(&args);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("/proc/nowhere"), "{text}");

    let data = dir.path().join("shared");
    let first = Running::start(Path::new(FERULA), "/-/ready", |p| {
        vec![
            "server".into(),
            format!("--config.file={}", p.file("prometheus.yml", "global: {}\n")),
            format!("--storage.tsdb.path={}", data.display()),
            format!("--web.listen-address={}", p.addr),
        ]
    });
    let mut args = server_args(dir.path(), "global: {}\n");
    args[1] = format!("--storage.tsdb.path={}", data.display());
    let (code, text) = refused(&args);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("lock") && text.contains(&data.display().to_string()), "{text}");
    assert_eq!(first.get("/-/healthy").0, 200, "the first one goes on");
}

#[test]
fn unknown_features_only_warn_and_a_bad_reload_keeps_the_old_configuration() {
    let server = Running::start(Path::new(FERULA), "/-/ready", |p| {
        vec![
            "server".into(),
            format!("--config.file={}", p.file("prometheus.yml", "global:\n  scrape_interval: 7s\n")),
            format!("--storage.tsdb.path={}", p.dir.join("tsdb").display()),
            format!("--web.listen-address={}", p.addr),
            "--enable-feature=no-such-thing,exemplar-storage,st-synthesis,extra-scrape-metrics".into(),
            "--web.enable-lifecycle".into(),
        ]
    });
    let output = server.output();
    let warnings: Vec<&str> = output.lines().filter(|l| l.contains("--enable-feature")).collect();
    assert_eq!(warnings.len(), 2, "{output}");
    assert!(warnings[0].contains("Unknown option") && warnings[0].contains("no-such-thing"), "{output}");
    assert!(warnings[1].contains("no effect") && warnings[1].contains("st-synthesis"), "{output}");
    assert!(server.get("/api/v1/status/config").1.contains("extra_scrape_metrics: true"));
    assert!(server.get("/metrics").1.contains("prometheus_config_last_reload_successful 1"));
    std::fs::write(server.data_dir().join("prometheus.yml"), "global:\n  nonsense: 1\n").unwrap();
    let reload = |server: &Running| ferula_testkit::http_post(server.addr, "/-/reload", "", "").unwrap();
    let (status, body) = reload(&server);
    assert_eq!(status, 500, "{body}");
    assert!(body.contains("prometheus.yml:2:") && body.contains("nonsense"), "{body}");
    assert!(server.get("/metrics").1.contains("prometheus_config_last_reload_successful 0"));
    assert!(server.get("/api/v1/status/config").1.contains("scrape_interval: 7s"));
    std::fs::write(server.data_dir().join("prometheus.yml"), "global:\n  scrape_interval: 8s\n").unwrap();
    assert_eq!(reload(&server).0, 200);
    assert!(server.get("/metrics").1.contains("prometheus_config_last_reload_successful 1"));
    assert!(server.get("/api/v1/status/config").1.contains("scrape_interval: 8s"));
}
