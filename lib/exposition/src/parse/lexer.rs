//! Tokens of the two text formats. What a byte may start depends on where in the line we are: [`State`].
use super::Syntax;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Invalid,
    Eof,
    Linebreak,
    Help,
    Type,
    Unit,
    EofWord,
    Text,
    Comment,
    MetricName,
    Quoted,
    BraceOpen,
    BraceClose,
    LabelName,
    LabelValue,
    Comma,
    Equal,
    Timestamp,
    Value,
}

impl Token {
    /// The name upstream's errors use.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Token::Invalid => "INVALID",
            Token::Eof => "EOF",
            Token::Linebreak => "LINEBREAK",
            Token::Help => "HELP",
            Token::Type => "TYPE",
            Token::Unit => "UNIT",
            Token::EofWord => "EOFWORD",
            Token::Text => "TEXT",
            Token::Comment => "COMMENT",
            Token::MetricName => "MNAME",
            Token::Quoted => "QSTRING",
            Token::BraceOpen => "BOPEN",
            Token::BraceClose => "BCLOSE",
            Token::LabelName => "LNAME",
            Token::LabelValue => "LVALUE",
            Token::Comma => "COMMA",
            Token::Equal => "EQUAL",
            Token::Timestamp => "TIMESTAMP",
            Token::Value => "VALUE",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    LineStart,
    /// After `HELP `, `TYPE `, `UNIT `: the family's name.
    MetaName,
    MetaText,
    Labels,
    LabelValue,
    Value,
    Timestamp,
    ExemplarLabels,
    ExemplarValue,
    ExemplarTimestamp,
}

/// Cuts a body into tokens. `start..at` is the token just returned; after [`Token::Invalid`], `at` is the byte that fits
/// nothing.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    pub body: &'a [u8],
    pub syntax: Syntax,
    pub state: State,
    pub start: usize,
    pub at: usize,
}

const NAME: u8 = 1; // may go on in a label name
const COLON: u8 = 2; // may go on in a metric name only
const DIGIT: u8 = 4; // may not begin either

/// Class of every byte.
static CLASS: [u8; 256] = {
    let mut t = [0u8; 256];
    let mut b = 0usize;
    while b < 256 {
        let c = b as u8;
        if c.is_ascii_alphabetic() || c == b'_' {
            t[b] = NAME;
        } else if c.is_ascii_digit() {
            t[b] = NAME | DIGIT;
        } else if c == b':' {
            t[b] = COLON;
        }
        b += 1;
    }
    t
};

fn class(b: u8) -> u8 {
    CLASS[usize::from(b)]
}

impl<'a> Lexer<'a> {
    /// The byte at `i`; a text body ends with a line break whether it is there or not.
    pub(super) fn byte(&self, i: usize) -> Option<u8> {
        match self.body.get(i) {
            Some(b) => Some(*b),
            None => (self.syntax == Syntax::Text && i == self.body.len()).then_some(b'\n'),
        }
    }

    /// Bytes including the text format's implied line break.
    pub(super) fn len(&self) -> usize {
        self.body.len() + usize::from(self.syntax == Syntax::Text)
    }

