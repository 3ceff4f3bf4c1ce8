//! Vector matching: arithmetic and comparisons between two vectors.
use ferula_model::labels::METRIC_NAME;
use ferula_model::{Labels, LabelsBuilder};
use ferula_promql_parser::{BinaryExpr, BinaryOp, Cardinality, VectorMatching};
use hashbrown::HashMap;

use super::merge::SAME_LABELSET;
use super::scalar_ops::{arithmetic, compare, drops_name, points};
use crate::column::{ABSENT, Column, Point, Stream, is_present, stream};
use crate::error::QueryError;
use crate::grid::Grid;
use crate::identity::Identity;
use crate::query::Query;

/// The part of a label set that has to be equal on both sides, as bytes.
pub(crate) fn signature(id: &Identity, m: &VectorMatching, key: &mut Vec<u8>) {
    if m.on {
        id.key_into(key, |n| m.labels.iter().any(|l| l == n));
    } else {
        id.key_into(key, |n| n != METRIC_NAME && !m.labels.iter().any(|l| l == n));
    }
}

fn match_labels(id: &Identity, m: &VectorMatching) -> Labels {
    let mut b = id.builder();
    b.retain(|n, _| {
        let listed = m.labels.iter().any(|l| l == n);
        if m.on { listed } else { n != METRIC_NAME && !listed }
    });
    b.labels()
}

/// The series of the "one" side with one signature; at most one of them has a value at any step.
#[derive(Default)]
struct Group {
    members: Vec<usize>,
    /// Steps at which a series of the other side has found this group; for one-to-one and for `fill`.
    used: Vec<bool>,
}

pub(crate) fn eval<'a>(
    q: &'a Query<'a>,
    b: &'a BinaryExpr,
    m: &'a VectorMatching,
    left: Stream<'a>,
    right: Stream<'a>,
    grid: Grid,
) -> Stream<'a> {
    let mut sides = Some((left, right));
    let mut ready = Vec::new().into_iter();
    stream(move || {
        if let Some((left, right)) = sides.take() {
            let swapped = m.cardinality == Cardinality::OneToMany;
            let (many, one) = if swapped { (right, left) } else { (left, right) };
            ready = Match { q, b, m, swapped, grid, out: Vec::new(), index: HashMap::new(), key: Vec::new() }
                .run(many, one)?
                .into_iter();
        }
        Ok(ready.next())
    })
}

struct Match<'a> {
    q: &'a Query<'a>,
    b: &'a BinaryExpr,
    m: &'a VectorMatching,
    /// The many side is the right one.
    swapped: bool,
    grid: Grid,
    out: Vec<Column>,
    /// Result labels to their column, and the signature that made it.
    index: HashMap<Vec<u8>, (usize, Vec<u8>)>,
    key: Vec<u8>,
}

