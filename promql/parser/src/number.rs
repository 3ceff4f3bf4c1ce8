//! Number and duration tokens and their values.
use ferula_model::duration::parse_ms;
use ferula_model::labels::quoted;
use ferula_model::number::parse_go_number;

use crate::lexer::is_alphanumeric;
use crate::token::Kind;

/// A reading position over ASCII syntax.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
    fn sees(&self, set: &[u8]) -> bool {
        self.peek().is_some_and(|b| set.contains(&b))
    }
    fn accept(&mut self, set: &[u8]) -> bool {
        let seen = self.sees(set);
        self.at += usize::from(seen);
        seen
    }
    fn accept_all(&mut self, set: &[u8]) {
        while self.accept(set) {}
    }
    fn sees_alphanumeric(&self) -> bool {
        self.peek().is_some_and(|b| is_alphanumeric(char::from(b)))
    }
}

const DIGITS: &[u8] = b"0123456789";
const HEX_DIGITS: &[u8] = b"0123456789abcdefABCDEF";

/// The number or duration at the start of `text` and its length in bytes; an error says how much was read.
///
/// Not every number token is a valid number: `09x` is refused here, `1.2.3` by [`value`].
pub fn scan(text: &str) -> Result<(Kind, usize), usize> {
    let mut c = Cursor { bytes: text.as_bytes(), at: 0 };
    if scan_number(&mut c) {
        return Ok((Kind::Number, c.at));
    }
    if scan_duration(&mut c) { Ok((Kind::Duration, c.at)) } else { Err(c.at) }
}

fn scan_number(c: &mut Cursor<'_>) -> bool {
    let mut digits = DIGITS;
    if c.accept(b"0") && c.accept(b"xX") {
        c.accept(b"_");
        digits = HEX_DIGITS;
    }
    c.accept(b".");
    c.accept(digits);
    let (mut dot_seen, mut exponent_seen) = (false, false);
    while c.sees(digits) || c.sees(b"._eE") {
        if (c.sees(b".") && dot_seen) || (c.sees(b"eE") && exponent_seen) {
            c.at += 1;
            return false;
        }
        if c.accept(b".") {
            dot_seen = true;
            // No fractions in hexadecimal.
            if c.accept(b"_.") || digits.len() > DIGITS.len() {
                return false;
            }
        } else if c.accept(b"eE") {
            exponent_seen = true;
            c.accept(b"+-");
            if c.accept(b"._eE") || c.peek().is_none() {
                return false;
            }
        } else if c.accept(b"_") {
            if c.accept(b"._eE") || c.peek().is_none() {
                return false;
            }
        } else {
            c.accept_all(digits);
        }
    }
    c.at > 0 && !c.sees_alphanumeric()
}

/// The length of the number at the start of `text` in a series description, where an `x` may follow and none may be in it.
pub fn scan_in_series(text: &str) -> Option<usize> {
    let mut c = Cursor { bytes: text.as_bytes(), at: 0 };
    c.accept_all(DIGITS);
    if c.accept(b".") {
        c.accept_all(DIGITS);
    }
    if c.sees(b"eE") {
        c.at += 1;
        c.accept(b"+-");
        c.accept_all(DIGITS);
    }
    (c.at > 0 && (c.sees(b"x") || !c.sees_alphanumeric())).then_some(c.at)
}

/// The rest of a duration whose first digits are read: `h30m`.
fn scan_duration(c: &mut Cursor<'_>) -> bool {
    if !c.accept(b"smhdwy") {
        return false;
    }
    c.accept(b"s"); // of "ms"; nonsense like "hs" fails when the value is read
    while c.accept(DIGITS) {
        c.accept_all(DIGITS);
        if !c.accept(b"smhdw") {
            return false;
        }
        c.accept(b"s");
    }
    if c.sees_alphanumeric() {
        c.at += 1; // the message shows it
        return false;
    }
    true
}

/// The value of a number token, or of a duration token in seconds. The error is upstream's text.
pub fn value(kind: Kind, text: &str) -> Result<f64, String> {
    if kind == Kind::Duration {
        return match parse_ms(text) {
            Ok(ms) => Ok(ms as f64 / 1000.0),
            Err(e) => Err(e.to_string()),
        };
    }
    parse_go_number(text)
        .map_err(|e| format!("error parsing number: strconv.ParseFloat: parsing {}: {e}", quoted(text)))
}
