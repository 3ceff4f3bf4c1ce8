//! From Go's syntax to the regex crate's: what both read alike is passed on, what they read differently is rewritten,
//! and what Go refuses is refused in Go's words.
//!
//! One pass over the text, without recursion. What differs (found by comparing with a real Prometheus):
//!
//! | pattern | Go | the regex crate |
//! |---|---|---|
//! | `[[]` `[a&&b]` `[a~~b]` `[\d-z]` | characters | nested classes, set operations, error |
//! | `\d \w \s \b` | ASCII | Unicode |
//! | `\Q.\E` `\123` `\0` | quoted text, octal | error |
//! | `{` `a{,2}` `x{a}` | characters | error, `{0,2}` |
//! | `\<` `\b{start}` | `<`, boundary and text | word boundaries |
//! | `(?x)` `(?u)` `(?R)` `a**` `a{1001}` `\u{61}` `\p{greek}` | error | accepted |
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::char;
use nom::combinator::opt;
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser as _};

use crate::Error;
use crate::class;

/// Deepest nesting of groups; the automaton's construction recurses over them.
pub const NEST_MAX: usize = 100;
/// What the regex crate must allow for that: a group and a repetition are levels of their own, so is a class.
pub const NEST_LIMIT: u32 = 310;
/// Go's bound for counted repetitions, nested ones multiplied.
const REPEAT_MAX: u64 = 1000;

const MISSING_PAREN: &str = "missing closing )";
const PERL: &str = "invalid or unsupported Perl syntax";

pub struct Translated {
    pub text: String,
    /// From group 0, the whole match.
    pub group_names: Vec<Option<String>>,
    /// Deepest nesting of groups.
    pub depth: usize,
}

/// What a repetition operator would apply to.
#[derive(Clone, Copy)]
struct Repeatable {
    /// Something stands there.
    atom: bool,
    /// The greatest product of counted repetitions within what was last read.
    atom_count: u64,
    /// The same for everything read in this group.
    all_count: u64,
    /// Where the operator just read starts: another one after it is an error.
    operator: Option<usize>,
    /// Where the translation of what was last read starts.
    atom_start: usize,
    /// Where that of the flags starts which stand after it.
    flags_start: Option<usize>,
}

const FRESH: Repeatable =
    Repeatable { atom: false, atom_count: 1, all_count: 1, operator: None, atom_start: 0, flags_start: None };

struct Translator<'a> {
    pattern: &'a str,
    at: usize,
    out: String,
    /// What was being read outside each open group.
    open: Vec<Repeatable>,
    now: Repeatable,
    group_names: Vec<Option<String>>,
    depth: usize,
}

/// Rewrites `pattern`.
pub fn translate(pattern: &str) -> Result<Translated, Error> {
    let mut t = Translator {
        pattern,
        at: 0,
        out: String::with_capacity(pattern.len() + 16),
        open: Vec::new(),
        now: FRESH,
        group_names: vec![None],
        depth: 0,
    };
    while let Some(c) = t.rest().chars().next() {
        t.step(c)?;
    }
    if !t.open.is_empty() {
        return Err(Error::go(MISSING_PAREN, pattern));
    }
    Ok(Translated { text: t.out, group_names: t.group_names, depth: t.depth })
}

