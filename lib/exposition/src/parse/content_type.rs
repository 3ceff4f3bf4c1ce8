//! Which grammar a response's Content-Type asks for, as strictly as Prometheus 3.
use super::Syntax;

/// What a body will be parsed as, and what is to be warned about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    pub syntax: Syntax,
    /// Set when `fallback_scrape_protocol` had to decide.
    pub warning: Option<String>,
}

/// The target names no format we know and no fallback is configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ContentTypeError(String);

/// A target can send kilobytes here: errors show this much of it.
const SHOWN_BYTES_MAX: usize = 120;

/// Decides by `Content-Type`, else by `fallback`.
pub fn negotiate(content_type: &str, fallback: Option<Syntax>) -> Result<Negotiated, ContentTypeError> {
    if content_type.is_empty() {
        return decide(
            fallback,
            "non-compliant scrape target sending blank Content-Type".to_owned(),
            " and no fallback_scrape_protocol specified for target",
        );
    }
    match media_type(content_type) {
        Ok(media) => match media.as_str() {
            "application/openmetrics-text" => Ok(Negotiated { syntax: Syntax::OpenMetrics, warning: None }),
            "text/plain" => Ok(Negotiated { syntax: Syntax::Text, warning: None }),
            "application/vnd.google.protobuf" => Ok(Negotiated { syntax: Syntax::Protobuf, warning: None }),
            _ => decide(
                fallback,
                format!("received unsupported Content-Type {}", shown(content_type)),
                " and no fallback_scrape_protocol specified for target",
            ),
        },
        Err(why) => match fallback {
            None => Err(ContentTypeError(format!(
                "cannot parse Content-Type {} and no fallback_scrape_protocol for target\n{why}",
                shown(content_type)
            ))),
            some => decide(some, format!("could not parse received Content-Type {}", shown(content_type)), ""),
        },
    }
}

fn decide(fallback: Option<Syntax>, what: String, without: &str) -> Result<Negotiated, ContentTypeError> {
    match fallback {
        None => Err(ContentTypeError(format!("{what}{without}"))),
        Some(syntax) => {
            Ok(Negotiated { syntax, warning: Some(format!("{what}, using fallback_scrape_protocol {}", name(syntax))) })
        }
    }
}

fn name(s: Syntax) -> &'static str {
    match s {
        Syntax::Text => "\"text/plain\"",
        Syntax::OpenMetrics => "\"application/openmetrics-text\"",
        Syntax::Protobuf => "\"application/vnd.google.protobuf\"",
    }
}

fn shown(s: &str) -> String {
    let mut end = s.len().min(SHOWN_BYTES_MAX);
    while !s.is_char_boundary(end) {
        end -= 1;
    }
    ferula_model::labels::quoted(s.get(..end).unwrap_or(""))
}

/// The lower-cased media type; parameters are checked for their form only.
fn media_type(s: &str) -> Result<String, &'static str> {
    let (media, mut rest) = s.split_once(';').unwrap_or((s, ""));
    let media = media.trim();
    if media.is_empty() {
        return Err("mime: no media type");
    }
    let (kind, subtype) = media.split_once('/').unwrap_or((media, "x"));
    if !is_token(kind) {
        return Err("mime: expected token at start of media type");
    }
    if subtype.is_empty() || !is_token(subtype) {
        return Err("mime: expected token after slash");
    }
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            return Ok(media.to_ascii_lowercase());
        }
        let (key, after) = rest.split_once('=').ok_or("mime: invalid media parameter")?;
        if !is_token(key.trim()) {
            return Err("mime: invalid media parameter");
        }
        rest = match after.strip_prefix('"') {
            Some(quoted) => end_of_quoted(quoted).ok_or("mime: invalid media parameter")?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                let (value, tail) = after.split_at(end);
                if !is_token(value.trim()) {
                    return Err("mime: invalid media parameter");
                }
                tail
            }
        };
    }
}

fn end_of_quoted(s: &str) -> Option<&str> {
    let mut escaped = false;
    for (i, b) in s.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return s.get(i + 1..),
            _ => {}
        }
    }
    None
}

fn is_token(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_graphic() && !br#"()<>@,;:\"/[]?="#.contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_as_prometheus_3() {
        for (header, fallback, expect) in [
            ("text/plain; version=0.0.4; charset=utf-8; escaping=underscores", None, Ok(Syntax::Text)),
            ("application/openmetrics-text; version=1.0.0", None, Ok(Syntax::OpenMetrics)),
            ("TEXT/Plain", None, Ok(Syntax::Text)),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
                None,
                Ok(Syntax::Protobuf),
            ),
            ("", Some(Syntax::Text), Ok(Syntax::Text)),
            (
                "",
                None,
                Err(
                    "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target",
                ),
            ),
            (
                "text/html",
                None,
                Err(
                    r#"received unsupported Content-Type "text/html" and no fallback_scrape_protocol specified for target"#,
                ),
            ),
            (
                "text/plain; version=",
                None,
                Err(
                    "cannot parse Content-Type \"text/plain; version=\" and no fallback_scrape_protocol for target\nmime: invalid media parameter",
                ),
            ),
        ] {
            let got = negotiate(header, fallback).map(|n| n.syntax).map_err(|e| e.to_string());
            assert_eq!(got, expect.map_err(str::to_owned), "{header}");
        }
        assert!(negotiate(&"x".repeat(60_000), None).unwrap_err().to_string().len() < 512);
    }
}
