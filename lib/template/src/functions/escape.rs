//! Escaping as Go's `text/template` and `net/url` do it.
use crate::format;
use crate::value::Value;

/// One string stays itself, anything else is printed as `Sprint` does.
pub(crate) fn joined(args: &[Value]) -> String {
    match args {
        [one] if one.as_str().is_some() => one.as_str().unwrap_or("").to_owned(),
        all => format::sprint_all(all),
    }
}

/// `template.HTMLEscapeString`.
pub fn html(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + s.len() / 8);
    for c in s.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

/// `template.JSEscapeString`.
pub fn js(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + s.len() / 8);
    for c in s.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' => out.push_str("\\u003C"),
            '>' => out.push_str("\\u003E"),
            '&' => out.push_str("\\u0026"),
            '=' => out.push_str("\\u003D"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// `url.QueryEscape`.
pub fn url_query(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + s.len() / 4);
    for b in s.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b' ' => out.push('+'),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// `url.QueryUnescape`.
pub fn url_unescape(s: &str) -> Result<String, String> {
    let (mut out, bytes, mut at) = (Vec::with_capacity(s.len()), s.as_bytes(), 0);
    while let Some(b) = bytes.get(at) {
        match b {
            b'%' => {
                let hex = s.get(at + 1..at + 3).filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
                let Some(v) = hex.and_then(|h| u8::from_str_radix(h, 16).ok()) else {
                    let bad = s.get(at..(at + 3).min(s.len())).unwrap_or("%");
                    return Err(format!("invalid URL escape {}", ferula_model::labels::quoted(bad)));
                };
                out.push(v);
                at += 3;
            }
            b'+' => {
                out.push(b' ');
                at += 1;
            }
            b => {
                out.push(*b);
                at += 1;
            }
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}
