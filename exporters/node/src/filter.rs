//! Which devices a collector looks at: an expression to exclude, or one to include, never both.
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

/// The expression a flag holds; `None` when it is empty.
pub(crate) fn expression(flags: &Flags, flag: &'static str) -> Result<Option<Regex>, Error> {
    let pattern = flags.value(flag);
    if pattern.is_empty() {
        return Ok(None);
    }
    Regex::plain(pattern).map(Some).map_err(|source| Error::Regex { flag: flag.to_owned(), source })
}
