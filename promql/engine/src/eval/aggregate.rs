//! Aggregations with a state per group and step: their input streams through, series by series.
use std::sync::Arc;

use ferula_model::histogram::HistogramSum;
use ferula_model::labels::METRIC_NAME;
use ferula_model::{CounterResetHint, FloatHistogram};
use ferula_promql_parser::{AggregateExpr, AggregateOp};

use super::aggregate_select;
use super::groups::{GroupLabels, Groups};
use crate::column::{ABSENT, Column, Stream, is_present, stream};
use crate::error::QueryError;
use crate::grid::Grid;
use crate::identity::Identity;
use crate::math::{Mean, quantile};
use crate::query::Query;
use crate::wide;

pub(crate) fn eval<'a>(q: &'a Query<'a>, a: &'a AggregateExpr, grid: Grid) -> Result<Stream<'a>, QueryError> {
    if matches!(
        a.op,
        AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio
            | AggregateOp::CountValues
    ) {
        return aggregate_select::eval(q, a, grid);
    }
    let param = match (&a.param, a.op) {
        (Some(p), AggregateOp::Quantile) => super::eval(q, p, grid)?.scalar()?,
        _ => Vec::new(),
    };
    let mut input = Some(super::eval(q, &a.expr, grid)?.series()?);
    let mut ready = Vec::new().into_iter();
    Ok(stream(move || {
        if let Some(mut input) = input.take() {
            let mut groups = Groups::new(q, a);
            let mut states: Vec<State> = Vec::new();
            while let Some(c) = input.next()? {
                q.tick(1 + (grid.n >> 8) as u32)?;
                let i = groups.of(&c);
                if i == states.len() {
                    q.charge(State::bytes(a.op, grid.n))?;
                    states.push(State::new(a.op, grid.n));
                }
                states[i].add(q, a, c)?;
            }
            if a.op == AggregateOp::Quantile {
                let span = a.param.as_ref().map_or(a.span, |p| p.without_parens().span());
                param.iter().filter(|p| !(0.0..=1.0).contains(*p)).for_each(|p| q.notes.invalid_quantile(*p, span));
            }
            let columns = states.into_iter().enumerate().map(|(i, s)| s.finish(q, a, &param, groups.labels(i)));
            ready = columns.filter(|c| !c.is_vacant()).collect::<Vec<_>>().into_iter();
            groups.keep(q);
        }
        Ok(ready.next())
    }))
}

/// One group's state, dense over the steps.
struct State {
    floats: Floats,
    /// Histograms per step, for `sum` and `avg`; empty until there is one.
    histograms: Vec<Option<Box<HistogramState>>>,
}

enum Floats {
    Sum { sum: Vec<f64>, comp: Vec<f64> },
    Avg(Vec<(bool, Mean)>),
    Max(Vec<f64>),
    Min(Vec<f64>),
    Count(Vec<f64>),
    Group(Vec<f64>),
    Std(Vec<(f64, f64, f64)>),
    Quantile(Vec<Vec<f64>>),
}

struct HistogramState {
    sum: HistogramSum,
    count: f64,
    saw_reset: bool,
    saw_no_reset: bool,
    incompatible: bool,
    /// `avg` whose sum would overflow: `sum` is the mean so far.
    incremental: bool,
}

impl State {
    fn bytes(op: AggregateOp, n: usize) -> u64 {
        let per_step = match op {
            AggregateOp::Sum => 16,
            AggregateOp::Avg => 40,
            AggregateOp::Stddev | AggregateOp::Stdvar | AggregateOp::Quantile => 24,
            _ => 8,
        };
        256 + per_step * n as u64
    }

    fn new(op: AggregateOp, n: usize) -> State {
        let floats = match op {
            AggregateOp::Sum => Floats::Sum { sum: vec![ABSENT; n], comp: vec![0.0; n] },
            AggregateOp::Avg => Floats::Avg(vec![Default::default(); n]),
            AggregateOp::Max => Floats::Max(vec![ABSENT; n]),
            AggregateOp::Min => Floats::Min(vec![ABSENT; n]),
            AggregateOp::Count => Floats::Count(vec![0.0; n]),
            AggregateOp::Stddev | AggregateOp::Stdvar => Floats::Std(vec![Default::default(); n]),
            AggregateOp::Quantile => Floats::Quantile(vec![Vec::new(); n]),
            _ => Floats::Group(vec![ABSENT; n]),
        };
        State { floats, histograms: Vec::new() }
    }

