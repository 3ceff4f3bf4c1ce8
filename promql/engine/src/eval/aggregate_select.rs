//! Aggregations that pick series (`topk`, `bottomk`, `limitk`, `limit_ratio`) or make them (`count_values`).
use ferula_model::labels::METRIC_NAME;
use ferula_model::number::{format_f, format_g};
use ferula_promql_parser::{AggregateExpr, AggregateOp};
use hashbrown::HashMap;

use super::groups::Groups;
use super::ranked::Ranked;
use crate::column::{ABSENT, Column, Point, Stream, is_present, stream};
use crate::error::QueryError;
use crate::grid::Grid;
use crate::identity::Identity;
use crate::query::Query;

pub(crate) fn eval<'a>(q: &'a Query<'a>, a: &'a AggregateExpr, grid: Grid) -> Result<Stream<'a>, QueryError> {
    let param = a.param.as_ref().ok_or_else(|| QueryError::execution("aggregation needs a parameter"))?;
    let param = super::eval(q, param, grid)?;
    if a.op == AggregateOp::CountValues {
        return count_values(q, a, param.string()?, grid);
    }
    let param = checked(q, a, param.scalar()?)?;
    let mut input = Some(super::eval(q, &a.expr, grid)?.series()?);
    let mut ready = Vec::new().into_iter();
    Ok(stream(move || {
        if let Some(input) = input.take() {
            let mut held = q.collect(input)?;
            let columns = std::mem::take(&mut held.columns);
            ready = pick(q, a, &param, columns, grid)?.into_iter();
        }
        Ok(ready.next())
    }))
}

/// The parameter at every step: a count, or a ratio capped to -1..=1.
fn checked(q: &Query<'_>, a: &AggregateExpr, mut param: Vec<f64>) -> Result<Vec<f64>, QueryError> {
    let span = a.param.as_ref().map_or(a.span, |p| p.without_parens().span());
    for p in &mut param {
        if a.op == AggregateOp::LimitRatio {
            if p.is_nan() {
                return Err(QueryError::execution("Ratio value is NaN"));
            }
            if p.abs() > 1.0 {
                let capped = p.signum();
                q.notes.invalid_ratio(*p, capped, span);
                *p = capped;
            }
        } else {
            if p.is_nan() {
                return Err(QueryError::execution("Parameter value is NaN"));
            }
            // 2^63 is exact in f64; i64 ends one below it.
            if *p >= 9_223_372_036_854_775_808.0 {
                return Err(QueryError::execution(format!("Scalar value {} overflows int64", format_g(*p))));
            }
            if *p <= -9_223_372_036_854_775_808.0 {
                return Err(QueryError::execution(format!("Scalar value {} underflows int64", format_g(*p))));
            }
        }
    }
    Ok(param)
}