impl<'a> Match<'a> {
    fn run(mut self, many: Stream<'a>, one: Stream<'a>) -> Result<Vec<Column>, QueryError> {
        let q = self.q;
        let one = q.collect(one)?;
        let (fill_one, fill_many) =
            if self.swapped { (self.m.fill_lhs, self.m.fill_rhs) } else { (self.m.fill_rhs, self.m.fill_lhs) };
        if one.columns.is_empty() && fill_one.is_none() {
            // Nothing will match, but what goes wrong on the other side still has to be said.
            let mut many = many;
            while many.next()?.is_some() {}
            return Ok(Vec::new());
        }
        let mut groups: HashMap<Vec<u8>, Group> = HashMap::with_capacity(one.columns.len());
        let mut clash: Vec<bool> = Vec::new();
        let mut clash_of = None;
        for (i, c) in one.columns.iter().enumerate() {
            signature(&c.id, self.m, &mut self.key);
            let group = groups.entry_ref(&self.key).or_default();
            for other in &group.members {
                let other = &one.columns[*other];
                if other.overlaps(c) {
                    clash.resize(self.grid.n, false);
                    (0..self.grid.n).filter(|s| other.has(*s) && c.has(*s)).for_each(|s| clash[s] = true);
                    clash_of.get_or_insert((other, c));
                }
            }
            group.members.push(i);
        }
        let mut many: Stream<'a> = many;
        if let Some((first, second)) = clash_of {
            // An error only at steps where the other side has anything to match.
            let held = q.collect(many)?;
            let hit = |c: &Column| clash.iter().enumerate().any(|(s, bad)| *bad && c.has(s));
            if held.columns.iter().any(hit) || fill_many.is_some() {
                let side = if self.swapped { "left" } else { "right" };
                return Err(QueryError::execution(format!(
                    "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                    match_labels(&first.id, self.m),
                    first.id.to_labels(),
                    second.id.to_labels(),
                )));
            }
            let columns = {
                let mut held = held;
                std::mem::take(&mut held.columns)
            };
            many = crate::column::from_vec(columns);
        }
        let tracks_use = self.m.cardinality == Cardinality::OneToOne || fill_many.is_some();
        let mut signature_key = Vec::new();
        while let Some(c) = many.next()? {
            q.tick(1 + (self.grid.n >> 6) as u32)?;
            signature(&c.id, self.m, &mut signature_key);
            match groups.get_mut(&signature_key) {
                Some(group) => {
                    if tracks_use && group.used.is_empty() {
                        group.used = vec![false; self.grid.n];
                    }
                    if let (Some(fill), true) = (fill_one, group.members.len() <= 1) {
                        self.pair(
                            &c,
                            group.members.first().map(|i| &one.columns[*i]),
                            Some(fill),
                            group,
                            &signature_key,
                        )?;
                    } else {
                        for i in group.members.clone() {
                            self.pair(&c, Some(&one.columns[i]), None, group, &signature_key)?;
                        }
                        if let Some(fill) = fill_one {
                            let mut rest = c.clone();
                            for i in &group.members {
                                blank(&mut rest, &one.columns[*i]);
                            }
                            self.pair(&rest, None, Some(fill), group, &signature_key)?;
                        }
                    }
                }
                None => {
                    if let Some(fill) = fill_one {
                        let mut group = Group { members: Vec::new(), used: vec![false; self.grid.n] };
                        self.pair(&c, None, Some(fill), &mut group, &signature_key)?;
                        groups.insert(signature_key.clone(), group);
                    }
                }
            }
        }
        if let Some(fill) = fill_many {
            self.fill_many(&one.columns, &groups, fill)?;
        }
        Ok(self.out)
    }

    /// Combines one series of the many side with one of the one side (or with `fill` where that has nothing).
    fn pair(
        &mut self,
        many: &Column,
        one: Option<&Column>,
        fill: Option<f64>,
        group: &mut Group,
        signature: &[u8],
    ) -> Result<(), QueryError> {
        let n = self.grid.n;
        let id = self.result_identity(&many.id, one.map(|c| &c.id));
        let mut result = Column::new(id, n);
        let (op, swapped, return_bool) = (self.b.op, self.swapped, self.b.return_bool);
        let plain = many.histograms.is_empty()
            && one.is_some_and(|o| o.histograms.is_empty())
            && fill.is_none()
            && (op.is_comparison() || drops_name(op));
        if plain {
            let one = one.map_or(&[][..], |o| &o.floats);
            for ((a, b), out) in many.floats.iter().zip(one).zip(&mut result.floats) {
                if !is_present(*a) || !is_present(*b) {
                    continue;
                }
                let (l, r) = if swapped { (*b, *a) } else { (*a, *b) };
                *out = match arithmetic(op, l, r) {
                    Some(v) => v,
                    None => match (compare(op, l, r), return_bool) {
                        (keep, true) => f64::from(u8::from(keep)),
                        (true, false) => l,
                        (false, false) => ABSENT,
                    },
                };
            }
        } else {
            for step in 0..n {
                let Some(a) = many.point(step) else { continue };
                let b = match (one.and_then(|o| o.point(step)), fill) {
                    (Some(p), _) => p,
                    (None, Some(f)) => Point::Float(f),
                    (None, None) => continue,
                };
                let (l, r) = if swapped { (&b, &a) } else { (&a, &b) };
                match points(self.q, self.b, l, r) {
                    kept if return_bool => {
                        // Types that do not combine give no result, not even with `bool`.
                        let comparable = match (l, r) {
                            (Point::Float(_), Point::Float(_)) => true,
                            (Point::Histogram(_), Point::Histogram(_)) => {
                                matches!(op, BinaryOp::Eql | BinaryOp::Neq)
                            }
                            _ => false,
                        };
                        if kept.is_some() || comparable {
                            result.set(step, Point::Float(f64::from(u8::from(kept.is_some()))));
                        }
                    }
                    Some(p) => result.set(step, p),
                    None => {}
                }
            }
        }
        result.drop_name = many.drop_name;
        if drops_name(op) || return_bool {
            self.q.drop_name(&mut result);
        }
        if self.m.cardinality == Cardinality::OneToOne {
            for step in 0..n {
                if result.has(step) && std::mem::replace(&mut group.used[step], true) {
                    return Err(QueryError::execution(
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                    ));
                }
            }
        }
        if !group.used.is_empty() && self.m.cardinality != Cardinality::OneToOne {
            (0..n).filter(|s| many.has(*s)).for_each(|s| group.used[s] = true);
        }
        self.emit(result, signature)
    }

