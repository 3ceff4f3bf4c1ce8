//! Reading the head: a consistent view as of the moment the querier was made.
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use ferula_model::{Charge, Exemplar, LabelView, Matcher};
use ferula_storage::merge::merge_series;
use ferula_storage::{
    Annotations, ExemplarSeries, LabelHints, Querier, QueryContext, QueryStats, Resolved, SelectHints, Series,
    SeriesSet, StorageError,
};
use smallvec::SmallVec;

use super::resolved::resolve;
use super::samples::{ChunkIter, Newest, ReadContext};
use super::select::select;
use super::together;
use crate::chunk::xor::AT_ONCE;
use crate::error::Error;
use crate::head::isolation::Reader;
use crate::head::out_of_order::OooIter;
use crate::head::series::{MemSeries, SeriesLabels, Snapshot};
use crate::head::stored::FilePart;
use crate::head::symbols::Texts;
use crate::head::{Head, Intervals};
use crate::soon::soon;

/// Bytes charged to the query for each selected series: its handle and iterator.
const SERIES_BYTES: u64 = 160;
/// Told to a reader that lived so long that compaction did not wait for it.
const EXPIRED: &str = "the query took too long: the samples it reads have been moved into a block";
/// The memory of a series is asked for when so many others come before it.
const AHEAD: usize = 4;
/// Between two looks at deadline and cancellation.
const CHECK_EVERY: usize = 1024;

pub struct HeadQuerier {
    head: Arc<Head>,
    reader: Arc<Reader>,
    mint_ms: i64,
    maxt_ms: i64,
}

impl HeadQuerier {
    pub fn new(head: Arc<Head>, mint_ms: i64, maxt_ms: i64) -> HeadQuerier {
        let reader = Arc::new(head.isolation.reader(mint_ms));
        HeadQuerier { head, reader, mint_ms, maxt_ms }
    }
    fn series(
        &self,
        ctx: &QueryContext,
        sorted: bool,
        kept: Option<&Resolved>,
        matchers: &[Matcher],
    ) -> Result<(Vec<Arc<MemSeries>>, Charge), StorageError> {
        ctx.check()?;
        resolve(&self.head, matchers, sorted, kept, |n| Ok(ctx.budget.charge(n as u64 * SERIES_BYTES)?))
    }
}

/// Cuts to the limit; upstream warns when it did.
pub(super) fn limited(values: BTreeSet<String>, limit: usize) -> (Vec<String>, Annotations) {
    let mut notes = Annotations::default();
    let mut values: Vec<String> = values.into_iter().collect();
    if limit > 0 && values.len() > limit {
        values.truncate(limit);
        notes.warn("results truncated due to limit");
    }
    (values, notes)
}

impl Querier for HeadQuerier {
    fn select(
        &self,
        ctx: &QueryContext,
        sorted: bool,
        hints: &SelectHints,
        matchers: &[Matcher],
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let (mut series, charge) = self.series(ctx, sorted, hints.resolved.as_deref(), matchers)?;
        let texts = self.head.symbols.texts();
        if hints.limit > 0 {
            series.truncate(hints.limit);
        }
        let (mint_ms, maxt_ms) = hints.within(self.mint_ms, self.maxt_ms);
        let uncut = hints.may_begin_earlier && mint_ms == hints.start_ms;
        let from_ms = if uncut { i64::MIN } else { mint_ms };
        Ok(Box::new(HeadSeriesSet {
            read: Arc::new(ReadContext { ctx: ctx.clone(), head: Arc::clone(&self.head), mint_ms, maxt_ms, from_ms }),
            _charge: Some(charge),
            series: series.into_iter(),
            texts: SharedTexts(Arc::new(OfSelection(texts))),
            reader: Arc::clone(&self.reader),
            has_deleted: self.head.has_deleted(),
            newest_only: hints.newest_only,
            series_only: hints.series_only,
            file: None,
            ready: VecDeque::new(),
            given: 0,
            chunks: 0,
        }))
    }

    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        hints: &LabelHints,
        matchers: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        let values = if matchers.is_empty() {
            self.head.all_label_values(name).into_iter().collect()
        } else {
            ctx.check()?;
            let refs = select(&self.head.index(), matchers)?;
            let _charge = ctx.budget.charge(refs.len() as u64 * SERIES_BYTES)?;
            self.head.label_values_among(&refs, name)
        };
        Ok(limited(values, hints.limit))
    }

    fn label_names(
        &self,
        ctx: &QueryContext,
        hints: &LabelHints,
        matchers: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        let names = if matchers.is_empty() {
            self.head.all_label_names()
        } else {
            ctx.check()?;
            let refs = select(&self.head.index(), matchers)?;
            let _charge = ctx.budget.charge(refs.len() as u64 * SERIES_BYTES)?;
            self.head.label_names_among(&refs)
        };
        Ok(limited(names, hints.limit))
    }

    fn exemplars(
        &self,
        ctx: &QueryContext,
        matcher_sets: &[Vec<Matcher>],
    ) -> Result<Vec<ExemplarSeries>, StorageError> {
        let mut wanted: hashbrown::HashMap<u64, (Arc<MemSeries>, Vec<Exemplar>)> = hashbrown::HashMap::new();
        for matchers in matcher_sets {
            let (series, _charge) = self.series(ctx, false, None, matchers)?;
            wanted.extend(series.into_iter().map(|s| (s.series_ref(), (s, Vec::new()))));
        }
        for e in self.head.exemplars().iter().filter(|e| (self.mint_ms..=self.maxt_ms).contains(&e.t_ms)) {
            if let Some((_, list)) = wanted.get_mut(&e.series) {
                list.push(Exemplar { labels: e.labels.clone(), value: e.value, t_ms: Some(e.t_ms) });
            }
        }
        let texts = self.head.symbols.texts();
        let mut out: Vec<_> = wanted
            .into_values()
            .filter(|(_, list)| !list.is_empty())
            .map(|(s, mut exemplars)| {
                exemplars.sort_by_key(|e| e.t_ms);
                ExemplarSeries { labels: s.labels(&texts).to_labels(), exemplars }
            })
            .collect();
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(out)
    }
}

