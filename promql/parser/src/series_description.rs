//! The lines of test files: a metric and its values in expanding notation.
//!
//! ```text
//!   up{job="a"} 1 2+3x2 _ _x2 stale {{schema:1 sum:3 count:22 buckets:[5 10 7]}}
//!               1 2 5 8 (no value) (two without) (stale marker) (a native histogram)
//! ```
//!
//! `axN` is `a` N+1 times, `a+bxN` adds `b` N times after the first; the same for histograms in place of numbers; `_xN` is
//! N times nothing. `up{job="a"}@st -30s-1mx4` gives start timestamps. Source followed: the unit testing page of Prometheus's documentation.
use std::sync::Arc;

use ferula_model::duration::parse_ms;
use ferula_model::labels::quoted;
use ferula_model::number::parse_go_float;
use ferula_model::{CounterResetHint, FloatHistogram, Labels, Span as BucketSpan, stale_nan};

use crate::ParseOptions;
use crate::ast::Span;
use crate::error::{ParseError, quoted_char};
use crate::lexer::{identifier, is_space};
use crate::number::scan_in_series;
use crate::parser::Parser;

/// Most values one line may expand to.
const VALUES_MAX: usize = 10_000_000;

#[derive(Clone, Debug, PartialEq)]
pub struct SeriesDescription {
    pub labels: Labels,
    /// `metric{labels}@st`: the values are no samples but the start timestamps of another line's samples, as floats:
    /// milliseconds relative to the sample's own time.
    pub start_timestamps: bool,
    pub values: Vec<SequenceValue>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SequenceValue {
    /// `_`: no sample at that time.
    Omitted,
    /// The stale marker included.
    Float(f64),
    Histogram {
        histogram: Arc<FloatHistogram>,
        /// The counter reset hint was written out: a test then compares it.
        hint_given: bool,
    },
}

/// Parses a line `metric{labels} values`. There may be no values.
pub fn parse(text: &str) -> Result<SeriesDescription, ParseError> {
    let options = ParseOptions::default();
    let (labels, at) = Parser::new(text, &options)?.metric()?;
    let mut values = Values { text, at, start_timestamps: false, out: Vec::new() };
    values.start_timestamps = values.take("@st");
    values.all()?;
    Ok(SeriesDescription { labels, start_timestamps: values.start_timestamps, values: values.out })
}

/// Parses `metric{labels}` and nothing else, as the results of instant queries are written.
pub fn parse_metric(text: &str) -> Result<Labels, ParseError> {
    let options = ParseOptions::default();
    let (labels, at) = Parser::new(text, &options)?.metric()?;
    let rest = text.get(at..).unwrap_or("");
    match rest.trim_start_matches(is_space).chars().next() {
        None => Ok(labels),
        Some(c) => {
            let at = text.len() - rest.trim_start_matches(is_space).len();
            Err(ParseError::new(text, Span::new(at, text.len()), format!("unexpected character: {}", quoted_char(c))))
        }
    }
}

struct Values<'a> {
    text: &'a str,
    at: usize,
    /// Values are written as durations: `-30s-1mx4`.
    start_timestamps: bool,
    out: Vec<SequenceValue>,
}

/// A histogram and whether its hint was written.
type Described = (FloatHistogram, bool);

