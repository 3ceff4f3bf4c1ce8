//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`: classic histograms, gathered from their bucket
//! series, and native ones beside them.
use ferula_model::labels::{BUCKET, METRIC_NAME};
use ferula_promql_parser::Span;
use hashbrown::HashMap;

use super::Args;
use super::histogram::{NanEffect, fraction, quantile};
use crate::column::{Column, Stream, is_present, stream};
use crate::error::QueryError;
use crate::eval::merge::{Duplicates, merge};
use crate::grid::Grid;
use crate::identity::Identity;
use crate::notes::Forced;
use crate::query::Query;

/// What is asked of every histogram.
enum Ask {
    Quantile { phi: Vec<f64> },
    Fraction { lower: Vec<f64>, upper: Vec<f64> },
}

pub(super) fn eval<'a>(q: &'a Query<'a>, args: &Args<'a>, grid: Grid) -> Result<Stream<'a>, QueryError> {
    let name = args.call.func.name;
    let (vector_at, label) = match name {
        "histogram_quantile" => (1, None),
        "histogram_fraction" => (2, None),
        _ => (0, Some(args.string(q, 1)?)),
    };
    let mut asks = Vec::new();
    match name {
        "histogram_fraction" => asks
            .push((String::new(), Ask::Fraction { lower: args.scalar(q, 0, grid)?, upper: args.scalar(q, 1, grid)? })),
        _ => {
            let params = if label.is_some() { 2..args.len() } else { 0..1 };
            for i in params {
                let phi = args.scalar(q, i, grid)?;
                let span = args.span(i)?;
                for p in phi.iter().filter(|p| !(0.0..=1.0).contains(*p)) {
                    q.notes.invalid_quantile(*p, span);
                }
                let text = phi.first().map_or_else(String::new, |p| open_metrics(*p));
                asks.push((text, Ask::Quantile { phi }));
            }
        }
    }
    let span = args.span(vector_at)?;
    let mut input = Some(args.vector(q, vector_at, grid)?);
    let mut ready = Vec::new().into_iter();
    Ok(stream(move || {
        if let Some(input) = input.take() {
            ready = answer(q, input, &asks, label.as_deref(), grid, span)?.into_iter();
        }
        Ok(ready.next())
    }))
}

/// A float as OpenMetrics writes it: whole numbers keep a fraction.
fn open_metrics(v: f64) -> String {
    let mut s = ferula_model::number::format_g(v);
    if v.is_finite() && !s.contains(['.', 'e']) {
        s.push_str(".0");
    }
    s
}

/// The series of one classic histogram, and the native one of the same labels.
struct Family {
    id: Identity,
    drop_name: bool,
    metric: String,
    /// `(upper bound, series)`, sorted by bound before use.
    buckets: Vec<(f64, usize)>,
    native: Option<usize>,
}

