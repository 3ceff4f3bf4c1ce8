//! Histograms of which only count and sum are used: reset hints for them are found while reading, so that conflicting
//! ones are noticed even where the store does not know.
use std::sync::Arc;

use ferula_model::{CounterResetHint, FloatHistogram};
use ferula_promql_parser::Expr;

/// The starts of all selectors whose nearest histogram function outwards is `histogram_count`, `_sum` or `_avg`.
pub(crate) fn stats_only(expr: &Expr) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![(expr, false)];
    while let Some((e, inside)) = open.pop() {
        let inside = match e {
            Expr::Vector(v) if inside => {
                found.push(v.span.start);
                continue;
            }
            Expr::Matrix(m) if inside => {
                found.push(m.selector.span.start);
                continue;
            }
            Expr::Subquery(_) => false,
            Expr::Call(c) => match c.func.name {
                "histogram_count" | "histogram_sum" | "histogram_avg" => true,
                "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => false,
                _ => inside,
            },
            _ => inside,
        };
        open.extend(e.children().into_iter().map(|c| (c, inside)));
    }
    found
}

/// Gives unknown hints their answer, histogram by histogram in time order.
#[derive(Default)]
pub(crate) struct Hinter {
    previous: Option<Arc<FloatHistogram>>,
}

impl Hinter {
    pub fn hinted(&mut self, h: &Arc<FloatHistogram>) -> Arc<FloatHistogram> {
        let before = self.previous.replace(Arc::clone(h));
        match before {
            Some(p) if h.counter_reset_hint == CounterResetHint::Unknown && !h.is_stale() => {
                let mut h = FloatHistogram::clone(h);
                h.counter_reset_hint =
                    if h.detect_reset(&p) { CounterResetHint::CounterReset } else { CounterResetHint::NotCounterReset };
                Arc::new(h)
            }
            _ => Arc::clone(h),
        }
    }
}