impl<'a> Values<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }
    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }
    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }
    fn skip_spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches(is_space).len();
    }
    fn fail<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::new(self.text, Span::new(self.at, self.text.len()), message))
    }
    /// Nothing of what could stand here.
    fn unexpected<T>(&self, place: &str, expected: &str) -> Result<T, ParseError> {
        let what = match self.peek() {
            None => "unexpected end of input".to_owned(),
            Some(c) => format!("unexpected character {}", quoted_char(c)),
        };
        let expected = if expected.is_empty() { String::new() } else { format!(", expected {expected}") };
        self.fail(format!("{what} in {place}{expected}"))
    }

    fn all(&mut self) -> Result<(), ParseError> {
        while !self.rest().is_empty() {
            let before = self.at;
            self.skip_spaces();
            if self.rest().is_empty() {
                break;
            }
            if before == self.at {
                return self.unexpected("series values", "");
            }
            self.item()?;
        }
        Ok(())
    }

    fn item(&mut self) -> Result<(), ParseError> {
        if self.rest().starts_with("{{") {
            return self.histograms();
        }
        if self.take("_") {
            let times = self.times()?.unwrap_or(1);
            return self.repeat(times, |_| Ok(SequenceValue::Omitted));
        }
        let start = self.at;
        let mut value = self.float()?;
        let step = if matches!(self.peek(), Some('+' | '-')) { Some(self.float()?) } else { None };
        let times = self.times()?;
        if step.is_some() && times.is_none() {
            self.at = start;
            return self.fail("a step in series values needs a number of repetitions, as in 1+2x3");
        }
        self.repeat(times.map_or(1, |n| n.saturating_add(1)), |_| {
            let now = value;
            if let Some(step) = step {
                value += step; // never without a step: arithmetic would change the bits of a stale marker
            }
            Ok(SequenceValue::Float(now))
        })
    }

    fn repeat(
        &mut self,
        times: usize,
        mut value: impl FnMut(usize) -> Result<SequenceValue, String>,
    ) -> Result<(), ParseError> {
        if self.out.len().saturating_add(times) > VALUES_MAX {
            return self.fail(format!("more than {VALUES_MAX} values in one series"));
        }
        for i in 0..times {
            match value(i) {
                Ok(v) => self.out.push(v),
                Err(message) => return self.fail(message),
            }
        }
        Ok(())
    }

    /// `xN`
    fn times(&mut self) -> Result<Option<usize>, ParseError> {
        if !self.take("x") {
            return Ok(None);
        }
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        let text = self.rest().get(..digits).unwrap_or("");
        let Ok(n) = text.parse::<usize>() else {
            return self.fail(format!("invalid repetition in series values: {}", quoted(text)));
        };
        self.at += digits;
        Ok(Some(n))
    }

    /// A number with an optional sign, or `stale`.
    fn float(&mut self) -> Result<f64, ParseError> {
        let sign = match self.peek() {
            Some('-') => -1.0,
            _ => 1.0,
        };
        let signed = self.take("-") || self.take("+");
        if self.start_timestamps {
            return Ok(sign * self.milliseconds()?);
        }
        if let Ok((_, word)) = identifier(self.rest()) {
            let value = match word.to_ascii_lowercase().as_str() {
                "inf" => f64::INFINITY,
                "nan" => f64::NAN,
                _ if word == "stale" && !signed => stale_nan(),
                _ => {
                    let message = format!(
                        "unexpected identifier {} in series values, expected number or \"stale\"",
                        quoted(word)
                    );
                    return self.fail(message);
                }
            };
            self.at += word.len();
            // The bits of the marker must not pass through arithmetic.
            return Ok(if signed { sign * value } else { value });
        }
        let Some(len) = scan_in_series(self.rest()) else {
            return match self.peek() {
                Some(c) if !c.is_ascii_digit() => {
                    self.fail(format!("unexpected character in series sequence: {}", quoted_char(c)))
                }
                _ => self.unexpected("series values", "number or \"stale\""),
            };
        };
        let text = self.rest().get(..len).unwrap_or("");
        match parse_go_float(text) {
            Ok(v) => {
                self.at += len;
                Ok(sign * v)
            }
            Err(e) => self.fail(format!("error parsing number: strconv.ParseFloat: parsing {}: {e}", quoted(text))),
        }
    }

    fn milliseconds(&mut self) -> Result<f64, ParseError> {
        let len = self.rest().bytes().take_while(|b| b.is_ascii_digit() || b"ywdhms".contains(b)).count();
        let text = self.rest().get(..len).unwrap_or("");
        match parse_ms(text) {
            Ok(ms) => {
                self.at += len;
                Ok(ms as f64)
            }
            Err(e) => self.fail(e.to_string()),
        }
    }

    /// `{{..}}`, `{{..}}xN`, `{{..}}+{{..}}xN`, `{{..}}-{{..}}xN`.
    fn histograms(&mut self) -> Result<(), ParseError> {
        let (base, given) = self.histogram()?;
        let sign = match self.peek() {
            Some('+') => Some(true),
            Some('-') => Some(false),
            _ => None,
        };
        let step = match sign {
            Some(_) => {
                self.at += 1;
                Some(self.histogram()?)
            }
            None => None,
        };
        let times = self.times()?;
        let Some((step, hint_given)) = step else {
            let histogram = Arc::new(base);
            let times = times.map_or(1, |n| n.saturating_add(1));
            return self.repeat(times, |_| {
                Ok(SequenceValue::Histogram { histogram: Arc::clone(&histogram), hint_given: given })
            });
        };
        let Some(times) = times else {
            return self.unexpected("series values", "a number of repetitions, as in {{..}}+{{..}}x3");
        };
        let mut current = base;
        self.repeat(times.saturating_add(1), |i| {
            if i > 0 {
                if current.schema > step.schema {
                    return Err(format!(
                        "error combining histograms: cannot merge from schema {} to {}",
                        step.schema, current.schema
                    ));
                }
                let merged = if sign == Some(true) { current.add(&step) } else { current.sub(&step) };
                merged.map_err(|e| e.to_string())?;
            }
            Ok(SequenceValue::Histogram { histogram: Arc::new(current.clone()), hint_given })
        })
    }

    fn histogram(&mut self) -> Result<Described, ParseError> {
        if !self.take("{{") {
            return self.unexpected("series values", "\"{{\"");
        }
        let mut parts = HistogramParts::default();
        loop {
            self.skip_spaces();
            if self.take("}}") {
                return Ok(parts.build());
            }
            self.descriptor(&mut parts)?;
            if !self.rest().starts_with("}}") && !self.peek().is_some_and(is_space) {
                return self.unexpected("histogram description", "histogram description key, e.g. buckets:[5 10 7]");
            }
        }
    }

    /// `key:value`
    fn descriptor(&mut self, parts: &mut HistogramParts) -> Result<(), ParseError> {
        let Ok((_, word)) = identifier(self.rest()) else {
            return match self.peek() {
                Some(c) => self.fail(format!("histogram description incomplete unexpected: {}", quoted_char(c))),
                None => self.unexpected("histogram description", "\"}}\""),
            };
        };
        let key = word.to_ascii_lowercase();
        let Some(known) = KEYS.iter().position(|k| *k == key) else {
            return self.fail(format!("bad histogram descriptor found: {}", quoted(word)));
        };
        self.at += word.len();
        if !self.take(":") {
            return self.fail("missing `:` for histogram descriptor");
        }
        if std::mem::replace(&mut parts.seen[known], true) {
            return self.fail(format!("duplicate key \"{key}\" in histogram"));
        }
        match key.as_str() {
            "schema" => parts.schema = self.int()?,
            "offset" => parts.offset = self.int()?,
            "n_offset" => parts.n_offset = self.int()?,
            "sum" => parts.sum = self.float()?,
            "count" => parts.count = self.float()?,
            "z_bucket" => parts.z_bucket = self.float()?,
            "z_bucket_w" => parts.z_bucket_w = self.float()?,
            "buckets" => parts.buckets = self.list()?,
            "n_buckets" => parts.n_buckets = self.list()?,
            "custom_values" => parts.custom_values = self.list()?,
            _ => parts.hint = Some(self.hint()?),
        }
        Ok(())
    }

    fn int(&mut self) -> Result<i32, ParseError> {
        let sign = if self.take("-") { "-" } else { "" };
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        let text = format!("{sign}{}", self.rest().get(..digits).unwrap_or(""));
        let Ok(n) = text.parse() else {
            return self.unexpected("histogram description", "an integer");
        };
        self.at += digits;
        Ok(n)
    }

    fn list(&mut self) -> Result<Vec<f64>, ParseError> {
        if !self.take("[") {
            return self.unexpected("histogram description", "\"[\"");
        }
        let mut list = Vec::new();
        loop {
            self.skip_spaces();
            if !list.is_empty() && self.take("]") {
                return Ok(list);
            }
            list.push(self.float()?);
        }
    }

    fn hint(&mut self) -> Result<CounterResetHint, ParseError> {
        let word = identifier(self.rest()).map_or("", |(_, word)| word);
        let hint = match word {
            "unknown" => CounterResetHint::Unknown,
            "reset" => CounterResetHint::CounterReset,
            "not_reset" => CounterResetHint::NotCounterReset,
            "gauge" => CounterResetHint::Gauge,
            _ => return self.fail(format!("bad histogram descriptor found: {}", quoted(word))),
        };
        self.at += word.len();
        Ok(hint)
    }
}

