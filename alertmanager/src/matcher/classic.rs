//! The grammar before Alertmanager 0.27: `{foo=bar,baz=~"qu\"x"}`, names of ASCII only, values optionally quoted.
use super::{MatchOp, Matcher};

pub(super) fn parse_one(input: &str) -> Result<Matcher, String> {
    let bad = || format!("bad matcher format: {input}");
    let text = input.trim();
    let name_len = text.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':')).count();
    let (name, rest) = text.split_at(name_len);
    if name.is_empty() || name.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        return Err(bad());
    }
    let rest = rest.trim_start();
    let (op, value) = if let Some(v) = rest.strip_prefix("=~") {
        (MatchOp::RegexMatch, v)
    } else if let Some(v) = rest.strip_prefix("!~") {
        (MatchOp::RegexNoMatch, v)
    } else if let Some(v) = rest.strip_prefix("!=") {
        (MatchOp::NotEqual, v)
    } else if let Some(v) = rest.strip_prefix('=') {
        (MatchOp::Equal, v)
    } else {
        return Err(bad());
    };
    let raw = value.trim();
    // A quote in front promises a quote at the end; the end quote is checked, not the balance inside.
    let quoted = raw.starts_with('"');
    let inner = if quoted { raw.get(1..).unwrap_or("") } else { raw };
    let (mut out, mut escaped, mut closed) = (String::with_capacity(inner.len()), false, false);
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match (escaped, c) {
            (true, 'n') => out.push('\n'),
            (true, '"' | '\\') => out.push(c),
            (true, c) => {
                // An escape nobody knows stands for itself, backslash included.
                out.push('\\');
                out.push(c);
            }
            (false, '\\') if chars.peek().is_some() => {
                escaped = true;
                continue;
            }
            (false, '\\') => out.push('\\'),
            (false, '"') => {
                if quoted && chars.peek().is_none() {
                    closed = true;
                    break;
                }
                return Err(format!("matcher value contains unescaped double quote: {raw}"));
            }
            (false, c) => out.push(c),
        }
        escaped = false;
    }
    if quoted && !closed {
        return Err(format!("matcher value contains unescaped double quote: {raw}"));
    }
    Matcher::new(op, name, out).map_err(|e| e.to_string())
}

pub(super) fn parse_set(input: &str) -> Result<Vec<Matcher>, String> {
    let text = input.strip_prefix('{').unwrap_or(input);
    let text = text.strip_suffix('}').unwrap_or(text);
    let (mut out, mut token, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in text.chars() {
        if c == ',' && !quoted {
            out.push(parse_one(&token)?);
            token.clear();
            continue;
        }
        match c {
            _ if escaped => escaped = false,
            '"' => quoted = !quoted,
            '\\' => escaped = true,
            _ => {}
        }
        token.push(c);
    }
    if !token.trim().is_empty() {
        out.push(parse_one(&token)?);
    }
    Ok(out)
}
