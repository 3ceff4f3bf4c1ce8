//! Reading scripts.
use ferula_model::labels::quoted;
use ferula_model::number::parse_go_float;
use ferula_model::{Labels, duration};
use ferula_promql_parser::series_description::{self, SequenceValue};
use ferula_regex::Regex;
use ferula_storage::Annotations;

/// A script that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ScriptError {
    pub line: usize,
    pub message: String,
}

pub(super) enum Command {
    Clear,
    Load { line: usize, step_ms: i64, with_nhcb: bool, series: Vec<LoadSeries> },
    Eval(Eval),
}

pub(super) struct LoadSeries {
    pub labels: Labels,
    pub values: Vec<SequenceValue>,
    /// Start timestamps relative to the samples' times, in ms.
    pub start_offsets: Vec<Option<i64>>,
}

#[derive(Clone, Copy)]
pub(super) enum When {
    Instant(i64),
    Range(i64, i64, i64),
}

pub(super) enum Expected {
    /// Series with their values.
    Series(Vec<(Labels, Vec<SequenceValue>)>),
    Scalar(f64),
    String(String),
}

pub(super) enum Text {
    Any,
    Exactly(String),
    Regex(Regex),
}

impl Text {
    fn fits(&self, text: &str) -> bool {
        match self {
            Text::Any => true,
            Text::Exactly(t) => t == text || t.trim_matches('"') == text,
            Text::Regex(r) => r.is_match(text),
        }
    }
}

pub(super) struct Eval {
    pub line: usize,
    pub expr: String,
    pub when: When,
    pub ordered: bool,
    pub fails: Option<Text>,
    warns: Vec<Text>,
    infos: Vec<Text>,
    no_warn: bool,
    no_info: bool,
    pub expected: Expected,
    /// Times of an expected range vector: start, end, step.
    pub range_vector: Option<(i64, i64, i64)>,
}

impl Eval {
    pub fn check_failure(&self, message: &str) -> Result<(), String> {
        match &self.fails {
            None => Err(format!("unexpected error: {message}")),
            Some(t) if t.fits(message) => Ok(()),
            Some(_) => Err(format!("wrong error: {message}")),
        }
    }

    pub fn check_annotations(&self, a: &Annotations) -> Result<(), String> {
        for (kind, wanted, none, found) in
            [("warning", &self.warns, self.no_warn, &a.warnings), ("info", &self.infos, self.no_info, &a.infos)]
        {
            if none && !found.is_empty() {
                return Err(format!("unexpected {kind}: {found:?}"));
            }
            if wanted.is_empty() {
                continue;
            }
            if found.is_empty() {
                return Err(format!("expected {kind}, got none"));
            }
            if !wanted.iter().all(|w| found.iter().any(|f| w.fits(f))) {
                return Err(format!("no {kind} as expected, got {found:?}"));
            }
            if let Some(extra) = found.iter().find(|f| !wanted.iter().any(|w| w.fits(f))) {
                return Err(format!("unexpected {kind}: {extra}"));
            }
        }
        Ok(())
    }
}

/// The next word and what follows it.
fn word(s: &str) -> (&str, &str) {
    let s = s.trim_start();
    let end = s.find([' ', '\t']).unwrap_or(s.len());
    (&s[..end], s[end..].trim_start())
}

/// A time: a duration such as `5m`, or seconds.
fn time(s: &str) -> Option<i64> {
    let (sign, digits) = s.strip_prefix('-').map_or((1, s), |rest| (-1, rest));
    if let Ok(ms) = duration::parse_ms(digits) {
        return Some(sign * ms);
    }
    let seconds = parse_go_float(s).ok()?;
    Some((seconds * 1000.0).round() as i64)
}

pub(super) fn parse(text: &str) -> Result<Vec<Command>, ScriptError> {
    let lines: Vec<&str> = text.lines().map(str::trim).map(|l| if l.starts_with('#') { "" } else { l }).collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = at + 1;
        let fail = |message: String| ScriptError { line, message };
        let (head, rest) = word(lines[at]);
        let block_end = (at + 1..lines.len()).find(|i| lines[*i].is_empty()).unwrap_or(lines.len());
        let block: Vec<(usize, &str)> = (at + 1..block_end).map(|i| (i + 1, lines[i])).collect();
        match head.to_ascii_lowercase().as_str() {
            "" => at += 1,
            "clear" => {
                commands.push(Command::Clear);
                at += 1;
            }
            "load" | "load_with_nhcb" => {
                let step_ms = time(rest).ok_or_else(|| fail(format!("invalid step definition {}", quoted(rest))))?;
                let series = load_block(&block)?;
                commands.push(Command::Load { line, step_ms, with_nhcb: head.len() > 4, series });
                at = block_end;
            }
            h if h.starts_with("eval") => {
                commands.push(Command::Eval(eval_block(line, h, rest, &block)?));
                at = block_end;
            }
            other => return Err(fail(format!("invalid command {}", quoted(other)))),
        }
    }
    Ok(commands)
}

fn describe(line: usize, text: &str) -> Result<series_description::SeriesDescription, ScriptError> {
    series_description::parse(text).map_err(|e| ScriptError { line, message: e.to_string() })
}

