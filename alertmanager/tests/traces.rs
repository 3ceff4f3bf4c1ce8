//! Spans of requests and notifications: whose part each is, and what the receivers are told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod lab;

use std::time::Duration;

use ferula_proto::trace::Span;
use ferula_testkit::{HttpAnswer, WebhookSink, attribute, spans};
use lab::Server;

const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn config(hook: &WebhookSink, collector: &WebhookSink, fraction: f64) -> String {
    format!(
        "route: {{receiver: r, group_wait: 0s, group_by: [alertname]}}\n\
         receivers:\n- name: r\n  webhook_configs: [{{url: \"{}\"}}]\n\
         tracing: {{endpoint: \"{}\", client_type: http, insecure: true, sampling_fraction: {fraction}}}\n",
        hook.url("/secret/path"),
        collector.addr()
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Posts an alert as a part of the caller's trace.
fn post(server: &Server) {
    use std::io::{Read, Write};
    let body = r#"[{"labels":{"alertname":"A"}},{"labels":{"alertname":"A","n":"2"}}]"#;
    let mut stream = std::net::TcpStream::connect(server.addr).unwrap();
    write!(
        stream,
        "POST /api/v2/alerts HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         traceparent: 00-{TRACE}-{CALLER}-01\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_notification_is_one_trace_down_to_its_receiver() {
    let (hook, collector) = (WebhookSink::start(), WebhookSink::start());
    hook.answer_next(HttpAnswer::status(503));
    let server = Server::start(&config(&hook, &collector, 1.0));
    post(&server);
    let told = hook.wait_for(2, PATIENCE);
    server.stop();
    let all = spans(&collector.requests());
    let named = |name: &str| -> Vec<&Span> { all.iter().filter(|s| s.name == name).collect() };
    let one = |name: &str| -> &Span {
        let found = named(name);
        assert_eq!(found.len(), 1, "{name}: {all:#?}");
        found[0]
    };
    // The request is a part of the caller's trace.
    let (request, put) = (one("POST /api/v2/alerts"), one("provider.mem.Put"));
    assert_eq!((hex(&request.trace_id).as_str(), hex(&request.parent_span_id).as_str()), (TRACE, CALLER));
    assert_eq!((&put.trace_id, &put.parent_span_id), (&request.trace_id, &request.span_id));
    assert_eq!(attribute(put, "alerting.alerts.count"), "2");
    assert_eq!(attribute(request, "http.response.status_code"), "200");
    // The group's flush begins another one.
    let (flush, stage) = (one("dispatch.AggregationGroup.flush"), one("notify.RetryStage.Exec"));
    assert!(flush.parent_span_id.is_empty() && hex(&flush.trace_id) != TRACE);
    assert_eq!(attribute(flush, "alerting.aggregation_group.key"), "{}:{alertname=\"A\"}");
    assert_eq!(stage.parent_span_id, flush.span_id);
    assert_eq!(one("notify.SetNotifiesStage.Exec").parent_span_id, flush.span_id);
    // Two attempts, the first failed; each calls the receiver, which hears of the call.
    let (tries, calls) = (named("notify.Integration.Notify"), named("HTTP POST"));
    assert_eq!((tries.len(), calls.len(), told.len()), (2, 2, 2));
    for ((attempt, call), heard) in tries.iter().zip(&calls).zip(&told) {
        assert_eq!((&attempt.trace_id, &attempt.parent_span_id), (&flush.trace_id, &stage.span_id));
        assert_eq!((&call.trace_id, &call.parent_span_id), (&flush.trace_id, &attempt.span_id));
        let parent = format!("00-{}-{}-01", hex(&call.trace_id), hex(&call.span_id));
        assert_eq!(heard.header("traceparent"), Some(parent.as_str()));
    }
    let failed: Vec<bool> = tries.iter().map(|s| s.status.is_some()).collect();
    assert_eq!(failed, [true, false]);
    assert_eq!(attribute(tries[0], "alerting.notify.error.recoverable"), "true");
    assert_eq!(attribute(calls[0], "http.response.status_code"), "503");
    assert!(!format!("{all:?}").contains("secret"), "the receiver's URL is a secret");
}

#[test]
fn what_is_not_sampled_is_not_told_and_a_reload_turns_it_on() {
    let (hook, collector) = (WebhookSink::start(), WebhookSink::start());
    let server = Server::start(&config(&hook, &collector, 0.0));
    post(&server);
    let told = hook.wait_for(1, PATIENCE);
    assert_eq!(told[0].header("traceparent"), None);
    // The caller's trace is recorded, as the caller wants it; the notification is nobody's.
    let of_caller = collector.wait_until(PATIENCE, |r| spans(r).len() >= 2);
    assert!(spans(&of_caller).iter().all(|s| hex(&s.trace_id) == TRACE));

    let file = server.dir.path().join("alertmanager.yml");
    std::fs::write(&file, config(&hook, &collector, 1.0)).unwrap();
    let reload = || ferula_testkit::http_post(server.addr, "/-/reload", "", b"").unwrap();
    assert_eq!(reload().0, 200);
    let alert = br#"[{"labels":{"alertname":"B"}}]"#;
    ferula_testkit::http_post(server.addr, "/api/v2/alerts", "application/json", alert).unwrap();
    assert!(hook.wait_for(2, PATIENCE)[1].header("traceparent").is_some());

    let bad = config(&hook, &collector, 1.0).replace("insecure: true", "tls_config: {ca: x, ca_file: y}");
    std::fs::write(&file, bad).unwrap();
    let (status, why) = reload();
    assert!(status == 500 && why.contains("at most one of ca, ca_file & ca_ref must be configured"), "{why}");
    server.stop();
}
