//! OpenMetrics 1.0.
use ferula_model::{Exemplar, MetricType};

use super::escape::write_escaped;
use super::{Escaping, Page, write_float, write_openmetrics_float};
use crate::family::{Bucket, Family, Metric, MetricValue};

pub(super) fn write(families: &[Family], escaping: Escaping, out: &mut Vec<u8>) {
    let mut page = Page { out, escaping };
    for family in families {
        page.openmetrics_family(family);
    }
    page.raw("# EOF\n");
}

/// Family name, type word and the suffix of a plain sample. A counter or info that is not named so cannot be one here.
fn naming(family: &Family) -> (&str, &'static str, &'static str) {
    let name = &*family.name;
    match family.metric_type {
        MetricType::Counter => match name.strip_suffix("_total") {
            Some(base) => (base, "counter", "_total"),
            None => (name, "unknown", ""),
        },
        MetricType::Info => match name.strip_suffix("_info") {
            Some(base) => (base, "info", "_info"),
            None => (name, "gauge", ""),
        },
        t => (name, t.as_str(), ""),
    }
}

impl Page<'_> {
    fn openmetrics_family(&mut self, family: &Family) {
        let (name, type_name, suffix) = naming(family);
        if !family.help.is_empty() {
            self.raw("# HELP ");
            self.name(name);
            self.raw(" ");
            write_escaped(self.out, &family.help, true);
            self.raw("\n");
        }
        self.raw("# TYPE ");
        self.name(name);
        self.raw(" ");
        self.raw(type_name);
        self.raw("\n");
        if !family.unit.is_empty() && name.ends_with(&*family.unit) {
            self.raw("# UNIT ");
            self.name(name);
            self.raw(" ");
            self.raw(&family.unit);
            self.raw("\n");
        }
        for metric in &family.metrics {
            self.openmetrics_metric(name, suffix, metric);
        }
    }

    fn openmetrics_metric(&mut self, name: &str, suffix: &str, metric: &Metric) {
        let mut bound = Vec::new();
        match &metric.value {
            MetricValue::Number(v) => self.openmetrics_sample(name, suffix, metric, None, *v, metric.exemplar.as_ref()),
            MetricValue::Summary(s) => {
                for (quantile, v) in &s.quantiles {
                    bound.clear();
                    write_openmetrics_float(&mut bound, *quantile);
                    self.openmetrics_sample(name, "", metric, Some(("quantile", &bound)), *v, None);
                }
                self.openmetrics_sample(name, "_sum", metric, None, s.sum, None);
                self.openmetrics_count(name, "_count", metric, None, s.count, None);
            }
            MetricValue::Histogram(h) => {
                let implied = Bucket { upper_bound: f64::INFINITY, cumulative_count: h.count, exemplar: None };
                let closed = h.buckets.last().is_some_and(|b| b.upper_bound == f64::INFINITY);
                for b in h.buckets.iter().chain((!closed).then_some(&implied)) {
                    bound.clear();
                    write_openmetrics_float(&mut bound, b.upper_bound);
                    let le = Some(("le", bound.as_slice()));
                    self.openmetrics_count(name, "_bucket", metric, le, b.cumulative_count, b.exemplar.as_ref());
                }
                self.openmetrics_sample(name, "_sum", metric, None, h.sum, None);
                self.openmetrics_count(name, "_count", metric, None, h.count, None);
            }
        }
    }

    fn openmetrics_sample(
        &mut self,
        name: &str,
        suffix: &str,
        metric: &Metric,
        extra: Option<(&str, &[u8])>,
        v: f64,
        exemplar: Option<&Exemplar>,
    ) {
        self.series(name, suffix, &metric.labels, extra);
        self.raw(" ");
        write_openmetrics_float(self.out, v);
        self.openmetrics_rest(metric, exemplar);
    }

    /// Counts are integers without `.0`, and without an exponent below 2^53.
    fn openmetrics_count(
        &mut self,
        name: &str,
        suffix: &str,
        metric: &Metric,
        extra: Option<(&str, &[u8])>,
        v: f64,
        exemplar: Option<&Exemplar>,
    ) {
        self.series(name, suffix, &metric.labels, extra);
        self.raw(" ");
        if (0.0..9e15).contains(&v) && v.trunc() == v {
            self.out.extend_from_slice(itoa::Buffer::new().format(v as u64).as_bytes());
        } else {
            write_float(self.out, v);
        }
        self.openmetrics_rest(metric, exemplar);
    }

    fn openmetrics_rest(&mut self, metric: &Metric, exemplar: Option<&Exemplar>) {
        if let Some(t) = metric.timestamp_ms {
            self.raw(" ");
            write_openmetrics_float(self.out, t as f64 / 1000.0);
        }
        if let Some(e) = exemplar {
            self.raw(" # {");
            for (i, (n, v)) in e.labels.iter().enumerate() {
                if i > 0 {
                    self.raw(",");
                }
                self.label_name(n);
                self.raw("=");
                self.quoted(v);
            }
            self.raw("} ");
            write_openmetrics_float(self.out, e.value);
            if let Some(t) = e.t_ms {
                self.raw(" ");
                write_openmetrics_float(self.out, t as f64 / 1000.0);
            }
        }
        self.raw("\n");
    }
}
