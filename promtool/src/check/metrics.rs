//! `check metrics`: does an exposition follow the conventions of names, types and units?
//!
//! Source followed: Prometheus's best practices for metric names, and promtool's findings on thousands of real families.
use std::collections::{BTreeMap, HashMap, HashSet};

use ferula_exposition::parse::{Entry, Limits, ParseError, Parser, Syntax};
use ferula_model::MetricType;

use super::second_opinion;
use crate::command_line::Parsed;
use crate::{FAILURE, LINT, Streams};

/// One family of an exposition.
struct Family {
    metric_type: MetricType,
    has_help: bool,
    /// Label sets of its samples, names of samples included.
    samples: Vec<Vec<(String, String)>>,
    /// Label names of its metrics: all samples of one histogram or summary are one metric.
    metrics: HashMap<Vec<(String, String)>, Vec<String>>,
}

pub(crate) fn run(parsed: &Parsed, streams: &mut Streams<'_>) -> u8 {
    let mut body = Vec::new();
    let read = streams.input.read_to_end(&mut body);
    let families = match read.map_err(|e| e.to_string()).and_then(|_| read_families(&body).map_err(|e| message(&e))) {
        Ok(families) => families,
        Err(e) => {
            streams.complain(format_args!("error while linting: {e}"));
            return FAILURE;
        }
    };
    for line in second_opinion::disagreements(&body) {
        streams.complain(format_args!("line {line} may not mean what it seems to: two parsers read it differently"));
    }
    let mut problems: Vec<(&str, String)> = Vec::new();
    for (name, family) in &families {
        lint(name, family, &mut |text: String| problems.push((name, text)));
    }
    problems.sort();
    for (name, text) in &problems {
        streams.complain(format_args!("{name} {text}"));
    }
    if !problems.is_empty() {
        return LINT;
    }
    if parsed.bool("extended") {
        cardinality(&families, streams);
    }
    0
}

fn message(e: &ParseError) -> String {
    format!("text format parsing error in line {}: {}", e.line, e.reason)
}

fn read_families(body: &[u8]) -> Result<BTreeMap<String, Family>, ParseError> {
    let mut parser = Parser::new(body, Syntax::Text, Limits::default());
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let empty =
        || Family { metric_type: MetricType::Unknown, has_help: false, samples: Vec::new(), metrics: HashMap::new() };
    while let Some(entry) = parser.next() {
        match entry? {
            Entry::Help { family, text } => {
                families.entry(family.into_owned()).or_insert_with(empty).has_help |= !text.is_empty();
            }
            Entry::Type { family, metric_type } => {
                families.entry(family.into_owned()).or_insert_with(empty).metric_type = metric_type;
            }
            Entry::Sample(_) => {
                let mut labels = Vec::new();
                parser.labels(|n, v| labels.push((n.into_owned(), v.into_owned())));
                labels.sort();
                let name = labels.iter().find(|(n, _)| n == "__name__").map_or("", |(_, v)| v.as_str()).to_owned();
                let owner = owner(&families, &name);
                let family = families.entry(owner).or_insert_with(empty);
                let inner = match family.metric_type {
                    MetricType::Histogram => "le",
                    MetricType::Summary => "quantile",
                    _ => "",
                };
                let keeps = |n: &str| n != inner && (n != "__name__" || inner.is_empty());
                let metric = labels.iter().filter(|(n, _)| keeps(n)).cloned().collect();
                let names =
                    || labels.iter().map(|(n, _)| n.clone()).filter(|n| n != inner && n != "__name__").collect();
                family.metrics.entry(metric).or_insert_with(names);
                family.samples.push(labels);
            }
            _ => {}
        }
    }
    families.retain(|_, f| !f.samples.is_empty());
    Ok(families)
}

/// The family a sample belongs to: histograms and summaries have samples of other names.
fn owner(families: &BTreeMap<String, Family>, name: &str) -> String {
    for (suffix, histogram_only) in [("_bucket", true), ("_sum", false), ("_count", false)] {
        let Some(base) = name.strip_suffix(suffix) else { continue };
        match families.get(base).map(|f| f.metric_type) {
            Some(MetricType::Histogram) => return base.to_owned(),
            Some(MetricType::Summary) if !histogram_only => return base.to_owned(),
            _ => {}
        }
    }
    name.to_owned()
}