struct HeadSeriesSet {
    read: Arc<ReadContext>,
    /// For the handles of all series: the whole selection's, also for what is split off.
    _charge: Option<Charge>,
    series: std::vec::IntoIter<Arc<MemSeries>>,
    texts: SharedTexts,
    reader: Arc<Reader>,
    /// Whether anything of the head's is deleted.
    has_deleted: bool,
    /// Only the newest sample within the bounds is wanted.
    newest_only: bool,
    series_only: bool,
    /// The head-chunk file read last.
    file: Option<Arc<FilePart>>,
    /// Fetched, to be given next.
    ready: VecDeque<Result<Series, StorageError>>,
    /// Series and chunks given so far: noted in the statistics at the end.
    given: usize,
    chunks: usize,
}

impl Drop for HeadSeriesSet {
    fn drop(&mut self) {
        let stats = &self.read.ctx.stats;
        QueryStats::add(&stats.series, self.given as u64);
        QueryStats::add(&stats.chunks, self.chunks as u64);
    }
}

/// The strings of one selection: counted apart from the table's own references, which all queries share.
#[derive(Clone)]
struct SharedTexts(Arc<OfSelection>);

struct OfSelection(Arc<Texts>);

impl std::ops::Deref for SharedTexts {
    type Target = Texts;
    fn deref(&self) -> &Texts {
        &self.0.0
    }
}

impl HeadSeriesSet {
    fn labels(&self, series: Arc<MemSeries>) -> Arc<dyn LabelView> {
        Arc::new(SeriesLabels { series, texts: self.texts.clone() })
    }
}

/// A series of the selection.
enum Fetched {
    Whole(Series),
    /// One that is to be decoded together with others.
    Few(Arc<MemSeries>, Snapshot),
}

impl HeadSeriesSet {
    fn fail(&mut self, e: impl Into<StorageError>) -> Option<Result<Fetched, StorageError>> {
        self.series = Vec::new().into_iter();
        Some(Err(e.into()))
    }