    pub(super) fn token_bytes(&self) -> &'a [u8] {
        self.body.get(self.start..self.at.min(self.body.len())).unwrap_or_default()
    }

    fn end(&mut self, token: Token, state: State) -> Token {
        self.state = state;
        token
    }

    fn one(&mut self, token: Token, state: State) -> Token {
        self.at += 1;
        self.end(token, state)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.byte(self.at), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// Up to the next line break, without it.
    fn skip_line(&mut self) {
        let rest = self.body.get(self.at..).unwrap_or_default();
        self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    }

    fn name(&mut self, allowed: u8) -> bool {
        if !self.byte(self.at).is_some_and(|b| class(b) & allowed != 0 && class(b) & DIGIT == 0) {
            return false;
        }
        let rest = self.body.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|b| class(*b) & allowed == 0).unwrap_or(rest.len());
        true
    }

    /// A string in double quotes with backslash escapes; `at` is on the opening quote.
    fn quoted(&mut self, across_lines: bool) -> bool {
        self.at += 1;
        loop {
            let rest = self.body.get(self.at..).unwrap_or_default();
            let stop = if across_lines {
                memchr::memchr2(b'"', b'\\', rest)
            } else {
                memchr::memchr3(b'"', b'\\', b'\n', rest)
            };
            let Some(stop) = stop else {
                self.at = self.len();
                return false;
            };
            self.at += stop;
            match self.byte(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return true;
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.byte(self.at) {
                        None | Some(b'\n') => return false,
                        _ => self.at += 1,
                    }
                }
                _ => return false,
            }
        }
    }

    /// One or more bytes up to a blank or line break (and, before a text value, a brace).
    fn word(&mut self) -> bool {
        let from = self.at;
        let stop = |b: &u8| match self.syntax {
            Syntax::OpenMetrics => matches!(b, b' ' | b'\n'),
            _ => matches!(b, b' ' | b'\n' | b'\t' | b'{'),
        };
        let rest = self.body.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(stop).unwrap_or(rest.len());
        self.at > from
    }

    pub(super) fn next(&mut self) -> Token {
        if self.syntax == Syntax::OpenMetrics { self.next_openmetrics() } else { self.next_text() }
    }

    fn next_text(&mut self) -> Token {
        if self.at >= self.len() {
            self.start = self.at;
            return Token::Eof;
        }
        if self.state == State::MetaText {
            return self.meta_text();
        }
        self.skip_blanks();
        self.start = self.at;
        let Some(b) = self.byte(self.at) else { return Token::Eof };
        match self.state {
            State::LineStart => match b {
                b'\n' => self.one(Token::Linebreak, State::LineStart),
                b'#' => self.text_comment(),
                b'{' => self.one(Token::BraceOpen, State::Labels),
                _ if self.name(NAME | COLON) => self.end(Token::MetricName, State::Value),
                _ => Token::Invalid,
            },
            State::MetaName => match b {
                b'"' if self.quoted(true) => self.end(Token::MetricName, State::MetaText),
                _ if self.name(NAME | COLON) => self.end(Token::MetricName, State::MetaText),
                _ => Token::Invalid,
            },
            State::Labels => self.in_labels(b, true, State::Value, State::LabelValue),
            State::LabelValue => match b {
                b'"' if self.quoted(true) => self.end(Token::LabelValue, State::Labels),
                _ => Token::Invalid,
            },
            State::Value => match b {
                b'{' => self.one(Token::BraceOpen, State::Labels),
                _ if self.word() => self.end(Token::Value, State::Timestamp),
                _ => Token::Invalid,
            },
            _ => match b {
                b'\n' => self.one(Token::Linebreak, State::LineStart),
                b'0'..=b'9' => {
                    while self.byte(self.at).is_some_and(|b| b.is_ascii_digit()) {
                        self.at += 1;
                    }
                    Token::Timestamp
                }
                _ => Token::Invalid,
            },
        }
    }

    /// `at` is on the `#`.
    fn text_comment(&mut self) -> Token {
        self.at += 1;
        let before = self.at;
        self.skip_blanks();
        if self.at > before {
            let rest = self.body.get(self.at..).unwrap_or_default();
            for (word, token) in [(b"HELP", Token::Help), (b"TYPE", Token::Type)] {
                if rest.starts_with(word) && matches!(rest.get(4), Some(b' ' | b'\t')) {
                    self.at += 4;
                    self.skip_blanks();
                    return self.end(token, State::MetaName);
                }
            }
        }
        self.skip_line();
        self.end(Token::Comment, State::LineStart)
    }

    /// What follows the family's name, its first byte being the separator. Nothing but blanks counts as nothing.
    fn meta_text(&mut self) -> Token {
        self.start = self.at;
        self.skip_line();
        if self.token_bytes().iter().all(|b| matches!(b, b' ' | b'\t')) {
            self.start = self.at;
        }
        self.end(Token::Text, State::LineStart)
    }

    fn in_labels(&mut self, b: u8, across_lines: bool, after: State, value: State) -> Token {
        let here = self.state;
        match b {
            b'}' => self.one(Token::BraceClose, after),
            b'=' => self.one(Token::Equal, value),
            b',' => self.one(Token::Comma, here),
            b'"' if self.quoted(across_lines) => Token::Quoted,
            _ if self.name(NAME) => Token::LabelName,
            _ => Token::Invalid,
        }
    }

    fn next_openmetrics(&mut self) -> Token {
        self.start = self.at;
        let Some(b) = self.byte(self.at) else { return Token::Eof };
        match self.state {
            State::LineStart => match b {
                b'#' => self.openmetrics_comment(),
                b'{' => self.one(Token::BraceOpen, State::Labels),
                _ if self.name(NAME | COLON) => self.end(Token::MetricName, State::Value),
                _ => Token::Invalid,
            },
            State::MetaName => match b {
                b'"' if self.quoted(true) => self.end(Token::MetricName, State::MetaText),
                _ if self.name(NAME | COLON) => self.end(Token::MetricName, State::MetaText),
                _ => Token::Invalid,
            },
            State::MetaText => {
                if b != b' ' {
                    return Token::Invalid;
                }
                self.skip_line();
                if self.byte(self.at).is_none() {
                    return Token::Invalid;
                }
                self.one(Token::Text, State::LineStart)
            }
            State::Labels => self.in_labels(b, true, State::Value, State::LabelValue),
            State::LabelValue => match b {
                b'"' if self.quoted(false) => self.end(Token::LabelValue, State::Labels),
                _ => Token::Invalid,
            },
            State::Value if b == b'{' => self.one(Token::BraceOpen, State::Labels),
            State::Value => self.spaced_word(b, Token::Value, State::Timestamp),
            State::Timestamp if b == b'\n' => self.one(Token::Linebreak, State::LineStart),
            State::Timestamp if b == b' ' && self.byte(self.at + 1) == Some(b'#') => self.exemplar_start(),
            State::Timestamp => self.spaced_word(b, Token::Timestamp, State::Timestamp),
            State::ExemplarLabels => self.in_labels(b, false, State::ExemplarValue, State::ExemplarValue),
            State::ExemplarValue if b == b'"' => match self.quoted(false) {
                true => self.end(Token::LabelValue, State::ExemplarLabels),
                false => Token::Invalid,
            },
            State::ExemplarValue => self.spaced_word(b, Token::Value, State::ExemplarTimestamp),
            State::ExemplarTimestamp if b == b'\n' => self.one(Token::Linebreak, State::LineStart),
            State::ExemplarTimestamp => self.spaced_word(b, Token::Timestamp, State::ExemplarTimestamp),
        }
    }

    /// One space, then a word.
    fn spaced_word(&mut self, b: u8, token: Token, state: State) -> Token {
        if b != b' ' {
            return Token::Invalid;
        }
        self.at += 1;
        if self.word() { self.end(token, state) } else { Token::Invalid }
    }

    /// ` # {`, or a timestamp that happens to begin with `#`.
    fn exemplar_start(&mut self) -> Token {
        match self.byte(self.at + 2) {
            Some(b' ') => {
                self.at += 3;
                if self.byte(self.at) != Some(b'{') {
                    return Token::Invalid;
                }
                self.one(Token::Comment, State::ExemplarLabels)
            }
            _ => self.spaced_word(b' ', Token::Timestamp, State::Timestamp),
        }
    }

    fn openmetrics_comment(&mut self) -> Token {
        self.at += 1;
        if self.byte(self.at) != Some(b' ') {
            return Token::Invalid;
        }
        self.at += 1;
        let (word, token): (&[u8], Token) = match self.byte(self.at) {
            Some(b'H') => (b"HELP ", Token::Help),
            Some(b'T') => (b"TYPE ", Token::Type),
            Some(b'U') => (b"UNIT ", Token::Unit),
            Some(b'E') => (b"EOF", Token::EofWord),
            _ => return Token::Invalid,
        };
        for expect in word {
            if self.byte(self.at) != Some(*expect) {
                return Token::Invalid;
            }
            self.at += 1;
        }
        if token == Token::EofWord {
            self.at += usize::from(self.byte(self.at) == Some(b'\n'));
            return self.end(token, State::LineStart);
        }
        self.end(token, State::MetaName)
    }
}
