//! Gzip for responses, in the stream: a piece of the body is compressed when the client takes it.
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderValue, StatusCode, header};
use hyper::body::{Body as _, Frame};

/// Below this a body known in advance is sent as it is: a header costs more than it saves.
const WORTH_BYTES: u64 = 256;
/// Compressed bytes gathered before they are handed on.
const PIECE_BYTES: usize = 8 << 10;

/// An axum middleware (`axum::middleware::from_fn(compress::gzip)`): answers in gzip whoever accepts it.
pub async fn gzip(request: Request, next: Next) -> Response {
    let wanted = request
        .headers()
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(accepts_gzip);
    let mut response = next.run(request).await;
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let has_body = !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let is_small = response.body().size_hint().exact().is_some_and(|n| n < WORTH_BYTES);
    if !wanted || !has_body || is_small || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.map(|body| {
        let encoder = GzEncoder::new(Vec::with_capacity(PIECE_BYTES), Compression::fast());
        Body::new(Gzipped { body, encoder: Some(encoder) })
    })
}

fn accepts_gzip(element: &str) -> bool {
    let mut parts = element.split(';').map(str::trim);
    let coding = parts.next().unwrap_or("");
    let refused = parts.any(|p| p.strip_prefix("q=").is_some_and(|q| q.parse::<f64>() == Ok(0.0)));
    coding.eq_ignore_ascii_case("gzip") && !refused
}

struct Gzipped {
    body: Body,
    /// `None` once the trailer is out.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl hyper::body::Body for Gzipped {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            let Some(mut encoder) = self.encoder.take() else { return Poll::Ready(None) };
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => {
                    self.encoder = Some(encoder);
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(e))) => return Poll::Ready(Some(Err(e))),
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else {
                        self.encoder = Some(encoder); // trailers: nobody here sends them
                        continue;
                    };
                    encoder.write_all(&data).map_err(axum::Error::new)?;
                    let full = encoder.get_ref().len() >= PIECE_BYTES;
                    let piece = if full { std::mem::take(encoder.get_mut()) } else { Vec::new() };
                    self.encoder = Some(encoder);
                    if full {
                        return Poll::Ready(Some(Ok(Frame::data(Bytes::from(piece)))));
                    }
                }
                Poll::Ready(None) => {
                    let rest = encoder.finish().map_err(axum::Error::new)?;
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from(rest)))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use std::io::Read;
    use tower::ServiceExt;

    async fn ask(path: &str, accept: &str) -> (Option<String>, Vec<u8>) {
        let pieces = || {
            let pieces = (0..1000).map(|i| Ok::<_, std::convert::Infallible>(format!("line {i}\n")));
            Body::from_stream(futures::stream::iter(pieces))
        };
        let router = Router::new()
            .route("/small", get(|| async { "small" }))
            .route("/stream", get(move || async move { pieces() }))
            .layer(axum::middleware::from_fn(gzip));
        let request = Request::builder().uri(path).header("accept-encoding", accept).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let encoding = response.headers().get("content-encoding").map(|v| v.to_str().unwrap().to_owned());
        (encoding, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn compresses_streams_for_those_who_ask() {
        let (_, plain) = ask("/stream", "identity, gzip;q=0").await;
        let (encoding, packed) = ask("/stream", "deflate, GZIP;q=0.5").await;
        assert_eq!(encoding.as_deref(), Some("gzip"));
        assert!(packed.len() < plain.len() / 2);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain);
        assert_eq!(ask("/small", "gzip").await, (None, b"small".to_vec()));
    }
}
