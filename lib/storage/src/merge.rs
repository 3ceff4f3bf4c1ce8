//! Merging series of several sources (head, blocks, remote) into one, by label order and time.
//!
//! Cost: a series that only one source has is passed through. One that several have costs a comparison of times for each
//! batch as long as the sources follow each other in time, and one for each sample where they overlap.
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use ferula_model::Matcher;
use ferula_model::labels::compare;

use crate::{
    Annotations, Column, ExemplarSeries, LabelHints, Querier, QueryContext, SampleBatch, SampleIter, SelectHints,
    Series, SeriesSet, StorageError,
};

/// One querier over several. Earlier ones win where two have a sample of the same time.
pub struct MergeQuerier {
    queriers: Vec<Box<dyn Querier>>,
}

impl MergeQuerier {
    pub fn new(queriers: Vec<Box<dyn Querier>>) -> MergeQuerier {
        MergeQuerier { queriers }
    }
    fn strings(
        &self,
        limit: usize,
        mut ask: impl FnMut(&dyn Querier) -> Result<(Vec<String>, Annotations), StorageError>,
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        let (mut all, mut notes) = (BTreeSet::new(), Annotations::default());
        for q in &self.queriers {
            let (strings, n) = ask(&**q)?;
            all.extend(strings);
            notes.merge(n);
        }
        let mut all: Vec<String> = all.into_iter().collect();
        if limit > 0 && all.len() > limit {
            all.truncate(limit);
            notes.warn("results truncated due to limit");
        }
        Ok((all, notes))
    }
}

impl Querier for MergeQuerier {
    fn select(
        &self,
        ctx: &QueryContext,
        sorted: bool,
        hints: &SelectHints,
        matchers: &[Matcher],
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        if let [only] = &self.queriers[..] {
            return only.select(ctx, sorted, hints, matchers);
        }
        let sets = self.queriers.iter().map(|q| q.select(ctx, true, hints, matchers)).collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(MergeSet::new(sets, hints.limit)))
    }
    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        hints: &LabelHints,
        matchers: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        self.strings(hints.limit, |q| q.label_values(ctx, name, hints, matchers))
    }
    fn label_names(
        &self,
        ctx: &QueryContext,
        hints: &LabelHints,
        matchers: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        self.strings(hints.limit, |q| q.label_names(ctx, hints, matchers))
    }
    fn exemplars(
        &self,
        ctx: &QueryContext,
        matcher_sets: &[Vec<Matcher>],
    ) -> Result<Vec<ExemplarSeries>, StorageError> {
        let mut all: Vec<ExemplarSeries> = Vec::new();
        for q in &self.queriers {
            all.extend(q.exemplars(ctx, matcher_sets)?);
        }
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        all.dedup_by(|later, earlier| {
            let same = later.labels == earlier.labels;
            if same {
                earlier.exemplars.append(&mut later.exemplars);
                earlier.exemplars.sort_by_key(|e| e.t_ms);
                earlier.exemplars.dedup();
            }
            same
        });
        Ok(all)
    }
}

/// Sets that are each in label order, as one.
pub struct MergeSet {
    sets: Vec<Box<dyn SeriesSet>>,
    /// The next series of each set.
    heads: Vec<Option<Series>>,
    /// Which sets have the series that is next.
    next: Vec<usize>,
    started: bool,
    failed: bool,
    left: usize,
}

impl MergeSet {
    /// `limit`: 0 for all.
    pub fn new(sets: Vec<Box<dyn SeriesSet>>, limit: usize) -> MergeSet {
        let heads = sets.iter().map(|_| None).collect();
        MergeSet {
            sets,
            heads,
            next: Vec::new(),
            started: false,
            failed: false,
            left: if limit == 0 { usize::MAX } else { limit },
        }
    }
    fn advance(&mut self, i: usize) -> Result<(), StorageError> {
        if let (Some(set), Some(head)) = (self.sets.get_mut(i), self.heads.get_mut(i)) {
            *head = set.next().transpose()?;
        }
        Ok(())
    }
    fn merged(&mut self) -> Result<Option<Series>, StorageError> {
        if !self.started {
            self.started = true;
            for i in 0..self.sets.len() {
                self.advance(i)?;
            }
        }
        let mut next = std::mem::take(&mut self.next);
        next.clear();
        for (i, head) in self.heads.iter().enumerate() {
            let Some(series) = head else { continue };
            let best = next.first().and_then(|b| self.heads.get(*b)?.as_ref());
            match best.map_or(Ordering::Less, |b| compare(&*series.labels, &*b.labels)) {
                Ordering::Less => {
                    next.clear();
                    next.push(i);
                }
                Ordering::Equal => next.push(i),
                Ordering::Greater => {}
            }
        }
        let mut found = Vec::with_capacity(next.len());
        for i in &next {
            found.extend(self.heads.get_mut(*i).and_then(Option::take));
            self.advance(*i)?;
        }
        self.next = next;
        Ok(merge_series(found))
    }
}

