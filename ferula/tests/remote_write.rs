//! The real Prometheus as sender: both remote-write messages into our receiver.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;

use ferula_testkit::{Peer, Running, skipped};
use support::{FERULA, api, encode, eventually, run, single, stderr};

fn receiver(extra: &[&str]) -> Running {
    Running::start(Path::new(FERULA), "/-/ready", |p| {
        let mut arguments = vec![
            "server".to_owned(),
            format!("--config.file={}", p.file("prometheus.yml", "global: {scrape_interval: 15s}\n")),
            format!("--storage.tsdb.path={}", p.dir.join("tsdb").display()),
            format!("--web.listen-address={}", p.addr),
            "--web.enable-remote-write-receiver".to_owned(),
        ];
        arguments.extend(extra.iter().map(|&s| s.to_owned()));
        arguments
    })
}

/// A Prometheus that scrapes itself every second and sends everything on.
fn sender(prometheus: &Peer, to: &Running, message: &str) -> Running {
    prometheus.start(|p| {
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, external_labels: {{sent: '{message}'}}}}\n\
             scrape_configs:\n- job_name: self\n  scrape_protocols: [PrometheusProto]\n  static_configs:\n  - targets: ['{}']\n\
             remote_write:\n- url: {}\n  protobuf_message: {message}\n  send_native_histograms: true\n  queue_config: {{batch_send_deadline: 200ms}}\n",
            p.addr,
            to.url("/api/v1/write")
        );
        vec![
            format!("--config.file={}", p.file("prometheus.yml", &config)),
            format!("--storage.tsdb.path={}", p.dir.join("tsdb").display()),
            format!("--web.listen-address={}", p.addr),
            "--enable-feature=native-histograms,metadata-wal-records".to_owned(),
        ]
    })
}

#[test]
fn the_real_prometheus_sends_both_messages() {
    let suite = "real Prometheus sends";
    let Some(prometheus) = Peer::find("prometheus", (3, 5, 0)).map_err(|why| skipped(suite, why)).ok() else { return };
    let ours = receiver(&[]);
    for message in ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"] {
        let theirs = sender(&prometheus, &ours, message);
        let sent = format!("{{sent=\"{message}\"}}");
        let ask = |expr: String| eventually(&expr, 20, || single(&ours, &expr), |v| v.is_some_and(|v| v > 0.0));
        ask(format!("up{sent}"));
        ask(format!("count({{__name__=~\".+\", sent=\"{message}\"}}) > 300"));
        ask(format!(
            "histogram_count(prometheus_http_request_duration_seconds{{sent=\"{message}\", handler=\"/metrics\"}})"
        ));
        // What we store is what it has: the same sample of the same second.
        let expr = "prometheus_tsdb_head_series";
        let here = api(&ours, &format!("/api/v1/query?query={}", encode(&format!("timestamp({expr}{sent})"))));
        let at = here["result"][0]["value"][1].as_str().unwrap_or_default().to_owned();
        let value = |of: &Running, expr: &str| {
            let answer = api(of, &format!("/api/v1/query?time={at}&query={}", encode(expr)));
            answer["result"][0]["value"][1].as_str().map(str::to_owned)
        };
        let here = value(&ours, &format!("{expr}{sent}"));
        assert!(here.is_some() && here == value(&theirs, expr), "{message}: {here:?}");
        // It takes our answers for success, and our counts for its own.
        for expr in
            ["prometheus_remote_storage_samples_failed_total", "prometheus_remote_storage_histograms_failed_total"]
        {
            assert_eq!(single(&theirs, expr), Some(0.0), "{message}: {expr}\n{}", theirs.output());
        }
    }
}

#[test]
fn the_flag_says_which_messages_are_taken() {
    let flag = "--web.remote-write-receiver.accepted-protobuf-messages";
    let config = tempfile::tempdir().unwrap();
    let file = config.path().join("prometheus.yml");
    std::fs::write(&file, "{}").unwrap();
    let bad =
        run(Path::new(FERULA), &["server", &format!("--config.file={}", file.display()), &format!("{flag}=yolo")]);
    assert!(!bad.status.success());
    let why = "unknown type for remote write protobuf message yolo, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request";
    assert!(stderr(&bad).contains(why), "{}", stderr(&bad));

    let ours = receiver(&[&format!("{flag}=prometheus.WriteRequest")]);
    let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    let (status, text) = ferula_testkit::http_post(ours.addr, "/api/v1/write", v2, b"\0").unwrap();
    let why = "io.prometheus.write.v2.Request protobuf message is not accepted by this server; only accepts prometheus.WriteRequest\n";
    assert_eq!((status, text.as_str()), (415, why));
    let both = receiver(&[]);
    assert_eq!(ferula_testkit::http_post(both.addr, "/api/v1/write", v2, b"\0").unwrap().0, 204);
    let flags = api(&both, "/api/v1/status/flags");
    let default = "prometheus.WriteRequest,io.prometheus.write.v2.Request";
    assert_eq!(flags["web.remote-write-receiver.accepted-protobuf-messages"].as_str(), Some(default));
}
