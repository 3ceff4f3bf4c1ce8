//! String literals: Go's escapes in `"..."` and `'...'`, raw text in back quotes.
use ferula_model::labels::quoted;

use crate::error::unicode_char;

const SURROGATES: std::ops::Range<u32> = 0xd800..0xe000;

/// The length in bytes of the literal at the start of `text`, which begins with `quote`.
pub fn scan(text: &str, quote: char) -> Result<usize, String> {
    let mut chars = text.char_indices().skip(1);
    let raw = quote == '`';
    while let Some((at, c)) = chars.next() {
        match c {
            char::REPLACEMENT_CHARACTER => return Err("invalid UTF-8 rune".to_owned()),
            '\n' if !raw => break,
            '\\' if !raw => escape(&mut chars, quote)?,
            c if c == quote => return Ok(at + c.len_utf8()),
            _ => {}
        }
    }
    Err(if raw { "unterminated raw string" } else { "unterminated quoted string" }.to_owned())
}

/// Checks the escape whose backslash has been read.
fn escape(chars: &mut impl Iterator<Item = (usize, char)>, quote: char) -> Result<(), String> {
    let not_terminated = || "escape sequence not terminated".to_owned();
    let mut next = || chars.next().map(|(_, c)| c);
    let first = next().ok_or_else(not_terminated)?;
    let (digits, base, max) = match first {
        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
        c if c == quote => return Ok(()),
        '0'..='7' => (3, 8, 255),
        'x' => (2, 16, 255),
        'u' => (4, 16, 0x10_ffff),
        'U' => (8, 16, 0x10_ffff),
        c => return Err(format!("unknown escape sequence {}", unicode_char(c))),
    };
    let mut number = 0u32;
    for i in 0..digits {
        let c = if i == 0 && base == 8 { first } else { next().ok_or_else(not_terminated)? };
        let digit =
            c.to_digit(base).ok_or_else(|| format!("illegal character {} in escape sequence", unicode_char(c)))?;
        number = number.wrapping_mul(base).wrapping_add(digit);
    }
    if number > max || SURROGATES.contains(&number) {
        return Err("escape sequence is an invalid Unicode code point".to_owned());
    }
    Ok(())
}

/// Go's `%q` of bytes that may not be UTF-8.
pub fn quoted_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let valid = quoted(chunk.valid());
        out.push_str(valid.get(1..valid.len() - 1).unwrap_or(""));
        out.extend(chunk.invalid().iter().map(|b| format!("\\x{b:02x}")));
    }
    out.push('"');
    out
}

/// The text a scanned literal stands for, what is not UTF-8 replaced.
pub fn unquote(literal: &str) -> String {
    String::from_utf8(unquote_bytes(literal)).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// The bytes a scanned literal stands for.
pub fn unquote_bytes(literal: &str) -> Vec<u8> {
    let quote = literal.chars().next().unwrap_or('"');
    let inner = literal.get(1..literal.len().saturating_sub(1)).unwrap_or("");
    if quote == '`' || !inner.contains('\\') {
        return inner.as_bytes().to_vec();
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    let push = |out: &mut Vec<u8>, c: char| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    while let Some(c) = chars.next() {
        if c != '\\' {
            push(&mut out, c);
            continue;
        }
        let Some(letter) = chars.next() else { break };
        let mut number = |digits: usize, base: u32| {
            let digits = chars.by_ref().take(digits).filter_map(|c| c.to_digit(base));
            digits.fold(0u32, |n, d| n.wrapping_mul(base).wrapping_add(d))
        };
        match letter {
            'a' => out.push(0x07),
            'b' => out.push(0x08),
            'f' => out.push(0x0c),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(0x0b),
            'x' => out.push(number(2, 16) as u8),
            'u' => push(&mut out, char::from_u32(number(4, 16)).unwrap_or(char::REPLACEMENT_CHARACTER)),
            'U' => push(&mut out, char::from_u32(number(8, 16)).unwrap_or(char::REPLACEMENT_CHARACTER)),
            '0'..='7' => out.push((letter.to_digit(8).unwrap_or(0) * 64 + number(2, 8)) as u8),
            c => push(&mut out, c),
        }
    }
    out
}