impl SeriesSet for MergeSet {
    fn next(&mut self) -> Option<Result<Series, StorageError>> {
        if self.failed || self.left == 0 {
            return None;
        }
        self.left -= 1;
        let result = self.merged();
        self.failed = result.is_err();
        result.transpose()
    }
    fn annotations(&mut self) -> Annotations {
        let mut all = Annotations::default();
        self.sets.iter_mut().for_each(|s| all.merge(s.annotations()));
        all
    }
}

/// One series out of several of the same labels; `None` for none.
pub fn merge_series(mut found: Vec<Series>) -> Option<Series> {
    if found.len() <= 1 {
        return found.pop();
    }
    let labels = Arc::clone(&found.first()?.labels);
    let sources =
        found.into_iter().map(|s| Source { iter: s.samples, batch: SampleBatch::default(), at: 0, ended: false });
    Some(Series { labels, samples: Box::new(MergeIter { sources: sources.collect() }) })
}

struct Source {
    iter: Box<dyn SampleIter>,
    batch: SampleBatch,
    /// The next sample of the batch.
    at: usize,
    ended: bool,
}

impl Source {
    /// Time of the next sample; decodes another batch if need be.
    fn time(&mut self) -> Result<Option<i64>, StorageError> {
        loop {
            if let Some(t) = self.batch.t_ms.get(self.at) {
                return Ok(Some(*t));
            }
            if self.ended {
                return Ok(None);
            }
            self.at = 0;
            if !self.iter.next_batch(&mut self.batch)? {
                self.batch.clear();
                self.ended = true;
            }
        }
    }
}

struct MergeIter {
    sources: Vec<Source>,
}

impl Source {
    /// No sample that is left is earlier; `None`: not known without decoding.
    fn bound(&self) -> Option<i64> {
        match self.batch.t_ms.get(self.at) {
            Some(t) => Some(*t),
            None if self.ended => Some(i64::MAX),
            None => self.iter.next_ms(),
        }
    }
}

