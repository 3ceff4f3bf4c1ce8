//! Which devices a collector looks at: an expression to exclude, or one to include, never both.
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ferula_regex::Regex;

use crate::Error;
use crate::flags::Flags;

/// Expressions match anywhere in the name unless they are anchored, as upstream's do.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    exclude: Option<Regex>,
    include: Option<Regex>,
}

impl Filter {
    /// From the flags `<prefix>-exclude` and `<prefix>-include`. Giving an include alone sets the default exclude aside.
    pub fn from_flags(flags: &Flags, exclude: &'static str, include: &'static str) -> Result<Filter, Error> {
        let wanted = flags.value(include);
        if wanted.is_empty() {
            return Ok(Filter { exclude: expression(flags, exclude)?, include: None });
        }
        if flags.is_given(exclude) && !flags.value(exclude).is_empty() {
            return Err(Error::Exclusive(exclude.to_owned(), include.to_owned()));
        }
        Ok(Filter { exclude: None, include: expression(flags, include)? })
    }

    pub fn ignores(&self, name: &str) -> bool {
        self.exclude.as_ref().is_some_and(|r| r.is_match(name))
            || self.include.as_ref().is_some_and(|r| !r.is_match(name))
    }
}

/// An expression over the kernel's own names, which are few and always the same: each is matched once and remembered.
#[derive(Debug)]
pub(crate) struct Chosen {
    expression: Option<Regex>,
    known: Mutex<HashMap<String, bool>>,
}

/// More names than any kernel has; beyond, they are matched every time.
const NAMES_MAX: usize = 10_000;

impl Chosen {
    pub fn from_flag(flags: &Flags, flag: &'static str) -> Result<Chosen, Error> {
        Ok(Chosen { expression: expression(flags, flag)?, known: Mutex::default() })
    }

    /// Without an expression everything is chosen.
    pub fn contains(&self, name: &str) -> bool {
        let Some(expression) = &self.expression else { return true };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = known.get(name) {
            return *answer;
        }
        let answer = expression.is_match(name);
        if known.len() < NAMES_MAX {
            known.insert(name.to_owned(), answer);
        }
        answer
    }
}

/// The expression a flag holds; `None` when it is empty.
pub(crate) fn expression(flags: &Flags, flag: &'static str) -> Result<Option<Regex>, Error> {
    let pattern = flags.value(flag);
    if pattern.is_empty() {
        return Ok(None);
    }
    Regex::plain(pattern).map(Some).map_err(|source| Error::Regex { flag: flag.to_owned(), source })
}
