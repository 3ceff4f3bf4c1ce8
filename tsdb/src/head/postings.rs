//! Which series have which label pair: ascending lists of references under name and value symbols.
//!
//! References are kept in 32 bits: the head refuses the 4,294,967,296th series of a directory's life. Cost: 2 to 20 bytes
//! for a series with ten labels (`posting_list.rs`), and about 70 for each distinct pair.
use hashbrown::{HashMap, HashSet};

use super::posting_list::List;
use super::symbols::Symbols;

#[derive(Debug, Default)]
pub struct Postings {
    names: HashMap<u32, HashMap<u32, List>>,
    pairs: usize,
    /// The symbol of the label that names the metric.
    metric_name: u32,
    /// Counts series added, and removals.
    changes: u64,
    /// By metric: the number of the last change to its series.
    changed: HashMap<u32, u64>,
}

impl Postings {
    pub fn new(metric_name: u32) -> Postings {
        Postings { metric_name, ..Postings::default() }
    }
    /// A number that grows whenever a series of this metric comes or goes; `None`: of any.
    pub fn version(&self, metric: Option<u32>) -> u64 {
        metric.map_or(self.changes, |m| self.changed.get(&m).copied().unwrap_or(0))
    }
    pub fn add(&mut self, series: u32, labels: &[(u32, u32)], symbols: &Symbols) {
        self.changes += 1;
        for (name, value) in labels {
            if *name == self.metric_name {
                self.changed.insert(*value, self.changes);
            }
            let values = self.names.entry(*name).or_insert_with(|| {
                symbols.note_use(*name);
                HashMap::new()
            });
            let list = values.entry(*value).or_insert_with(|| {
                symbols.note_use(*value);
                self.pairs += 1;
                List::default()
            });
            list.add(series);
        }
    }
    /// Also returns the symbols that nothing uses any more.
    pub fn remove(&mut self, dead: &HashSet<u32>, pairs: &HashSet<(u32, u32)>, symbols: &Symbols) -> Vec<u32> {
        let mut unused = Vec::new();
        self.changes += 1;
        for (name, value) in pairs {
            if *name == self.metric_name {
                self.changed.insert(*value, self.changes);
            }
            let Some(values) = self.names.get_mut(name) else { continue };
            if let Some(list) = values.get_mut(value) {
                list.retain(|r| !dead.contains(&r));
                if list.is_empty() {
                    values.remove(value);
                    self.pairs -= 1;
                    if *name == self.metric_name {
                        self.changed.remove(value); // none is left: of no series there is one answer only
                    }
                    unused.extend(symbols.note_end_of_use(*value).then_some(*value));
                }
            }
            if values.is_empty() {
                self.names.remove(name);
                unused.extend(symbols.note_end_of_use(*name).then_some(*name));
            } else if values.len() < values.capacity() / 4 {
                values.shrink_to(values.len() * 2);
            }
        }
        unused
    }
    pub fn list(&self, name: u32, value: u32) -> Option<&List> {
        self.names.get(&name).and_then(|v| v.get(&value))
    }
    pub fn values(&self, name: u32) -> Option<&HashMap<u32, List>> {
        self.names.get(&name)
    }
    pub fn names(&self) -> impl Iterator<Item = u32> + '_ {
        self.names.keys().copied()
    }
    /// Number of distinct label pairs.
    pub fn pairs(&self) -> usize {
        self.pairs
    }
}

/// What both lists have. Gallops through the longer one.
pub fn intersect(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (short, mut long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut out = Vec::with_capacity(short.len());
    for x in short {
        long = skip_to(long, *x);
        match long.first() {
            None => break,
            Some(y) if y == x => out.push(*x),
            Some(_) => {}
        }
    }
    out
}

/// Whether the lists have anything in common.
pub fn overlap(a: &[u32], b: &[u32]) -> bool {
    let (short, mut long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    short.iter().any(|x| {
        long = skip_to(long, *x);
        long.first() == Some(x)
    })
}

/// What is in `a` and not in `b`.
pub fn subtract(a: &[u32], mut b: &[u32]) -> Vec<u32> {
    let mut out = Vec::with_capacity(a.len());
    for x in a {
        b = skip_to(b, *x);
        if b.first() != Some(x) {
            out.push(*x);
        }
    }
    out
}

/// Everything that is in any list.
pub fn union(lists: &[&[u32]]) -> Vec<u32> {
    match lists {
        [] => Vec::new(),
        [one] => one.to_vec(),
        many => {
            let mut out = Vec::with_capacity(many.iter().map(|l| l.len()).sum());
            many.iter().for_each(|l| out.extend_from_slice(l));
            out.sort_unstable(); // ascending runs: the sort merges them
            out.dedup();
            out
        }
    }
}

/// `list` from its first element `>= x` on.
pub(super) fn skip_to(list: &[u32], x: u32) -> &[u32] {
    let mut step = 1;
    let mut low = 0;
    while list.get(low + step).is_some_and(|y| *y < x) {
        low += step;
        step *= 2;
    }
    let high = (low + step + 1).min(list.len());
    let found = low + list.get(low..high).unwrap_or(&[]).partition_point(|y| *y < x);
    list.get(found..).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn as_sets(a in proptest::collection::btree_set(0u32..300, 0..200),
                b in proptest::collection::btree_set(0u32..300, 0..200)) {
            let (x, y): (Vec<_>, Vec<_>) = (a.iter().copied().collect(), b.iter().copied().collect());
            prop_assert_eq!(intersect(&x, &y), a.intersection(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(subtract(&x, &y), a.difference(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(overlap(&x, &y), !a.is_disjoint(&b));
            prop_assert_eq!(union(&[&x, &y]), a.union(&b).copied().collect::<Vec<_>>());
        }
        #[test]
        fn lists_stay_sorted(refs in proptest::collection::vec(0u32..100, 0..60), drop in 0u32..100) {
            let (mut p, s) = (Postings::default(), Symbols::default());
            refs.iter().for_each(|r| p.add(*r, &[(1, 2), (3, r % 4)], &s));
            let mut want: BTreeSet<_> = refs.into_iter().collect();
            let got = p.list(1, 2).map_or(Vec::new(), |l| l.to_vec());
            prop_assert_eq!(got, want.iter().copied().collect::<Vec<_>>());
            p.remove(&HashSet::from_iter([drop]), &HashSet::from_iter([(1, 2), (3, drop % 4)]), &s);
            want.remove(&drop);
            let got = p.list(1, 2).map_or(Vec::new(), |l| l.to_vec());
            prop_assert_eq!(got, want.iter().copied().collect::<Vec<_>>());
        }
    }
}
