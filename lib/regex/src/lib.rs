#![doc = include_str!("../README.md")]
mod class;
mod expand;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod holes;
mod literals;
mod names;
mod translate;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

pub use expand::{Captures, expand};
pub use literals::Literals;

use holes::Holes;
use literals::Shape;
use translate::Translated;

/// Memory an automaton may take: a base and a share for each byte of its pattern.
const SIZE_MAX: usize = 10 << 20;
const SIZE_MAX_PER_BYTE: usize = 300;
/// The regex crate recurses over nested groups when it builds: up to this depth on the caller's stack, which may be
/// small, beyond it on a stack of its own.
const DEPTH_INLINE: usize = 4;
const STACK: usize = 16 << 20;

/// Why a pattern was refused, in the words Go uses where it has them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

impl Error {
    fn go(code: &str, expression: &str) -> Error {
        Error(format!("error parsing regexp: {code}: `{expression}`"))
    }
}

/// A compiled expression. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Regex {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pattern: Box<str>,
    /// The whole expression in the syntax of the regex crate.
    translated: String,
    depth: usize,
    /// The names of the groups, from group 0.
    group_names: Vec<Option<String>>,
    matcher: Matcher,
    literals: Literals,
    states: usize,
    /// Built at once where `matcher` needs it, else when groups are first asked for.
    automaton: OnceLock<Option<regex::Regex>>,
}

/// How a text is tested. All but `Automaton` are for anchored expressions.
#[derive(Debug)]
enum Matcher {
    Everything,
    NotEmpty,
    One(String),
    Set(HashSet<String>),
    Holes(Holes),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Automaton,
}

impl Regex {
    /// Must match the whole text; `.` matches newline (`^(?s:...)$`). What matchers and relabelling use.
    pub fn anchored(pattern: &str) -> Result<Regex, Error> {
        let translated = translate::translate(pattern)?;
        let (literals, shape, states) = match literals::plain_list(pattern).map(literals::set) {
            // An automaton, should it be needed, has a state for every character and more for dots.
            Some(shape) => (literals::literals(&shape), shape, pattern.len()),
            None => with_stack(translated.depth, || -> Result<_, Error> {
                let hir = literals::parse(&translated.text)?;
                let shape = literals::shape(&hir);
                Ok((
                    Some(literals::literals(&shape).unwrap_or_else(|| literals::extract(&hir))),
                    shape,
                    literals::states(&hir),
                ))
            })??,
        };
        let literals = literals.unwrap_or(Literals::None);
        let matcher = match shape {
            Shape::Everything => Matcher::Everything,
            Shape::NotEmpty => Matcher::NotEmpty,
            Shape::Exact(mut set) if set.len() == 1 => Matcher::One(set.pop().unwrap_or_default()),
            Shape::Exact(set) => Matcher::Set(set.into_iter().collect()),
            Shape::Holes(texts) => Holes::new(texts).map_or(Matcher::Automaton, Matcher::Holes),
            Shape::Prefix(s) => Matcher::Prefix(s),
            Shape::Suffix(s) => Matcher::Suffix(s),
            Shape::Contains(s) => Matcher::Contains(s),
            Shape::Other => Matcher::Automaton,
        };
        let text = format!("^(?s:{})$", translated.text);
        Regex::build(pattern, Translated { text, ..translated }, matcher, literals, states)
    }

    /// Matches anywhere, as Go's `regexp.Compile`.
    pub fn plain(pattern: &str) -> Result<Regex, Error> {
        Regex::build(pattern, translate::translate(pattern)?, Matcher::Automaton, Literals::None, pattern.len())
    }

    fn build(
        pattern: &str,
        translated: Translated,
        matcher: Matcher,
        literals: Literals,
        states: usize,
    ) -> Result<Regex, Error> {
        let Translated { text: translated, group_names, depth } = translated;
        let automaton = OnceLock::new();
        let states = if let Matcher::Automaton = matcher { states } else { 0 };
        if let Matcher::Automaton = matcher {
            let built = compile(&translated, depth)?.map_err(|e| match e {
                regex::Error::CompiledTooBig(_) => Error::go("expression too large", pattern),
                // The translation leaves no other reason; should there be one, it is said.
                e => Error(format!("error parsing regexp: {e}")),
            })?;
            let _ = automaton.set(Some(built));
        }
        let pattern = Box::from(pattern);
        Ok(Regex {
            inner: Arc::new(Inner { pattern, translated, depth, group_names, matcher, literals, states, automaton }),
        })
    }

    /// The pattern as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.inner.pattern
    }

    /// Linear in the text; constant for sets of literals.
    pub fn is_match(&self, text: &str) -> bool {
        match &self.inner.matcher {
            Matcher::Everything => true,
            Matcher::NotEmpty => !text.is_empty(),
            Matcher::One(s) => s == text,
            Matcher::Set(set) => set.contains(text),
            Matcher::Holes(holes) => holes.is_match(text),
            Matcher::Prefix(s) => text.starts_with(s.as_str()),
            Matcher::Suffix(s) => text.ends_with(s.as_str()),
            Matcher::Contains(s) => text.contains(s.as_str()),
            Matcher::Automaton => self.automaton().is_some_and(|re| re.is_match(text)),
        }
    }

    /// What every matching text equals, starts with or contains: for finding candidates in an index. Only anchored
    /// expressions have any.
    pub fn literals(&self) -> &Literals {
        &self.inner.literals
    }

    /// About how many states the automaton of an anchored expression has, 0 where it needs none: what compiling it cost,
    /// for those who accept many.
    pub fn states(&self) -> usize {
        self.inner.states
    }

    /// `None` only where a set of literals is too large for one, or the machine has no thread left to build it on.
    fn automaton(&self) -> Option<&regex::Regex> {
        let build = || compile(&self.inner.translated, self.inner.depth).ok()?.ok();
        self.inner.automaton.get_or_init(build).as_ref()
    }
}

#[allow(clippy::disallowed_methods)] // this is the crate the ban points to
fn compile(translated: &str, depth: usize) -> Result<Result<regex::Regex, regex::Error>, Error> {
    let size = SIZE_MAX + SIZE_MAX_PER_BYTE.saturating_mul(translated.len());
    let build = || regex::RegexBuilder::new(translated).size_limit(size).nest_limit(translate::NEST_LIMIT).build();
    with_stack(depth, build)
}

/// Runs `f` where it has stack enough for a pattern of that depth.
fn with_stack<T: Send>(depth: usize, f: impl FnOnce() -> T + Send) -> Result<T, Error> {
    if depth <= DEPTH_INLINE {
        return Ok(f());
    }
    let unavailable = || Error("error parsing regexp: no thread to build the expression on".to_owned());
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, f).map_err(|_| unavailable())?;
        thread.join().map_err(|_| unavailable())
    })
}

/// Equal are expressions that match alike by their text; an anchored and a plain expression of the same pattern differ.
impl PartialEq for Regex {
    fn eq(&self, o: &Regex) -> bool {
        self.inner.translated == o.inner.translated
    }
}
impl Eq for Regex {}

#[cfg(test)]
mod tests;
