//! The escaping functions of `html/template`, one per context.
use crate::functions::json;
use crate::value::{Safe, Value};

/// One step of escaping, applied to what an action prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escaper {
    /// Text between tags.
    Html,
    /// Text in `<title>` and `<textarea>`.
    Rcdata,
    /// A quoted attribute.
    Attribute,
    /// An unquoted attribute.
    Unquoted,
    /// A part of a tag or attribute name.
    Name,
    /// The beginning of a URL: only safe schemes.
    UrlFilter,
    /// A part of a URL that may hold delimiters.
    UrlNormalize,
    /// A query parameter.
    UrlEscape,
    JsValue,
    JsString,
    JsRegexp,
    CssValue,
    CssString,
    /// Comments are dropped.
    Comment,
    /// Escaped already.
    AsIs,
}

/// What stands where something unsafe stood, as in Go.
const FAILSAFE: &str = "ZgotmplZ";

/// Applies the steps in order and answers the text to print.
pub(crate) fn apply(escapers: &[Escaper], value: &Value) -> Result<String, String> {
    let mut current = value.clone();
    for e in escapers {
        current = Value::from(one(*e, &current)?);
    }
    Ok(current.to_string())
}

fn one(escaper: Escaper, value: &Value) -> Result<String, String> {
    let safe = |kind: Safe| matches!(value, Value::Safe(k, _) if *k == kind);
    let text = match value {
        Value::Nil => String::new(),
        v => v.to_string(),
    };
    Ok(match escaper {
        Escaper::Html if safe(Safe::Html) => text,
        Escaper::Html => replace(&text, |c| entity(c, true)),
        Escaper::Rcdata if safe(Safe::Html) => replace(&text, |c| entity(c, false)),
        Escaper::Rcdata => replace(&text, |c| entity(c, true)),
        Escaper::Attribute if safe(Safe::Html) => replace(&strip_tags(&text), |c| entity(c, false)),
        Escaper::Attribute => replace(&text, |c| entity(c, true)),
        Escaper::Unquoted => {
            let text = if safe(Safe::Html) { strip_tags(&text) } else { text };
            if text.is_empty() { FAILSAFE.into() } else { replace(&text, unquoted) }
        }
        Escaper::Name if safe(Safe::Attribute) => text,
        Escaper::Name => name(&text),
        Escaper::UrlFilter if safe(Safe::Url) => text,
        Escaper::UrlFilter => {
            if is_safe_url(&text) {
                text
            } else {
                format!("#{FAILSAFE}")
            }
        }
        Escaper::UrlNormalize => url(&text, true),
        Escaper::UrlEscape => url(&text, safe(Safe::Url)),
        Escaper::JsValue if safe(Safe::Js) => text,
        Escaper::JsValue => {
            let mut out = String::new();
            json::write(&mut out, value)?;
            // A number next to a name or an operator must stay a number.
            if matches!(value, Value::Str(_) | Value::Safe(..)) || out.starts_with(['[', '{']) {
                out
            } else {
                format!(" {out} ")
            }
        }
        Escaper::JsString => replace(&text, |c| js(c, false)),
        Escaper::JsRegexp => {
            if text.is_empty() {
                "(?:)".into()
            } else {
                replace(&text, |c| js(c, true))
            }
        }
        Escaper::CssValue if safe(Safe::Css) => text,
        Escaper::CssValue => css_value(&text),
        Escaper::CssString => replace(&text, css),
        Escaper::Comment => String::new(),
        Escaper::AsIs => text,
    })
}

fn replace(s: &str, f: impl Fn(char) -> Option<String>) -> String {
    let mut out = String::with_capacity(s.len() + s.len() / 8);
    for c in s.chars() {
        match f(c) {
            Some(r) => out.push_str(&r),
            None => out.push(c),
        }
    }
    out
}

