//! The grammar of Alertmanager 0.27 and later: `{foo="bar", "any name"=~ba.*}`, braces and quotes optional.
use super::{MatchOp, Matcher, is_reserved};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    OpenBrace,
    CloseBrace,
    Comma,
    Op(MatchOp),
    Quoted,
    Unquoted,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    /// Columns counted in characters, as upstream's messages count them.
    start: usize,
    end: usize,
}

impl Token<'_> {
    /// The label name or value this token stands for.
    fn unquote(&self) -> Result<String, String> {
        if self.kind != Kind::Quoted {
            return Ok(self.text.to_owned());
        }
        unquote(self.text).ok_or_else(|| format!("{}:{}: {}: invalid input", self.start, self.end, self.text))
    }
    fn error(&self, want: &str) -> String {
        format!("{}:{}: unexpected {}: expected {want}", self.start, self.end, self.text)
    }
}

struct Lexer<'a> {
    input: &'a str,
    at: usize,
    column: usize,
}

impl<'a> Lexer<'a> {
    fn take(&mut self, bytes: usize, kind: Kind) -> Token<'a> {
        let text = self.input.get(self.at..self.at + bytes).unwrap_or("");
        let start = self.column;
        self.at += bytes;
        self.column += text.chars().count();
        Token { kind, text, start, end: self.column }
    }

    fn next(&mut self) -> Result<Option<Token<'a>>, String> {
        loop {
            let rest = self.input.get(self.at..).unwrap_or("");
            let Some(c) = rest.chars().next() else { return Ok(None) };
            let two = rest.as_bytes().get(1).copied();
            return Ok(Some(match c {
                '{' => self.take(1, Kind::OpenBrace),
                '}' => self.take(1, Kind::CloseBrace),
                ',' => self.take(1, Kind::Comma),
                '=' if two == Some(b'~') => self.take(2, Kind::Op(MatchOp::RegexMatch)),
                '=' => self.take(1, Kind::Op(MatchOp::Equal)),
                '!' if two == Some(b'=') => self.take(2, Kind::Op(MatchOp::NotEqual)),
                '!' if two == Some(b'~') => self.take(2, Kind::Op(MatchOp::RegexNoMatch)),
                '!' => {
                    let t = self.take(1, Kind::Comma);
                    return Err(match two {
                        None => format!("{}:{}: unexpected end of input, expected one of '=~'", t.start, t.end),
                        Some(_) => format!("{}:{}: unexpected !: expected one of '=~'", t.start, t.end),
                    });
                }
                '"' => {
                    let mut escaped = false;
                    let close = rest.char_indices().skip(1).find(|(_, c)| match c {
                        _ if escaped => {
                            escaped = false;
                            false
                        }
                        '\\' => {
                            escaped = true;
                            false
                        }
                        c => *c == '"',
                    });
                    match close {
                        Some((i, _)) => self.take(i + 1, Kind::Quoted),
                        None => {
                            let end = self.column + rest.chars().count();
                            return Err(format!("{}:{end}: {rest}: missing end \"", self.column));
                        }
                    }
                }
                c if c.is_whitespace() => {
                    self.at += c.len_utf8();
                    self.column += 1;
                    continue;
                }
                c if is_reserved(c) => {
                    return Err(format!("{}:{}: {c}: invalid input", self.column, self.column + 1));
                }
                _ => {
                    let len = rest.find(|c: char| c.is_whitespace() || is_reserved(c)).unwrap_or(rest.len());
                    self.take(len, Kind::Unquoted)
                }
            }));
        }
    }
}

