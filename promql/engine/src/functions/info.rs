//! `info`: adds the labels of info series (`target_info` unless told otherwise) to the series of the same target.
use ferula_model::labels::{INSTANCE, JOB, METRIC_NAME};
use ferula_model::{MatchOp, Matcher};
use ferula_promql_parser::{At, Duration, DurationUse, Expr, VectorSelector};
use hashbrown::HashMap;

use super::Args;
use crate::column::{Column, Stream, is_present, stream};
use crate::error::QueryError;
use crate::eval::merge::{Duplicates, merge};
use crate::eval::selector::{Take, duration_error, instant_of};
use crate::grid::Grid;
use crate::identity::{Hidden, Identity};
use crate::query::Query;

const INFO_METRIC: &str = "target_info";

/// What the second argument asks for.
struct Wanted {
    names: Vec<Matcher>,
    data: Vec<Matcher>,
}

impl Wanted {
    fn of(selector: Option<&VectorSelector>) -> Result<Wanted, QueryError> {
        let all = selector.map_or(&[][..], |s| &s.matchers);
        let (mut names, data): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|m| m.name == METRIC_NAME);
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, INFO_METRIC));
        } else if !names.iter().any(|m| matches!(m.op, MatchOp::Equal | MatchOp::RegexMatch)) {
            // Only names to leave out: of all that look like info metrics.
            let info = Matcher::new(MatchOp::RegexMatch, METRIC_NAME, ".+_info");
            names.push(info.map_err(|e| QueryError::execution(e.to_string()))?);
        }
        Ok(Wanted { names, data })
    }
    fn is_info_series(&self, c: &Column) -> bool {
        self.names.iter().all(|m| m.matches(c.id.raw(METRIC_NAME)))
    }
    /// A series without info series stays as it is, unless some label was required.
    fn keeps_unmatched(&self) -> bool {
        self.data.iter().all(Matcher::matches_empty)
    }
    fn includes(&self, label: &str) -> bool {
        self.data.is_empty() || self.data.iter().any(|m| m.name == label)
    }
}

fn is_identifying(label: &str) -> bool {
    matches!(label, INSTANCE | JOB)
}

/// The time shift of the first selector in `expr`, outermost modifiers first: where it is pinned, and by how much it is
/// offset from there.
pub(crate) fn shift(q: &Query<'_>, expr: &Expr) -> Result<(Option<At>, i64), QueryError> {
    let resolve = |d: &Option<Duration>| match d {
        Some(d) => d.resolve(DurationUse::Offset, q.durations()).map_err(duration_error),
        None => Ok(0),
    };
    let (mut at, mut offset, mut e) = (None, 0i64, expr);
    let mut apply = |a: Option<At>, o: i64| {
        if a.is_some() {
            (at, offset) = (a, 0);
        }
        offset = offset.saturating_add(o);
    };
    loop {
        match e {
            Expr::Vector(v) => {
                apply(v.at, resolve(&v.offset)?);
                break;
            }
            Expr::Matrix(m) => {
                apply(m.selector.at, resolve(&m.selector.offset)?);
                break;
            }
            Expr::Subquery(s) => {
                apply(s.at, resolve(&s.offset)?);
                e = &s.expr;
            }
            other => {
                let selects = |c: &&Expr| !c.selectors().is_empty();
                match other.children().into_iter().find(selects) {
                    Some(c) => e = c,
                    None => break,
                }
            }
        }
    }
    Ok((at, offset))
}

pub(super) fn info<'a>(q: &'a Query<'a>, args: &Args<'a>, grid: Grid) -> Result<Stream<'a>, QueryError> {
    let base_expr = args.expr(0)?;
    let selector = match args.call.args.get(1).map(Expr::without_parens) {
        Some(Expr::Vector(v)) => Some(v),
        Some(_) => return Err(QueryError::execution("info: the second argument has to be a label selector")),
        None => None,
    };
    let wanted = Wanted::of(selector)?;
    let (at, offset) = shift(q, base_expr)?;
    let info_selector = VectorSelector {
        name: String::new(),
        matchers: wanted.names.iter().chain(&wanted.data).cloned().collect(),
        offset: Some(Duration::Fixed(offset)),
        at,
        extension: None,
        may_match_everything: true,
        span: args.call.span,
    };
    let mut base = Some(args.vector(q, 0, grid)?);
    let mut ready = Vec::new().into_iter();
    Ok(stream(move || {
        if let Some(mut base) = base.take() {
            let infos = q.collect(instant_of(q, &info_selector, grid, Take::InfoTime)?)?;
            let join = Join::new(&wanted, &infos.columns)?;
            let mut out = Vec::new();
            while let Some(c) = base.next()? {
                q.tick(1 + (grid.n >> 4) as u32)?;
                if wanted.is_info_series(&c) { out.push(c) } else { join.enrich(c, &mut out)? }
            }
            ready = merge(out, Duplicates::Merge)?.into_iter();
        }
        Ok(ready.next())
    }))
}