    fn add(&mut self, q: &Query<'_>, a: &AggregateExpr, c: Column) -> Result<(), QueryError> {
        let present = || c.floats.iter().copied().enumerate().filter(|(_, v)| is_present(*v));
        match &mut self.floats {
            Floats::Sum { sum, comp } => wide::add_to_sums(sum, comp, &c.floats),
            Floats::Avg(m) => present().for_each(|(i, v)| {
                m[i].0 = true;
                m[i].1.add(v);
            }),
            Floats::Max(m) => wide::keep_extremes(m, &c.floats, true),
            Floats::Min(m) => wide::keep_extremes(m, &c.floats, false),
            Floats::Count(n) => {
                wide::add_to_counts(n, &c.floats);
                c.histograms.iter().for_each(|(i, _)| n[*i as usize] += 1.0);
            }
            Floats::Group(g) => {
                present().for_each(|(i, _)| g[i] = 1.0);
                c.histograms.iter().for_each(|(i, _)| g[*i as usize] = 1.0);
            }
            Floats::Std(s) => present().for_each(|(i, v)| {
                let (n, mean, m2) = &mut s[i];
                *n += 1.0;
                let delta = v - *mean;
                *mean += delta / *n;
                *m2 += delta * (v - *mean);
            }),
            Floats::Quantile(all) => {
                let mut n = 0;
                present().for_each(|(i, v)| {
                    all[i].push(v);
                    n += 1;
                });
                q.charge(8 * n)?;
            }
        }
        if c.histograms.is_empty() {
            return Ok(());
        }
        match a.op {
            AggregateOp::Sum | AggregateOp::Avg => {
                if self.histograms.is_empty() {
                    self.histograms.resize_with(c.floats.len(), || None);
                }
                let name = c.id.get(METRIC_NAME).to_owned();
                for (i, h) in c.histograms {
                    let slot = &mut self.histograms[i as usize];
                    match slot {
                        None => {
                            q.charge(512)?;
                            *slot = Some(Box::new(HistogramState::new(&h)));
                        }
                        Some(s) => s.add(q, a, &h, &name),
                    }
                }
            }
            AggregateOp::Count | AggregateOp::Group => {}
            _ => q.notes.ignored_in_aggregation(a.op.as_str(), a.expr.span()),
        }
        Ok(())
    }

    fn finish(self, q: &Query<'_>, a: &AggregateExpr, param: &[f64], group: GroupLabels) -> Column {
        let floats = match self.floats {
            Floats::Sum { mut sum, comp } => {
                for (s, c) in sum.iter_mut().zip(comp).filter(|(s, _)| is_present(**s)) {
                    *s += c;
                }
                sum
            }
            Floats::Avg(m) => m.into_iter().map(|(any, m)| if any { m.value() } else { ABSENT }).collect(),
            Floats::Max(v) | Floats::Min(v) | Floats::Group(v) => v,
            Floats::Count(v) => v.into_iter().map(|n| if n == 0.0 { ABSENT } else { n }).collect(),
            Floats::Std(s) => s
                .into_iter()
                .map(|(n, _, m2)| match a.op {
                    _ if n == 0.0 => ABSENT,
                    AggregateOp::Stddev => (m2 / n).sqrt(),
                    _ => m2 / n,
                })
                .collect(),
            Floats::Quantile(all) => {
                all.into_iter()
                    .enumerate()
                    .map(|(i, mut v)| {
                        if v.is_empty() { ABSENT } else { quantile(param.get(i).copied().unwrap_or(f64::NAN), &mut v) }
                    })
                    .collect()
            }
        };
        let mut out =
            Column { id: Identity::owned(group.labels), drop_name: group.drop_name, floats, histograms: Vec::new() };
        for (i, s) in self.histograms.into_iter().enumerate() {
            let Some(s) = s else { continue };
            if is_present(out.floats[i]) {
                out.floats[i] = ABSENT;
                q.notes.mixed_in_aggregation(a.expr.span());
                continue;
            }
            if let Some(h) = s.finish(q, a) {
                out.histograms.push((i as u32, Arc::new(h)));
            }
        }
        out
    }
}

impl HistogramState {
    fn new(h: &FloatHistogram) -> HistogramState {
        let mut s = HistogramState {
            sum: HistogramSum::new(h.clone()),
            count: 1.0,
            saw_reset: false,
            saw_no_reset: false,
            incompatible: false,
            incremental: false,
        };
        s.watch_hint(h);
        s
    }
    fn watch_hint(&mut self, h: &FloatHistogram) {
        self.saw_reset |= h.counter_reset_hint == CounterResetHint::CounterReset;
        self.saw_no_reset |= h.counter_reset_hint == CounterResetHint::NotCounterReset;
    }
    fn add(&mut self, q: &Query<'_>, a: &AggregateExpr, h: &FloatHistogram, name: &str) {
        self.count += 1.0;
        self.watch_hint(h);
        if self.incompatible {
            return;
        }
        let before = (a.op == AggregateOp::Avg && !self.incremental).then(|| self.sum.clone());
        let merged = if self.incremental { self.add_to_mean(h) } else { self.sum.add(h) };
        match merged {
            Ok(m) => {
                if m.bounds_reconciled {
                    q.notes.bounds_reconciled("aggregation", a.expr.span());
                }
            }
            Err(_) => {
                self.incompatible = true;
                q.notes.mixed_schemas(name, a.expr.span());
                return;
            }
        }
        if let Some(before) = before
            && self.sum.raw().has_overflow()
        {
            // The mean may still be finite: go on with that.
            self.sum = before;
            self.sum.mul(1.0 / (self.count - 1.0));
            self.incremental = true;
            self.incompatible |= self.add_to_mean(h).is_err();
        }
    }
    fn add_to_mean(
        &mut self,
        h: &FloatHistogram,
    ) -> Result<ferula_model::histogram::Merged, ferula_model::histogram::HistogramError> {
        self.sum.mul((self.count - 1.0) / self.count);
        let mut share = h.clone();
        share.div(self.count);
        self.sum.add(&share)
    }
    fn finish(self, q: &Query<'_>, a: &AggregateExpr) -> Option<FloatHistogram> {
        if self.saw_reset && self.saw_no_reset {
            q.notes.reset_collision("aggregation", a.expr.span());
        }
        if self.incompatible {
            return None;
        }
        let mut h = self.sum.finish();
        if a.op == AggregateOp::Avg && !self.incremental {
            h.div(self.count);
        }
        h.compact(0);
        Some(h)
    }
}
