//! Cuts a template into text and the tokens of its actions. Iterative, no copy: tokens borrow the template's text.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Error,
    Bool,
    Char,
    CharConstant,
    Assign,
    Declare,
    Eof,
    Field,
    Identifier,
    LeftDelim,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelim,
    RightParen,
    Space,
    String,
    Text,
    Variable,
    // Keywords: printed as `<if>` in errors.
    Block,
    Break,
    Continue,
    Define,
    Dot,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

impl Kind {
    fn is_keyword(self) -> bool {
        use Kind::*;
        matches!(self, Block | Break | Continue | Define | Dot | Else | End | If | Nil | Range | Template | With)
    }
}

fn keyword(word: &str) -> Option<Kind> {
    Some(match word {
        "block" => Kind::Block,
        "break" => Kind::Break,
        "continue" => Kind::Continue,
        "define" => Kind::Define,
        "else" => Kind::Else,
        "end" => Kind::End,
        "if" => Kind::If,
        "nil" => Kind::Nil,
        "range" => Kind::Range,
        "template" => Kind::Template,
        "with" => Kind::With,
        _ => return None,
    })
}

#[derive(Clone, Debug)]
pub(crate) struct Token<'a> {
    pub kind: Kind,
    /// Byte offset in the template's text.
    pub pos: usize,
    pub line: usize,
    pub text: &'a str,
    /// The message of an `Error` token.
    pub error: Option<Box<str>>,
}

/// The token as errors show it.
impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.kind, &self.error) {
            (Kind::Eof, _) => f.write_str("EOF"),
            (_, Some(message)) => f.write_str(message),
            (k, _) if k.is_keyword() => write!(f, "<{}>", self.text),
            _ if self.text.chars().count() > 10 => {
                let short: String = self.text.chars().take(10).collect();
                write!(f, "{}...", ferula_model::labels::quoted(&short))
            }
            _ => f.write_str(&ferula_model::labels::quoted(self.text)),
        }
    }
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";

/// Go's `isSpace` inside actions: newlines count.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Whether `rest` begins with a space, a minus and the closing delimiter.
fn trims_right(rest: &str) -> bool {
    let mut chars = rest.chars();
    chars.next().is_some_and(is_space) && chars.as_str().strip_prefix('-').is_some_and(|r| r.starts_with(RIGHT))
}

struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    line: usize,
    paren_depth: usize,
    tokens: Vec<Token<'a>>,
}

