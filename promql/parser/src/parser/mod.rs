//! Tokens to tree, without recursion: an operand is read, then operators decide what encloses it.
//!
//! What is open at a moment (parentheses, calls, left operands waiting for their right one) stands in a stack of
//! [`Frame`]s, so that the input's nesting costs heap, not stack, and is capped by `depth_max`.
//!
//! ```text
//!   operand:   ( + - aggregate( name(   push a frame, stay        literal, selector   an expression: go to operator
//!   operator:  [..] offset @            change the expression, stay
//!              binary operator          reduce what binds tighter, push, go to operand
//!              , ) end                  reduce to the enclosing frame: an argument or a complete expression
//! ```
mod duration;
mod expr;
mod metric;
mod modifier;
mod selector;

use crate::ParseOptions;
use crate::ast::{Expr, Span};
use crate::error::ParseError;
use crate::lexer::{Tokens, tokenize};
use crate::token::{Kind, Token};

type Result<T> = std::result::Result<T, ParseError>;

pub struct Parser<'a> {
    text: &'a str,
    options: &'a ParseOptions,
    tokens: Tokens,
    at: usize,
    selectors: usize,
    regex_states: usize,
    /// Aggregations whose arguments are being read: errors in there are said to be "in aggregation".
    open_aggregations: usize,
    /// Tokens looked at: bounds the work in tests.
    steps: usize,
}

impl<'a> Parser<'a> {
    pub fn new(text: &'a str, options: &'a ParseOptions) -> Result<Parser<'a>> {
        if text.len() > options.length_max {
            let message = format!("query is {} bytes long, the limit is {}", text.len(), options.length_max);
            return Err(ParseError::new(" ", Span::default(), message));
        }
        let tokens = tokenize(text, options.tokens_max);
        Ok(Parser { text, options, tokens, at: 0, selectors: 0, regex_states: 0, open_aggregations: 0, steps: 0 })
    }

    /// A whole query.
    pub fn query(mut self) -> Result<Expr> {
        if self.peek() == Kind::Eof {
            return Err(ParseError::new(self.text, Span::default(), "no expression found in input"));
        }
        self.expr()
    }

    /// One vector selector and nothing else.
    pub fn lone_selector(mut self) -> Result<crate::ast::VectorSelector> {
        let selector = self.vector_selector()?;
        match self.peek() {
            Kind::Eof => Ok(selector),
            _ => Err(self.unexpected("", "")),
        }
    }

    fn token(&self) -> Token {
        let end = Span::new(self.text.len(), self.text.len());
        self.tokens.list.get(self.at).copied().unwrap_or(Token { kind: Kind::Eof, span: end })
    }
    fn peek(&mut self) -> Kind {
        self.steps += 1;
        self.token().kind
    }
    fn peek_second(&self) -> Kind {
        self.tokens.list.get(self.at + 1).map_or(Kind::Eof, |t| t.kind)
    }
    /// Takes the current token; the end and an error stay.
    fn next(&mut self) -> Token {
        let t = self.token();
        if !matches!(t.kind, Kind::Eof | Kind::Error) {
            self.at += 1;
        }
        t
    }
    fn take_if(&mut self, kind: Kind) -> Option<Token> {
        if self.peek() == kind { Some(self.next()) } else { None }
    }
    /// The end of the token before the current one.
    fn last_end(&self) -> Span {
        self.tokens.list.get(self.at.wrapping_sub(1)).map_or(Span::default(), |t| t.span)
    }
    fn word(&self, span: Span) -> &'a str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    fn error(&self, span: Span, message: impl Into<String>) -> ParseError {
        ParseError::new(self.text, span, message)
    }
    /// An error upstream only notices once it has read one token more: if that token is bad, that is said instead.
    fn error_after_lookahead(&self, span: Span, message: impl Into<String>) -> ParseError {
        if self.token().kind == Kind::Error { self.unexpected("", "") } else { self.error(span, message) }
    }
    /// "unexpected ... in `context`, expected `expected`" about the current token, or the lexer's error.
    fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let token = self.token();
        if let (Kind::Error, Some(message)) = (token.kind, &self.tokens.error) {
            return self.error(token.span, message.as_str());
        }
        let mut message = format!("unexpected {}", token.kind.describe(self.word(token.span)));
        for (word, text) in [(" in ", context), (", expected ", expected)] {
            if !text.is_empty() {
                message.push_str(word);
                message.push_str(text);
            }
        }
        self.error(token.span, message)
    }
    /// The same where the grammar has no better name for the place.
    fn unexpected_here(&self) -> ParseError {
        self.unexpected(if self.open_aggregations > 0 { "aggregation" } else { "" }, "")
    }
}

