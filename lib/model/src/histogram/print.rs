//! Histograms as text: what templates, errors and tests show.
use std::fmt;

use super::{Bucket, CounterResetHint, FloatHistogram, Histogram};
use crate::number::{format_g, write_g};

impl fmt::Display for Bucket {
    /// `(1,2]:5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.lower_inclusive { "[" } else { "(" })?;
        write!(f, "{},{}", format_g(self.lower), format_g(self.upper))?;
        f.write_str(if self.upper_inclusive { "]" } else { ")" })?;
        write!(f, ":{}", format_g(self.count))
    }
}

impl fmt::Display for FloatHistogram {
    /// `{count:3, sum:2.5, [-2,-1):1, (1,2]:2}`; empty buckets are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", format_g(self.count), format_g(self.sum))?;
        let mut negative: Vec<Bucket> = self.negative_iter().filter(|b| b.count != 0.0).collect();
        negative.reverse();
        for b in negative {
            write!(f, ", {b}")?;
        }
        if self.zero_count != 0.0 {
            write!(f, ", {}", self.zero_bucket())?;
        }
        for b in self.positive_iter().filter(|b| b.count != 0.0) {
            write!(f, ", {b}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_float().fmt(f)
    }
}

impl FloatHistogram {
    /// The form test files use: `{{schema:1 count:3 sum:2.5 offset:-1 buckets:[1 0 2]}}`.
    pub fn test_expression(&self) -> String {
        let mut h = self.clone();
        h.compact(usize::MAX >> 1); // one span per side
        let mut parts: Vec<String> = Vec::new();
        let mut number = |name: &str, v: f64| {
            if v != 0.0 {
                parts.push(format!("{name}:{}", format_g(v)));
            }
        };
        number("schema", f64::from(h.schema));
        number("count", h.count);
        number("sum", h.sum);
        number("z_bucket", h.zero_count);
        number("z_bucket_w", h.zero_threshold);
        let list = |v: &[f64]| {
            let mut s = String::new();
            for (i, x) in v.iter().enumerate() {
                if i > 0 {
                    s.push(' ');
                }
                write_g(&mut s, *x);
            }
            s
        };
        if !h.custom_values.is_empty() {
            parts.push(format!("custom_values:[{}]", list(&h.custom_values)));
        }
        match h.counter_reset_hint {
            CounterResetHint::Unknown => {}
            CounterResetHint::CounterReset => parts.push("counter_reset_hint:reset".into()),
            CounterResetHint::NotCounterReset => parts.push("counter_reset_hint:not_reset".into()),
            CounterResetHint::Gauge => parts.push("counter_reset_hint:gauge".into()),
        }
        for (prefix, spans, buckets) in
            [("", &h.positive_spans, &h.positive_buckets), ("n_", &h.negative_spans, &h.negative_buckets)]
        {
            let Some(first) = spans.first() else { continue };
            if first.offset != 0 {
                parts.push(format!("{prefix}offset:{}", first.offset));
            }
            parts.push(format!("{prefix}buckets:[{}]", list(buckets)));
        }
        format!("{{{{{}}}}}", parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Span;
    use super::*;

    #[test]
    fn prints() {
        let h = FloatHistogram {
            count: 8.0,
            sum: 2.5,
            zero_count: 1.0,
            zero_threshold: 0.001,
            positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
            positive_buckets: vec![1.0, 0.0, 4.0],
            negative_spans: vec![Span { offset: 1, length: 1 }],
            negative_buckets: vec![2.0],
            ..Default::default()
        };
        assert_eq!(h.to_string(), "{count:8, sum:2.5, [-2,-1):2, [-0.001,0.001]:1, (0.5,1]:1, (4,8]:4}");
        assert_eq!(
            h.test_expression(),
            "{{count:8 sum:2.5 z_bucket:1 z_bucket_w:0.001 buckets:[1 0 0 4] n_offset:1 n_buckets:[2]}}"
        );
    }
}