fn entity(c: char, ampersand: bool) -> Option<String> {
    Some(match c {
        '\0' => "\u{fffd}".into(),
        '&' if ampersand => "&amp;".into(),
        '"' => "&#34;".into(),
        '\'' => "&#39;".into(),
        '+' => "&#43;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        _ => return None,
    })
}

fn unquoted(c: char) -> Option<String> {
    match c {
        '\0' => Some("&#xfffd;".into()),
        '\t' | '\n' | '\x0b' | '\x0c' | '\r' | ' ' | '=' | '`' => Some(format!("&#{};", u32::from(c))),
        c => entity(c, true),
    }
}

fn name(s: &str) -> String {
    let ok = !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric());
    let plain = super::context::Attr::of(s, super::context::Element::None) == super::context::Attr::None;
    if ok && plain { s.to_ascii_lowercase() } else { FAILSAFE.into() }
}

fn is_safe_url(s: &str) -> bool {
    match s.split_once(':') {
        Some((scheme, _)) if !scheme.contains('/') => {
            ["http", "https", "mailto"].iter().any(|ok| scheme.eq_ignore_ascii_case(ok))
        }
        _ => true,
    }
}

/// Percent-encodes; `normalize` lets delimiters and valid escapes stand.
fn url(s: &str, normalize: bool) -> String {
    let mut out = String::with_capacity(s.len() + 16);
    let bytes = s.as_bytes();
    for (i, b) in bytes.iter().enumerate() {
        let keep = match b {
            b'-' | b'.' | b'_' | b'~' => true,
            b'!' | b'#' | b'$' | b'&' | b'*' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'?' | b'@' | b'[' | b']' => {
                normalize
            }
            b'%' => normalize && bytes.get(i + 1..i + 3).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)),
            b => b.is_ascii_alphanumeric(),
        };
        if keep {
            out.push(char::from(*b));
        } else {
            out.push_str(&format!("%{b:02x}"));
        }
    }
    out
}

fn js(c: char, regexp: bool) -> Option<String> {
    Some(match c {
        '\0' => "\\u0000".into(),
        '\t' => "\\t".into(),
        '\n' => "\\n".into(),
        '\x0b' => "\\u000b".into(),
        '\x0c' => "\\f".into(),
        '\r' => "\\r".into(),
        '"' | '\'' | '&' | '+' | '<' | '>' | '`' => format!("\\u{:04x}", u32::from(c)),
        '/' | '\\' => format!("\\{c}"),
        '$' | '(' | ')' | '*' | '-' | '.' | '?' | '[' | ']' | '^' | '{' | '|' | '}' if regexp => format!("\\{c}"),
        '\u{2028}' | '\u{2029}' => format!("\\u{:04x}", u32::from(c)),
        _ => return None,
    })
}

fn css(c: char) -> Option<String> {
    match c {
        '\0' | '\t' | '\n' | '\x0c' | '\r' | '"' | '&' | '\'' | '(' | ')' | '+' | '/' | ':' | ';' | '<' | '>' | '{'
        | '}' => Some(format!("\\{:x} ", u32::from(c)).trim_end().to_owned()),
        '\\' => Some("\\\\".into()),
        _ => None,
    }
}

/// A CSS value made of harmless characters only.
fn css_value(s: &str) -> String {
    let bad = s.contains(['\0', '"', '\'', '(', ')', '/', ';', '@', '[', '\\', ']', '`', '{', '}', '<', '>'])
        || s.contains("--");
    let letters: String = s.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    if bad || letters.contains("expression") || letters.contains("mozbinding") { FAILSAFE.into() } else { s.to_owned() }
}

/// Text without tags and comments.
fn strip_tags(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut rest = s;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        let tag = &rest[at..];
        let is_tag = tag[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!');
        match tag.find('>').filter(|_| is_tag) {
            Some(end) => rest = &tag[end + 1..],
            None if is_tag => return out,
            None => {
                out.push('<');
                rest = &tag[1..];
            }
        }
    }
    out.push_str(rest);
    out
}
