//! Text formats 0.0.4 and 1.0.0, which differ only in how names may look.
use ferula_model::MetricType;

use super::escape::write_escaped;
use super::{Escaping, Page, write_float};
use crate::family::{Family, Metric, MetricValue, Text};

pub(super) fn write(families: &[Family], escaping: Escaping, out: &mut Vec<u8>) {
    let mut page = Page { out, escaping };
    for family in families {
        page.text_family(family);
    }
}

/// 0.0.4 knows five types; the newer ones are what a reader of it would make of their samples.
fn type_name(t: MetricType) -> &'static str {
    match t {
        MetricType::Counter => "counter",
        MetricType::Gauge | MetricType::Info | MetricType::StateSet => "gauge",
        MetricType::Summary => "summary",
        MetricType::Histogram | MetricType::GaugeHistogram => "histogram",
        MetricType::Unknown => "untyped",
    }
}

impl Page<'_> {
    fn text_family(&mut self, family: &Family) {
        if !family.help.is_empty() {
            self.raw("# HELP ");
            self.name(&family.name);
            self.raw(" ");
            write_escaped(self.out, &family.help, false);
            self.raw("\n");
        }
        self.raw("# TYPE ");
        self.name(&family.name);
        self.raw(" ");
        self.raw(type_name(family.metric_type));
        self.raw("\n");
        let mut bound = Vec::new();
        for metric in &family.metrics {
            match &metric.value {
                MetricValue::Number(v) => self.text_sample(&family.name, "", metric, None, *v),
                MetricValue::Summary(s) => {
                    for (quantile, v) in &s.quantiles {
                        bound.clear();
                        write_float(&mut bound, *quantile);
                        self.text_sample(&family.name, "", metric, Some(("quantile", &bound)), *v);
                    }
                    self.text_sample(&family.name, "_sum", metric, None, s.sum);
                    self.text_sample(&family.name, "_count", metric, None, s.count);
                }
                MetricValue::Histogram(h) => {
                    for b in &h.buckets {
                        bound.clear();
                        write_float(&mut bound, b.upper_bound);
                        let le = Some(("le", bound.as_slice()));
                        self.text_sample(&family.name, "_bucket", metric, le, b.cumulative_count);
                    }
                    if h.buckets.last().is_none_or(|b| b.upper_bound != f64::INFINITY) {
                        self.text_sample(&family.name, "_bucket", metric, Some(("le", b"+Inf")), h.count);
                    }
                    self.text_sample(&family.name, "_sum", metric, None, h.sum);
                    self.text_sample(&family.name, "_count", metric, None, h.count);
                }
            }
        }
    }

    fn text_sample(&mut self, name: &Text, suffix: &str, metric: &Metric, extra: Option<(&str, &[u8])>, v: f64) {
        self.series(name, suffix, &metric.labels, extra);
        self.raw(" ");
        write_float(self.out, v);
        if let Some(t) = metric.timestamp_ms {
            self.raw(" ");
            self.out.extend_from_slice(itoa::Buffer::new().format(t).as_bytes());
        }
        self.raw("\n");
    }
}