const KEYS: [&str; 11] = [
    "schema",
    "sum",
    "count",
    "z_bucket",
    "z_bucket_w",
    "custom_values",
    "buckets",
    "offset",
    "n_buckets",
    "n_offset",
    "counter_reset_hint",
];

#[derive(Default)]
struct HistogramParts {
    seen: [bool; KEYS.len()],
    schema: i32,
    sum: f64,
    count: f64,
    z_bucket: f64,
    z_bucket_w: f64,
    custom_values: Vec<f64>,
    buckets: Vec<f64>,
    offset: i32,
    n_buckets: Vec<f64>,
    n_offset: i32,
    hint: Option<CounterResetHint>,
}

impl HistogramParts {
    fn build(self) -> Described {
        let spans = |buckets: &[f64], offset| match u32::try_from(buckets.len()) {
            Ok(length) if length > 0 => vec![BucketSpan { offset, length }],
            _ => Vec::new(),
        };
        let h = FloatHistogram {
            counter_reset_hint: self.hint.unwrap_or_default(),
            schema: self.schema,
            zero_threshold: self.z_bucket_w,
            zero_count: self.z_bucket,
            count: self.count,
            sum: self.sum,
            positive_spans: spans(&self.buckets, self.offset),
            negative_spans: spans(&self.n_buckets, self.n_offset),
            positive_buckets: self.buckets,
            negative_buckets: self.n_buckets,
            custom_values: self.custom_values,
        };
        (h, self.hint.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> String {
        let show = |v: &SequenceValue| match v {
            SequenceValue::Omitted => "_".to_owned(),
            SequenceValue::Float(f) if ferula_model::is_stale_nan(*f) => "stale".to_owned(),
            SequenceValue::Float(f) => f.to_string(),
            SequenceValue::Histogram { histogram, hint_given } => {
                format!("{}{}", histogram.test_expression(), if *hint_given { "!" } else { "" })
            }
        };
        match parse(&format!("m {text}")) {
            Ok(d) => d.values.iter().map(show).collect::<Vec<_>>().join(" "),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn expands() {
        for (text, want) in [
            ("1 -2 +3.5 1e3", "1 -2 3.5 1000"),
            ("1x2 5+3x2 5-3x2 -2-1x1", "1 1 1 5 8 11 5 2 -1 -2 -3"),
            ("_ _x3 stale", "_ _ _ _ stale"),
            ("NaN -Inf +Inf inf", "NaN -inf inf inf"),
            ("0.1+0.1x2", "0.1 0.2 0.30000000000000004"),
            ("{{}}", "{{}}"),
            ("{{schema:1 sum:3 count:22 buckets:[5 10 7]}}", "{{schema:1 count:22 sum:3 buckets:[5 10 7]}}"),
            ("{{count:1 sum:1 buckets:[1]}}x1", "{{count:1 sum:1 buckets:[1]}} {{count:1 sum:1 buckets:[1]}}"),
            ("{{count:1 buckets:[1]}}+{{count:2 buckets:[2]}}x1", "{{count:1 buckets:[1]}} {{count:3 buckets:[3]}}"),
            ("{{ counter_reset_hint:gauge }}", "{{counter_reset_hint:gauge}}!"),
            ("1+1", "1:3: parse error: a step in series values needs a number of repetitions, as in 1+2x3"),
            ("foo", "1:3: parse error: unexpected identifier \"foo\" in series values, expected number or \"stale\""),
            ("?", "1:3: parse error: unexpected character in series sequence: '?'"),
            ("1x", "1:5: parse error: invalid repetition in series values: \"\""),
            ("1x99999999999", "1:16: parse error: more than 10000000 values in one series"),
            ("{{schema:1 schema:2}}", "1:21: parse error: duplicate key \"schema\" in histogram"),
            ("{{shema:1}}", "1:5: parse error: bad histogram descriptor found: \"shema\""),
        ] {
            assert_eq!(values(text), want, "{text}");
        }
    }

    #[test]
    fn reads_start_timestamps() {
        let d = parse("m{a=\"b\"}@st _ 0-1mx1 +1m -59999msx1").unwrap();
        assert!(d.start_timestamps);
        let ms: Vec<_> =
            d.values.iter().filter_map(|v| if let SequenceValue::Float(f) = v { Some(*f) } else { None }).collect();
        assert_eq!(ms, [0.0, -60_000.0, 60_000.0, -59_999.0, -59_999.0]);
    }

    #[test]
    fn reads_metrics() {
        for (text, want) in [
            ("up 1", r#"{__name__="up"}"#),
            (r#"up{job="a", "x.y"='b',} 1"#, r#"{__name__="up", job="a", "x.y"="b"}"#),
            (r#"{"my metric", a="b"} 1"#, r#"{__name__="my metric", a="b"}"#),
            ("{} 1", "{}"),
            ("sum{a=\"b\"} 1", r#"{__name__="sum", a="b"}"#),
            ("h {{}}", r#"{__name__="h"}"#),
        ] {
            let d = parse(text).unwrap();
            assert_eq!((d.labels.to_string().as_str(), d.values.len()), (want, 1), "{text}");
        }
        assert!(parse("up{a!=\"b\"} 1").is_err() && parse_metric("up 1").is_err() && parse_metric("up ").is_ok());
    }
}