impl MergeIter {
    /// The source that comes first, if it has nothing decoded, and the earliest that the others may have.
    fn first_alone(&self) -> Option<(usize, i64)> {
        let (mut first, mut earliest, mut others) = (0, i64::MAX, i64::MAX);
        for (i, source) in self.sources.iter().enumerate() {
            let bound = source.bound()?;
            if bound < earliest {
                others = earliest;
                (first, earliest) = (i, bound);
            } else {
                others = others.min(bound);
            }
        }
        let source = self.sources.get(first)?;
        (earliest < others && source.batch.t_ms.get(source.at).is_none()).then_some((first, others))
    }
    /// Where the sources follow each other in time, as head and blocks do, they are decoded one after the other into the
    /// reader's memory. `false`: that is not so.
    fn next_alone(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError> {
        while let Some((first, others)) = self.first_alone() {
            let Some(source) = self.sources.get_mut(first) else { return Ok(false) };
            if !source.iter.next_batch(out)? {
                out.clear();
                source.ended = true;
                continue;
            }
            if out.t_ms.last().is_some_and(|t| *t < others) {
                return Ok(true);
            }
            std::mem::swap(out, &mut source.batch);
            source.at = 0;
            out.clear();
            return Ok(false);
        }
        Ok(false)
    }
}

impl SampleIter for MergeIter {
    fn next_batch(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError> {
        out.clear();
        if self.next_alone(out)? {
            return Ok(true);
        }
        loop {
            // The source with the earliest sample, and where the next other source begins.
            let mut first: Option<(usize, i64)> = None;
            let mut until = i64::MAX;
            for i in 0..self.sources.len() {
                let Some(t) = self.sources.get_mut(i).map_or(Ok(None), Source::time)? else { continue };
                match first {
                    Some((_, best)) if t == best => {
                        // The earlier source has it; this one's is dropped.
                        if let Some(s) = self.sources.get_mut(i) {
                            s.at += 1;
                            if let Some(next) = s.time()? {
                                until = until.min(next);
                            }
                        }
                    }
                    Some((_, best)) if t > best => until = until.min(t),
                    _ => {
                        if let Some((_, best)) = first {
                            until = until.min(best);
                        }
                        first = Some((i, t));
                    }
                }
            }
            let Some(source) = first.and_then(|(i, _)| self.sources.get_mut(i)) else { return Ok(!out.is_empty()) };
            let end = source.batch.t_ms.partition_point(|t| *t < until);
            if out.is_empty() && source.at == 0 && end == source.batch.len() {
                std::mem::swap(out, &mut source.batch);
                source.batch.clear();
                return Ok(true);
            }
            if !out.is_empty() && !same_kind(&out.values, &source.batch.values) {
                return Ok(true);
            }
            copy(&source.batch, source.at, end, out);
            source.at = end;
            if out.len() >= 120 {
                return Ok(true);
            }
        }
    }
    fn next_ms(&self) -> Option<i64> {
        self.sources.iter().map(Source::bound).min().flatten()
    }
    fn skip_to(&mut self, t_ms: i64) {
        self.sources.iter_mut().for_each(|s| s.iter.skip_to(t_ms));
    }
}

fn same_kind(a: &Column, b: &Column) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn copy(from: &SampleBatch, start: usize, end: usize, to: &mut SampleBatch) {
    match &from.values {
        Column::Floats(v) => to.floats_mut().1.extend_from_slice(v.get(start..end).unwrap_or(&[])),
        Column::Histograms(v) => to.histograms_mut().1.extend_from_slice(v.get(start..end).unwrap_or(&[])),
    }
    // Start times are parallel to the times or not there at all: a source without them counts as having none known.
    let before = to.t_ms.len();
    to.t_ms.extend_from_slice(from.t_ms.get(start..end).unwrap_or(&[]));
    if !(from.start_ms.is_empty() && to.start_ms.is_empty()) {
        to.start_ms.resize(before, 0);
        to.start_ms.extend_from_slice(from.start_ms.get(start..end).unwrap_or(&[]));
        to.start_ms.resize(to.t_ms.len(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferula_model::Labels;
    use std::collections::BTreeMap;

    /// Batches, and whether it says when the next one begins.
    struct List(std::vec::IntoIter<SampleBatch>, bool);
    impl SampleIter for List {
        fn next_batch(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError> {
            out.clear();
            match self.0.next() {
                Some(b) => {
                    *out = b;
                    Ok(true)
                }
                None => Ok(false),
            }
        }
        fn next_ms(&self) -> Option<i64> {
            // Not later than it is, and not exact.
            self.1.then(|| self.0.as_slice().first().map_or(i64::MAX, |b| b.t_ms[0] - b.t_ms[0] % 2))
        }
    }
    fn series(times: &[&[i64]], value: f64, says: bool) -> Series {
        let batches: Vec<_> = times
            .iter()
            .map(|t| SampleBatch { t_ms: t.to_vec(), start_ms: vec![], values: Column::Floats(vec![value; t.len()]) })
            .collect();
        Series {
            labels: Arc::new(Labels::from_pairs([("a", "b")])),
            samples: Box::new(List(batches.into_iter(), says)),
        }
    }
    fn read(s: Series) -> Vec<(i64, f64)> {
        let (mut iter, mut batch, mut out) = (s.samples, SampleBatch::default(), Vec::new());
        while iter.next_batch(&mut batch).unwrap() {
            let Column::Floats(v) = &batch.values else { panic!("floats only") };
            assert!(!batch.is_empty() && v.len() == batch.len());
            out.extend(batch.t_ms.iter().copied().zip(v.iter().copied()));
        }
        out
    }

    #[test]
    fn follows_time_and_prefers_the_first() {
        let cases: &[&[&[&[i64]]]] = &[
            &[&[&[1, 2, 3]], &[&[4, 5], &[6]]],
            &[&[&[4, 5], &[9]], &[&[1, 2, 3], &[6, 7]]],
            &[&[&[1, 3, 5], &[7]], &[&[2, 4, 6]], &[&[5, 6, 7, 8]]],
            &[&[&[1, 2, 3]], &[&[1, 2, 3]], &[&[3]]],
            &[&[], &[&[1]], &[]],
        ];
        for case in cases {
            let mut want = BTreeMap::new();
            for (i, s) in case.iter().enumerate() {
                for t in s.iter().flat_map(|b| b.iter()) {
                    want.entry(*t).or_insert(i as f64);
                }
            }
            for who_says in 0..8usize {
                let sources = case.iter().enumerate().map(|(i, s)| series(s, i as f64, who_says & 1 << i != 0));
                let got = merge_series(sources.collect()).unwrap();
                assert_eq!(read(got), want.clone().into_iter().collect::<Vec<_>>(), "{case:?} {who_says}");
            }
        }
    }
}
