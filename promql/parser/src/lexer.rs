//! Text to tokens, on nom: small recognisers over the rest of the text, and a loop that knows which of three places it is
//! in (statement, braces, the start of brackets), because PromQL's words mean different things there.
//!
//! One pass, no backtracking past a token. The quirks of number syntax and of error positions are upstream's.
use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while, take_while1};
use nom::character::complete::{char, satisfy};
use nom::combinator::{recognize, value};
use nom::sequence::{pair, preceded};
use nom::{IResult, Parser as _};

use crate::ast::{BinaryOp as B, Span};
use crate::error::quoted_char;
use crate::number;
use crate::string;
use crate::token::{Bound, Keyword, Kind, Token, keyword};
use ferula_model::labels::quoted;

pub struct Tokens {
    /// Ends with `Eof` or `Error`.
    pub list: Vec<Token>,
    /// The message of the final `Error`.
    pub error: Option<String>,
}

pub fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}
pub fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}
pub fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}

fn spaces(s: &str) -> IResult<&str, &str> {
    take_while1(is_space)(s)
}
fn comment(s: &str) -> IResult<&str, &str> {
    preceded(char('#'), take_till(|c| c == '\n' || c == '\r')).parse(s)
}
/// Letters, digits, underscores; the first is no digit.
pub fn identifier(s: &str) -> IResult<&str, &str> {
    recognize(pair(satisfy(is_alpha), take_while(is_alphanumeric))).parse(s)
}
/// An identifier that may hold colons.
pub fn metric_identifier(s: &str) -> IResult<&str, &str> {
    take_while1(|c| is_alphanumeric(c) || c == ':')(s)
}
fn symbol(s: &str) -> IResult<&str, Kind> {
    let op = |text, op| value(Kind::Operator(op), tag(text));
    alt((
        value(Kind::LeftParen, char('(')),
        value(Kind::RightParen, char(')')),
        value(Kind::LeftBrace, char('{')),
        value(Kind::LeftBracket, char('[')),
        value(Kind::RightBracket, char(']')),
        value(Kind::Comma, char(',')),
        value(Kind::At, char('@')),
        alt((op("*", B::Mul), op("/", B::Div), op("%", B::Mod), op("+", B::Add), op("-", B::Sub), op("^", B::Pow))),
        alt((
            op("==", B::Eql),
            op("!=", B::Neq),
            op("<=", B::Lte),
            op("</", B::TrimUpper),
            op("<", B::Lss),
            op(">=", B::Gte),
            op(">/", B::TrimLower),
            op(">", B::Gtr),
        )),
        value(Kind::Equal, char('=')),
    ))
    .parse(s)
}
fn symbol_in_braces(s: &str) -> IResult<&str, Kind> {
    alt((
        value(Kind::RightBrace, char('}')),
        value(Kind::Comma, char(',')),
        value(Kind::EqualRegex, tag("=~")),
        value(Kind::NotEqualRegex, tag("!~")),
        value(Kind::Operator(B::Neq), tag("!=")),
        value(Kind::Equal, char('=')),
    ))
    .parse(s)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
    tokens_max: usize,
    paren_depth: usize,
    in_braces: bool,
    in_brackets: bool,
    /// Within brackets before the first number: only duration expressions are read there.
    before_number: bool,
    got_colon: bool,
}

/// Where and why lexing stopped.
struct Stop {
    at: usize,
    message: String,
}

