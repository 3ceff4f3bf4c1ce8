//! Reads what a tracer sent to a sink.
use std::io::Read;

use ferula_proto::Message;
use ferula_proto::trace::{ExportTraceServiceRequest, Span, any_value};

use crate::http::HttpRequest;

/// The spans of requests to `/v1/traces`; other requests are passed over.
pub fn spans(requests: &[HttpRequest]) -> Vec<Span> {
    let batches = requests.iter().filter(|r| r.path == "/v1/traces").map(|r| {
        let body = if r.header("content-encoding") == Some("gzip") { gunzip(&r.body) } else { r.body.clone() };
        ExportTraceServiceRequest::decode(body.as_slice()).expect("a batch of spans")
    });
    batches.flat_map(|b| b.resource_spans).flat_map(|r| r.scope_spans).flat_map(|s| s.spans).collect()
}

/// An attribute as text; empty where there is none.
pub fn attribute(span: &Span, key: &str) -> String {
    let value = span.attributes.iter().find(|a| a.key == key).and_then(|a| a.value.as_ref()?.value.clone());
    match value {
        None => String::new(),
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::BoolValue(is)) => is.to_string(),
        Some(any_value::Value::IntValue(n)) => n.to_string(),
        Some(any_value::Value::DoubleValue(n)) => n.to_string(),
    }
}

pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).expect("gzip");
    out
}
