//! `convert_classic_histograms_to_nhcb`: the lines of a classic histogram become one histogram with custom buckets.
//!
//! Lines of one histogram follow each other; the first line of another, another family, or the end completes it. What does
//! not add up to a histogram is left out, as upstream does.
use std::borrow::Cow;

use ferula_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use ferula_model::labels::{BUCKET, METRIC_NAME};
use ferula_model::{Exemplar, FloatHistogram, Histogram, MetricType, Span, Value};

use crate::config::ScrapeConfig;
use crate::error::ScrapeError;
use crate::ingest::{Incoming, Samples};
use crate::series::resolve;

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is no part of a classic histogram, or it is wanted as well.
    NotOnly,
    /// It lives on in the histogram only.
    Only,
}

type Pair<'p> = (Cow<'p, str>, Cow<'p, str>);

/// Collects the lines of one histogram at a time.
pub(crate) struct Collector {
    family: String,
    metric_type: MetricType,
    keep_classic: bool,
    /// Name and labels without `le`, of the histogram being collected.
    labels: Vec<(String, String)>,
    collecting: bool,
    /// Whether this body had a histogram yet.
    has_begun: bool,
    parts: Parts,
    t_ms: Option<i64>,
    start_ms: i64,
    exemplars: Vec<Exemplar>,
}

/// What a line says besides its labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampled<'x> {
    pub value: f64,
    pub t_ms: Option<i64>,
    pub start_ms: i64,
    pub exemplars: &'x [Exemplar],
}

#[derive(Default)]
struct Parts {
    /// Upper bound and cumulative count, as they came.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    is_bad: bool,
}

enum Part {
    Bucket(f64),
    Count,
    Sum,
}

impl Collector {
    pub(crate) fn for_config(config: &ScrapeConfig) -> Option<Collector> {
        (config.convert_classic_histograms_to_nhcb == Some(true)).then(|| Collector {
            family: String::new(),
            metric_type: MetricType::Unknown,
            keep_classic: config.always_scrape_classic_histograms == Some(true),
            labels: Vec::new(),
            collecting: false,
            has_begun: false,
            parts: Parts::default(),
            t_ms: None,
            start_ms: 0,
            exemplars: Vec::new(),
        })
    }

    pub(crate) fn begin_family(&mut self, name: &str, metric_type: MetricType) {
        name.clone_into(&mut self.family);
        self.metric_type = metric_type;
    }