/// Go's `strconv.Unquote` of a double-quoted string; None where Go refuses. Escapes that are not UTF-8 are refused too.
fn unquote(quoted: &str) -> Option<String> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let mut out: Vec<u8> = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..)?;
        if c == '\n' {
            return None;
        }
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let e = rest.chars().next()?;
        rest = rest.get(e.len_utf8()..)?;
        let mut digits = |n: usize, radix: u32| -> Option<u32> {
            let text = rest.get(..n)?;
            rest = rest.get(n..)?;
            u32::from_str_radix(text, radix).ok().filter(|_| !text.starts_with('+'))
        };
        match e {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' | '"' => out.push(e as u8),
            'x' => out.push(u8::try_from(digits(2, 16)?).ok()?),
            'u' | 'U' => {
                let c = char::from_u32(digits(if e == 'u' { 4 } else { 8 }, 16)?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            '0'..='7' => {
                let low = digits(2, 8)?;
                out.push(u8::try_from(e.to_digit(8)? * 64 + low).ok()?);
            }
            _ => return None,
        }
    }
    String::from_utf8(out).ok()
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    peeked: Option<Token<'a>>,
}

const OPERATOR: &str = "an operator such as '=', '!=', '=~' or '!~'";

impl<'a> Parser<'a> {
    fn peek(&mut self) -> Result<Option<Token<'a>>, String> {
        if self.peeked.is_none() {
            self.peeked = self.lexer.next()?;
        }
        Ok(self.peeked)
    }
    fn accept(&mut self, kind: Kind) -> Result<bool, String> {
        let found = self.peek()?.is_some_and(|t| t.kind == kind);
        if found {
            self.peeked = None;
        }
        Ok(found)
    }
    /// The next token, which must satisfy `f`; `want` is what the message expects.
    fn expect<T>(&mut self, want: &str, f: impl Fn(Token<'a>) -> Option<T>) -> Result<T, String> {
        match self.peek()? {
            None => Err(format!("end of input: expected {want}")),
            Some(t) => match f(t) {
                Some(v) => {
                    self.peeked = None;
                    Ok(v)
                }
                None => Err(t.error(want)),
            },
        }
    }
    fn matcher(&mut self) -> Result<Matcher, String> {
        let text = |t: Token<'a>| matches!(t.kind, Kind::Quoted | Kind::Unquoted).then_some(t);
        let name = self.expect("label name", text)?.unquote()?;
        let op = self.expect(OPERATOR, |t| if let Kind::Op(op) = t.kind { Some(op) } else { None })?;
        let value = self.expect("label value", text)?.unquote()?;
        Matcher::new(op, name, value).map_err(|e| e.to_string())
    }
}

/// Any number of matchers, with or without braces around them.
pub(super) fn parse_set(input: &str) -> Result<Vec<Matcher>, String> {
    let mut p = Parser { lexer: Lexer { input, at: 0, column: 0 }, peeked: None };
    let mut out = Vec::new();
    let braces = p.accept(Kind::OpenBrace)?;
    let at_end = |p: &mut Parser<'_>| -> Result<bool, String> {
        Ok(match p.peek()? {
            None => true,
            Some(t) => braces && t.kind == Kind::CloseBrace,
        })
    };
    while !at_end(&mut p)? {
        out.push(p.matcher()?);
        if !p.accept(Kind::Comma)? {
            break;
        }
    }
    if braces {
        p.expect("a comma or close brace", |t| (t.kind == Kind::CloseBrace).then_some(()))?;
    } else if let Some(t) = p.peek()?
        && t.kind == Kind::CloseBrace
    {
        return Err(format!("{}:{}: }}: expected opening brace", t.start, t.end));
    }
    match p.peek()? {
        None => Ok(out),
        Some(t) if out.is_empty() || braces => Err(format!("{}:{}: {}: expected end of input", t.start, t.end, t.text)),
        Some(t) => Err(t.error("a comma or close brace")),
    }
}

/// Exactly one matcher, without braces.
pub(super) fn parse_one(input: &str) -> Result<Matcher, String> {
    let mut set = parse_set(input)?;
    match (set.pop(), set.is_empty()) {
        (Some(m), true) => Ok(m),
        (None, _) => Err("no matchers".to_owned()),
        (Some(_), false) => Err(format!("expected 1 matcher, found {}", set.len() + 1)),
    }
}
