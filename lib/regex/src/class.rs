//! Bracketed classes and the escapes that are classes or single characters, as Go reads them.
use crate::Error;
use crate::names;

const RANGE: &str = "invalid character class range";
const ESCAPE: &str = "invalid escape sequence";
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];
/// A class without members: what a surrogate code point can match.
pub const NOTHING: &str = r"[^\x{0}-\x{10FFFF}]";

/// One character as the regex crate reads it anywhere, in classes too. Surrogates are in no text.
pub fn character(c: u32) -> String {
    match char::from_u32(c) {
        Some(c) if c.is_ascii_alphanumeric() => c.to_string(),
        Some(_) => format!(r"\x{{{c:X}}}"),
        None => NOTHING.to_owned(),
    }
}

/// The Perl classes, which are ASCII in Go and whose `\s` lacks the vertical tab; the text is a class's inside.
pub fn perl(letter: char) -> Option<&'static str> {
    Some(match letter {
        'd' => "0-9",
        's' => r"\t\n\x0C\r ",
        'w' => "0-9A-Za-z_",
        'D' => "[^0-9]",
        'S' => r"[^\t\n\x0C\r ]",
        'W' => "[^0-9A-Za-z_]",
        _ => return None,
    })
}

/// `\pN`, `\p{Greek}`, `\P{^Lu}` at the start of `s`: the class and the length read.
pub fn unicode(s: &str) -> Result<Option<(String, usize)>, Error> {
    let mut chars = s.chars();
    let (Some('\\'), Some(letter @ ('p' | 'P'))) = (chars.next(), chars.next()) else { return Ok(None) };
    let (name, len) = match chars.next() {
        None => return Err(Error::go(RANGE, s)),
        Some('{') => {
            let end = s.find('}').ok_or_else(|| Error::go(RANGE, s))?;
            (s.get(3..end).unwrap_or(""), end + 1)
        }
        Some(c) => (s.get(2..2 + c.len_utf8()).unwrap_or(""), 2 + c.len_utf8()),
    };
    let read = s.get(..len).unwrap_or(s);
    let (negated, name) = match name.strip_prefix('^') {
        Some(name) => (letter == 'p', name),
        None => (letter == 'P', name),
    };
    if !names::is_known(name) {
        return Err(Error::go(RANGE, read));
    }
    let letter = if negated { 'P' } else { 'p' };
    // Surrogates are a category that no text has members of, and that the regex crate does not know.
    let class = match (name, negated) {
        ("Cs", false) => NOTHING.to_owned(),
        ("Cs", true) => r"[\x{0}-\x{10FFFF}]".to_owned(),
        _ => format!(r"\{letter}{{{name}}}"),
    };
    Ok(Some((class, len)))
}

/// An escape that is one character, at the start of `s`: its code point and the length read.
pub fn escape(s: &str) -> Result<(u32, usize), Error> {
    let mut chars = s.char_indices().skip(1);
    let Some((_, c)) = chars.next() else {
        return Err(Error::go("trailing backslash at end of expression", ""));
    };
    let fail = |len: usize| Err(Error::go(ESCAPE, s.get(..len.min(s.len())).unwrap_or(s)));
    let simple = |code: char| Ok((u32::from(code), 2));
    match c {
        // A single non-zero digit would be a back reference, which Go does not have either.
        '1'..='7' if !s.get(2..).is_some_and(|r| r.starts_with(|c: char| c.is_digit(8))) => fail(2),
        '0'..='7' => {
            let digits = s.get(1..).unwrap_or("").chars().take(3).take_while(|c| c.is_digit(8));
            let text: String = digits.collect();
            Ok((u32::from_str_radix(&text, 8).unwrap_or(0), 1 + text.len()))
        }
        'x' => hexadecimal(s),
        'a' => simple('\x07'),
        'f' => simple('\x0c'),
        'n' => simple('\n'),
        'r' => simple('\r'),
        't' => simple('\t'),
        'v' => simple('\x0b'),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => simple(c),
        c => fail(1 + c.len_utf8()),
    }
}

