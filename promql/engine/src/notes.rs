//! Annotations: what was noticed while evaluating, with the place in the query it is about.
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ferula_model::labels::quoted;
use ferula_model::number::{Shortest, format_g};
use ferula_promql_parser::Span;
use ferula_storage::Annotations;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Warning,
    Info,
}

/// How far a classic histogram was from monotonic, over all samples it happened to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forced {
    pub min_bucket: f64,
    pub max_bucket: f64,
    pub max_diff: f64,
    pub first_ms: i64,
    pub last_ms: i64,
    pub samples: u64,
}

/// Collected under one lock: annotations are rare, and repeated ones are looked up before they are formatted.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    found: Mutex<BTreeMap<(Level, String, Span), Option<Forced>>>,
    storage: Mutex<Annotations>,
}

impl Notes {
    fn add(&self, level: Level, text: String, span: Span) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).entry((level, text, span)).or_insert(None);
    }
    /// How many there are by now.
    pub fn len(&self) -> usize {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
    pub fn warn(&self, text: impl Into<String>, span: Span) {
        self.add(Level::Warning, text.into(), span);
    }
    pub fn info(&self, text: impl Into<String>, span: Span) {
        self.add(Level::Info, text.into(), span);
    }
    pub fn take_storage(&self, a: Annotations) {
        if !a.is_empty() {
            self.storage.lock().unwrap_or_else(PoisonError::into_inner).merge(a);
        }
    }
    pub fn forced_monotonicity(&self, metric: &str, span: Span, f: Forced) {
        let text = named(
            "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)",
            metric,
        );
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = found.entry((Level::Info, text, span)).or_insert(None);
        *slot = Some(match *slot {
            None => f,
            Some(s) => Forced {
                min_bucket: s.min_bucket.min(f.min_bucket),
                max_bucket: s.max_bucket.max(f.max_bucket),
                max_diff: s.max_diff.max(f.max_diff),
                first_ms: s.first_ms.min(f.first_ms),
                last_ms: s.last_ms.max(f.last_ms),
                samples: s.samples + f.samples,
            },
        });
    }
    /// All texts as the API prints them; positions need the query's text.
    pub fn finish(&self, text: Option<&str>) -> Annotations {
        let mut out = std::mem::take(&mut *self.storage.lock().unwrap_or_else(PoisonError::into_inner));
        for ((level, note, span), forced) in self.found.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let mut full = String::from(if *level == Level::Warning { "PromQL warning: " } else { "PromQL info: " });
            full.push_str(note);
            if let (Some(f), Some(_)) = (forced, text) {
                full.push_str(&format!(
                    ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                    format_g(f.min_bucket),
                    format_g(f.max_bucket),
                    two_digits(f.max_diff),
                    f.samples,
                    rfc3339(f.first_ms),
                    rfc3339(f.last_ms),
                ));
            }
            if let Some(text) = text {
                let (line, column) = span.line_column(text);
                full.push_str(&format!(" ({line}:{column})"));
            }
            if *level == Level::Warning { out.warn(full) } else { out.info(full) }
        }
        out
    }

    pub fn invalid_quantile(&self, q: f64, span: Span) {
        self.warn(format!("quantile value should be between 0 and 1, got {}", format_g(q)), span);
    }
    pub fn invalid_ratio(&self, r: f64, to: f64, span: Span) {
        let text = format!("ratio value should be between -1 and 1, got {}, capping to {}", format_g(r), format_g(to));
        self.warn(text, span);
    }
    pub fn bad_bucket_label(&self, metric: &str, le: &str, span: Span) {
        let text = format!("bucket label \"le\" is missing or has a malformed value of {}", quoted(le));
        self.warn(named(&text, metric), span);
    }
    pub fn mixed_floats_histograms(&self, metric: &str, span: Span) {
        self.warn(format!("encountered a mix of histograms and floats for metric name {}", quoted(metric)), span);
    }
    pub fn mixed_in_aggregation(&self, span: Span) {
        self.warn("encountered a mix of histograms and floats for aggregation", span);
    }
    pub fn mixed_classic_native(&self, metric: &str, span: Span) {
        self.warn(named("vector contains a mix of classic and native histograms", metric), span);
    }
    pub fn not_a_counter(&self, metric: &str, span: Span) {
        self.warn(format!("this native histogram metric is not a counter: {}", quoted(metric)), span);
    }
    pub fn not_a_gauge(&self, metric: &str, span: Span) {
        self.warn(format!("this native histogram metric is not a gauge: {}", quoted(metric)), span);
    }
    pub fn mixed_schemas(&self, metric: &str, span: Span) {
        let text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
        self.warn(format!("{text} {}", quoted(metric)), span);
    }
    pub fn incompatible_layout(&self, operator: &str, span: Span) {
        self.warn(format!("incompatible bucket layout encountered for binary operator {operator}"), span);
    }
    pub fn possible_non_counter(&self, metric: &str, span: Span) {
        let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
        self.info(format!("{text} {}", quoted(metric)), span);
    }
    pub fn possible_non_counter_label(&self, metric: &str, kind: &str, span: Span) {
        let text = "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\"";
        self.info(format!("{text}, got {}: {}", quoted(kind), quoted(metric)), span);
    }
    pub fn incompatible_types(&self, lhs: &str, operator: &str, rhs: &str, span: Span) {
        let text = "incompatible sample types encountered for binary operator";
        self.info(format!("{text} {}: {lhs} {operator} {rhs}", quoted(operator)), span);
    }
    pub fn ignored_in_aggregation(&self, aggregation: &str, span: Span) {
        self.info(format!("ignored histogram in {aggregation} aggregation"), span);
    }
    pub fn ignored_in_mixed_range(&self, metric: &str, span: Span) {
        let text = "ignored histograms in a range containing both floats and histograms for metric name";
        self.info(format!("{text} {}", quoted(metric)), span);
    }
    pub fn reset_collision(&self, operation: &str, span: Span) {
        self.warn(format!("conflicting counter resets during histogram {operation}"), span);
    }
    pub fn bounds_reconciled(&self, operation: &str, span: Span) {
        self.info(format!("mismatched custom buckets were reconciled during {operation}"), span);
    }
    pub fn start_time_overlap(&self, metric: &str, span: Span) {
        let text = "sample has start time that overlaps with previous sample timestamp for metric";
        self.warn(format!("{text} {}", quoted(metric)), span);
    }
    pub fn quantile_nan(&self, metric: &str, skewed: bool, span: Span) {
        let result = if skewed { "skewed higher" } else { "NaN" };
        self.info(
            named(&format!("input to histogram_quantile has NaN observations, result is {result}"), metric),
            span,
        );
    }
    pub fn fraction_nan(&self, metric: &str, span: Span) {
        let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
        self.info(named(text, metric), span);
    }
}

fn named(text: &str, metric: &str) -> String {
    if metric.is_empty() { text.to_owned() } else { format!("{text} for metric name {}", quoted(metric)) }
}

/// Go's `%.2g`.
fn two_digits(v: f64) -> String {
    let rounded = Shortest::of(format!("{v:.1e}").parse().unwrap_or(v));
    let (mut out, is_plain) = (String::new(), (-4..2).contains(&rounded.exponent()));
    let put = &mut |s: &str| out.push_str(s);
    if is_plain {
        rounded.plain(put)
    } else {
        rounded.scientific(2, put)
    }
    out
}

/// `2006-01-02T15:04:05Z`.
fn rfc3339(ms: i64) -> String {
    let d = crate::functions::time::Civil::of_seconds(ms.div_euclid(1000));
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", d.year, d.month, d.day, d.hour, d.minute, d.second)
}
