//! Native histograms: integer (as scraped and stored) and float (as queried).
//!
//! Exponential schemas -4..=8 have boundaries at powers of `2^(2^-schema)`; schema -53 has custom boundaries.
//! Source followed: Prometheus's native-histogram specification and the behaviour of Prometheus 3.14.
mod arithmetic;
mod bounds;
mod buckets;
mod fractions;
mod layout;
mod print;
mod reset;
mod trim;
mod validate;

pub use arithmetic::{HistogramSum, Merged};
pub use bounds::{bound, is_exponential_schema};
pub use buckets::Bucket;
pub use validate::HistogramError;

/// Schema number of histograms with custom bucket boundaries.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CounterResetHint {
    #[default]
    Unknown,
    CounterReset,
    NotCounterReset,
    Gauge,
}

/// `length` consecutive buckets after a gap of `offset` empty ones (for the first span: the first index).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    pub offset: i32,
    pub length: u32,
}

/// Integer counts. `positive_buckets` and `negative_buckets` are deltas: the first is absolute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    pub counter_reset_hint: CounterResetHint,
    pub schema: i32,
    pub zero_threshold: f64,
    pub zero_count: u64,
    pub count: u64,
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    pub negative_spans: Vec<Span>,
    pub positive_buckets: Vec<i64>,
    pub negative_buckets: Vec<i64>,
    /// Upper bounds, for schema -53 only; the last bucket's +Inf is implied.
    pub custom_values: Vec<f64>,
}

/// Float counts; buckets are absolute, not deltas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatHistogram {
    pub counter_reset_hint: CounterResetHint,
    pub schema: i32,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    pub negative_spans: Vec<Span>,
    pub positive_buckets: Vec<f64>,
    pub negative_buckets: Vec<f64>,
    pub custom_values: Vec<f64>,
}

impl Histogram {
    pub fn is_stale(&self) -> bool {
        crate::is_stale_nan(self.sum)
    }
    /// Absolute float counts of the same layout.
    pub fn to_float(&self) -> FloatHistogram {
        fn absolute(deltas: &[i64]) -> Vec<f64> {
            let mut count = 0i64;
            deltas
                .iter()
                .map(|d| {
                    count = count.wrapping_add(*d);
                    count as f64
                })
                .collect()
        }
        FloatHistogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: absolute(&self.positive_buckets),
            negative_buckets: absolute(&self.negative_buckets),
            custom_values: self.custom_values.clone(),
        }
    }
}

impl FloatHistogram {
    pub fn is_stale(&self) -> bool {
        crate::is_stale_nan(self.sum)
    }
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }
    /// Whether all numbers are equal bit by bit, whatever the counter-reset hints and however spans are cut.
    pub fn is_same(&self, other: &FloatHistogram) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let all = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(*a, *b));
        let layout = |a: &[Span], b: &[Span]| {
            let place = |spans: &[Span]| {
                let mut next = 0i64;
                let mut out: Vec<(i64, i64)> = Vec::new();
                for s in spans {
                    let start = next + i64::from(s.offset);
                    next = start + i64::from(s.length);
                    match out.last_mut() {
                        Some(last) if last.1 == start => last.1 = next,
                        _ if s.length > 0 => out.push((start, next)),
                        _ => {}
                    }
                }
                out
            };
            a == b || place(a) == place(b)
        };
        self.schema == other.schema
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && (self.uses_custom_buckets()
                || (same(self.zero_threshold, other.zero_threshold) && same(self.zero_count, other.zero_count)))
            && all(&self.custom_values, &other.custom_values)
            && all(&self.positive_buckets, &other.positive_buckets)
            && all(&self.negative_buckets, &other.negative_buckets)
            && layout(&self.positive_spans, &other.positive_spans)
            && layout(&self.negative_spans, &other.negative_spans)
    }
}
