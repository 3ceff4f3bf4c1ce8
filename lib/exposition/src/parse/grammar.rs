//! The grammar of both text formats over [`super::lexer`]'s tokens, one entry per call.
use std::borrow::Cow;
use std::ops::Range;

use ferula_model::{Exemplar, Labels, MetricType};

use super::lexer::{Lexer, State, Token};
use super::number::{self, NumberError};
use super::start::Ahead;
use super::text::{metric_type, normalised, unescape};
use super::{Entry, Limits, ParseError, Progress, Sample, Syntax, cut, quote_bytes};

/// Reads one body from front to back. After an error or the end it stays there.
#[derive(Clone, Debug)]
pub struct Parser<'a> {
    pub(super) lexer: Lexer<'a>,
    pub(super) limits: Limits,
    /// Where the current entry begins.
    pub(super) start: usize,
    /// Type of the family whose `# TYPE` came last: decides whether `le` and `quantile` are normalised.
    pub(super) metric_type: MetricType,
    /// Length of the name the last `# HELP`, `# TYPE` or `# UNIT` line was about.
    pub(super) family_bytes: usize,
    /// What [`Parser::start_ms`] saw coming.
    pub(super) ahead: Option<Ahead>,
    /// Name and label spans of the last sample; filled by the full parse only.
    pub(super) name: Option<Range<usize>>,
    pub(super) labels: Vec<LabelSpan>,
    pub(super) exemplar: Option<ExemplarSpan>,
    exemplar_labels: Vec<LabelSpan>,
    pub(super) done: bool,
    /// More of the body comes after `lexer.body`.
    pub(super) is_partial: bool,
    /// Of the pieces before.
    lines_before: usize,
    pub(super) has_ended: bool,
}

/// Both without their quotes.
#[derive(Clone, Debug)]
pub(super) struct LabelSpan {
    pub name: Range<usize>,
    pub value: Range<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct ExemplarSpan {
    value: f64,
    t_ms: Option<i64>,
}

/// A reason; the entry's place is added once, in [`Parser::next`].
type Step<T> = Result<T, String>;

impl<'a> Parser<'a> {
    /// `syntax` must be one of the two text formats.
    pub fn new(body: &'a [u8], syntax: Syntax, limits: Limits) -> Parser<'a> {
        Parser::resume(body, syntax, limits, Progress::default(), true)
    }

    /// Reads `piece`, the continuation of a body of which [`Parser::pause`] said where it stands. Unless `is_last`, the
    /// piece must end with a line break, and an entry which that line break does not complete (label values may hold
    /// line breaks) is left for the next piece.
    pub fn resume(piece: &'a [u8], syntax: Syntax, limits: Limits, progress: Progress, is_last: bool) -> Parser<'a> {
        debug_assert!(syntax != Syntax::Protobuf, "messages are not lines");
        Parser {
            lexer: Lexer { body: piece, syntax, state: State::LineStart, start: 0, at: 0 },
            limits,
            start: 0,
            metric_type: progress.metric_type,
            family_bytes: progress.family_bytes,
            ahead: None,
            name: None,
            labels: Vec::new(),
            exemplar: None,
            exemplar_labels: Vec::new(),
            done: false,
            is_partial: !is_last,
            lines_before: progress.before,
            has_ended: progress.has_ended,
        }
    }

    /// How many bytes of the piece are read for good, once [`Parser::next`] said `None`, and where the body stands there.
    /// What is left comes again at the front of the next piece.
    pub fn pause(&self) -> (usize, Progress) {
        let read = self.start.min(self.lexer.body.len());
        let lines = memchr::memchr_iter(b'\n', self.lexer.body.get(..read).unwrap_or_default()).count();
        let before = self.lines_before + lines;
        let (metric_type, family_bytes) = (self.metric_type, self.family_bytes);
        (read, Progress { metric_type, family_bytes, before, has_ended: self.has_ended })
    }

    /// The type the last `# TYPE` line declared.
    pub fn metric_type(&self) -> MetricType {
        self.metric_type
    }

    /// The next entry, `None` at the end.
    #[allow(clippy::should_implement_trait)] // an iterator could not offer `labels` for the item just returned
    pub fn next(&mut self) -> Option<Result<Entry<'a>, ParseError>> {
        if self.done {
            return None;
        }
        if self.has_ended {
            self.done = true;
            return (!self.lexer.body.is_empty()).then(|| Err(self.error(AFTER_EOF_MARK.to_owned())));
        }
        let entry = self.entry();
        let line_bytes = self.lexer.at.saturating_sub(self.start);
        let result = match entry {
            Ok(_) if line_bytes > self.limits.line_bytes_max => {
                Err(format!("line of {line_bytes} bytes exceeds the limit of {} bytes", self.limits.line_bytes_max))
            }
            other => other,
        };
        match result {
            Ok(Some(entry)) => Some(Ok(entry)),
            Ok(None) => {
                self.done = true;
                None
            }
            Err(_)
                if self.is_partial
                    && self.lexer.at >= self.lexer.body.len()
                    && line_bytes <= self.limits.line_bytes_max =>
            {
                self.done = true; // it may be whole, or wrong, when more is here
                None
            }
            Err(reason) => {
                self.done = true;
                Some(Err(self.error(reason)))
            }
        }
    }

    /// Calls `f` with name and value of every label of the sample just returned, the metric name first, as
    /// `__name__`; the others in the order written, repeated names included. Nothing for an `expected` sample.
    pub fn labels<'s>(&'s self, mut f: impl FnMut(Cow<'s, str>, Cow<'s, str>)) {
        let Some(name) = &self.name else { return };
        f(Cow::Borrowed(ferula_model::labels::METRIC_NAME), self.unescaped(name.clone()));
        for label in &self.labels {
            let (name, value) = (self.unescaped(label.name.clone()), self.unescaped(label.value.clone()));
            let value = match (self.metric_type, &*name) {
                (MetricType::Summary, "quantile") | (MetricType::Histogram, "le") => normalised(value),
                _ => value,
            };
            f(name, value);
        }
    }

