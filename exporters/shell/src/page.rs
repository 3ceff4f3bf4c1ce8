//! Families to an HTTP response: format by `Accept`, gzip by `Accept-Encoding`.
use std::io::Write;

use axum::response::{IntoResponse, Response};
use ferula_exposition::family::Family;
use ferula_exposition::write::Format;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

/// `families` must be sorted and merged already.
pub fn respond(request: &HeaderMap, families: &[Family]) -> Response {
    let accept = request.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let format = Format::negotiate(accept);
    let mut body = Vec::with_capacity(64 * 1024);
    format.write(families, &mut body);
    let mut headers = HeaderMap::new();
    if let Ok(content_type) = HeaderValue::from_str(&format.content_type()) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    if accepts_gzip(request)
        && let Ok(small) = gzip(&body)
    {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        body = small;
    }
    (StatusCode::OK, headers, body).into_response()
}

fn accepts_gzip(request: &HeaderMap) -> bool {
    let values = request.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|part| {
        let (coding, parameters) = part.split_once(';').unwrap_or((part, ""));
        let refused = parameters.trim().strip_prefix("q=").and_then(|q| q.parse::<f64>().ok()) == Some(0.0);
        coding.trim() == "gzip" && !refused
    })
}

/// The fastest level: a page shrinks to a tenth even so.
fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8 + 64), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