    fn emit(&mut self, result: Column, signature: &[u8]) -> Result<(), QueryError> {
        if result.is_vacant() {
            return Ok(());
        }
        result.id.key_into(&mut self.key, |_| true);
        if let Some((i, made_by)) = self.index.get(&self.key) {
            let first = &mut self.out[*i];
            if first.overlaps(&result) {
                return Err(QueryError::execution(if made_by == signature {
                    "multiple matches for labels: grouping labels must ensure unique matches"
                } else {
                    SAME_LABELSET
                }));
            }
            first.absorb(result);
            return Ok(());
        }
        self.q.charge(8 * self.grid.n as u64 + 128)?;
        self.index.insert(self.key.clone(), (self.out.len(), signature.to_vec()));
        self.out.push(result);
        Ok(())
    }

    /// The labels of a result: those of the many side, less the name where the operator drops it, cut to the matched
    /// labels one-to-one, and with the included ones of the one side.
    fn result_identity(&self, many: &Identity, one: Option<&Identity>) -> Identity {
        let m = self.m;
        let one_to_one = m.cardinality == Cardinality::OneToOne;
        if !one_to_one && m.include.is_empty() {
            return many.clone();
        }
        if one_to_one && !m.on && m.labels.is_empty() {
            return many.clone();
        }
        let mut b: LabelsBuilder = many.builder();
        if one_to_one {
            b.retain(|n, _| m.labels.iter().any(|l| l == n) == m.on);
        }
        for name in &m.include {
            b.set(name, one.map_or("", |o| o.get(name)));
        }
        Identity::owned(b.labels())
    }

    /// Results for the series of the one side that nothing on the many side matched.
    fn fill_many(&mut self, one: &[Column], groups: &HashMap<Vec<u8>, Group>, fill: f64) -> Result<(), QueryError> {
        for c in one {
            let mut key = Vec::new();
            signature(&c.id, self.m, &mut key);
            let used = groups.get(&key).map(|g| g.used.as_slice()).unwrap_or(&[]);
            // What stands in for the missing side has the matching labels only.
            let labels = match_labels(&c.id, self.m);
            let mut stand_in = Column::new(Identity::owned(labels), self.grid.n);
            for step in 0..self.grid.n {
                if c.has(step) && used.get(step) != Some(&true) {
                    stand_in.floats[step] = fill;
                }
            }
            let mut group = Group { members: Vec::new(), used: vec![false; self.grid.n] };
            self.pair(&stand_in, Some(c), None, &mut group, &key)?;
        }
        Ok(())
    }
}

/// Removes the steps of `c` where `other` has a value.
fn blank(c: &mut Column, other: &Column) {
    for step in 0..c.floats.len() {
        if other.has(step) {
            c.floats[step] = ABSENT;
        }
    }
    c.histograms.retain(|(step, _)| !other.has(*step as usize));
}