fn lint(name: &str, f: &Family, say: &mut dyn FnMut(String)) {
    let is = |t: MetricType| f.metric_type == t;
    let (typed, histogram, summary) = (!is(MetricType::Unknown), is(MetricType::Histogram), is(MetricType::Summary));
    if !f.has_help {
        say("no help text".into());
    }
    if let Some((unit, base)) = unit_of(name)
        && unit != base
    {
        say(format!("use base unit \"{base}\" instead of \"{unit}\""));
    }
    match (is(MetricType::Counter), name.ends_with("_total")) {
        (true, false) => say("counter metrics should have \"_total\" suffix".into()),
        (false, true) if typed => say("non-counter metrics should not have \"_total\" suffix".into()),
        _ => {}
    }
    if typed {
        if !histogram && name.ends_with("_bucket") {
            say("non-histogram metrics should not have \"_bucket\" suffix".into());
        }
        for suffix in ["_count", "_sum"] {
            if !histogram && !summary && name.ends_with(suffix) {
                say(format!("non-histogram and non-summary metrics should not have \"{suffix}\" suffix"));
            }
        }
        // Said once for every metric, as upstream does.
        for label in f.metrics.values().flatten() {
            if !histogram && label == "le" {
                say("non-histogram metrics should not have \"le\" label".into());
            }
            if !summary && label == "quantile" {
                say("non-summary metrics should not have \"quantile\" label".into());
            }
        }
        let word = f.metric_type.as_str();
        if has_word(&name.to_lowercase(), word) {
            say(format!("metric name should not include type '{word}'"));
        }
    }
    if name.contains(':') {
        say("metric names should not contain ':'".into());
    }
    if is_camel(name) {
        say("metric names should be written in 'snake_case' not 'camelCase'".into());
    }
    for _ in f.metrics.values().flatten().filter(|l| is_camel(l)) {
        say("label names should be written in 'snake_case' not 'camelCase'".into());
    }
    let lower = name.to_lowercase();
    if ABBREVIATIONS.iter().any(|a| has_word(&lower, a)) {
        say("metric names should not contain abbreviated units".into());
    }
    let mut seen = HashSet::new();
    if f.samples.iter().any(|s| !seen.insert(s)) {
        say("metric not unique".into());
    }
}

const ABBREVIATIONS: [&str; 14] = ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"];

/// `_word_` inside or `_word` at the end.
fn has_word(name: &str, word: &str) -> bool {
    name.ends_with(&format!("_{word}")) || name.contains(&format!("_{word}_"))
}

/// A small letter followed by a capital.
fn is_camel(name: &str) -> bool {
    name.as_bytes().windows(2).any(|w| matches!(w, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()))
}

/// Units and their base units.
const UNITS: &[(&str, &str)] = &[
    ("amperes", "amperes"),
    ("bytes", "bytes"),
    ("celsius", "celsius"),
    ("grams", "grams"),
    ("joules", "joules"),
    ("kelvin", "kelvin"),
    ("meters", "meters"),
    ("metres", "metres"),
    ("moles", "moles"),
    ("seconds", "seconds"),
    ("volts", "volts"),
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("days", "seconds"),
    ("weeks", "seconds"),
    ("kelvins", "kelvin"),
    ("fahrenheit", "celsius"),
    ("rankine", "celsius"),
    ("inches", "meters"),
    ("yards", "meters"),
    ("miles", "meters"),
    ("bits", "bytes"),
    ("calories", "joules"),
    ("pounds", "grams"),
    ("ounces", "grams"),
];
const PREFIXES: &[&str] = &[
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega", "mibi", "giga", "gibi",
    "tera", "tebi", "peta", "pebi",
];

/// The first word of the name that is a unit, and its base unit.
fn unit_of(name: &str) -> Option<(&str, &'static str)> {
    let base = |word: &str| UNITS.iter().find(|(u, _)| *u == word).map(|(_, b)| *b);
    name.split('_').find_map(|word| {
        let prefixed = || PREFIXES.iter().filter_map(|p| word.strip_prefix(p)).find_map(base);
        base(word).or_else(prefixed).map(|b| (word, b))
    })
}

/// Samples per family, most first.
fn cardinality(families: &BTreeMap<String, Family>, streams: &mut Streams<'_>) {
    let total: usize = families.values().map(|f| f.samples.len()).sum();
    let mut rows: Vec<(&str, usize)> = families.iter().map(|(n, f)| (n.as_str(), f.samples.len())).collect();
    rows.sort_by_key(|r| std::cmp::Reverse(r.1));
    let share = |n: usize| format!("{:.2}%", n as f64 / total.max(1) as f64 * 100.0);
    let mut table = vec![["Metric".to_owned(), "Cardinality".to_owned(), "Percentage".to_owned()]];
    table.extend(rows.iter().map(|(n, c)| [(*n).to_owned(), c.to_string(), share(*c)]));
    table.push(["Total".to_owned(), total.to_string(), "100%".to_owned()]);
    let width = |i: usize| table.iter().filter_map(|r| r.get(i)).map(String::len).max().unwrap_or(0) + 4;
    let widths = [width(0), width(1), width(2)];
    for row in &table {
        let cells: String = row.iter().zip(widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        streams.say(cells);
    }
}
