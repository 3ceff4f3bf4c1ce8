//! Spans arrive: over HTTP and gRPC, compressed or not, with their parents, and no more of them than the sampler says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use ferula_model::SystemClock;
use ferula_net::client::config::HeaderValues;
use ferula_otlp::{ClientType, ExportOptions, Kind, SpanContext, Tracer};
use ferula_proto::Message;
use ferula_proto::trace::{ExportTraceServiceRequest, Span};
use ferula_testkit::{HttpAnswer, WebhookSink, spans};
use http::HeaderMap;

const PATIENCE: Duration = Duration::from_secs(60);

fn tracer() -> Tracer {
    Tracer::new("test", "1", Arc::new(SystemClock))
}

fn options(endpoint: String) -> ExportOptions {
    ExportOptions {
        client_type: ClientType::Http,
        endpoint,
        sampling_fraction: 1.0,
        insecure: true,
        headers: BTreeMap::from([(
            "x-tenant".to_owned(),
            HeaderValues { values: vec!["t1".to_owned()], ..HeaderValues::default() },
        )]),
        ..ExportOptions::default()
    }
}

/// A trace of three spans, the innermost failed.
fn play(tracer: &Tracer) -> SpanContext {
    let mut outer = tracer.start("outer", Kind::Server, None);
    outer.set("n", 3usize);
    let mut inner = tracer.start("inner", Kind::Internal, outer.context());
    inner.event("seen", &[("is", true.into())]);
    let mut call = tracer.start("call", Kind::Client, inner.context());
    call.fail("refused");
    outer.context().unwrap()
}

