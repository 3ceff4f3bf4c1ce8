//! Lines that a reader saw in the body before: compared, not read. This is what makes scraping the same target cheap.
use ferula_model::MetricType;

use super::grammar::Parser;
use super::lexer::State;
use super::{Entry, ParseError, Sample, number};

/// What a reader remembers of the body before, for [`Parser::next_known`].
pub trait KnownLines {
    /// How long the series is that begins `rest`, the body from a line's start on, if it is one returned in
    /// [`Sample::series`] earlier.
    fn series(&mut self, rest: &[u8]) -> Option<usize>;
    /// Whether a line that begins with `#`, its line break included, is one that was read before, and then which type it
    /// declares, if it declares one.
    fn metadata(&mut self, line: &[u8]) -> Option<Option<MetricType>>;
}

impl<F: FnMut(&[u8]) -> Option<usize>> KnownLines for F {
    fn series(&mut self, rest: &[u8]) -> Option<usize> {
        self(rest)
    }
    fn metadata(&mut self, _: &[u8]) -> Option<Option<MetricType>> {
        None
    }
}

impl<'a> Parser<'a> {
    /// As [`Parser::next`], but asks first whether the line is known. Of what is, nothing is tokenised.
    #[inline]
    pub fn next_known(&mut self, known: &mut impl KnownLines) -> Option<Result<Entry<'a>, ParseError>> {
        match self.known_line(known) {
            Some(entry) => Some(Ok(entry)),
            None => self.next(),
        }
    }

    /// The bytes of the entry just returned.
    pub fn entry_bytes(&self) -> &'a [u8] {
        self.lexer.body.get(self.start..self.lexer.at).unwrap_or_default()
    }

    /// The entry just returned once more, in full: makes the labels of an `expected` sample available.
    pub fn reread(&mut self) -> Option<Result<Entry<'a>, ParseError>> {
        self.lexer.at = self.start;
        self.lexer.state = State::LineStart;
        self.done = false;
        self.next()
    }

    /// A whole line of metadata, or `series SP value LF` exactly; everything else is left to the full parse.
    #[inline]
    fn known_line(&mut self, known: &mut impl KnownLines) -> Option<Entry<'a>> {
        if self.done || self.has_ended || self.lexer.state != State::LineStart {
            return None;
        }
        let at = self.lexer.at;
        let rest = self.lexer.body.get(at..)?;
        if rest.first() == Some(&b'#') {
            let line = rest.get(..=memchr::memchr(b'\n', rest)?)?;
            if let Some(metric_type) = known.metadata(line)? {
                self.metric_type = metric_type;
            }
            self.start = at;
            self.lexer.start = at;
            self.lexer.at = at + line.len();
            return Some(Entry::Comment);
        }
        let series = rest.get(..known.series(rest)?).filter(|s| !s.is_empty())?;
        let after = rest.get(series.len()..)?.strip_prefix(b" ")?;
        let end = after.iter().position(|b| *b <= b' ' || *b == b'{')?;
        if after.get(end) != Some(&b'\n') {
            return None; // a timestamp, an exemplar, a brace after a blank
        }
        let value = number::parse(after.get(..end)?).ok()?;
        self.start = at;
        self.lexer.start = at;
        self.lexer.at = at + series.len() + 1 + end + 1;
        self.name = None;
        self.labels.clear();
        self.exemplar = None;
        Some(Entry::Sample(Sample { series, value, t_ms: None, has_exemplar: false, expected: true }))
    }
}
