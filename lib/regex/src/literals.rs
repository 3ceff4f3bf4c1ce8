//! What the matches of an expression have in common, read off its syntax tree: whole sets of texts, prefixes, parts.
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use crate::Error;
use crate::translate::NEST_LIMIT;

/// What every text that an anchored expression matches has in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literals {
    /// Exactly these texts match, sorted.
    Exact(Vec<String>),
    /// A match starts with one of these.
    Prefix(Vec<String>),
    /// A match contains this.
    Contains(String),
    /// Nothing is known.
    None,
}

/// Expressions that need no automaton.
pub enum Shape {
    /// `.*`
    Everything,
    /// `.+`
    NotEmpty,
    Exact(Vec<String>),
    /// A set of texts of which some characters may be anything: they stand as [`HOLE`]. `10.0.0.1|10.0.0.2`
    Holes(Vec<String>),
    /// `text.*`
    Prefix(String),
    /// `.*text`
    Suffix(String),
    /// `.*text.*`
    Contains(String),
    Other,
}

/// Stands for any one character. A pattern that holds this noncharacter itself has no such shape.
pub const HOLE: char = char::MAX;
/// Most texts that multiplying out parts may give, such as of `(a|b)-[0-9]`. Plain lists may be longer.
const PRODUCT_MAX: usize = 1024;
/// Most prefixes worth looking for.
const PREFIXES_MAX: usize = 100;
/// Most characters of a class that are tried one by one.
const CLASS_MAX: usize = 100;
/// Bytes of all texts of a set.
const BYTES_MAX: usize = 8 << 20;

/// The tree of an anchored expression, in which `.` matches newline.
pub fn parse(translated: &str) -> Result<Hir, Error> {
    regex_syntax::ParserBuilder::new()
        .dot_matches_new_line(true)
        .nest_limit(NEST_LIMIT)
        .build()
        .parse(translated)
        .map_err(|e| Error(format!("error parsing regexp: {e}")))
}

/// Any character, newline included.
fn is_any_character(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            let mut ranges = class.ranges().iter();
            matches!((ranges.next(), ranges.next()), (Some(r), None) if r.start() == '\0' && r.end() == char::MAX)
        }
        _ => false,
    }
}

/// `.*` or `.+` in any greediness, and how many characters it needs at least.
fn any_text(hir: &Hir) -> Option<u32> {
    match hir.kind() {
        HirKind::Repetition(r) if r.max.is_none() && r.min <= 1 && is_any_character(&r.sub) => Some(r.min),
        HirKind::Capture(c) => any_text(&c.sub),
        _ => None,
    }
}

fn literal(hir: &Hir) -> Option<&str> {
    match hir.kind() {
        HirKind::Literal(l) => std::str::from_utf8(&l.0).ok(),
        HirKind::Capture(c) => literal(&c.sub),
        _ => None,
    }
}

/// The parts of the top-level concatenation, without `^` at its start and `$` at its end, which anchoring implies.
fn parts(hir: &Hir) -> Vec<&Hir> {
    let mut parts: &[Hir] = match hir.kind() {
        HirKind::Concat(parts) => parts,
        _ => std::slice::from_ref(hir),
    };
    let is = |hir: &Hir, look: Look| matches!(hir.kind(), HirKind::Look(l) if *l == look);
    while let Some((first, rest)) = parts.split_first()
        && is(first, Look::Start)
    {
        parts = rest;
    }
    while let Some((last, rest)) = parts.split_last()
        && is(last, Look::End)
    {
        parts = rest;
    }
    parts.iter().collect()
}

/// About how many states an automaton for it has. Recursive to the nesting cap.
pub fn states(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(l) => l.0.len(),
        // A range of characters is a few ranges of bytes.
        HirKind::Class(Class::Unicode(class)) => class.ranges().len() * 3,
        HirKind::Class(Class::Bytes(class)) => class.ranges().len(),
        HirKind::Capture(c) => states(&c.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().fold(1, |sum: usize, part| sum.saturating_add(states(part)))
        }
        HirKind::Repetition(r) => {
            let copies = usize::try_from(r.max.unwrap_or(r.min.max(1))).unwrap_or(usize::MAX);
            states(&r.sub).saturating_add(1).saturating_mul(copies)
        }
    }
}

/// The texts of a pattern that is but a list of them, `a|b\.c|d`, read without a parser: such lists can be long.
pub fn plain_list(pattern: &str) -> Option<Vec<String>> {
    let mut texts = vec![String::new()];
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let literal = match c {
            '|' => {
                texts.push(String::new());
                continue;
            }
            '.' => HOLE,
            '\\' => chars.next().filter(char::is_ascii_punctuation)?,
            HOLE | '(' | ')' | '[' | ']' | '{' | '}' | '*' | '+' | '?' | '^' | '$' => return None,
            c => c,
        };
        if let Some(text) = texts.last_mut() {
            text.push(literal);
        }
    }
    Some(texts)
}

/// The form of a set: with or without holes.
pub fn set(mut texts: Vec<String>) -> Shape {
    texts.sort_unstable();
    texts.dedup();
    if texts.iter().any(|t| t.contains(HOLE)) { Shape::Holes(texts) } else { Shape::Exact(texts) }
}