#[cfg(test)]
/// Parses and counts the tokens looked at and those there are.
pub fn parse_counting(text: &str, options: &ParseOptions) -> Result<(Expr, usize, usize)> {
    let mut parser = Parser::new(text, options)?;
    let expr = parser.expr()?;
    Ok((expr, parser.steps, parser.tokens.list.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide() -> ParseOptions {
        let max = 10_000_000;
        ParseOptions { tokens_max: max, height_max: max, selectors_max: max, ..ParseOptions::default() }
    }

    /// Work grows with the tokens and with nothing else, for every way of being long.
    #[test]
    fn work_is_linear_in_tokens() {
        for shape in [
            |n: usize| format!("1{}", "+1".repeat(n)),
            |n| format!("a{}", " or a".repeat(n)),
            |n| format!("1{}", "*1+1".repeat(n)),
            |n| format!("a{{{}}}", "b=\"c\",".repeat(n)),
            |n| format!("label_join(a, \"b\"{})", ", \"c\"".repeat(n)),
            |n| format!("sum by ({}) (a)", "b,".repeat(n)),
            |n: usize| format!("a offset {}1s", "+".repeat(n.min(100))),
        ] {
            let (_, steps, tokens) = parse_counting(&shape(20_000), &wide()).unwrap();
            assert!(steps <= 10 * tokens + 10, "{steps} looks at {tokens} tokens of {}...", &shape(3));
        }
    }

    /// Whatever is nested deeply or chained long is refused or parsed, printed and dropped on a small stack.
    #[test]
    fn holds_on_a_small_stack() {
        let check = || {
            for n in [120, 128, 129, 900, 1_000, 1_001, 5_000, 100_000] {
                for text in [
                    format!("{}1{}", "(".repeat(n), ")".repeat(n)),
                    format!("{}a{}", "abs(".repeat(n), ")".repeat(n)),
                    format!("{}a{}", "sum(".repeat(n), ")".repeat(n)),
                    format!("{}a{}", "sum(a + ".repeat(n), ")".repeat(n)),
                    format!("{}a", "-".repeat(n)),
                    format!("1{}", "+1".repeat(n)),
                    format!("a{}", " + on (b) group_left a".repeat(n)),
                    format!("1{}", "^1".repeat(n)),
                    format!("1{}", "^-1".repeat(n)),
                    format!("a{}", "[1s:]".repeat(n)),
                    format!("{}a{}", "sum_over_time(".repeat(n), "[1s:])".repeat(n)),
                    format!("a[{}1s{}]", "(".repeat(n), ")".repeat(n)),
                    format!("a[1s{}]", "+1s".repeat(n)),
                    format!("a offset ({}1s{})", "-(".repeat(n), ")".repeat(n)),
                    format!("({}", "1+(".repeat(n)),
                    "(".repeat(n),
                    "{".repeat(n),
                    "-".repeat(n),
                ] {
                    match crate::parse_expr(&text) {
                        Ok(e) => {
                            assert!(n <= 1_000, "{}", &text[..40]);
                            let printed = e.to_string();
                            let again = crate::parse_expr(&printed).unwrap();
                            assert_eq!(again.to_string(), printed);
                            assert!(!crate::pretty(&e).is_empty() && !crate::to_json(&e).is_empty());
                        }
                        Err(e) => assert!(e.to_string().len() < 4096),
                    }
                }
            }
        };
        std::thread::Builder::new().stack_size(256 * 1024).spawn(check).unwrap().join().unwrap();
    }

    /// Expressions that are dear to compile cannot be sent by the thousand.
    #[test]
    fn bombs_of_regular_expressions_are_refused() {
        let text = format!("a{{{}}}", r#"b=~"(\\pL{20}){5}","#.repeat(2_000));
        let e = crate::parse_expr(&text).unwrap_err().to_string();
        assert!(e.ends_with("regular expressions of the query are too large together"), "{e}");
    }

    #[test]
    fn caps_say_what_they_are() {
        let options =
            ParseOptions { length_max: 40, tokens_max: 10, selectors_max: 2, height_max: 4, ..ParseOptions::default() };
        for (text, want) in [
            ("a + b + c", "1:9: parse error: query has more than 2 selectors"),
            ("1+1+1+1+1", "1:1: parse error: query has more than 4 operators in a row"),
            ("abs(1,2,3,4,5)", "1:13: parse error: query has more than 10 tokens"),
            ("1111111111111111111111111111111111111111 ", "1:1: parse error: query is 41 bytes long, the limit is 40"),
        ] {
            assert_eq!(crate::parse_expr_with(text, &options).unwrap_err().to_string(), want);
        }
    }
}