/// `\x41` or `\x{1F600}` at the start of `s`.
fn hexadecimal(s: &str) -> Result<(u32, usize), Error> {
    let digits = s.get(2..).unwrap_or("");
    let fail = |len: usize| Err(Error::go(ESCAPE, s.get(..len).unwrap_or(s)));
    let Some(inner) = digits.strip_prefix('{') else {
        let text: String = digits.chars().take(2).collect();
        return match u32::from_str_radix(&text, 16) {
            Ok(code) if text.len() == 2 && !text.starts_with('+') => Ok((code, 4)),
            _ => fail(2 + text.len()),
        };
    };
    let mut code = 0;
    for (at, c) in inner.char_indices() {
        let end = 3 + at + c.len_utf8();
        match c.to_digit(16) {
            Some(digit) => code = code * 16 + digit,
            None if c == '}' && at > 0 => return Ok((code, end)),
            None => return fail(end),
        }
        if code > 0x10_FFFF {
            return fail(end);
        }
    }
    fail(s.len())
}

/// A bracketed class at the start of `s`: its translation and the length read.
pub fn bracketed(s: &str) -> Result<(String, usize), Error> {
    let rest = |at: usize| s.get(at..).unwrap_or("");
    let mut out = String::from("[");
    let mut at = 1;
    if rest(at).starts_with('^') {
        out.push('^');
        at += 1;
    }
    let (mut is_first, mut is_empty) = (true, true);
    while is_first || !rest(at).starts_with(']') {
        is_first = false;
        if let Some(posix) = posix(rest(at))? {
            out.push_str(posix);
            at += posix.len();
            is_empty = false;
            continue;
        }
        if let Some((class, len)) = unicode(rest(at))? {
            out.push_str(&class);
            at += len;
            is_empty = false;
            continue;
        }
        let letter = rest(at).strip_prefix('\\').and_then(|r| r.chars().next());
        if let Some(inside) = letter.and_then(perl) {
            out.push_str(inside);
            at += 2;
            is_empty = false;
            continue;
        }
        let start = at;
        let low = one(s, &mut at)?;
        let mut high = low;
        if rest(at).starts_with('-') && rest(at).len() > 1 && !rest(at).starts_with("-]") {
            at += 1;
            high = one(s, &mut at)?;
            if high < low {
                return Err(Error::go(RANGE, s.get(start..at).unwrap_or("")));
            }
        }
        // What lies among the surrogates matches nothing.
        let low = if (0xD800..0xE000).contains(&low) { 0xE000 } else { low };
        let high = if (0xD800..0xE000).contains(&high) { 0xD7FF } else { high };
        if low <= high {
            is_empty = false;
            out.push_str(&character(low));
            if high > low {
                out.push('-');
                out.push_str(&character(high));
            }
        }
    }
    if is_empty {
        let all = r"[\x{0}-\x{10FFFF}]".to_owned();
        return Ok((if out.starts_with("[^") { all } else { NOTHING.to_owned() }, at + 1));
    }
    out.push(']');
    Ok((out, at + 1))
}

/// One character of a class, escaped or not.
fn one(s: &str, at: &mut usize) -> Result<u32, Error> {
    let rest = s.get(*at..).unwrap_or("");
    match rest.chars().next() {
        None => Err(Error::go("missing closing ]", s)),
        Some('\\') => {
            let (code, len) = escape(rest)?;
            *at += len;
            Ok(code)
        }
        Some(c) => {
            *at += c.len_utf8();
            Ok(u32::from(c))
        }
    }
}

/// `[:alpha:]` or `[:^alpha:]` at the start of `s`. Without the end it is no such class, but the characters.
fn posix(s: &str) -> Result<Option<&str>, Error> {
    let Some(inner) = s.strip_prefix("[:") else { return Ok(None) };
    let Some(end) = inner.find(":]") else { return Ok(None) };
    let name = inner.get(..end).unwrap_or("");
    let whole = s.get(..end + 4).unwrap_or("");
    if POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) { Ok(Some(whole)) } else { Err(Error::go(RANGE, whole)) }
}
