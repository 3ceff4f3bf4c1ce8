//! From matchers to series, for anything that has postings.
use std::borrow::Cow;

use ferula_model::{MatchOp, Matcher};
use ferula_regex::Literals;

use crate::error::Error;
use crate::head::postings::{intersect, subtract, union};

/// Postings by label pair: the head's, or a block's. Lists ascend.
pub trait LabelIndex {
    fn all(&self) -> Result<Vec<u32>, Error>;
    fn list(&self, name: &str, value: &str) -> Result<Cow<'_, [u32]>, Error>;
    /// How long [`LabelIndex::list`] is.
    fn list_len(&self, name: &str, value: &str) -> Result<usize, Error> {
        Ok(self.list(name, value)?.len())
    }
    /// Those of the ascending `series` that are, or are not, in a list.
    fn among(&self, series: Vec<u32>, name: &str, value: &str, present: bool) -> Result<Vec<u32>, Error> {
        let list = self.list(name, value)?;
        Ok(if present { intersect(&series, &list) } else { subtract(&series, &list) })
    }
    /// How many values the name has, roughly.
    fn value_count(&self, name: &str) -> usize;
    /// The lists of every value that `wanted` accepts, merged. Values that begin with none of `prefixes` need not be
    /// asked, unless there are none.
    fn lists(&self, name: &str, prefixes: &[String], wanted: &dyn Fn(&str) -> bool) -> Result<Vec<u32>, Error>;
    /// Those of `series` whose value of `name` ("" if absent) `wanted` accepts.
    fn filter(&self, series: Vec<u32>, name: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<u32>, Error>;
}

/// Series that satisfy every matcher, ascending.
pub fn select(index: &dyn LabelIndex, matchers: &[Matcher]) -> Result<Vec<u32>, Error> {
    // A matcher that the empty string satisfies also accepts series without the label: it can only take away.
    let (narrowing, mut taking): (Vec<_>, Vec<_>) = matchers.iter().partition(|m| !m.matches_empty());
    // The shortest list first: the others are only asked for what it has.
    let mut lengths = Vec::with_capacity(narrowing.len());
    for m in narrowing {
        let len = if m.op == MatchOp::Equal { index.list_len(&m.name, &m.value)? } else { usize::MAX };
        lengths.push((len, m));
    }
    lengths.sort_by_key(|(len, _)| *len);
    taking.sort_by_key(|m| m.op != MatchOp::NotEqual);
    let mut found: Option<Vec<u32>> = None;
    for (_, m) in lengths {
        found = Some(match (found, m.op) {
            (Some(f), _) if f.is_empty() => return Ok(f),
            (None, MatchOp::Equal) => index.list(&m.name, &m.value)?.into_owned(),
            (Some(f), MatchOp::Equal) => index.among(f, &m.name, &m.value, true)?,
            (None, _) => accepted(index, m)?,
            (Some(f), _) if is_cheaper_to_filter(index, m, f.len()) => {
                index.filter(f, &m.name, &|v| may_match(m, v) && m.matches(v))?
            }
            (Some(f), _) => intersect(&f, &accepted(index, m)?),
        });
    }
    let mut found = match found {
        Some(f) => f,
        None => index.all()?,
    };
    for m in taking {
        if found.is_empty() {
            break;
        }
        found = if m.op == MatchOp::NotEqual {
            index.among(found, &m.name, &m.value, false)?
        } else if is_cheaper_to_filter(index, m, found.len()) {
            index.filter(found, &m.name, &|v| m.matches(v))?
        } else {
            subtract(&found, &index.lists(&m.name, &[], &|v| !m.matches(v))?)
        };
    }
    Ok(found)
}

/// Looking at each candidate's label beats going through all values when there are few candidates.
fn is_cheaper_to_filter(index: &dyn LabelIndex, m: &Matcher, candidates: usize) -> bool {
    alternatives(m).is_none() && candidates < index.value_count(&m.name)
}

/// The series with a non-empty value that the matcher accepts.
fn accepted(index: &dyn LabelIndex, m: &Matcher) -> Result<Vec<u32>, Error> {
    if let Some(values) = alternatives(m) {
        let lists = values.iter().map(|v| index.list(&m.name, v)).collect::<Result<Vec<_>, _>>()?;
        return Ok(union(&lists.iter().map(|l| &**l).collect::<Vec<_>>()));
    }
    index.lists(&m.name, prefixes(m), &|v| may_match(m, v) && m.matches(v))
}

/// Cheaper than the expression: whether the value has the text that every match contains.
fn may_match(m: &Matcher, value: &str) -> bool {
    match (m.op, m.regex().map(|r| r.literals())) {
        (MatchOp::RegexMatch, Some(Literals::Contains(part))) => value.contains(part.as_str()),
        _ => true,
    }
}

/// The strings an expression like `a|b|c` stands for: then no value need be tried.
fn alternatives(m: &Matcher) -> Option<&[String]> {
    match (m.op, m.regex().map(|r| r.literals())) {
        (MatchOp::RegexMatch, Some(Literals::Exact(values))) => Some(values),
        _ => None,
    }
}

/// What every value must begin with: one of these.
fn prefixes(m: &Matcher) -> &[String] {
    match (m.op, m.regex().map(|r| r.literals())) {
        (MatchOp::RegexMatch, Some(Literals::Prefix(prefixes))) => prefixes,
        _ => &[],
    }
}