struct Join<'w> {
    wanted: &'w Wanted,
    infos: &'w [Column],
    by_target: HashMap<Vec<u8>, Vec<usize>>,
}

impl<'w> Join<'w> {
    fn new(wanted: &'w Wanted, infos: &'w [Column]) -> Result<Join<'w>, QueryError> {
        let mut by_target: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        let mut key = Vec::new();
        for (i, c) in infos.iter().enumerate() {
            if c.floats.iter().any(|v| is_present(*v) && v.is_nan()) {
                return Err(QueryError::execution(format!(
                    "this should be an info metric, with float samples: {}",
                    c.id.to_labels()
                )));
            }
            c.id.key_into(&mut key, is_identifying);
            by_target.entry_ref(&key).or_default().push(i);
        }
        Ok(Join { wanted, infos, by_target })
    }

    /// The info series that apply at a step: per metric the one with the newest sample.
    fn chosen(&self, candidates: &[usize], step: usize) -> Result<Vec<usize>, QueryError> {
        let mut chosen: Vec<usize> = Vec::new();
        for i in candidates.iter().copied().filter(|i| is_present(self.infos[*i].floats[step])) {
            let (name, t) = (self.infos[i].id.raw(METRIC_NAME), self.infos[i].floats[step]);
            match chosen.iter_mut().find(|c| self.infos[**c].id.raw(METRIC_NAME) == name) {
                None => chosen.push(i),
                Some(c) => {
                    let newest = self.infos[*c].floats[step];
                    if t == newest {
                        return Err(QueryError::execution(format!(
                            "found duplicate series for info metric: existing {} @ {newest}, new {} @ {t}",
                            self.infos[*c].id.to_labels(),
                            self.infos[i].id.to_labels(),
                        )));
                    }
                    if t > newest {
                        *c = i;
                    }
                }
            }
        }
        Ok(chosen)
    }

    fn enrich(&self, c: Column, out: &mut Vec<Column>) -> Result<(), QueryError> {
        let mut key = Vec::new();
        c.id.key_into(&mut key, is_identifying);
        let none = Vec::new();
        // A series that names no target has no info series.
        let candidates = if key.is_empty() { &none } else { self.by_target.get(&key).unwrap_or(&none) };
        let mut parts: Vec<(Vec<usize>, Column)> = Vec::new();
        for step in 0..c.floats.len() {
            let Some(point) = c.point(step) else { continue };
            let chosen = self.chosen(candidates, step)?;
            if chosen.is_empty() && !self.wanted.keeps_unmatched() {
                continue;
            }
            let part = match parts.iter().position(|(p, _)| *p == chosen) {
                Some(i) => i,
                None => {
                    let mut part = Column::new(self.labelled(&c.id, &chosen)?, c.floats.len());
                    part.drop_name = c.drop_name;
                    parts.push((chosen, part));
                    parts.len() - 1
                }
            };
            parts[part].1.set(step, point);
        }
        out.extend(parts.into_iter().map(|(_, c)| c));
        Ok(())
    }

    /// The base's labels and those of the chosen info series that it does not have.
    fn labelled(&self, base: &Identity, chosen: &[usize]) -> Result<Identity, QueryError> {
        let mut added: Vec<(String, String)> = Vec::new();
        for i in chosen {
            let mut conflict = None;
            self.infos[*i].id.each(&mut |n, v| {
                if Hidden::Name.hides(n) || is_identifying(n) || !self.wanted.includes(n) || !base.get(n).is_empty() {
                    return;
                }
                match added.iter().find(|(name, _)| name == n) {
                    Some((_, value)) if value != v => conflict = Some(n.to_owned()),
                    Some(_) => {}
                    None => added.push((n.to_owned(), v.to_owned())),
                }
            });
            if let Some(label) = conflict {
                return Err(QueryError::execution(format!("conflicting label: {label}")));
            }
        }
        if added.is_empty() {
            return Ok(base.clone());
        }
        let mut b = base.builder();
        added.iter().for_each(|(n, v)| {
            b.set(n, v);
        });
        Ok(Identity::owned(b.labels()))
    }
}
