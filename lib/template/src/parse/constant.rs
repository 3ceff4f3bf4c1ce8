//! Constants: numbers, characters and quoted strings as Go writes them.
use std::sync::Arc;

use crate::ast::Number;

/// The value of a Go string literal, quotes included in `text`.
pub(crate) fn unquote(text: &str) -> Option<String> {
    if let Some(raw) = text.strip_prefix('`') {
        return Some(raw.strip_suffix('`')?.replace('\r', ""));
    }
    let body = text.strip_prefix('"')?.strip_suffix('"')?;
    if !body.contains('\\') {
        return Some(body.to_owned());
    }
    let (mut out, mut rest) = (Vec::with_capacity(body.len()), body);
    while !rest.is_empty() {
        let (byte_or_char, tail) = unescape(rest, '"')?;
        match byte_or_char {
            Unit::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Unit::Byte(b) => out.push(b),
        }
        rest = tail;
    }
    // Go strings may hold any bytes; ours are UTF-8, so stray bytes become the replacement character.
    Some(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

enum Unit {
    Char(char),
    Byte(u8),
}

fn unescape(s: &str, quote: char) -> Option<(Unit, &str)> {
    let mut chars = s.chars();
    let c = chars.next()?;
    if c != '\\' {
        return (c != quote).then_some((Unit::Char(c), chars.as_str()));
    }
    let e = chars.next()?;
    let rest = chars.as_str();
    let simple = match e {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' => '\\',
        '\'' | '"' if e == quote => e,
        'x' => {
            let v = u8::from_str_radix(hex_digits(rest, 2)?, 16).ok()?;
            return Some((Unit::Byte(v), &rest[2..]));
        }
        'u' | 'U' => {
            let n = if e == 'u' { 4 } else { 8 };
            let v = u32::from_str_radix(hex_digits(rest, n)?, 16).ok()?;
            return Some((Unit::Char(char::from_u32(v)?), &rest[n..]));
        }
        '0'..='7' => {
            let octal = s.get(1..4).filter(|o| o.bytes().all(|b| (b'0'..=b'7').contains(&b)))?;
            return Some((Unit::Byte(u8::from_str_radix(octal, 8).ok()?), &s[4..]));
        }
        _ => return None,
    };
    Some((Unit::Char(simple), rest))
}

fn hex_digits(s: &str, n: usize) -> Option<&str> {
    s.get(..n).filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A character constant such as `'a'` or `'\n'`.
pub(crate) fn character(text: &str) -> Result<Number, String> {
    let malformed = || format!("malformed character constant: {text}");
    let body = text.strip_prefix('\'').ok_or_else(malformed)?;
    let (unit, tail) = unescape(body, '\'').ok_or_else(malformed)?;
    if tail != "'" {
        return Err(malformed());
    }
    let code = match unit {
        Unit::Char(c) => u32::from(c),
        Unit::Byte(b) => u32::from(b),
    };
    Ok(Number { text: Arc::from(text), int: Some(i64::from(code)), float: Some(f64::from(code)), ideal_int: true })
}

/// A number in any of Go's notations except the imaginary ones.
pub(crate) fn number(text: &str) -> Result<Number, String> {
    let illegal = || format!("illegal number syntax: {}", ferula_model::labels::quoted(text));
    let (negative, body) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if body.starts_with('_') || body.ends_with('_') || body.contains("__") {
        return Err(illegal());
    }
    let plain = body.replace('_', "");
    let lower = plain.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|b| b.is_ascii_digit()) => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let looks_integer = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_alphanumeric());
    if looks_integer && let Ok(wide) = i128::from_str_radix(digits, radix) {
        let wide = if negative { -wide } else { wide };
        let Ok(int) = i64::try_from(wide) else {
            return Err(format!("integer overflow: {}", ferula_model::labels::quoted(text)));
        };
        let int = Some(int);
        return Ok(Number { text: Arc::from(text), int, float: Some(wide as f64), ideal_int: true });
    }
    let float = if radix == 16 { hex_float(digits) } else { decimal_float(&lower) }.ok_or_else(illegal)?;
    let float = if negative { -float } else { float };
    if !lower.contains(['.', 'e', 'p']) {
        return Err(format!("integer overflow: {}", ferula_model::labels::quoted(text)));
    }
    let int = (float.fract() == 0.0 && float.abs() < 9e18).then_some(float as i64);
    Ok(Number { text: Arc::from(text), int, float: Some(float), ideal_int: false })
}

fn decimal_float(s: &str) -> Option<f64> {
    // Rust also reads words such as "inf"; a Go number begins with a digit or a dot.
    let v: f64 = s.starts_with(|c: char| c.is_ascii_digit() || c == '.').then(|| s.parse().ok())??;
    v.is_finite().then_some(v)
}

/// `1.8p3` after its `0x`.
fn hex_float(s: &str) -> Option<f64> {
    let (mantissa, exponent) = s.split_once('p')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut value = 0.0f64;
    for c in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(c.to_digit(16)?);
    }
    let shift = exponent.parse::<i32>().ok()?.checked_sub(i32::try_from(fraction.len()).ok()?.checked_mul(4)?)?;
    let value = value * 2f64.powi(shift);
    value.is_finite().then_some(value)
}
