//! Metric families as data: what an exporter gathers and the writers print.
use std::borrow::Cow;
use std::cmp::Ordering;

use ferula_model::{Exemplar, Histogram as NativeHistogram, MetricType};

/// Names, label values and help are mostly literals of the program; foreign ones are owned.
pub type Text = Cow<'static, str>;

/// All metrics of one name, which share type, help and unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    /// As text format 0.0.4 spells it: a counter's name ends in `_total` here.
    pub name: Text,
    /// Unescaped, one or more lines. Empty: the writers leave the HELP line out.
    pub help: Text,
    /// The unit suffix of the name (`seconds`), or empty. Only OpenMetrics prints it.
    pub unit: Text,
    pub metric_type: MetricType,
    pub metrics: Vec<Metric>,
}

/// One labelled value.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Written in this order. Empty values are allowed and written, as upstream's exporters do.
    pub labels: Vec<(Text, Text)>,
    pub value: MetricValue,
    pub timestamp_ms: Option<i64>,
    /// When a counter, summary or histogram began to count, if known.
    pub start_ms: Option<i64>,
    /// Of a counter; buckets carry their own.
    pub exemplar: Option<Exemplar>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    /// Counter, gauge, unknown, info, state set.
    Number(f64),
    Summary(Summary),
    Histogram(Histogram),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Observations since the start, not within the window of the quantiles.
    pub count: f64,
    pub sum: f64,
    /// `(quantile, value)`; the value is NaN when nothing was observed lately.
    pub quantiles: Vec<(f64, f64)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    pub count: f64,
    pub sum: f64,
    /// Classic buckets, ascending; the writers add `+Inf` from `count` where it is missing.
    pub buckets: Vec<Bucket>,
    /// The native form, which the text formats cannot carry.
    pub native: Option<Box<NativeHistogram>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bucket {
    pub upper_bound: f64,
    pub cumulative_count: f64,
    pub exemplar: Option<Exemplar>,
}

impl Family {
    pub fn new(name: impl Into<Text>, help: impl Into<Text>, metric_type: MetricType) -> Family {
        Family { name: name.into(), help: help.into(), metric_type, ..Family::default() }
    }
    pub fn counter(name: impl Into<Text>, help: impl Into<Text>) -> Family {
        Family::new(name, help, MetricType::Counter)
    }
    pub fn gauge(name: impl Into<Text>, help: impl Into<Text>) -> Family {
        Family::new(name, help, MetricType::Gauge)
    }
    /// `# TYPE name untyped` in text 0.0.4.
    pub fn unknown(name: impl Into<Text>, help: impl Into<Text>) -> Family {
        Family::new(name, help, MetricType::Unknown)
    }
    /// Adds a number without labels.
    pub fn push(&mut self, value: f64) -> &mut Family {
        self.metrics.push(Metric::number(Vec::new(), value));
        self
    }
    /// Adds a number with labels of the program's own names.
    pub fn push_with<const N: usize>(&mut self, labels: [(&'static str, Text); N], value: f64) -> &mut Family {
        let labels = labels.into_iter().map(|(n, v)| (Text::Borrowed(n), v)).collect();
        self.metrics.push(Metric::number(labels, value));
        self
    }
    /// The same family with one number, for metrics that have no labels.
    pub fn with(mut self, value: f64) -> Family {
        self.push(value);
        self
    }
}

impl Metric {
    pub fn new(labels: Vec<(Text, Text)>, value: MetricValue) -> Metric {
        Metric { labels, value, timestamp_ms: None, start_ms: None, exemplar: None }
    }
    pub fn number(labels: Vec<(Text, Text)>, value: f64) -> Metric {
        Metric::new(labels, MetricValue::Number(value))
    }
}

/// Upstream's order of a gathered page: families by name, metrics by their label values. Families of one name are
/// joined (the first one's type and help stay); metrics whose labels repeat keep the first value.
pub fn sort_and_merge(families: Vec<Family>) -> Vec<Family> {
    let mut sorted = families;
    sorted.sort_by(|a, b| a.name.cmp(&b.name)); // stable: the first registered stays first
    let mut out: Vec<Family> = Vec::with_capacity(sorted.len());
    for family in sorted {
        match out.last_mut() {
            Some(last) if last.name == family.name => last.metrics.extend(family.metrics),
            _ => out.push(family),
        }
    }
    for family in &mut out {
        family.metrics.sort_by(|a, b| compare_labels(&a.labels, &b.labels));
        family.metrics.dedup_by(|later, first| later.labels == first.labels);
    }
    out.retain(|f| !f.metrics.is_empty());
    out
}

fn compare_labels(a: &[(Text, Text)], b: &[(Text, Text)]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| {
        let by_value = a.iter().zip(b).map(|((_, x), (_, y))| x.cmp(y)).find(|o| o.is_ne());
        by_value.unwrap_or_else(|| a.cmp(b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_one_name_join_and_sort() {
        let mut first = Family::gauge("b", "first");
        first.push_with([("l", "2".into())], 1.0).push_with([("l", "1".into())], 2.0);
        let mut again = Family::gauge("b", "second");
        again.push_with([("l", "2".into())], 9.0).push_with([("l", "0".into())], 3.0);
        let got =
            sort_and_merge(vec![first, again, Family::counter("a_total", "").with(1.0), Family::gauge("empty", "")]);
        let names: Vec<_> = got.iter().map(|f| &*f.name).collect();
        assert_eq!(names, ["a_total", "b"]);
        assert_eq!(got[1].help, "first");
        let values: Vec<_> = got[1].metrics.iter().map(|m| m.value.clone()).collect();
        assert_eq!(values, [MetricValue::Number(3.0), MetricValue::Number(2.0), MetricValue::Number(1.0)]);
    }
}
