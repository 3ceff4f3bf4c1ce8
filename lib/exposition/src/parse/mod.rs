//! Reading the text exposition formats without copying: Prometheus text 0.0.4/1.0.0 and OpenMetrics 1.0.
//!
//! ```text
//!  body bytes --> Parser::next() --> Entry::{Help, Type, Unit, Comment, Sample}
//!                     |                                     | series: the raw text, e.g. b"up{job=\"a\"}"
//!                     |                                     | value, timestamp, exemplar
//!                     +-- start_ms(): when it began to count, from OpenMetrics' `_created` lines
//!                     +-- labels(): name, unescaped pairs of the sample just returned (only asked for on a cache miss)
//! ```
//!
//! A body need not be in memory as a whole: [`Parser::resume`] reads it piece by piece and says how much of each was
//! whole lines.
//!
//! A scrape that expects the line of last time calls [`Parser::next_known`]: one look and one number parse.
//! Time is linear in the body, memory constant, nothing recurses. A malformed line ends the parse with its line
//! number and upstream's reason, cut to [`MESSAGE_BYTES_MAX`].
//!
//! Source followed: the two format specifications and the observable behaviour of Prometheus 3.5.
mod check;
mod content_type;
mod grammar;
mod known;
mod lexer;
mod number;
pub mod protobuf;
mod start;
#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;
use std::fmt;

use ferula_model::MetricType;

#[doc(hidden)]
pub use check::{check_protobuf, check_text};
pub use content_type::{ContentTypeError, Negotiated, negotiate};
pub use grammar::Parser;
pub use known::KnownLines;
pub use number::parse_float;

/// The longest reason a [`ParseError`] carries.
pub const MESSAGE_BYTES_MAX: usize = 400;

/// Which grammar a body follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Syntax {
    /// Prometheus text, 0.0.4 and 1.0.0 alike.
    Text,
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
}

/// Bounds on what a body may make the parser do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A longer line, or metric of a protobuf body, is an error: it has to be in memory as a whole. Long before this a
    /// label would be refused by any sane `label_value_length_limit`.
    pub line_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { line_bytes_max: 16 << 20 }
    }
}

/// Where a body that comes in pieces stands between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    metric_type: MetricType,
    family_bytes: usize,
    /// Lines, or protobuf families, before.
    before: usize,
    /// OpenMetrics' end mark was read: nothing may follow.
    has_ended: bool,
}

impl Progress {
    /// Whole lines, or protobuf families, before.
    pub fn lines(&self) -> usize {
        self.before
    }
}

impl Default for Progress {
    fn default() -> Self {
        Progress { metric_type: MetricType::Unknown, family_bytes: 0, before: 0, has_ended: false }
    }
}

/// One line that means something. Texts borrow from the body unless an escape had to be resolved.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    Help { family: Cow<'a, str>, text: Cow<'a, str> },
    Type { family: Cow<'a, str>, metric_type: MetricType },
    Unit { family: Cow<'a, str>, unit: &'a str },
    Comment,
    Sample(Sample<'a>),
}

/// A sample line. Labels are parsed on demand: [`Parser::labels`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The series as written, name and braces: the key of a scrape cache.
    pub series: &'a [u8],
    pub value: f64,
    pub t_ms: Option<i64>,
    /// Whether an exemplar follows: [`Parser::exemplar`].
    pub has_exemplar: bool,
    /// Whether `series` is what [`Parser::next_known`] was asked for; labels are not available then.
    pub expected: bool,
}

/// Where and why a body is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// Counted from 1; 0 where there are no lines.
    pub line: usize,
    pub reason: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.reason),
            line => write!(f, "{} (line {line})", self.reason),
        }
    }
}

/// Go's `%q` of bytes: printable text stays, the rest is escaped, invalid UTF-8 becomes `\xNN`.
pub(crate) fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let quoted = ferula_model::labels::quoted(chunk.valid());
        out.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or(""));
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
        if out.len() > MESSAGE_BYTES_MAX {
            break;
        }
    }
    out.push('"');
    out
}

/// Cuts an error text at a character boundary.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX {
        let mut end = MESSAGE_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
