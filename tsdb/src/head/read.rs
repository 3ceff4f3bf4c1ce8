//! The head's postings as a [`LabelIndex`], and label queries.
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use ferula_model::labels::METRIC_NAME;
use ferula_model::{MatchOp, Matcher};
use hashbrown::{HashMap, HashSet};

use super::posting_list::List;
use super::postings::Postings;
use super::series::MemSeries;
use super::symbols::Texts;
use super::{Head, Intervals};
use crate::error::Error;
use crate::query::select::LabelIndex;

/// Series that are looked at in one go.
const SERIES_AT_ONCE: usize = 256;

/// The head's index while its postings are locked for reading: creation of series waits meanwhile.
pub struct HeadIndex<'a> {
    head: &'a Head,
    postings: RwLockReadGuard<'a, Postings>,
    /// Taken behind the postings: has the strings of all of them.
    texts: Arc<Texts>,
}

impl Head {
    pub fn index(&self) -> HeadIndex<'_> {
        let postings = self.postings.read().unwrap_or_else(PoisonError::into_inner);
        HeadIndex { head: self, postings, texts: self.symbols.texts() }
    }
    /// The series of ascending references; those gone meanwhile are left out.
    pub fn series_of(&self, refs: &[u32]) -> Vec<Arc<MemSeries>> {
        let mut out = Vec::with_capacity(refs.len());
        self.series.by_refs(refs.iter().map(|r| u64::from(*r)), &mut out);
        out
    }
    /// All values of `name`, unsorted.
    pub fn all_label_values(&self, name: &str) -> Vec<String> {
        let index = self.index();
        let values = self.symbols.lookup(name).and_then(|n| index.postings.values(n));
        values.into_iter().flat_map(|v| v.keys()).map(|v| index.texts.get(*v).to_owned()).collect()
    }
    /// Values of `name` among these series.
    pub fn label_values_of(&self, series: &[Arc<MemSeries>], name: &str) -> BTreeSet<String> {
        let Some(name) = self.symbols.lookup(name) else { return BTreeSet::new() };
        let ids: HashSet<u32> =
            series.iter().filter_map(|s| s.symbols().iter().find(|(n, _)| *n == name).map(|(_, v)| *v)).collect();
        let texts = self.symbols.texts();
        ids.into_iter().map(|v| texts.get(v).to_owned()).collect()
    }
    /// Values of `name` that any of these ascending references has, found through the postings of each value: for few
    /// values among many series.
    fn label_values_by_postings(&self, refs: &[u32], name: &str) -> BTreeSet<String> {
        let index = self.index();
        let values = self.symbols.lookup(name).and_then(|n| index.postings.values(n));
        let found = values.into_iter().flatten().filter(|(_, list)| list.has_any(refs));
        found.map(|(v, _)| index.texts.get(*v).to_owned()).collect()
    }
    /// Values of `name` among the series of these ascending references.
    pub fn label_values_among(&self, refs: &[u32], name: &str) -> BTreeSet<String> {
        if self.index().value_count(name) <= refs.len() / 8 {
            self.label_values_by_postings(refs, name)
        } else {
            self.label_values_of(&self.series_of(refs), name)
        }
    }
    pub fn all_label_names(&self) -> BTreeSet<String> {
        let index = self.index();
        index.postings.names().map(|n| index.texts.get(n).to_owned()).collect()
    }
    /// Names of labels that any of the series of these ascending references has.
    pub fn label_names_among(&self, refs: &[u32]) -> BTreeSet<String> {
        // A name of few values is asked through their postings; the first list mostly has one of many series.
        let (mut found, mut unknown) = (HashSet::new(), HashSet::new());
        let index = self.index();
        for name in index.postings.names() {
            let Some(values) = index.postings.values(name) else { continue };
            if values.len() > refs.len() / 8 {
                unknown.insert(name);
            } else if values.values().any(|list| list.has_any(refs)) {
                found.insert(name);
            }
        }
        let texts = Arc::clone(&index.texts); // names that are asked for below are in the index now
        drop(index);
        for some in refs.chunks(SERIES_AT_ONCE) {
            if unknown.is_empty() {
                break;
            }
            for s in self.series_of(some) {
                found.extend(s.symbols().iter().map(|(n, _)| *n).filter(|n| unknown.remove(n)));
            }
        }
        found.into_iter().map(|n| texts.get(n).to_owned()).collect()
    }
    /// Whether anything of the head's is deleted.
    pub fn has_deleted(&self) -> bool {
        !self.tombstones.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
    /// Deleted stretches of a series.
    pub fn deleted(&self, series_ref: u64) -> Intervals {
        let tombstones = self.tombstones.read().unwrap_or_else(PoisonError::into_inner);
        if tombstones.is_empty() { Intervals::new() } else { tombstones.get(&series_ref).cloned().unwrap_or_default() }
    }
    pub(crate) fn add_tombstone(&self, series_ref: u64, mint_ms: i64, maxt_ms: i64) {
        let mut tombstones = self.tombstones.write().unwrap_or_else(PoisonError::into_inner);
        add_interval(tombstones.entry(series_ref).or_default(), mint_ms, maxt_ms);
    }
}