fn answer<'a>(
    q: &'a Query<'a>,
    input: Stream<'a>,
    asks: &[(String, Ask)],
    label: Option<&str>,
    grid: Grid,
    span: Span,
) -> Result<Vec<Column>, QueryError> {
    let held = q.collect(input)?;
    let mut index: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut families: Vec<Family> = Vec::new();
    let mut key = Vec::new();
    let mut family_of = |c: &Column, with_le: bool, families: &mut Vec<Family>| {
        c.id.key_into(&mut key, |n| with_le || n != BUCKET);
        *index.entry_ref(&key).or_insert_with(|| {
            let mut id = c.id.clone();
            if !with_le && !c.id.get(BUCKET).is_empty() {
                let mut b = c.id.builder();
                b.del(BUCKET);
                id = Identity::owned(b.labels());
            }
            let metric = c.id.get(METRIC_NAME).to_owned();
            families.push(Family { id, drop_name: c.drop_name, metric, buckets: Vec::new(), native: None });
            families.len() - 1
        })
    };
    for (i, c) in held.columns.iter().enumerate() {
        q.tick(1)?;
        if c.floats.iter().any(|v| is_present(*v)) {
            let le = c.id.get(BUCKET);
            match ferula_model::number::parse_go_float(le).ok() {
                Some(upper) => {
                    let f = family_of(c, false, &mut families);
                    families[f].buckets.push((upper, i));
                }
                None => q.notes.bad_bucket_label(c.id.get(METRIC_NAME), le, span),
            }
        }
        if !c.histograms.is_empty() {
            let f = family_of(c, true, &mut families);
            families[f].native = Some(i);
        }
    }
    let mut out = Vec::new();
    let mut scratch: Vec<(f64, f64)> = Vec::new();
    for f in &mut families {
        f.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let native = f.native.map(|i| &held.columns[i]);
        let mut results: Vec<Column> = asks
            .iter()
            .map(|(text, _)| {
                let mut id = f.id.clone();
                if let Some(label) = label {
                    let mut b = f.id.builder();
                    b.set(label, text);
                    id = Identity::owned(b.labels());
                }
                let mut c =
                    Column { id, drop_name: f.drop_name, floats: q.empty_floats(grid.n), histograms: Vec::new() };
                q.drop_name(&mut c);
                c
            })
            .collect();
        for step in 0..grid.n {
            scratch.clear();
            for (upper, i) in &f.buckets {
                let v = held.columns[*i].floats[step];
                if is_present(v) {
                    scratch.push((*upper, v));
                }
            }
            let histogram = native.and_then(|c| c.histogram(step));
            if histogram.is_some() && !scratch.is_empty() {
                q.notes.mixed_classic_native(&f.metric, span);
                continue;
            }
            if let Some(h) = histogram {
                for ((_, ask), c) in asks.iter().zip(&mut results) {
                    c.floats[step] = match ask {
                        Ask::Quantile { phi } => {
                            let (v, effect) = quantile(phi[step], h);
                            if effect != NanEffect::None {
                                q.notes.quantile_nan(&f.metric, effect == NanEffect::Skewed, span);
                            }
                            v
                        }
                        Ask::Fraction { lower, upper } => {
                            let (v, has_nan) = fraction(lower[step], upper[step], h);
                            if has_nan {
                                q.notes.fraction_nan(&f.metric, span);
                            }
                            v
                        }
                    };
                }
                continue;
            }
            if scratch.is_empty() {
                continue;
            }
            q.tick(1 + (scratch.len() >> 4) as u32)?;
            let quantiles = matches!(asks.first(), Some((_, Ask::Quantile { .. })));
            let forced = prepare(&mut scratch, quantiles, grid.at(step));
            if let Some(forced) = forced {
                // Upstream names the metric only where its name is still there when results are made.
                let metric = if q.semantics.delayed_name_removal { f.metric.as_str() } else { "" };
                q.notes.forced_monotonicity(metric, span, forced);
            }
            for ((_, ask), c) in asks.iter().zip(&mut results) {
                c.floats[step] = match ask {
                    Ask::Quantile { phi } => bucket_quantile(phi[step], &scratch),
                    Ask::Fraction { lower, upper } => bucket_fraction(lower[step], upper[step], &scratch),
                };
            }
        }
        out.extend(results.into_iter().filter(|c| !c.is_vacant()));
    }
    if q.semantics.delayed_name_removal { Ok(out) } else { merge(out, Duplicates::Merge) }
}

/// Cumulative counts may differ by rounding without anything being wrong.
const SMALL_DELTA: f64 = 1e-12;

fn almost_equal(a: f64, b: f64) -> bool {
    if a == b {
        return true;
    }
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < SMALL_DELTA
}

