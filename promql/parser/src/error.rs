//! What is wrong with a query and where, in upstream's words: clients match on them.
use std::fmt;

use crate::ast::Span;

/// Longest message kept, in bytes; a query can be a mebibyte and its tokens are quoted in messages.
const MESSAGE_MAX: usize = 3_000;

/// Prints as `line:column: parse error: message`; both count from 1, the column in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub message: String,
    /// Bytes of the query the message is about.
    pub span: Span,
    /// 0, as the column: of an empty query.
    pub line: usize,
    pub column: usize,
}

impl ParseError {
    pub(crate) fn new(text: &str, span: Span, message: impl Into<String>) -> ParseError {
        let mut message = message.into();
        if message.len() > MESSAGE_MAX {
            let cut = (0..=MESSAGE_MAX).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
            message.truncate(cut);
            message.push_str("...");
        }
        let (line, column) = if text.is_empty() { (0, 0) } else { span.line_column(text) };
        ParseError { message, span, line, column }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "unknown position: parse error: {}", self.message),
            line => write!(f, "{line}:{}: parse error: {}", self.column, self.message),
        }
    }
}
impl std::error::Error for ParseError {}

/// Go's `%q` of one character.
pub(crate) fn quoted_char(c: char) -> String {
    match c {
        '\'' => r"'\''".to_owned(),
        '"' => "'\"'".to_owned(),
        _ => {
            let s = ferula_model::labels::quoted(c.encode_utf8(&mut [0; 4]));
            format!("'{}'", s.get(1..s.len() - 1).unwrap_or(""))
        }
    }
}

/// Go's `%#U`: `U+0063 'c'`.
pub(crate) fn unicode_char(c: char) -> String {
    let quoted = quoted_char(c);
    let printable = !quoted.contains('\\') || c == '\'' || c == '\\';
    if printable { format!("U+{:04X} '{c}'", u32::from(c)) } else { format!("U+{:04X}", u32::from(c)) }
}
