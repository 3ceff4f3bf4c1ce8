//! Matchers on labels, as routes, inhibition rules, silences and API filters use them.
//!
//! They differ from `ferula_model::Matcher` in two points where Alertmanager differs from Prometheus: a `.` of a regular
//! expression does not match a newline, and printing escapes only backslash, newline and double quote. The printed form
//! is part of every group key, so it must not vary.
use std::fmt;
use std::sync::Arc;

use ferula_model::{LabelView, Labels};
use ferula_regex::Regex;
use serde::{Serialize, Serializer};

pub use ferula_model::MatchOp;

mod classic;
mod compat;
mod compiled;
mod utf8;

pub use compat::{Mode, ParseError, parse_matcher, parse_matchers};

/// One condition; an absent label is the empty string. Matchers of the same pattern share one compiled expression.
#[derive(Clone)]
pub struct Matcher {
    pub name: String,
    pub op: MatchOp,
    pub value: String,
    regex: Option<Arc<Regex>>,
}

impl Matcher {
    /// Fails only for the operators with a regular expression, in Go's words.
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Matcher, ferula_regex::Error> {
        let (name, value) = (name.into(), value.into());
        let regex = match op {
            MatchOp::RegexMatch | MatchOp::RegexNoMatch => Some(compiled::compiled(&value)?),
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Matcher { name, op, value, regex })
    }
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Matcher {
        Matcher { name: name.into(), op: MatchOp::Equal, value: value.into(), regex: None }
    }
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => value == self.value,
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::RegexMatch, Some(re)) => re.is_match(value),
            (MatchOp::RegexNoMatch, Some(re)) => !re.is_match(value),
            _ => false, // not constructible
        }
    }
    pub fn is_regex(&self) -> bool {
        matches!(self.op, MatchOp::RegexMatch | MatchOp::RegexNoMatch)
    }
    /// `=` or `=~`, as the API's `isEqual`.
    pub fn is_equal(&self) -> bool {
        matches!(self.op, MatchOp::Equal | MatchOp::RegexMatch)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, o: &Self) -> bool {
        self.op == o.op && self.name == o.name && self.value == o.value
    }
}
impl Eq for Matcher {}

/// A name that prints without quotes: no white space and nothing the grammar reserves.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || is_reserved(c))
}
fn is_reserved(c: char) -> bool {
    matches!(c, '{' | '}' | '!' | '=' | '~' | ',' | '\\' | '"' | '\'' | '`')
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain(&self.name) {
            f.write_str(&self.name)?;
        } else {
            ferula_model::labels::write_quoted(f, &self.name)?;
        }
        f.write_str(self.op.as_str())?;
        f.write_str("\"")?;
        for c in self.value.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '"' => f.write_str("\\\"")?,
                c => fmt::Write::write_char(f, c)?,
            }
        }
        f.write_str("\"")
    }
}
impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl Serialize for Matcher {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Whether all of `matchers` hold for `labels`.
pub fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
}

/// [`all_match`] for any label view.
pub fn all_match_view(matchers: &[Matcher], labels: &dyn LabelView) -> bool {
    matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
}

/// `{a="1",b=~"2"}`: what stands in route keys, hence in group keys.
pub fn print_set(matchers: &[Matcher]) -> String {
    use fmt::Write;
    let mut out = String::from("{");
    for (i, m) in matchers.iter().enumerate() {
        let _ = write!(out, "{}{m}", if i > 0 { "," } else { "" });
    }
    out.push('}');
    out
}

/// Upstream's order inside a set: name, then value, then operator.
pub fn sort(matchers: &mut [Matcher]) {
    matchers.sort_by(|a, b| (&a.name, &a.value, rank(a.op)).cmp(&(&b.name, &b.value, rank(b.op))));
}
fn rank(op: MatchOp) -> u8 {
    match op {
        MatchOp::Equal => 0,
        MatchOp::NotEqual => 1,
        MatchOp::RegexMatch => 2,
        MatchOp::RegexNoMatch => 3,
    }
}

#[cfg(test)]
mod tests;