pub fn shape(hir: &Hir) -> Shape {
    let parts = parts(hir);
    let any: Vec<Option<u32>> = parts.iter().map(|p| any_text(p)).collect();
    match (parts.as_slice(), any.as_slice()) {
        ([_], [Some(0)]) => return Shape::Everything,
        ([_], [Some(_)]) => return Shape::NotEmpty,
        ([text, _], [None, Some(0)]) => {
            if let Some(text) = literal(text) {
                return Shape::Prefix(text.to_owned());
            }
        }
        ([_, text], [Some(0), None]) => {
            if let Some(text) = literal(text) {
                return Shape::Suffix(text.to_owned());
            }
        }
        ([_, text, _], [Some(0), None, Some(0)]) => {
            if let Some(text) = literal(text) {
                return Shape::Contains(text.to_owned());
            }
        }
        _ => {}
    }
    let mut budget = BYTES_MAX;
    let texts = concat_texts(parts.into_iter(), &mut budget);
    let strings: Option<Vec<String>> =
        texts.and_then(|t| t.into_iter().map(|bytes| String::from_utf8(bytes).ok()).collect());
    strings.map_or(Shape::Other, set)
}

/// All texts of a finite, small expression. Recursive to the nesting cap.
fn texts(hir: &Hir, budget: &mut usize) -> Option<Vec<Vec<u8>>> {
    let found = match hir.kind() {
        HirKind::Empty => vec![Vec::new()],
        HirKind::Literal(l) if std::str::from_utf8(&l.0).is_ok_and(|l| l.contains(HOLE)) => return None,
        HirKind::Literal(l) => vec![l.0.to_vec()],
        HirKind::Class(_) if is_any_character(hir) => vec![HOLE.to_string().into_bytes()],
        HirKind::Capture(c) => return texts(&c.sub, budget),
        HirKind::Concat(parts) => return concat_texts(parts.iter(), budget),
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.append(&mut texts(part, budget)?);
            }
            return Some(all);
        }
        HirKind::Class(Class::Unicode(class)) => {
            let mut all = Vec::new();
            for c in class.ranges().iter().flat_map(|r| r.start()..=r.end()) {
                if all.len() >= CLASS_MAX {
                    return None;
                }
                all.push(c.encode_utf8(&mut [0; 4]).as_bytes().to_vec());
            }
            all
        }
        HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) => return None,
        HirKind::Repetition(r) => {
            let max = r.max.filter(|max| *max <= 8)?;
            let once = texts(&r.sub, budget)?;
            let mut power = vec![Vec::new()];
            let mut all = Vec::new();
            for times in 0..=max {
                if times >= r.min {
                    all.extend(power.iter().cloned());
                }
                if times < max {
                    power = product(&power, &once, budget)?;
                }
            }
            if all.len() > PRODUCT_MAX {
                return None;
            }
            all
        }
    };
    let bytes: usize = found.iter().map(|t| t.len() + 1).sum();
    *budget = budget.checked_sub(bytes)?;
    Some(found)
}

fn concat_texts<'h>(parts: impl Iterator<Item = &'h Hir>, budget: &mut usize) -> Option<Vec<Vec<u8>>> {
    let mut all: Option<Vec<Vec<u8>>> = None;
    for part in parts {
        let next = texts(part, budget)?;
        all = Some(match all {
            None => next,
            Some(before) => product(&before, &next, budget)?,
        });
    }
    Some(all.unwrap_or_else(|| vec![Vec::new()]))
}

fn product(before: &[Vec<u8>], next: &[Vec<u8>], budget: &mut usize) -> Option<Vec<Vec<u8>>> {
    let count = before.len().checked_mul(next.len()).filter(|n| *n <= PRODUCT_MAX || before.len() == 1)?;
    let mut all = Vec::with_capacity(count);
    for b in before {
        for n in next {
            *budget = budget.checked_sub(b.len() + n.len() + 1)?;
            all.push([b.as_slice(), n.as_slice()].concat());
        }
    }
    Some(all)
}

/// What the shape says, where it says enough.
pub fn literals(shape: &Shape) -> Option<Literals> {
    Some(match shape {
        Shape::Exact(texts) => Literals::Exact(texts.clone()),
        Shape::Prefix(s) => Literals::Prefix(vec![s.clone()]),
        Shape::Suffix(s) | Shape::Contains(s) => Literals::Contains(s.clone()),
        Shape::Everything | Shape::NotEmpty => Literals::None,
        Shape::Holes(texts) => {
            let starts = texts.iter().filter_map(|t| t.split(HOLE).next()).map(str::to_owned).collect();
            prefixes(starts).unwrap_or(Literals::None)
        }
        Shape::Other => return None,
    })
}

/// What the tree of any other expression says.
pub fn extract(hir: &Hir) -> Literals {
    let mut extractor = Extractor::new();
    // Few and short: they choose candidates in an index, they need not decide.
    extractor.kind(ExtractKind::Prefix).limit_class(4).limit_total(PREFIXES_MAX);
    let sequence = extractor.extract(hir);
    let found = sequence.literals().map(|l| l.iter().map(|l| valid_start(l.as_bytes()).to_owned()).collect());
    found.and_then(prefixes).unwrap_or_else(|| {
        // Every part of a concatenation is in the text.
        let longest = parts(hir).into_iter().filter_map(literal).max_by_key(|l| l.len());
        longest.map_or(Literals::None, |l| Literals::Contains(l.to_owned()))
    })
}

fn prefixes(mut starts: Vec<String>) -> Option<Literals> {
    starts.sort_unstable();
    starts.dedup();
    let useful = starts.len() <= PREFIXES_MAX && starts.iter().all(|s| !s.is_empty());
    useful.then_some(Literals::Prefix(starts))
}

/// A prefix may end within a character.
fn valid_start(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}
