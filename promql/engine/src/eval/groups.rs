//! Which group of an aggregation a series belongs to.
use ferula_model::Labels;
use ferula_model::labels::METRIC_NAME;
use ferula_promql_parser::AggregateExpr;
use hashbrown::HashMap;

use crate::column::Column;
use crate::identity::{Hidden, InternedIds};
use crate::query::Query;

/// Assigns series to groups, which have numbers in order of first appearance.
pub(crate) struct Groups<'a> {
    a: &'a AggregateExpr,
    table: GroupTable,
    /// By place in the table: the number.
    numbers: Vec<Option<usize>>,
    /// By number: the place in the table.
    places: Vec<usize>,
}

/// Groups by their labels. It may know more of them, from an evaluation before.
#[derive(Debug, Default)]
pub(crate) struct GroupTable {
    index: HashMap<Vec<u8>, usize>,
    groups: Vec<GroupLabels>,
    key: Vec<u8>,
    interned: Interned,
    /// There will be another evaluation.
    remembers: bool,
}

/// Series whose order is remembered.
const ORDER_MAX: usize = 1 << 16;

#[derive(Clone, Debug)]
pub(crate) struct GroupLabels {
    pub labels: Labels,
    pub drop_name: bool,
}

/// Groups by the ids of interned labels, so that text is read once per group instead of once per series. Valid for one
/// symbol table and one kind of hidden names.
#[derive(Debug, Default)]
struct Interned {
    of: Option<(u64, Hidden)>,
    /// The label names of the last series, and the places of those that belong to the key: series of a metric mostly
    /// have the same names.
    names: Vec<u32>,
    kept: Vec<usize>,
    index: HashMap<Vec<(u32, u32)>, usize>,
    /// The last series' key, and its group.
    key: Vec<(u32, u32)>,
    group: Option<usize>,
    /// Where the ids of each series stood in memory, in the order they came, and its group. The same series mostly come
    /// in the same order again: then their labels are not looked at. Holds for the very same series only.
    order: Vec<(usize, u32)>,
    /// The place in `order` of the next series.
    next: usize,
}

impl<'a> Groups<'a> {
    pub fn new(q: &Query<'_>, a: &'a AggregateExpr) -> Groups<'a> {
        let mut table = q.kept.and_then(|kept| kept.take_groups(a.span.start)).unwrap_or_default();
        table.interned.next = 0;
        table.remembers = q.kept.is_some();
        Groups { a, numbers: vec![None; table.len()], places: Vec::new(), table }
    }
    /// Leaves what was found to the next evaluation.
    pub fn keep(self, q: &Query<'_>) {
        // Where labels are made of values, most of what is known may be of no use any more.
        if let Some(kept) = q.kept
            && self.table.len() <= 2 * self.len() + 64
        {
            kept.put_groups(self.a.span.start, self.table);
        }
    }
    pub fn len(&self) -> usize {
        self.places.len()
    }
    /// The labels of the group of that number.
    pub fn labels(&self, number: usize) -> GroupLabels {
        self.table.groups[self.places[number]].clone()
    }
    /// The number of the group of a series.
    pub fn of(&mut self, c: &Column) -> usize {
        if !self.a.without && self.a.grouping.is_empty() && !self.places.is_empty() {
            return 0;
        }
        let place = self.table.place(self.a, c);
        if place == self.numbers.len() {
            self.numbers.push(None);
        }
        if let Some(number) = self.numbers[place] {
            return number;
        }
        self.table.groups[place].drop_name = c.drop_name;
        self.numbers[place] = Some(self.places.len());
        self.places.push(place);
        self.places.len() - 1
    }
}

fn keeps(a: &AggregateExpr, name: &str) -> bool {
    let listed = a.grouping.iter().any(|g| g == name);
    if a.without { !listed && name != METRIC_NAME } else { listed }
}

impl GroupTable {
    pub fn len(&self) -> usize {
        self.groups.len()
    }
    fn place(&mut self, a: &AggregateExpr, c: &Column) -> usize {
        let Some(InternedIds { table, hidden, ids }) = c.id.interned() else { return self.of_text(a, c) };
        if self.interned.of != Some((table, hidden)) {
            self.interned = Interned { of: Some((table, hidden)), ..Interned::default() };
        }
        let address = ids.as_ptr().addr();
        if let Some((_, place)) = self.interned.order.get(self.interned.next).filter(|(a, _)| *a == address) {
            self.interned.next += 1;
            return *place as usize;
        }
        let place = self.of_ids(a, c, ids);
        let Interned { order, next, .. } = &mut self.interned;
        if self.remembers && *next < ORDER_MAX {
            order.truncate(*next);
            order.push((address, place as u32));
            *next += 1;
        }
        place
    }
    fn of_ids(&mut self, a: &AggregateExpr, c: &Column, ids: &[(u32, u32)]) -> usize {
        let Interned { names, kept, key, index, group, .. } = &mut self.interned;
        if names.len() != ids.len() || names.iter().zip(ids).any(|(name, (n, _))| name != n) {
            names.clear();
            names.extend(ids.iter().map(|(name, _)| *name));
            let keeps = |name: &str| keeps(a, name) && !c.id.hides(name);
            kept.clear();
            kept.extend((0..ids.len()).filter(|i| keeps(c.id.name_at(*i))));
            *group = None;
        }
        let wanted = || kept.iter().filter_map(|i| ids.get(*i).copied());
        if let Some(group) = *group
            && wanted().eq(key.iter().copied())
        {
            return group;
        }
        key.clear();
        key.extend(wanted());
        let found = index.get(key).copied();
        let found = found.unwrap_or_else(|| {
            let group = self.of_text(a, c);
            self.interned.index.insert(self.interned.key.clone(), group);
            group
        });
        self.interned.group = Some(found);
        found
    }
    fn of_text(&mut self, a: &AggregateExpr, c: &Column) -> usize {
        c.id.key_into(&mut self.key, |n| keeps(a, n));
        if let Some(i) = self.index.get(&self.key) {
            return *i;
        }
        let mut b = c.id.builder();
        b.retain(|n, _| keeps(a, n));
        self.index.insert(self.key.clone(), self.groups.len());
        self.groups.push(GroupLabels { labels: b.labels(), drop_name: c.drop_name });
        self.groups.len() - 1
    }
}