pub(super) fn load_block(block: &[(usize, &str)]) -> Result<Vec<LoadSeries>, ScriptError> {
    let mut all: Vec<LoadSeries> = Vec::new();
    let mut starts: Option<(Labels, Vec<Option<i64>>)> = None;
    for (line, text) in block {
        let d = describe(*line, text)?;
        if d.start_timestamps {
            let offsets = d.values.iter().map(|v| match v {
                SequenceValue::Float(ms) => Some(*ms as i64),
                _ => None,
            });
            starts = Some((d.labels, offsets.collect()));
            continue;
        }
        let start_offsets = match starts.take() {
            Some((labels, offsets)) if labels == d.labels => offsets,
            _ => Vec::new(),
        };
        let new = LoadSeries { labels: d.labels, values: d.values, start_offsets };
        // A repeated series replaces the former.
        match all.iter().position(|s| s.labels == new.labels) {
            Some(i) => all[i] = new,
            None => all.push(new),
        }
    }
    Ok(all)
}

fn regex(line: usize, pattern: &str) -> Result<Text, ScriptError> {
    Regex::plain(pattern).map(Text::Regex).map_err(|e| ScriptError { line, message: e.to_string() })
}

fn eval_block(line: usize, head: &str, rest: &str, block: &[(usize, &str)]) -> Result<Eval, ScriptError> {
    let fail = |message: String| ScriptError { line, message };
    let invalid_time = |t: &str| ScriptError { line, message: format!("invalid timestamp definition {}", quoted(t)) };
    let (kind, rest) = word(rest);
    let (when, expr) = match kind {
        "instant" => {
            let (at, after) = word(rest);
            if at == "at" {
                let (t, expr) = word(after);
                (When::Instant(time(t).ok_or_else(|| invalid_time(t))?), expr)
            } else {
                (When::Instant(0), rest)
            }
        }
        "range" => {
            let mut rest = rest;
            let mut times = [0i64; 3];
            for (slot, keyword) in times.iter_mut().zip(["from", "to", "step"]) {
                let (k, after) = word(rest);
                let (t, after) = word(after);
                if k != keyword {
                    return Err(fail(format!("expected {keyword}, got {}", quoted(k))));
                }
                *slot = time(t).ok_or_else(|| invalid_time(t))?;
                rest = after;
            }
            (When::Range(times[0], times[1], times[2]), rest)
        }
        other => return Err(fail(format!("invalid evaluation {}", quoted(other)))),
    };
    let suffix = head.strip_prefix("eval_").unwrap_or("");
    let mut e = Eval {
        line,
        expr: expr.to_owned(),
        when,
        ordered: suffix == "ordered",
        fails: (suffix == "fail").then_some(Text::Any),
        warns: if suffix == "warn" { vec![Text::Any] } else { Vec::new() },
        infos: if suffix == "info" { vec![Text::Any] } else { Vec::new() },
        no_warn: false,
        no_info: false,
        expected: Expected::Series(Vec::new()),
        range_vector: None,
    };
    for (line, text) in block {
        if let Some(message) = text.strip_prefix("expected_fail_message") {
            e.fails = Some(Text::Exactly(message.trim().to_owned()));
        } else if let Some(pattern) = text.strip_prefix("expected_fail_regexp") {
            e.fails = Some(regex(*line, pattern.trim())?);
        } else if let Some(expectation) = text.strip_prefix("expect ") {
            expect(&mut e, *line, expectation)?;
        } else if let Ok(v) = ferula_model::number::parse_go_number(text) {
            e.expected = Expected::Scalar(v);
        } else {
            let d = describe(*line, text)?;
            if let Expected::Series(all) = &mut e.expected {
                all.push((d.labels, d.values));
            }
        }
    }
    Ok(e)
}

fn expect(e: &mut Eval, line: usize, text: &str) -> Result<(), ScriptError> {
    let fail = |message: String| ScriptError { line, message };
    let (kind, rest) = word(text);
    if kind == "range" {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let ["vector", "from", a, "to", b, "step", c] = words.as_slice() else {
            return Err(fail(format!("invalid expectation {}", quoted(text))));
        };
        let t = |s: &str| time(s).ok_or_else(|| fail(format!("invalid timestamp definition {}", quoted(s))));
        e.range_vector = Some((t(a)?, t(b)?, t(c)?));
        return Ok(());
    }
    if kind == "string" {
        let literal = ferula_promql_parser::parse_expr(rest).map_err(|p| fail(p.to_string()))?;
        let ferula_promql_parser::Expr::String(s) = literal else { return Err(fail("expected a string".to_owned())) };
        e.expected = Expected::String(s.value);
        return Ok(());
    }
    let text = if rest.is_empty() {
        Text::Any
    } else if let Some(exact) = rest.strip_prefix("msg:") {
        Text::Exactly(exact.trim().to_owned())
    } else if let Some(pattern) = rest.strip_prefix("regex:") {
        regex(line, pattern.trim())?
    } else {
        return Err(fail(format!("invalid expectation {}", quoted(rest))));
    };
    match kind {
        "ordered" => e.ordered = true,
        "fail" => e.fails = Some(text),
        "warn" => e.warns.push(text),
        "info" => e.infos.push(text),
        "no_warn" => e.no_warn = true,
        "no_info" => e.no_info = true,
        other => return Err(fail(format!("invalid expectation {}", quoted(other)))),
    }
    Ok(())
}