/// Splits the whole text. Reads each byte a bounded number of times.
pub fn tokenize(text: &str, tokens_max: usize) -> Tokens {
    let mut lexer = Lexer {
        text,
        at: 0,
        tokens: Vec::with_capacity(text.len() / 4 + 2),
        tokens_max,
        paren_depth: 0,
        in_braces: false,
        in_brackets: false,
        before_number: false,
        got_colon: false,
    };
    let (kind, at, error) = match lexer.run() {
        Ok(()) => (Kind::Eof, text.len(), None),
        Err(stop) => (Kind::Error, stop.at, Some(stop.message)),
    };
    lexer.tokens.push(Token { kind, span: Span::new(at, text.len()) });
    Tokens { list: lexer.tokens, error }
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }
    fn stop(&self, message: impl Into<String>) -> Stop {
        Stop { at: self.at, message: message.into() }
    }
    fn emit(&mut self, kind: Kind, len: usize) {
        self.tokens.push(Token { kind, span: Span::new(self.at, self.at + len) });
        self.at += len;
    }

    fn run(&mut self) -> Result<(), Stop> {
        while let Some(c) = self.rest().chars().next() {
            if self.tokens.len() >= self.tokens_max {
                return Err(self.stop(format!("query has more than {} tokens", self.tokens_max)));
            }
            if let Ok((_, skipped)) = spaces(self.rest()) {
                self.at += skipped.len();
                continue;
            }
            // Only the start of brackets knows no comments.
            if c == '#' && !self.before_number {
                self.at += comment(self.rest()).map_or(0, |(_, text)| text.len() + 1);
                continue;
            }
            if self.in_braces {
                self.braces(c)?;
            } else if self.before_number {
                self.duration(c)?;
            } else {
                self.statement(c)?;
            }
        }
        Err(self.stop(if self.in_braces {
            "unexpected end of input inside braces"
        } else if self.before_number {
            "unexpected end of input in duration expression"
        } else if self.paren_depth != 0 {
            "unclosed left parenthesis"
        } else if self.in_brackets {
            "unclosed left bracket"
        } else {
            return Ok(());
        }))
    }

    fn second(&self) -> Option<char> {
        self.rest().chars().nth(1)
    }

    fn statement(&mut self, c: char) -> Result<(), Stop> {
        let next = self.second();
        match c {
            '"' | '\'' | '`' => return self.string(c),
            '0'..='9' => return self.number(),
            '.' if next.is_some_and(|n| n.is_ascii_digit()) => return self.number(),
            '=' if next == Some('~') => return Err(self.stop("unexpected character after '=': '~'")),
            '!' if next != Some('=') => {
                let shown = quoted_char(next.unwrap_or(char::REPLACEMENT_CHARACTER));
                return Err(self.stop(format!("unexpected character after '!': {shown}")));
            }
            ':' if self.in_brackets => return self.colon(),
            c if is_alpha(c) && self.in_brackets => {
                return if self.duration_word() {
                    Ok(())
                } else {
                    Err(self.stop(format!("unexpected character: {}, expected ':'", quoted_char(c))))
                };
            }
            c if is_alpha(c) || c == ':' => {
                self.word();
                return Ok(());
            }
            _ => {}
        }
        match symbol(self.rest()) {
            Ok((rest, kind)) => self.symbol(kind, self.rest().len() - rest.len()),
            Err(_) => Err(self.stop(format!("unexpected character: {}", quoted_char(c)))),
        }
    }

    fn symbol(&mut self, kind: Kind, len: usize) -> Result<(), Stop> {
        match kind {
            Kind::LeftBracket if self.in_brackets => return Err(self.stop("unexpected left bracket '['")),
            Kind::RightBracket if !self.in_brackets => return Err(self.stop("unexpected right bracket ']'")),
            _ => self.emit(kind, len),
        }
        match kind {
            Kind::LeftParen => self.paren_depth += 1,
            Kind::RightParen => match self.paren_depth.checked_sub(1) {
                Some(depth) => self.paren_depth = depth,
                None => {
                    self.tokens.pop();
                    return Err(self.stop("unexpected right parenthesis ')'"));
                }
            },
            Kind::LeftBrace => self.in_braces = true,
            Kind::LeftBracket => {
                (self.in_brackets, self.before_number, self.got_colon) = (true, true, false);
            }
            Kind::RightBracket => (self.in_brackets, self.before_number) = (false, false),
            _ => {}
        }
        Ok(())
    }

    fn colon(&mut self) -> Result<(), Stop> {
        if self.got_colon {
            self.at += 1;
            return Err(Stop { at: self.at - 1, message: "unexpected colon ':'".to_owned() });
        }
        self.got_colon = true;
        self.emit(Kind::Colon, 1);
        Ok(())
    }

    /// A keyword or a name.
    fn word(&mut self) {
        let word = metric_identifier(self.rest()).map_or("", |(_, w)| w);
        let mut kind =
            keyword(word).unwrap_or(if word.contains(':') { Kind::MetricIdentifier } else { Kind::Identifier });
        // These came late: they are keywords only where a value follows, so that metrics of that name keep working.
        if let Kind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight) = kind {
            let after = self.rest().get(word.len()..).unwrap_or("");
            if !after.trim_start_matches(is_space).starts_with('(') {
                kind = Kind::Identifier;
            }
        }
        self.emit(kind, word.len());
    }

    /// Reads one of the words of duration expressions; false leaves everything as it was.
    fn duration_word(&mut self) -> bool {
        let word = identifier(self.rest()).map_or("", |(_, w)| w);
        let kind = match word.to_ascii_lowercase().as_str() {
            "step" => Kind::Bound(Bound::Step),
            "range" => Kind::Bound(Bound::Range),
            "min_of" => Kind::MinOf,
            "max_of" => Kind::MaxOf,
            _ => return false,
        };
        self.emit(kind, word.len());
        true
    }

    fn number(&mut self) -> Result<(), Stop> {
        self.before_number = false;
        let (kind, len) = number::scan(self.rest()).map_err(|read| {
            let text = self.rest().get(..read).unwrap_or("");
            self.stop(format!("bad number or duration syntax: {}", quoted(text)))
        })?;
        self.emit(kind, len);
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<(), Stop> {
        let len = string::scan(self.rest(), quote).map_err(|message| self.stop(message))?;
        self.emit(Kind::String, len);
        Ok(())
    }

    fn braces(&mut self, c: char) -> Result<(), Stop> {
        match c {
            '"' | '\'' | '`' => return self.string(c),
            '{' => return Err(self.stop("unexpected left brace '{'")),
            c if is_alpha(c) => {
                let len = identifier(self.rest()).map_or(0, |(_, word)| word.len());
                self.emit(Kind::Identifier, len);
                return Ok(());
            }
            _ => {}
        }
        match symbol_in_braces(self.rest()) {
            Ok((rest, kind)) => {
                self.emit(kind, self.rest().len() - rest.len());
                self.in_braces = kind != Kind::RightBrace;
                Ok(())
            }
            Err(_) if c == '!' => {
                let shown = quoted_char(self.second().unwrap_or(char::REPLACEMENT_CHARACTER));
                Err(self.stop(format!("unexpected character after '!' inside braces: {shown}")))
            }
            Err(_) => Err(self.stop(format!("unexpected character inside braces: {}", quoted_char(c)))),
        }
    }

    /// Right after `[`, until the first number.
    fn duration(&mut self, c: char) -> Result<(), Stop> {
        match c {
            '0'..='9' => return self.number(),
            '.' if self.second().is_some_and(|n| n.is_ascii_digit()) => return self.number(),
            ':' => {
                // A range that is step() or range() has no number before its colon.
                if self.tokens.last().is_none_or(|t| t.kind == Kind::LeftBracket) {
                    return Err(Stop {
                        at: self.at + 1,
                        message: "unexpected colon before duration in duration expression".to_owned(),
                    });
                }
                return self.colon();
            }
            '(' | ')' | ']' | '+' | '-' | '*' | '/' | '%' | '^' | ',' => {
                if let Ok((rest, kind)) = symbol(self.rest()) {
                    return self.symbol(kind, self.rest().len() - rest.len());
                }
            }
            _ if self.duration_word() => return Ok(()),
            _ => {}
        }
        Err(self.stop(format!("unexpected character in duration expression: {}", quoted_char(c))))
    }
}
