//! Go's RE2 syntax and semantics on the regex crate: translate or refuse, never differ silently.
mod expand;

use std::sync::Arc;

pub use expand::{Captures, expand};

/// Why a pattern was refused, in the words Go uses where it has them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

/// A compiled expression. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Regex {
    pattern: Arc<str>,
    compiled: regex::Regex,
}

impl Regex {
    /// Must match the whole text; `.` matches newline (`^(?s:...)$`). What matchers and relabelling use.
    pub fn anchored(pattern: &str) -> Result<Regex, Error> {
        Regex::compile(pattern, format!("^(?s:{pattern})$"))
    }
    /// Matches anywhere, as Go's `regexp.Compile`.
    pub fn plain(pattern: &str) -> Result<Regex, Error> {
        Regex::compile(pattern, pattern.to_owned())
    }
    #[allow(clippy::disallowed_methods)] // this is the crate the ban points to
    fn compile(pattern: &str, full: String) -> Result<Regex, Error> {
        let compiled = regex::Regex::new(&full).map_err(|e| Error(e.to_string()))?;
        Ok(Regex { pattern: Arc::from(pattern), compiled })
    }
    /// The pattern as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }
}