/// Adds an interval to a sorted list, joining what touches.
pub fn add_interval(intervals: &mut Intervals, mint_ms: i64, maxt_ms: i64) {
    if mint_ms > maxt_ms {
        return;
    }
    intervals.push((mint_ms, maxt_ms));
    intervals.sort_unstable();
    let mut joined: Intervals = Vec::with_capacity(intervals.len());
    for (from, to) in intervals.drain(..) {
        match joined.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    *intervals = joined;
}

impl HeadIndex<'_> {
    /// A number that grows whenever a series comes or goes that these matchers may mean.
    pub fn version(&self, matchers: &[Matcher]) -> u64 {
        let metric = matchers.iter().find(|m| m.op == MatchOp::Equal && m.name == METRIC_NAME && !m.value.is_empty());
        match metric {
            // A name that no series has or had yet: the first one will make it known, with a number.
            Some(m) => self.head.symbols.lookup(&m.value).map_or(0, |v| self.postings.version(Some(v))),
            None => self.postings.version(None),
        }
    }
    pub fn postings(&self) -> &Postings {
        &self.postings
    }
    /// The strings of the postings.
    pub fn texts(&self) -> &Texts {
        &self.texts
    }
    fn found(&self, name: &str, value: &str) -> Option<&List> {
        let symbols = &self.head.symbols;
        self.postings.list(symbols.lookup(name)?, symbols.lookup(value)?)
    }
}

impl LabelIndex for HeadIndex<'_> {
    fn all(&self) -> Result<Vec<u32>, Error> {
        Ok(self.head.series.all().iter().map(|s| s.series_ref() as u32).collect())
    }
    fn list(&self, name: &str, value: &str) -> Result<Cow<'_, [u32]>, Error> {
        Ok(Cow::Owned(self.found(name, value).map_or(Vec::new(), List::to_vec)))
    }
    fn list_len(&self, name: &str, value: &str) -> Result<usize, Error> {
        Ok(self.found(name, value).map_or(0, List::len))
    }
    fn among(&self, series: Vec<u32>, name: &str, value: &str, present: bool) -> Result<Vec<u32>, Error> {
        Ok(match self.found(name, value) {
            Some(list) => list.filter(&series, present),
            None if present => Vec::new(),
            None => series,
        })
    }
    fn value_count(&self, name: &str) -> usize {
        self.head.symbols.lookup(name).and_then(|n| self.postings.values(n)).map_or(0, |v| v.len())
    }
    fn lists(&self, name: &str, prefixes: &[String], wanted: &dyn Fn(&str) -> bool) -> Result<Vec<u32>, Error> {
        let Some(values) = self.head.symbols.lookup(name).and_then(|n| self.postings.values(n)) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        let lists = values
            .iter()
            .filter(|(v, _)| {
                let text = self.texts.get(**v);
                (prefixes.is_empty() || prefixes.iter().any(|p| text.starts_with(&**p))) && wanted(text)
            })
            .map(|(_, list)| list);
        lists.for_each(|list| found.extend(list.to_vec()));
        found.sort_unstable(); // ascending runs: the sort merges them
        found.dedup();
        Ok(found)
    }
    fn filter(&self, series: Vec<u32>, name: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<u32>, Error> {
        let name = self.head.symbols.lookup(name);
        let absent = wanted("");
        let mut known: HashMap<u32, bool> = HashMap::new(); // one test for each distinct value
        let mut found = self.head.series_of(&series);
        let keep = |s: &Arc<MemSeries>| match name.and_then(|n| s.symbols().iter().find(|(a, _)| *a == n)) {
            None => absent,
            Some((_, v)) => *known.entry(*v).or_insert_with(|| wanted(self.texts.get(*v))),
        };
        found.retain({
            let mut keep = keep;
            move |s| keep(s)
        });
        Ok(found.iter().map(|s| s.series_ref() as u32).collect())
    }
}