/// Joins buckets of equal bounds and makes counts rise. Says how far off they were if that was more than rounding.
fn prepare(buckets: &mut Vec<(f64, f64)>, monotonic: bool, t_ms: i64) -> Option<Forced> {
    buckets.dedup_by(|later, first| {
        let same = later.0 == first.0;
        if same {
            first.1 += later.1;
        }
        same
    });
    if !monotonic {
        return None;
    }
    let mut forced: Option<Forced> = None;
    let mut previous = buckets.first()?.1;
    for (upper, count) in buckets.iter_mut().skip(1) {
        if *count == previous {
            continue;
        }
        if almost_equal(previous, *count) {
            *count = previous;
        } else if *count < previous {
            let f = forced.get_or_insert(Forced {
                min_bucket: f64::INFINITY,
                max_bucket: f64::NEG_INFINITY,
                max_diff: 0.0,
                first_ms: t_ms,
                last_ms: t_ms,
                samples: 1,
            });
            f.min_bucket = f.min_bucket.min(*upper);
            f.max_bucket = f.max_bucket.max(*upper);
            f.max_diff = f.max_diff.max(previous - *count);
            *count = previous;
        } else {
            previous = *count;
        }
    }
    forced
}

/// The `q`-quantile of cumulative buckets, sorted and prepared, interpolating linearly.
fn bucket_quantile(q: f64, buckets: &[(f64, f64)]) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let [rest @ .., last] = buckets else { return f64::NAN };
    if last.0 != f64::INFINITY || rest.is_empty() || last.1 == 0.0 {
        return f64::NAN;
    }
    let mut rank = q * last.1;
    let b = rest.partition_point(|b| b.1 < rank);
    if b == rest.len() {
        return rest[b - 1].0;
    }
    if b == 0 && rest[0].0 <= 0.0 {
        return rest[0].0;
    }
    let (end, mut count) = rest[b];
    let mut start = 0.0;
    if b > 0 {
        start = rest[b - 1].0;
        count -= rest[b - 1].1;
        rank -= rest[b - 1].1;
    }
    start + (end - start) * (rank / count)
}

/// The share of observations between two values, interpolating linearly.
fn bucket_fraction(lower: f64, upper: f64, buckets: &[(f64, f64)]) -> f64 {
    let Some(last) = buckets.last() else { return f64::NAN };
    if last.0 != f64::INFINITY {
        return f64::NAN;
    }
    let total = last.1;
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank_of = |at: f64| {
        let (mut start, mut rank) = (if buckets[0].0 > 0.0 && at >= 0.0 { 0.0 } else { f64::NEG_INFINITY }, 0.0);
        for (end, count) in buckets {
            if start >= at {
                return rank;
            }
            if *end > at {
                if start == f64::NEG_INFINITY {
                    return *count;
                }
                if *end == f64::INFINITY {
                    return rank;
                }
                return rank + (count - rank) * (at - start) / (end - start);
            }
            (start, rank) = (*end, *count);
        }
        total
    };
    (rank_of(upper).min(total) - rank_of(lower).min(total)) / total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_buckets() {
        let b = [(0.1, 10.0), (0.5, 20.0), (f64::INFINITY, 30.0)];
        assert_eq!(bucket_quantile(0.5, &b), 0.1 + 0.4 * 0.5);
        assert_eq!(bucket_quantile(1.0, &b), 0.5);
        assert_eq!(bucket_quantile(0.0, &b), 0.0);
        assert!(bucket_quantile(0.5, &b[..2]).is_nan());
        assert!(bucket_quantile(0.5, &[]).is_nan());
    }

    #[test]
    fn repairs_monotonicity() {
        let mut b = vec![(1.0, 5.0), (2.0, 3.0), (3.0, 5.0 + 1e-13), (4.0, 6.0)];
        let f = prepare(&mut b, true, 7).unwrap();
        assert_eq!((f.min_bucket, f.max_bucket, f.max_diff), (2.0, 2.0, 2.0));
        assert_eq!(b.iter().map(|b| b.1).collect::<Vec<_>>(), [5.0, 5.0, 5.0, 6.0]);
    }
}