    /// The next series that has any samples within the bounds.
    fn fetch(&mut self) -> Option<Result<Fetched, StorageError>> {
        if self.given.is_multiple_of(CHECK_EVERY)
            && let Err(e) = self.read.ctx.check()
        {
            return self.fail(e);
        }
        loop {
            let series = self.series.next()?;
            if let Some(later) = self.series.as_slice().get(AHEAD) {
                soon(&**later);
            }
            let (mint_ms, maxt_ms) = (self.read.mint_ms, self.read.maxt_ms);
            let state = series.state();
            if self.newest_only
                && !self.has_deleted
                && let Some((t_ms, value)) = state.newest_float(maxt_ms, &self.reader)
            {
                drop(state);
                if t_ms < mint_ms {
                    continue;
                }
                self.given += 1;
                let samples = Box::new(Newest(Some((t_ms, value))));
                return Some(Ok(Fetched::Whole(Series { labels: self.labels(series), samples })));
            }
            if self.series_only
                && let Some(overlaps) = state.overlaps(mint_ms, maxt_ms, &self.reader)
            {
                drop(state);
                if !overlaps {
                    continue;
                }
                self.given += 1;
                let samples = Box::new(Newest(None));
                return Some(Ok(Fetched::Whole(Series { labels: self.labels(series), samples })));
            }
            let (head, kept) = (&self.read.head, &mut self.file);
            let snapshot = state.snapshot(mint_ms, maxt_ms, Some(&self.reader), |at| part(head, kept, at));
            let late = state.out_of_order().map(|o| o.visible(mint_ms, maxt_ms, &self.reader));
            let mut late = late.unwrap_or_default();
            drop(state);
            if self.reader.is_expired() {
                return self.fail(StorageError::Other(EXPIRED.to_owned()));
            }
            let mut snapshot = match snapshot {
                Ok(snapshot) => snapshot,
                Err(e) => return self.fail(e),
            };
            if snapshot.chunks.is_empty() && late.is_empty() {
                continue; // nothing of it lies in the range
            }
            self.given += 1;
            if self.series_only {
                snapshot = Snapshot::default();
                late.clear();
            }
            self.chunks += snapshot.chunks.len();
            if late.is_empty() && !self.has_deleted && together::suits(&snapshot) {
                return Some(Ok(Fetched::Few(series, snapshot)));
            }
            let deleted = if self.has_deleted { self.read.head.deleted(series.series_ref()) } else { Intervals::new() };
            late.retain(|s| !deleted.iter().any(|(a, b)| (*a..=*b).contains(&s.t_ms)));
            let in_order = Box::new(ChunkIter::new(snapshot, deleted, Arc::clone(&self.read)));
            if late.is_empty() {
                return Some(Ok(Fetched::Whole(Series { labels: self.labels(series), samples: in_order })));
            }
            let late = Series { labels: self.labels(Arc::clone(&series)), samples: Box::new(OooIter::new(late)) };
            let in_order = Series { labels: self.labels(series), samples: in_order };
            return merge_series(vec![late, in_order]).map(|merged| Ok(Fetched::Whole(merged)));
        }
    }

    /// Fetches series until there are enough to be decoded together, or one that is not.
    fn fill(&mut self) {
        let (mut series, mut snapshots, mut behind) = (SmallVec::<[_; AT_ONCE]>::new(), Vec::new(), None);
        while snapshots.len() < AT_ONCE {
            match self.fetch() {
                Some(Ok(Fetched::Few(s, snapshot))) => {
                    series.push(s);
                    snapshots.push(snapshot);
                }
                Some(Ok(Fetched::Whole(s))) => behind = Some(Ok(s)),
                Some(Err(e)) => behind = Some(Err(e)),
                None => break,
            }
            if behind.is_some() {
                break;
            }
        }
        if !snapshots.is_empty() {
            let samples = together::together(&self.read, snapshots, self.newest_only);
            for (series, samples) in series.into_iter().zip(samples) {
                self.ready.push_back(Ok(Series { labels: self.labels(series), samples }));
            }
        }
        self.ready.extend(behind);
    }
}

impl SeriesSet for HeadSeriesSet {
    fn next(&mut self) -> Option<Result<Series, StorageError>> {
        if self.ready.is_empty() {
            self.fill();
        }
        self.ready.pop_front()
    }

    fn split_off(&mut self, n: usize) -> Option<Box<dyn SeriesSet>> {
        let series: Vec<_> = self.series.by_ref().take(n).collect();
        if series.is_empty() && self.ready.is_empty() {
            return None;
        }
        Some(Box::new(HeadSeriesSet {
            // What every series counts references of, two threads had better not count in one place.
            read: Arc::new(self.read.as_ref().clone()),
            texts: SharedTexts(Arc::new(OfSelection(Arc::clone(&self.texts.0.0)))),
            _charge: None,
            series: series.into_iter(),
            reader: Arc::clone(&self.reader),
            has_deleted: self.has_deleted,
            newest_only: self.newest_only,
            series_only: self.series_only,
            file: self.file.as_ref().map(|part| Arc::new(part.as_ref().clone())),
            ready: std::mem::take(&mut self.ready),
            given: 0,
            chunks: 0,
        }))
    }
}

/// The file of a chunk, without asking for it again where the chunk before was in it.
fn part(head: &Head, kept: &mut Option<Arc<FilePart>>, at: u64) -> Result<Arc<FilePart>, Error> {
    if let Some(part) = kept.as_ref().filter(|k| k.has(at >> 32, at as u32 as usize)) {
        return Ok(Arc::clone(part));
    }
    let part = head.chunk_file(at)?;
    *kept = Some(Arc::clone(&part));
    Ok(part)
}