    /// The exemplar of the sample just returned.
    pub fn exemplar(&self) -> Option<Exemplar> {
        let span = self.exemplar.as_ref()?;
        let pairs =
            self.exemplar_labels.iter().map(|l| (self.unescaped(l.name.clone()), self.unescaped(l.value.clone())));
        Some(Exemplar { labels: Labels::from_pairs(pairs), value: span.value, t_ms: span.t_ms })
    }

    fn entry(&mut self) -> Step<Option<Entry<'a>>> {
        loop {
            self.start = self.lexer.at;
            let token = self.lexer.next();
            return match token {
                Token::Eof if self.is_partial => Ok(None),
                Token::Eof if self.lexer.syntax == Syntax::OpenMetrics => Err(NO_EOF_MARK.to_owned()),
                Token::Eof => Ok(None),
                Token::EofWord => match self.lexer.next() {
                    Token::Eof => {
                        self.has_ended = true;
                        self.start = self.lexer.at;
                        Ok(None)
                    }
                    _ => Err(AFTER_EOF_MARK.to_owned()),
                },
                // Blank lines are as free as they are meaningless; a loop, for a body can be all of them.
                Token::Linebreak if self.lexer.syntax == Syntax::Text && self.start_is_line_start() => continue,
                Token::Help | Token::Type | Token::Unit => self.metadata(token).map(Some),
                Token::Comment if self.lexer.syntax == Syntax::Text => match self.lexer.next() {
                    Token::Linebreak => Ok(Some(Entry::Comment)),
                    other => Err(self.unexpected("linebreak expected after comment", other)),
                },
                Token::MetricName | Token::BraceOpen => self.sample(token).map(|s| Some(Entry::Sample(s))),
                other => Err(self.unexpected("expected a valid start token", other)),
            };
        }
    }

    /// OpenMetrics leaves the lexer inside a line after some malformed ends; a line break there is no blank line.
    fn start_is_line_start(&self) -> bool {
        self.lexer.state == State::LineStart
    }