fn judge(all: &[Span], outer: SpanContext) {
    let find = |name: &str| all.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no {name}: {all:#?}"));
    let (o, i, c) = (find("outer"), find("inner"), find("call"));
    assert_eq!((o.parent_span_id.len(), &i.parent_span_id, &c.parent_span_id), (0, &o.span_id, &i.span_id));
    assert_eq!((o.kind, i.kind, c.kind), (2, 1, 3));
    assert!(all.iter().all(|s| s.trace_id == outer.trace_id && s.flags & 0xff == 1));
    assert!(o.start_time_unix_nano <= i.start_time_unix_nano && c.end_time_unix_nano <= o.end_time_unix_nano);
    assert_eq!(c.status.as_ref().map(|s| (s.message.as_str(), s.code)), Some(("refused", 2)));
    assert_eq!((o.attributes[0].key.as_str(), i.events[0].name.as_str()), ("n", "seen"));
}

#[tokio::test]
async fn over_http_again_when_refused_for_now() {
    for gzip in [false, true] {
        let sink = WebhookSink::start();
        sink.answer_next(HttpAnswer::status(503));
        let tracer = tracer();
        let options = ExportOptions { gzip, ..options(sink.addr().to_string()) };
        tracer.configure(Some(&options)).unwrap();
        let outer = play(&tracer);
        tracer.stop().await;
        let requests = sink.requests();
        assert_eq!(requests.len(), 2, "one refused, one taken");
        let taken = &requests[1];
        assert_eq!((taken.method.as_str(), taken.path.as_str()), ("POST", "/v1/traces"));
        assert_eq!(taken.header("content-type"), Some("application/x-protobuf"));
        assert_eq!((taken.header("x-tenant"), taken.header("content-encoding")), (Some("t1"), gzip.then_some("gzip")));
        judge(&spans(&requests[1..]), outer);
    }
}

#[tokio::test]
async fn the_parent_or_a_fraction_decides() {
    let sink = WebhookSink::start();
    let tracer = tracer();
    drop(tracer.start("before", Kind::Internal, None));
    tracer.configure(Some(&ExportOptions { sampling_fraction: 0.25, ..options(sink.addr().to_string()) })).unwrap();
    let remote = |is_sampled| SpanContext { trace_id: [7; 16], span_id: [8; 8], is_sampled, is_remote: true };
    drop(tracer.start("wanted", Kind::Server, Some(remote(true))));
    let unwanted = tracer.start("unwanted", Kind::Server, Some(remote(false)));
    assert!(!unwanted.is_recorded() && unwanted.context().is_some_and(|c| !c.is_sampled && c.trace_id == [7; 16]));
    for _ in 0..1_000 {
        drop(tracer.start("some", Kind::Internal, None));
    }
    drop(unwanted);
    tracer.stop().await;
    let all = spans(&sink.requests());
    let count = |name: &str| all.iter().filter(|s| s.name == name).count();
    assert_eq!((count("before"), count("wanted"), count("unwanted")), (0, 1, 0));
    assert!((150..350).contains(&count("some")), "a quarter of 1,000 is about {}", count("some"));
}

#[tokio::test]
async fn a_new_collector_takes_over_and_one_that_is_gone_costs_nothing_but_spans() {
    let (one, two) = (WebhookSink::start(), WebhookSink::start());
    let tracer = tracer();
    tracer.configure(Some(&options(one.addr().to_string()))).unwrap();
    drop(tracer.start("first", Kind::Internal, None));
    tracer.configure(Some(&options(two.addr().to_string()))).unwrap();
    drop(tracer.start("second", Kind::Internal, None));
    tracer.stop().await;
    assert_eq!(spans(&one.wait_for(1, PATIENCE))[0].name, "first");
    assert_eq!(spans(&two.requests())[0].name, "second");
    // Nobody listens there; more spans than the queue holds are let go, not waited for.
    tracer.configure(Some(&options(format!("127.0.0.1:{}", ferula_testkit::free_port())))).unwrap();
    for _ in 0..5_000 {
        drop(tracer.start("lost", Kind::Internal, None));
    }
}

#[test]
fn endpoints_that_are_none_are_refused() {
    for (endpoint, is_valid) in [
        ("localhost:4318", true),
        ("[::1]:4318", true),
        ("dns:///otel:4317", true),
        ("a b", false),
        ("host/path", false),
    ] {
        assert_eq!(Tracer::check(&options(endpoint.to_owned())).is_ok(), is_valid, "{endpoint}");
    }
}

type Calls = Arc<Mutex<Vec<(HeaderMap, Vec<u8>)>>>;

/// Answers as a gRPC server: the first call is refused for now, in the headers alone; the others are taken.
async fn grpc(State(calls): State<Calls>, request: Request) -> Response {
    assert_eq!(request.uri().path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    assert_eq!(request.version(), http::Version::HTTP_2);
    let headers = request.headers().clone();
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap().to_vec();
    let is_first = {
        let mut calls = calls.lock().unwrap();
        calls.push((headers, body));
        calls.len() == 1
    };
    let answer = Response::builder().header("content-type", "application/grpc");
    if is_first {
        return answer.header("grpc-status", "14").header("grpc-message", "later").body(Body::empty()).unwrap();
    }
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let message = http_body_util::Full::new(bytes::Bytes::from_static(&[0, 0, 0, 0, 0]));
    let with = http_body_util::BodyExt::with_trailers(message, async move { Some(Ok(trailers)) });
    answer.body(Body::new(with)).unwrap()
}

#[tokio::test]
async fn over_grpc() {
    let calls = Calls::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let app = axum::Router::new().fallback(grpc).with_state(calls.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let tracer = tracer();
    let options = ExportOptions { client_type: ClientType::Grpc, gzip: true, ..options(addr.to_string()) };
    tracer.configure(Some(&options)).unwrap();
    let outer = play(&tracer);
    tracer.stop().await;
    let calls = calls.lock().unwrap();
    assert_eq!(calls.len(), 2);
    let (headers, body) = &calls[1];
    assert_eq!((headers["te"].to_str().unwrap(), headers["grpc-encoding"].to_str().unwrap()), ("trailers", "gzip"));
    assert_eq!((headers["content-type"].to_str().unwrap(), body[0]), ("application/grpc", 1));
    let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
    assert_eq!(body.len(), 5 + length);
    let message = ferula_testkit::gunzip(&body[5..]);
    let message = ExportTraceServiceRequest::decode(message.as_slice()).unwrap();
    let resource = message.resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(resource.attributes[0].key, "service.name");
    judge(&message.resource_spans[0].scope_spans[0].spans, outer);
}