impl<'a> Translator<'a> {
    fn rest(&self) -> &'a str {
        self.pattern.get(self.at..).unwrap_or("")
    }

    /// Something that can be repeated has been read.
    fn atom(&mut self, text: &str, len: usize) {
        self.now.atom_start = self.out.len();
        self.now.flags_start = None;
        self.out.push_str(text);
        self.at += len;
        self.now.atom = true;
        self.now.atom_count = 1;
        self.now.operator = None;
    }

    fn step(&mut self, c: char) -> Result<(), Error> {
        match c {
            '(' => self.group(),
            ')' => {
                let Some(outer) = self.open.pop() else {
                    return Err(Error::go("unexpected )", self.pattern));
                };
                let inside = self.now.all_count;
                self.now = outer;
                let start = self.now.atom_start;
                self.atom(")", 1);
                self.now.atom_start = start;
                self.now.atom_count = inside;
                self.now.all_count = self.now.all_count.max(inside);
                Ok(())
            }
            '|' => {
                self.out.push('|');
                self.at += 1;
                self.now = Repeatable { all_count: self.now.all_count, ..FRESH };
                Ok(())
            }
            '[' => {
                let (class, len) = class::bracketed(self.rest())?;
                self.atom(&class, len);
                Ok(())
            }
            '*' | '+' | '?' => self.repetition(1, None),
            '{' => match counted(self.rest()) {
                Some((len, min, max)) => {
                    if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX || max < min) {
                        let text = self.rest().get(..len).unwrap_or("");
                        return Err(Error::go("invalid repeat count", text));
                    }
                    self.repetition(len, Some(max.unwrap_or(min)))
                }
                None => {
                    self.atom(r"\{", 1);
                    Ok(())
                }
            },
            '\\' => self.backslash(),
            '.' | '^' | '$' => {
                self.atom(c.encode_utf8(&mut [0; 4]), 1);
                Ok(())
            }
            c => {
                let mut text = String::new();
                push_literal(&mut text, c);
                self.atom(&text, c.len_utf8());
                Ok(())
            }
        }
    }

    /// An operator of `len` bytes; `count` is how often a counted one repeats at most.
    fn repetition(&mut self, len: usize, count: Option<u64>) -> Result<(), Error> {
        let start = self.at;
        let lazy = usize::from(self.rest().get(len..).is_some_and(|r| r.starts_with('?')));
        let operator = self.rest().get(..len + lazy).unwrap_or("");
        if !self.now.atom {
            let bare = self.rest().get(..len + lazy).unwrap_or("");
            return Err(Error::go("missing argument to repetition operator", bare));
        }
        if let Some(first) = self.now.operator {
            let both = self.pattern.get(first..start + len + lazy).unwrap_or("");
            return Err(Error::go("invalid nested repetition operator", both));
        }
        if let Some(count) = count.filter(|c| *c > 0) {
            self.now.atom_count = self.now.atom_count.saturating_mul(count);
            if self.now.atom_count > REPEAT_MAX {
                return Err(Error::go("invalid repeat count", operator));
            }
            self.now.all_count = self.now.all_count.max(self.now.atom_count);
        }
        match self.now.flags_start.take() {
            None => self.out.push_str(operator),
            // `a(?i)*`: the operator belongs to what stands before the flags.
            Some(flags) => {
                let flags = self.out.split_off(flags);
                self.out.insert_str(self.now.atom_start, "(?:");
                self.out.push(')');
                self.out.push_str(operator);
                self.out.push_str(&flags);
            }
        }
        self.at += len + lazy;
        self.now.operator = Some(start);
        Ok(())
    }

    fn group(&mut self) -> Result<(), Error> {
        if self.open.len() >= NEST_MAX {
            return Err(Error::go("expression nests too deeply", self.pattern));
        }
        let rest = self.rest();
        if !rest.starts_with("(?") {
            self.group_names.push(None);
            return self.enter("(", 1);
        }
        if rest.starts_with("(?P<") || rest.starts_with("(?<") {
            let named: IResult<&str, &str> = delimited(
                (tag("(?"), opt(char('P')), char('<')),
                take_while1(|c: char| c.is_ascii_alphanumeric() || c == '_'),
                char('>'),
            )
            .parse(rest);
            let Ok((tail, name)) = named else {
                let shown = rest.find('>').map_or(rest, |end| rest.get(..=end).unwrap_or(rest));
                return Err(Error::go("invalid named capture", shown));
            };
            self.group_names.push(Some(name.to_owned()));
            return self.enter("(", rest.len() - tail.len());
        }
        self.flags(rest)
    }

    fn enter(&mut self, text: &str, len: usize) -> Result<(), Error> {
        self.now.atom_start = self.out.len();
        self.out.push_str(text);
        self.at += len;
        self.open.push(self.now);
        self.depth = self.depth.max(self.open.len());
        self.now = FRESH;
        Ok(())
    }

    /// `(?i)`, `(?i-s:`, `(?:`.
    fn flags(&mut self, rest: &str) -> Result<(), Error> {
        let mut negative = false;
        let mut after_minus = 0;
        // The regex crate takes each flag once, Go any number of times: the last time counts.
        let (mut on, mut off) = (String::new(), String::new());
        for (at, c) in rest.char_indices().skip(2) {
            match c {
                'i' | 'm' | 's' | 'U' => {
                    on.retain(|f| f != c);
                    off.retain(|f| f != c);
                    if negative {
                        off.push(c)
                    } else {
                        on.push(c)
                    }
                    after_minus += usize::from(negative);
                }
                '-' if !negative => negative = true,
                ':' | ')' if !negative || after_minus > 0 => {
                    let minus = if off.is_empty() { "" } else { "-" };
                    let text = format!("(?{on}{minus}{off}{c}");
                    if c == ':' {
                        return self.enter(&text, at + 1);
                    }
                    // Flags until the end of the group. `(?)` changes nothing, and the regex crate refuses it.
                    self.now.flags_start.get_or_insert(self.out.len());
                    self.now.operator = None;
                    self.out.push_str(if text == "(?)" { "" } else { &text });
                    self.at += at + 1;
                    return Ok(());
                }
                c => return Err(Error::go(PERL, rest.get(..at + c.len_utf8()).unwrap_or(""))),
            }
        }
        Err(Error::go(PERL, rest))
    }

    fn backslash(&mut self) -> Result<(), Error> {
        let rest = self.rest();
        let letter = rest.chars().nth(1);
        match letter {
            Some('A') => self.atom(r"\A", 2),
            Some('z') => self.atom(r"\z", 2),
            Some('b') => self.atom(r"(?-u:\b)", 2),
            Some('B') => self.atom(r"(?-u:\B)", 2),
            Some('Q') => self.quoted(),
            Some('p' | 'P') => {
                if let Some((class, len)) = class::unicode(rest)? {
                    self.atom(&class, len);
                }
            }
            Some(letter) if class::perl(letter).is_some() => {
                let inside = class::perl(letter).unwrap_or("");
                self.atom(&format!("[{inside}]"), 2);
            }
            _ => {
                let (code, len) = class::escape(rest)?;
                self.atom(&class::character(code), len);
            }
        }
        Ok(())
    }

    /// `\Q...\E`, or to the end.
    fn quoted(&mut self) {
        let inside = self.rest().get(2..).unwrap_or("");
        let (text, len) = match inside.find(r"\E") {
            Some(end) => (inside.get(..end).unwrap_or(""), end + 4),
            None => (inside, inside.len() + 2),
        };
        for c in text.chars() {
            let mut literal = String::new();
            push_literal(&mut literal, c);
            self.atom(&literal, 0);
        }
        self.at += len;
    }
}

fn push_literal(out: &mut String, c: char) {
    if regex_syntax::is_meta_character(c) {
        out.push('\\');
    }
    out.push(c);
}

/// `{n}`, `{n,}` or `{n,m}` at the start of `s`: its length and bounds. Numbers with leading zeros are none.
fn counted(s: &str) -> Option<(usize, u64, Option<u64>)> {
    let digits = |s| -> IResult<&str, &str> { take_while(|c: char| c.is_ascii_digit())(s) };
    let mut braces =
        delimited(char('{'), (digits, opt(preceded(char(','), digits))), char::<&str, nom::error::Error<&str>>('}'));
    let (tail, (min, max)) = braces.parse(s).ok()?;
    let number = |text: &str| match text {
        "" => None,
        text if text.len() > 1 && text.starts_with('0') => None,
        text => Some(text.parse().unwrap_or(u64::MAX)),
    };
    let min = number(min)?;
    let max = match max {
        None => Some(min),
        Some("") => None,
        Some(text) => Some(number(text)?),
    };
    Some((s.len() - tail.len(), min, max))
}