    /// Looks at a line with the labels `pairs`. Completes the histogram before it if it belongs to another.
    pub(crate) fn take(
        &mut self,
        samples: &mut Samples<'_, '_>,
        pairs: &[Pair<'_>],
        sampled: Sampled<'_>,
    ) -> Result<Taken, ScrapeError> {
        let Sampled { value, t_ms, start_ms, exemplars } = sampled;
        let part = self.part_of(pairs);
        let Some(part) = part else {
            self.finish(samples)?;
            return Ok(Taken::NotOnly);
        };
        let same = self.collecting && self.base(pairs).eq(self.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        if !same {
            self.finish(samples)?;
            let labels = self.base(pairs).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            self.labels = labels;
            self.collecting = true;
            self.has_begun = true;
            self.t_ms = t_ms;
            self.start_ms = start_ms;
        }
        self.exemplars.extend_from_slice(exemplars);
        match part {
            Part::Bucket(bound) => self.parts.buckets.push((bound, value)),
            Part::Count => self.parts.count = Some(value),
            Part::Sum => self.parts.sum = value,
        }
        self.parts.is_bad |= value < 0.0 && !matches!(part, Part::Sum);
        Ok(if self.keep_classic { Taken::NotOnly } else { Taken::Only })
    }

    /// Whether the line is OpenMetrics' start timestamp of the family: upstream leaves those out from the first histogram
    /// it converts on.
    pub(crate) fn is_created(&self, pairs: &[Pair<'_>]) -> bool {
        self.has_begun
            && matches!(self.metric_type, MetricType::Counter | MetricType::Histogram | MetricType::Summary)
            && pairs.first().is_some_and(|(_, name)| name.strip_suffix("_created") == Some(&self.family))
    }

    fn part_of(&self, pairs: &[Pair<'_>]) -> Option<Part> {
        let (_, name) = pairs.first()?;
        if self.metric_type != MetricType::Histogram {
            return None;
        }
        match name.strip_prefix(self.family.as_str())? {
            "_count" => Some(Part::Count),
            "_sum" => Some(Part::Sum),
            "_bucket" => {
                let (_, le) = pairs.iter().find(|(n, _)| n == BUCKET)?;
                let bound = ferula_exposition::parse::parse_float(le.as_bytes())?;
                (!bound.is_nan()).then_some(Part::Bucket(bound))
            }
            _ => None,
        }
    }

    fn base<'b>(&'b self, pairs: &'b [Pair<'b>]) -> impl Iterator<Item = (&'b str, &'b str)> {
        let name = std::iter::once((METRIC_NAME, self.family.as_str()));
        name.chain(pairs.iter().skip(1).filter(|(n, _)| n != BUCKET).map(|(n, v)| (&**n, &**v)))
    }

    /// Hands over the histogram collected so far, if it is one.
    pub(crate) fn finish(&mut self, samples: &mut Samples<'_, '_>) -> Result<(), ScrapeError> {
        if !std::mem::take(&mut self.collecting) {
            return Ok(());
        }
        let parts = std::mem::take(&mut self.parts);
        let mut exemplars = std::mem::take(&mut self.exemplars);
        exemplars.retain(|e| e.t_ms.is_some());
        exemplars.sort_by_key(|e| e.t_ms);
        let converted = parts.convert();
        let value = match &converted {
            Some(Converted::Integer(h)) => Value::Histogram(h),
            Some(Converted::Float(h)) => Value::FloatHistogram(h),
            None => return Ok(()),
        };
        // No text line looks like this, so histogram and classic series never meet in the cache.
        let mut key = Vec::new();
        for (name, text) in &self.labels {
            key.extend_from_slice(name.as_bytes());
            key.push(0xff);
            key.extend_from_slice(text.as_bytes());
            key.push(0xff);
        }
        let is_expected = samples.cache.is_expected(&key);
        let known = if is_expected { samples.take_expected() } else { samples.cache.find(&key) };
        let incoming = Incoming { key: &key, value, t_ms: self.t_ms, start_ms: self.start_ms, exemplars: &exemplars };
        let (pass, labels) = (samples.pass, &self.labels);
        samples.add(known, &incoming, &mut |family| {
            let mut pairs: Vec<Pair<'_>> = labels.iter().map(|(n, v)| (n.as_str().into(), v.as_str().into())).collect();
            resolve(&mut pairs, family, pass.job, pass.target)
        })
    }
}

enum Converted {
    Integer(Histogram),
    Float(FloatHistogram),
}

impl Parts {
    fn convert(mut self) -> Option<Converted> {
        if self.is_bad {
            return None;
        }
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|later, first| later.0 == first.0);
        let count = self.count.or_else(|| self.buckets.last().map(|(_, c)| *c)).unwrap_or(0.0);
        if self.buckets.last().is_none_or(|(b, _)| *b != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let last = self.buckets.last().map_or(0.0, |(_, c)| *c);
        let rises = self.buckets.windows(2).all(|w| matches!(w, [a, b] if a.1 <= b.1));
        if last != count || !rises {
            return None;
        }
        let bounds: Vec<f64> = self.buckets.iter().map(|(b, _)| *b).filter(|b| b.is_finite()).collect();
        let spans = vec![Span { offset: 0, length: u32::try_from(self.buckets.len()).ok()? }];
        let is_integer = |c: f64| c.fract() == 0.0 && c.abs() < 9e15;
        if is_integer(count) && self.buckets.iter().all(|(_, c)| is_integer(*c)) {
            let (mut before, mut delta_before) = (0i64, 0i64);
            let deltas = self.buckets.iter().map(|(_, c)| {
                let in_bucket = *c as i64 - before;
                before = *c as i64;
                let delta = in_bucket - delta_before;
                delta_before = in_bucket;
                delta
            });
            let mut h = Histogram {
                schema: CUSTOM_BUCKETS_SCHEMA,
                count: count as u64,
                sum: self.sum,
                positive_buckets: deltas.collect(),
                positive_spans: spans,
                custom_values: bounds,
                ..Histogram::default()
            };
            h.validate().ok()?;
            h.compact(0);
            return Some(Converted::Integer(h));
        }
        let mut before = 0.0;
        let counts = self.buckets.iter().map(|(_, c)| c - std::mem::replace(&mut before, *c)).collect();
        let mut h = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive_buckets: counts,
            positive_spans: spans,
            custom_values: bounds,
            ..FloatHistogram::default()
        };
        h.validate().ok()?;
        h.compact(0);
        Some(Converted::Float(h))
    }
}
