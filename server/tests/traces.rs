//! Spans of requests and queries, as parts of the caller's trace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use ferula_net::client::Request;
use ferula_testkit::{WebhookSink, attribute, spans};
use support::Server;

#[tokio::test]
async fn a_query_is_a_part_of_its_request_and_that_of_the_callers_trace() {
    let collector = WebhookSink::start();
    let config = |more: &str| {
        format!(
            "tracing: {{endpoint: \"{}\", client_type: http, insecure: true, compression: gzip{more}}}\n",
            collector.addr()
        )
    };
    let s = Server::start(&config("")).await;
    let mut request = Request::get(s.url("/api/v1/query?query=1%2B1"));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request.headers.insert("traceparent", parent.parse().unwrap());
    assert_eq!(s.send(request.clone()).await.status, 200);
    // Nobody asks for this one, and of those no fraction is recorded.
    assert_eq!(s.ask("/api/v1/query", &[("query", "2")]).await.status, 200);
    request.url = s.url("/api/v1/query?query=nosuch(");
    assert_eq!(s.send(request).await.status, 400);

    // What cannot work is refused, and the old collector stays.
    let file = s.dir.path().join("prometheus.yml");
    std::fs::write(&file, config(", tls_config: {ca_file: x, ca: y}")).unwrap();
    assert_ne!(s.post("/-/reload", "text/plain", "").await.status, 200);
    s.stop().await;

    let all = spans(&collector.requests());
    let names: Vec<&str> = all.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["promqlExec", "GET /api/v1/query", "promqlExec", "GET /api/v1/query"]);
    let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
    for pair in all.chunks(2) {
        let (query, request) = (&pair[0], &pair[1]);
        assert!(parent.contains(&hex(&request.trace_id)) && parent.contains(&hex(&request.parent_span_id)));
        assert_eq!((&query.trace_id, &query.parent_span_id), (&request.trace_id, &request.span_id));
    }
    assert_eq!(
        (attribute(&all[0], "query"), attribute(&all[1], "http.response.status_code")),
        ("1+1".into(), "200".into())
    );
    assert!(all[0].status.is_none() && all[2].status.as_ref().is_some_and(|s| s.message.contains("parse error")));
}
