//! Which span something belongs to, as it travels between processes and between tasks.
//!
//! Source followed: W3C trace context, level 1.
use std::fmt;

use http::{HeaderMap, HeaderValue};

const TRACEPARENT: &str = "traceparent";

/// A span's place in its trace. Ids are never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub is_sampled: bool,
    /// It came from another process.
    pub is_remote: bool,
}

impl SpanContext {
    /// `00-<32 hex digits>-<16>-<2>`; later versions may say more behind that.
    pub fn parse(text: &str) -> Option<SpanContext> {
        let mut parts = text.trim().splitn(5, '-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version] = bytes(version)?;
        let (trace_id, span_id) = (bytes::<16>(trace)?, bytes::<8>(span)?);
        let [flags] = bytes(flags)?;
        let is_invalid =
            version == 0xff || (version == 0 && parts.next().is_some()) || trace_id == [0; 16] || span_id == [0; 8];
        (!is_invalid).then_some(SpanContext { trace_id, span_id, is_sampled: flags & 1 == 1, is_remote: true })
    }

    /// The one a request came with.
    pub fn of_headers(headers: &HeaderMap) -> Option<SpanContext> {
        SpanContext::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
    }

    /// Tells the receiver of a request.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
    }
}

/// As `traceparent`.
impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace_id.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str("-")?;
        self.span_id.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        write!(f, "-{:02x}", u8::from(self.is_sampled))
    }
}

/// Exactly `N` bytes of lower-case hex digits.
fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if hex.len() != 2 * N || !hex.bytes().all(is_hex) {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

tokio::task_local! {
    static CURRENT: Option<SpanContext>;
}

/// Runs `future` as a part of that span: [`current`] answers it inside.
pub async fn with<F: Future>(context: Option<SpanContext>, future: F) -> F::Output {
    CURRENT.scope(context, future).await
}

/// The span that this task works for.
pub fn current() -> Option<SpanContext> {
    CURRENT.try_with(|c| *c).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparents() {
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = SpanContext::parse(given).unwrap();
        assert!(context.is_sampled && context.is_remote && context.to_string() == given);
        let mut headers = HeaderMap::new();
        context.add_to(&mut headers);
        assert_eq!(SpanContext::of_headers(&headers), Some(context));
        for (text, is_valid) in [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes", true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", false),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
            ("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false),
            ("00-é0af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01", false),
            ("", false),
        ] {
            assert_eq!(SpanContext::parse(text).is_some(), is_valid, "{text}");
        }
    }

    #[tokio::test]
    async fn the_current_span_is_the_innermost() {
        let a = SpanContext { trace_id: [1; 16], span_id: [1; 8], is_sampled: true, is_remote: false };
        let b = SpanContext { span_id: [2; 8], ..a };
        assert_eq!(current(), None);
        with(Some(a), async {
            assert_eq!(current(), Some(a));
            with(Some(b), async { assert_eq!(current(), Some(b)) }).await;
            assert_eq!(current(), Some(a));
        })
        .await;
    }
}