/// All tokens of `text`; the last one is `Eof` or `Error`.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { text, pos: 0, line: 1, paren_depth: 0, tokens: Vec::new() };
    if let Err(message) = lexer.run() {
        let (pos, line) = (lexer.pos, lexer.line);
        lexer.tokens.push(Token { kind: Kind::Error, pos, line, text: "", error: Some(message.into()) });
    }
    lexer.tokens
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.pos..).unwrap_or("")
    }
    /// Steps over `len` bytes without a token.
    fn skip(&mut self, len: usize) {
        let end = (self.pos + len).min(self.text.len());
        self.line += self.text.get(self.pos..end).map_or(0, |s| s.bytes().filter(|b| *b == b'\n').count());
        self.pos = end;
    }
    fn emit(&mut self, kind: Kind, len: usize) {
        let text = self.rest().get(..len).unwrap_or("");
        self.tokens.push(Token { kind, pos: self.pos, line: self.line, text, error: None });
        self.skip(len);
    }

    fn run(&mut self) -> Result<(), String> {
        let mut trim_left = false;
        loop {
            let rest = self.rest();
            if trim_left {
                let kept = rest.trim_start_matches(is_space);
                self.skip(rest.len() - kept.len());
            }
            let rest = self.rest();
            let Some(at) = rest.find(LEFT) else {
                if !rest.is_empty() {
                    self.emit(Kind::Text, rest.len());
                }
                self.emit(Kind::Eof, 0);
                return Ok(());
            };
            let (before, action) = rest.split_at(at);
            let after = action.strip_prefix(LEFT).unwrap_or("");
            let trims = after.starts_with('-') && after[1..].chars().next().is_some_and(is_space);
            let kept = if trims { before.trim_end_matches(is_space) } else { before };
            if !kept.is_empty() {
                self.emit(Kind::Text, kept.len());
            }
            self.skip(before.len() - kept.len());
            // A trim marker may stand before a comment, with exactly the spaces Go allows.
            let marker = if trims { 2 } else { 0 };
            if after.get(marker..).is_some_and(|r| r.starts_with("/*")) {
                trim_left = self.comment(marker)?;
                continue;
            }
            self.emit(Kind::LeftDelim, LEFT.len());
            self.skip(marker);
            self.paren_depth = 0;
            trim_left = self.action()?;
        }
    }

    /// Skips a comment action; answers whether it trims what follows.
    fn comment(&mut self, marker: usize) -> Result<bool, String> {
        let body = self.rest().get(LEFT.len() + marker..).unwrap_or("");
        let Some(end) = body.find("*/") else { return Err("unclosed comment".into()) };
        let tail = &body[end + 2..];
        let trims = trims_right(tail);
        let closing = if trims { 2 + RIGHT.len() } else { RIGHT.len() };
        if !trims && !tail.starts_with(RIGHT) {
            return Err("comment ends before closing delimiter".into());
        }
        self.skip(LEFT.len() + marker + end + 2 + closing);
        Ok(trims)
    }

    /// Tokens up to and with the closing delimiter; answers whether it trims what follows.
    fn action(&mut self) -> Result<bool, String> {
        loop {
            let rest = self.rest();
            let trims = trims_right(rest);
            if trims || rest.starts_with(RIGHT) {
                if self.paren_depth > 0 {
                    return Err("unclosed left paren".into());
                }
                if trims {
                    self.skip(2);
                }
                self.emit(Kind::RightDelim, RIGHT.len());
                return Ok(trims);
            }
            let mut chars = rest.chars();
            let Some(c) = chars.next() else { return Err("unclosed action".into()) };
            let next = chars.next();
            match c {
                c if is_space(c) => {
                    let mut len = 0;
                    while rest[len..].chars().next().is_some_and(is_space) && !trims_right(&rest[len..]) {
                        len += 1;
                    }
                    self.emit(Kind::Space, len);
                }
                '=' => self.emit(Kind::Assign, 1),
                ':' if next == Some('=') => self.emit(Kind::Declare, 2),
                ':' => return Err("expected :=".into()),
                '|' => self.emit(Kind::Pipe, 1),
                '"' => self.quoted('"', Kind::String, "unterminated quoted string")?,
                '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant")?,
                '`' => match rest[1..].find('`') {
                    Some(end) => self.emit(Kind::RawString, end + 2),
                    None => return Err("unterminated raw quoted string".into()),
                },
                '$' => self.name(Kind::Variable)?,
                '.' if !next.is_some_and(|c| c.is_ascii_digit()) => self.name(Kind::Field)?,
                '.' | '+' | '-' | '0'..='9' => self.number()?,
                c if is_alphanumeric(c) => self.identifier()?,
                '(' => {
                    self.emit(Kind::LeftParen, 1);
                    self.paren_depth += 1;
                }
                ')' => {
                    let Some(depth) = self.paren_depth.checked_sub(1) else {
                        return Err("unexpected right paren".into());
                    };
                    self.paren_depth = depth;
                    self.emit(Kind::RightParen, 1);
                }
                c if c.is_ascii_graphic() => self.emit(Kind::Char, 1),
                c => return Err(format!("unrecognized character in action: {}", unicode(c))),
            }
        }
    }

    fn quoted(&mut self, quote: char, kind: Kind, unterminated: &str) -> Result<(), String> {
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' if chars.next().is_some_and(|(_, c)| c != '\n') => {}
                c if c == quote => {
                    self.emit(kind, at + 1);
                    return Ok(());
                }
                '\n' | '\\' => break,
                _ => {}
            }
        }
        Err(unterminated.into())
    }

    /// `.Field` or `$variable`; alone, the dot and the root variable.
    fn name(&mut self, kind: Kind) -> Result<(), String> {
        let rest = self.rest();
        let len = 1 + word_len(&rest[1..]);
        self.at_terminator(len)?;
        let kind = if len == 1 && kind == Kind::Field { Kind::Dot } else { kind };
        self.emit(kind, len);
        Ok(())
    }

    fn identifier(&mut self) -> Result<(), String> {
        let len = word_len(self.rest());
        self.at_terminator(len)?;
        let word = &self.rest()[..len];
        let kind = match word {
            "true" | "false" => Kind::Bool,
            _ => keyword(word).unwrap_or(Kind::Identifier),
        };
        self.emit(kind, len);
        Ok(())
    }

    fn at_terminator(&mut self, len: usize) -> Result<(), String> {
        let tail = &self.rest()[len..];
        match tail.chars().next() {
            None => Ok(()),
            Some(c) if is_space(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '(') => Ok(()),
            Some(_) if tail.starts_with(RIGHT) => Ok(()),
            Some(c) => Err(format!("bad character {}", unicode(c))),
        }
    }

    fn number(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let mut at = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
        let mut digits: fn(u8) -> bool = |b| b.is_ascii_digit() || b == b'_';
        let mut hex = false;
        if bytes.get(at) == Some(&b'0') {
            match bytes.get(at + 1).map(u8::to_ascii_lowercase) {
                Some(b'x') => {
                    digits = |b| b.is_ascii_hexdigit() || b == b'_';
                    (at, hex) = (at + 2, true);
                }
                Some(b'o' | b'b') => at += 2,
                _ => {}
            }
        }
        let run = |at: usize| bytes[at.min(bytes.len())..].iter().take_while(|b| digits(**b)).count();
        at += run(at);
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            at += run(at);
        }
        let exponent = |b: u8| if hex { matches!(b, b'p' | b'P') } else { matches!(b, b'e' | b'E') };
        if bytes.get(at).copied().is_some_and(exponent) {
            at += 1;
            at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
            at += bytes[at.min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit() || **b == b'_').count();
        }
        let at = at.min(rest.len());
        if let Some(c) = rest[at..].chars().next().filter(|c| is_alphanumeric(*c)) {
            let bad = &rest[..at + c.len_utf8()];
            return Err(format!("bad number syntax: {}", ferula_model::labels::quoted(bad)));
        }
        self.emit(Kind::Number, at);
        Ok(())
    }
}

fn word_len(s: &str) -> usize {
    s.find(|c| !is_alphanumeric(c)).unwrap_or(s.len())
}

/// Go's `%#U`: `U+0040 '@'`.
fn unicode(c: char) -> String {
    if c.is_control() { format!("U+{:04X}", u32::from(c)) } else { format!("U+{:04X} '{c}'", u32::from(c)) }
}