fn pick(
    q: &Query<'_>,
    a: &AggregateExpr,
    param: &[f64],
    mut columns: Vec<Column>,
    grid: Grid,
) -> Result<Vec<Column>, QueryError> {
    let mut groups = Groups::new(q, a);
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (i, c) in columns.iter().enumerate() {
        let g = groups.of(c);
        members.resize_with(groups.len(), Vec::new);
        members[g].push(i);
    }
    groups.keep(q);
    let ranked = matches!(a.op, AggregateOp::Topk | AggregateOp::Bottomk);
    if ranked && columns.iter().any(|c| !c.histograms.is_empty()) {
        q.notes.ignored_in_aggregation(a.op.as_str(), a.expr.span());
    }
    let mut kept: Vec<Vec<bool>> = Vec::new();
    if grid.n > 1 {
        q.charge((columns.len() * grid.n) as u64)?;
    }
    kept.resize_with(columns.len(), || vec![false; grid.n]);
    let mut order: Vec<usize> = Vec::new(); // for an instant: the series in result order
    for group in &members {
        let mut best = Ranked::new(1, a.op == AggregateOp::Bottomk);
        for (step, p) in param.iter().copied().enumerate().take(grid.n) {
            q.tick(1 + (group.len() >> 4) as u32)?;
            if a.op == AggregateOp::LimitRatio {
                for i in group.iter().filter(|i| columns[**i].has(step)) {
                    kept[*i][step] = in_ratio(&columns[*i], p);
                }
                continue;
            }
            if p < 1.0 {
                continue;
            }
            let k = p as usize;
            best.restart(k);
            for i in group {
                let v = columns[*i].floats[step];
                if ranked && is_present(v) {
                    best.offer(v, *i);
                } else if !ranked && columns[*i].has(step) {
                    // Upstream holds these on the same heap, a histogram as zero: no more than an instant's order shows it.
                    best.push(if is_present(v) { v } else { 0.0 }, *i);
                    if best.is_full() {
                        break;
                    }
                }
            }
            best.series().for_each(|i| kept[i][step] = true);
            match a.op {
                _ if grid.n > 1 => {}
                AggregateOp::Limitk => order.extend(best.series()),
                _ => order.extend(best.in_order()),
            }
        }
    }
    for (c, kept) in columns.iter_mut().zip(&kept) {
        for (v, keep) in c.floats.iter_mut().zip(kept) {
            if !keep {
                *v = ABSENT;
            }
        }
        c.histograms.retain(|(step, _)| !ranked && kept.get(*step as usize) == Some(&true));
    }
    if a.op != AggregateOp::LimitRatio && grid.n == 1 {
        let mut slots: Vec<Option<Column>> = columns.into_iter().map(Some).collect();
        return Ok(order.into_iter().filter_map(|i| slots[i].take()).collect());
    }
    // Grouped results stay together, in the order the groups appeared.
    let mut slots: Vec<Option<Column>> = columns.into_iter().map(Some).collect();
    let grouped = members.iter().flatten().filter_map(|i| slots[*i].take());
    Ok(grouped.filter(|c| !c.is_vacant()).collect())
}

/// Whether a series belongs to the deterministic sample of that ratio; a negative ratio is the complement.
fn in_ratio(c: &Column, ratio: f64) -> bool {
    use ferula_model::LabelView;
    let offset = c.id.to_labels().stable_hash() as f64 / u64::MAX as f64;
    if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio }
}

fn count_values<'a>(
    q: &'a Query<'a>,
    a: &'a AggregateExpr,
    label: String,
    grid: Grid,
) -> Result<Stream<'a>, QueryError> {
    let literal = a.param.as_ref().map_or(a.span, |p| p.without_parens().span());
    q.check_label_name(&label, literal, "invalid label name")?;
    let mut input = Some(super::eval(q, &a.expr, grid)?.series()?);
    let mut ready = Vec::new().into_iter();
    Ok(stream(move || {
        if let Some(mut input) = input.take() {
            let mut index: HashMap<Vec<u8>, usize> = HashMap::new();
            let mut out: Vec<Column> = Vec::new();
            let mut key = Vec::new();
            while let Some(c) = input.next()? {
                q.tick(1 + (grid.n >> 4) as u32)?;
                for step in 0..grid.n {
                    let text = match c.point(step) {
                        None => continue,
                        Some(Point::Float(v)) => format_f(v),
                        Some(Point::Histogram(h)) => h.to_string(),
                    };
                    let keep = |n: &str| {
                        let listed = a.grouping.iter().any(|g| g == n);
                        n != label && if a.without { !listed && n != METRIC_NAME } else { listed }
                    };
                    c.id.key_into(&mut key, keep);
                    key.extend_from_slice(text.as_bytes());
                    let i = match index.get(&key) {
                        Some(i) => *i,
                        None => {
                            q.charge(8 * grid.n as u64 + 256)?;
                            q.hold(1)?;
                            let mut b = c.id.builder();
                            b.retain(|n, _| keep(n));
                            b.set(&label, &text);
                            let mut column = Column::new(Identity::owned(b.labels()), grid.n);
                            column.drop_name = c.drop_name;
                            index.insert(key.clone(), out.len());
                            out.push(column);
                            out.len() - 1
                        }
                    };
                    let slot = &mut out[i].floats[step];
                    *slot = if is_present(*slot) { *slot + 1.0 } else { 1.0 };
                }
            }
            q.release(out.len() as u64);
            ready = out.into_iter();
        }
        Ok(ready.next())
    }))
}
