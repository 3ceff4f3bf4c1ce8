//! Which of the two grammars reads an input: upstream's default tries both and prefers the newer one, unless they
//! disagree, in which case what used to work keeps its meaning.
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Matcher, classic, utf8};

/// How inputs are read. `--enable-feature=classic-mode` and `utf8-strict-mode` choose the other two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Fallback,
    Classic,
    Utf8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub String);

// One process runs one mode: it is chosen by a flag before the first file is read.
static MODE: AtomicU8 = AtomicU8::new(0);

impl Mode {
    pub fn set(self) {
        MODE.store(self as u8, Ordering::Relaxed);
    }
    fn current() -> Mode {
        match MODE.load(Ordering::Relaxed) {
            1 => Mode::Classic,
            2 => Mode::Utf8,
            _ => Mode::Fallback,
        }
    }
}

/// One matcher such as `alertname=~"Disk.*"`; `origin` (config, api, ...) only appears in log lines.
pub fn parse_matcher(input: &str, origin: &str) -> Result<Matcher, ParseError> {
    if input.starts_with('{') || input.ends_with('}') {
        return Err(ParseError(format!("unexpected open or close brace: {input}")));
    }
    choose(input, origin, utf8::parse_one, classic::parse_one)
}

/// A list of matchers, with or without braces.
pub fn parse_matchers(input: &str, origin: &str) -> Result<Vec<Matcher>, ParseError> {
    choose(input, origin, utf8::parse_set, classic::parse_set)
}

fn choose<T: PartialEq + std::fmt::Debug>(
    input: &str,
    origin: &str,
    utf8: fn(&str) -> Result<T, String>,
    classic: fn(&str) -> Result<T, String>,
) -> Result<T, ParseError> {
    match Mode::current() {
        Mode::Utf8 => return utf8(input).map_err(ParseError),
        Mode::Classic => return classic(input).map_err(ParseError),
        Mode::Fallback => {}
    }
    match (utf8(input), classic(input)) {
        (Ok(new), Ok(old)) => {
            if new != old {
                tracing::warn!(
                    input,
                    origin,
                    "Matchers input has disagreement: the classic reading is kept for now; quote the value to be explicit"
                );
                return Ok(old);
            }
            Ok(new)
        }
        (Ok(new), Err(_)) => Ok(new),
        (Err(error), Ok(old)) => {
            tracing::warn!(
                input,
                origin,
                error,
                "Alertmanager is moving to a new parser for labels and matchers, and this input is incompatible"
            );
            Ok(old)
        }
        (Err(_), Err(old)) => Err(ParseError(old)),
    }
}
