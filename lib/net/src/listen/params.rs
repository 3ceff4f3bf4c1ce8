//! Request parameters as Go's `ParseForm` sees them: the form body's first, then the URL's, keys repeated at will.
use std::borrow::Cow;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::{Method, header};

use super::body::{self, BodyError};

/// Go's own limit for a form body.
const FORM_BYTES_MAX: usize = 10 << 20;
/// Pairs kept; a body of ampersands must not become hundreds of megabytes of empty strings.
const PAIRS_MAX: usize = 10_000;
const FORM_TIMEOUT: Duration = Duration::from_secs(30);

/// All parameters of a request, in order. As an extractor it reads a form body; every other body is left unread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    pairs: Vec<(String, String)>,
    /// The first thing Go would have complained about. It drops such a pair and goes on, unless the handler asks.
    pub error: Option<String>,
}

impl Params {
    /// From a query string alone, without the question mark.
    pub fn from_query(query: &str) -> Params {
        let mut params = Params::default();
        params.parse(query.as_bytes());
        params
    }

    fn parse(&mut self, text: &[u8]) {
        for pair in text.split(|b| *b == b'&').filter(|p| !p.is_empty()) {
            if self.pairs.len() >= PAIRS_MAX {
                self.error.get_or_insert_with(|| format!("more than {PAIRS_MAX} parameters"));
                return;
            }
            if pair.contains(&b';') {
                self.error.get_or_insert_with(|| "invalid semicolon separator in query".to_owned());
                continue;
            }
            if let Some(bad) = bad_escape(pair) {
                self.error.get_or_insert_with(|| format!("invalid URL escape {}", ferula_model::labels::quoted(&bad)));
                continue;
            }
            let (name, value) = match pair.iter().position(|b| *b == b'=') {
                Some(i) => (&pair[..i], &pair[i + 1..]),
                None => (pair, &b""[..]),
            };
            self.pairs.push((decode(name), decode(value)));
        }
    }

    /// The first value of `name`, or "".
    pub fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }
    pub fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(n, _)| n == name)
    }
    /// All values of `name`, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }
}

fn decode(text: &[u8]) -> String {
    let spaced: Cow<'_, [u8]> = if text.contains(&b'+') {
        text.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect::<Vec<_>>().into()
    } else {
        text.into()
    };
    percent_encoding::percent_decode(&spaced).decode_utf8_lossy().into_owned()
}

/// The first `%` that two hexadecimal digits do not follow, with up to two characters of what does.
fn bad_escape(text: &[u8]) -> Option<String> {
    let mut i = 0;
    while let Some(at) = text.get(i..).and_then(|t| t.iter().position(|b| *b == b'%')) {
        let escape = text.get(i + at..).unwrap_or_default();
        match escape {
            [_, a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => i += at + 3,
            _ => return Some(String::from_utf8_lossy(escape.get(..3).unwrap_or(escape)).into_owned()),
        }
    }
    None
}

/// Reads the URL's parameters and, of a POST, PUT or PATCH with a form body, the body's.
impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = FormError;

    async fn from_request(request: Request, _: &S) -> Result<Params, FormError> {
        let mut params = Params::default();
        let (parts, request_body) = request.into_parts();
        let is_form = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.split(';').next())
            .is_some_and(|v| v.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
        if is_form && matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) {
            let bytes = body::read(request_body, FORM_BYTES_MAX, FORM_TIMEOUT).await.map_err(FormError)?;
            params.parse(&bytes);
        }
        params.parse(parts.uri.query().unwrap_or("").as_bytes());
        Ok(params)
    }
}

/// A form body that could not be read. As a response it is plain text; an API may give it another shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct FormError(pub BodyError);

impl IntoResponse for FormError {
    fn into_response(self) -> Response {
        (self.0.status(), self.to_string()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[tokio::test]
    async fn merges_body_and_query_as_go_does() {
        let request = Request::builder()
            .method("POST")
            .uri("/x?match[]=c&query=url&%6datch%5B%5D=d%20e")
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .body(Body::from("query=body+1&match[]=a&match%5B%5D=b&flag"))
            .unwrap();
        let p = Params::from_request(request, &()).await.unwrap();
        assert_eq!(p.get("query"), "body 1");
        assert_eq!(p.all("match[]").collect::<Vec<_>>(), ["a", "b", "c", "d e"]);
        assert!(p.has("flag") && !p.has("flags") && p.error.is_none());
    }

    #[test]
    fn notices_what_go_would_not_take() {
        for (query, error, kept) in [
            ("a=%zz&b=1", "invalid URL escape \"%zz\"", "1"),
            ("a=%&b=1", "invalid URL escape \"%\"", "1"),
            ("a=1;b=2&b=3", "invalid semicolon separator in query", "3"),
        ] {
            let p = Params::from_query(query);
            assert_eq!((p.error.as_deref(), p.get("a"), p.get("b")), (Some(error), "", kept), "{query}");
        }
        let flood = Params::from_query(&"a&".repeat(1_000_000));
        assert_eq!((flood.iter().count(), flood.error.is_some()), (PAIRS_MAX, true));
    }
}