    fn metadata(&mut self, kind: Token) -> Step<Entry<'a>> {
        let name = match self.lexer.next() {
            Token::MetricName => self.token_unquoted(),
            other => return Err(self.unexpected(&format!("expected metric name after {}", kind.as_str()), other)),
        };
        self.family_bytes = name.len();
        if self.lexer.next() != Token::Text {
            return Err(format!("expected text in {}", kind.as_str()));
        }
        // The separator before the text and, in OpenMetrics, the line break after it belong to the token.
        let mut text = self.lexer.token_bytes();
        text = text.get(1..).unwrap_or_default();
        if self.lexer.syntax == Syntax::OpenMetrics {
            text = text.strip_suffix(b"\n").unwrap_or(text);
        }
        let family = self.unescaped(name.clone());
        let entry = match kind {
            Token::Help => {
                let Ok(help) = std::str::from_utf8(text) else {
                    return Err(format!("help text {} is not a valid utf8 string", quote_bytes(text)));
                };
                let quotes_too = self.lexer.syntax == Syntax::OpenMetrics;
                Entry::Help { family, text: unescape(help, quotes_too) }
            }
            Token::Type => {
                let metric_type = metric_type(text, self.lexer.syntax)
                    .ok_or_else(|| format!("invalid metric type {}", quote_bytes(text)))?;
                self.metric_type = metric_type;
                Entry::Type { family, metric_type }
            }
            _ => {
                let unit = std::str::from_utf8(text)
                    .map_err(|_| format!("unit {} is not a valid utf8 string", quote_bytes(text)))?;
                let is_suffix = family.strip_suffix(unit).is_some_and(|stem| stem.ends_with('_'));
                if !unit.is_empty() && !is_suffix {
                    return Err(format!(
                        "unit {} not a suffix of metric {}",
                        quote_bytes(text),
                        quote_bytes(family.as_bytes())
                    ));
                }
                Entry::Unit { family, unit }
            }
        };
        if self.lexer.syntax == Syntax::Text {
            let token = self.lexer.next();
            if token != Token::Linebreak {
                return Err(self.unexpected("linebreak expected after metadata", token));
            }
        }
        Ok(entry)
    }

    fn sample(&mut self, first: Token) -> Step<Sample<'a>> {
        self.labels.clear();
        self.exemplar = None;
        self.name = None;
        let series_start = self.lexer.start;
        let mut token = first;
        if first == Token::MetricName {
            self.name = Some(self.lexer.start..self.lexer.at);
        }
        let mut series_end = self.lexer.at;
        if first == Token::MetricName {
            token = self.lexer.next();
        }
        if token == Token::BraceOpen {
            let mut labels = std::mem::take(&mut self.labels);
            let done = self.label_list(&mut labels, false);
            self.labels = labels;
            done?;
            series_end = self.lexer.at;
            token = self.lexer.next();
        }
        let Some(name) = &self.name else {
            return Err(format!("metric name not set while parsing: {}", self.so_far()));
        };
        if std::str::from_utf8(self.bytes(name)).is_err() {
            return Err(format!("invalid UTF-8 metric name: {}", quote_bytes(self.bytes(name))));
        }
        let series = self.bytes(&(series_start..series_end));
        let value = self.float(token, "metric")?;
        let t_ms = match self.lexer.syntax {
            Syntax::OpenMetrics => self.openmetrics_line_end()?,
            _ => self.text_line_end()?,
        };
        Ok(Sample { series, value, t_ms, has_exemplar: self.exemplar.is_some(), expected: false })
    }

    /// Pairs up to the closing brace, which is consumed.
    fn label_list(&mut self, out: &mut Vec<LabelSpan>, in_exemplar: bool) -> Step<()> {
        let strict_commas = self.lexer.syntax == Syntax::OpenMetrics;
        let mut token = self.lexer.next();
        loop {
            let name = match token {
                Token::BraceClose => return Ok(()),
                Token::LabelName | Token::Quoted => self.token_unquoted(),
                other => return Err(self.unexpected("expected label name", other)),
            };
            let quoted = token == Token::Quoted;
            token = self.lexer.next();
            // A string alone is the metric's name, which UTF-8 names are written as.
            if !in_exemplar && matches!(token, Token::Comma | Token::BraceClose) {
                if self.name.is_some() {
                    return Err(format!("metric name already set while parsing: {}", self.so_far()));
                }
                if !quoted {
                    return Err(self.unexpected("expected equal", token));
                }
                self.name = Some(name);
                if token == Token::BraceClose {
                    return Ok(());
                }
                token = self.lexer.next();
                continue;
            }
            if token != Token::Equal {
                return Err(self.unexpected("expected equal", token));
            }
            token = self.lexer.next();
            if token != Token::LabelValue {
                return Err(self.unexpected("expected label value", token));
            }
            let value = self.token_unquoted();
            for text in [&name, &value] {
                if std::str::from_utf8(self.bytes(text)).is_err() {
                    return Err(format!("invalid UTF-8 label value: {}", quote_bytes(self.lexer.token_bytes())));
                }
            }
            out.push(LabelSpan { name, value });
            token = self.lexer.next();
            match token {
                Token::Comma => token = self.lexer.next(),
                Token::BraceClose => {}
                other if strict_commas => return Err(self.unexpected("expected comma or brace close", other)),
                _ => {}
            }
        }
    }

    fn text_line_end(&mut self) -> Step<Option<i64>> {
        match self.lexer.next() {
            Token::Linebreak => Ok(None),
            Token::Timestamp => {
                let text = self.lexer.token_bytes();
                let parsed = std::str::from_utf8(text).ok().and_then(|s| s.parse::<i64>().ok());
                let t_ms = parsed.ok_or_else(|| {
                    let text = quote_bytes(text);
                    format!("strconv.ParseInt: parsing {text}: value out of range while parsing: {}", self.so_far())
                })?;
                match self.lexer.next() {
                    Token::Linebreak => Ok(Some(t_ms)),
                    other => Err(self.unexpected("expected next entry after timestamp", other)),
                }
            }
            other => Err(self.unexpected("expected timestamp or new record", other)),
        }
    }

    fn openmetrics_line_end(&mut self) -> Step<Option<i64>> {
        let mut t_ms = None;
        let mut token = self.lexer.next();
        if token == Token::Timestamp {
            t_ms = Some(self.seconds("timestamp")?);
            token = self.lexer.next();
            if !matches!(token, Token::Linebreak | Token::Comment) {
                return Err(self.unexpected("expected next entry after timestamp", token));
            }
        }
        match token {
            Token::Comment => self.exemplar_rest()?,
            Token::Eof => return Err(NO_EOF_MARK.to_owned()),
            // Whatever else follows the value is read as the start of an entry, which it never can be: upstream's words.
            _ => {}
        }
        Ok(t_ms)
    }

    /// After ` # {`.
    fn exemplar_rest(&mut self) -> Step<()> {
        let mut labels = std::mem::take(&mut self.exemplar_labels);
        labels.clear();
        let done = self.label_list(&mut labels, true);
        self.exemplar_labels = labels;
        done?;
        let token = self.lexer.next();
        let value = self.float(token, "exemplar labels")?;
        let mut t_ms = None;
        match self.lexer.next() {
            Token::Linebreak => {}
            Token::Eof => return Err(NO_EOF_MARK.to_owned()),
            Token::Timestamp => {
                t_ms = Some(self.seconds("exemplar timestamp")?);
                let token = self.lexer.next();
                if token != Token::Linebreak {
                    return Err(self.unexpected("expected next entry after exemplar timestamp", token));
                }
            }
            other => return Err(self.unexpected("expected timestamp or comment", other)),
        }
        self.exemplar = Some(ExemplarSpan { value, t_ms });
        Ok(())
    }

    /// Seconds as a float in OpenMetrics; milliseconds here, cut off as upstream does.
    fn seconds(&self, what: &str) -> Step<i64> {
        let seconds = self.number()?;
        if !seconds.is_finite() {
            let shown = if seconds.is_nan() {
                "NaN"
            } else if seconds > 0.0 {
                "+Inf"
            } else {
                "-Inf"
            };
            return Err(format!("invalid {what} {shown}"));
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn float(&self, token: Token, after: &str) -> Step<f64> {
        if token != Token::Value {
            return Err(self.unexpected(&format!("expected value after {after}"), token));
        }
        self.number()
    }

    /// The current token as a number; OpenMetrics' tokens carry the space before them.
    fn number(&self) -> Step<f64> {
        let text = self.lexer.token_bytes();
        let text = if self.lexer.syntax == Syntax::OpenMetrics { text.get(1..).unwrap_or_default() } else { text };
        number::parse(text).map_err(|e| {
            let why = match e {
                NumberError::Syntax => format!("strconv.ParseFloat: parsing {}: invalid syntax", quote_bytes(text)),
                NumberError::Range => format!("strconv.ParseFloat: parsing {}: value out of range", quote_bytes(text)),
                NumberError::Character => "unsupported character in float".to_owned(),
            };
            format!("{why} while parsing: {}", self.so_far())
        })
    }

    pub(super) fn bytes(&self, range: &Range<usize>) -> &'a [u8] {
        self.lexer.body.get(range.clone()).unwrap_or_default()
    }

    /// The current token's span, without its quotes if it has any.
    fn token_unquoted(&self) -> Range<usize> {
        let (start, end) = (self.lexer.start, self.lexer.at);
        if self.lexer.byte(start) == Some(b'"') { start + 1..end.saturating_sub(1) } else { start..end }
    }

    fn unescaped(&self, range: Range<usize>) -> Cow<'a, str> {
        let text = self.bytes(&range);
        match std::str::from_utf8(text) {
            Ok(s) => unescape(s, true),
            Err(_) => String::from_utf8_lossy(text), // names of metadata lines only; label texts were checked
        }
    }

    fn so_far(&self) -> String {
        quote_bytes(self.bytes(&(self.start..self.lexer.at.min(self.lexer.body.len()))))
    }

    /// What came instead, in upstream's form: both texts reach to the first byte that fits nothing.
    #[cold]
    fn unexpected(&self, expected: &str, got: Token) -> String {
        let end = (self.lexer.at + 1).min(self.lexer.len());
        let shown = |from: usize| {
            let mut bytes = self.bytes(&(from..end.min(self.lexer.body.len()))).to_vec();
            if end > self.lexer.body.len() {
                bytes.push(b'\n');
            }
            quote_bytes(&bytes)
        };
        let got_name = got.as_str();
        format!("{expected}, got {} (\"{got_name}\") while parsing: {}", shown(self.lexer.start), shown(self.start))
    }

    #[cold]
    fn error(&self, reason: String) -> ParseError {
        let before = self.lexer.body.get(..self.start.min(self.lexer.body.len())).unwrap_or_default();
        ParseError { line: 1 + self.lines_before + memchr::memchr_iter(b'\n', before).count(), reason: cut(reason) }
    }
}

const AFTER_EOF_MARK: &str = "unexpected data after # EOF";
const NO_EOF_MARK: &str = "data does not end with # EOF";
