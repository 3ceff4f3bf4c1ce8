//! Reading the head: a consistent view as of the moment the querier was made.
use std::collections::BTreeSet;
use std::sync::Arc;

use ferula_model::{Charge, Exemplar, LabelView, Matcher};
use ferula_storage::merge::merge_series;
use ferula_storage::{
    Annotations, Column, ExemplarSeries, LabelHints, Querier, QueryContext, QueryStats, Resolved, SampleBatch,
    SampleIter, SelectHints, Series, SeriesSet, StorageError,
};

use super::resolved::resolve;
use super::run::{Run, decode_run};
use super::select::select;
use crate::error::Error;
use crate::head::isolation::Reader;
use crate::head::out_of_order::OooIter;
use crate::head::series::{ChunkView, MemSeries, SeriesLabels, Snapshot};
use crate::head::stored::{FilePart, Files};
use crate::head::symbols::Texts;
use crate::head::{Head, Intervals};
use crate::soon::soon;

/// Bytes charged to the query for each selected series: its handle and iterator.
const SERIES_BYTES: u64 = 160;
/// Told to a reader that lived so long that compaction did not wait for it.
const EXPIRED: &str = "the query took too long: the samples it reads have been moved into a block";
/// Chunks that are looked at together: as many as are decoded together.
const CHECKED_AT_ONCE: usize = 8;
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
            _charge: charge,
            series: series.into_iter(),
            texts: SharedTexts(Arc::new(OfSelection(texts))),
            reader: Arc::clone(&self.reader),
            has_deleted: self.head.has_deleted(),
            newest_of: hints.newest_only.then_some((mint_ms, maxt_ms)),
            series_only: hints.series_only,
            file: None,
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
    _charge: Charge,
    series: std::vec::IntoIter<Arc<MemSeries>>,
    texts: SharedTexts,
    reader: Arc<Reader>,
    /// Whether anything of the head's is deleted.
    has_deleted: bool,
    /// Only the newest sample within these bounds is wanted.
    newest_of: Option<(i64, i64)>,
    series_only: bool,
    /// The head-chunk file read last.
    file: Option<FilePart>,
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

/// What the iterators of a selection share.
struct ReadContext {
    ctx: QueryContext,
    head: Arc<Head>,
    mint_ms: i64,
    maxt_ms: i64,
    /// Samples before this are cut off: what chunks hold before `mint_ms` may be welcome.
    from_ms: i64,
}

impl HeadSeriesSet {
    fn labels(&self, series: Arc<MemSeries>) -> Arc<dyn LabelView> {
        Arc::new(SeriesLabels { series, texts: self.texts.clone() })
    }
}

impl SeriesSet for HeadSeriesSet {
    fn next(&mut self) -> Option<Result<Series, StorageError>> {
        if self.given.is_multiple_of(CHECK_EVERY)
            && let Err(e) = self.read.ctx.check()
        {
            self.series = Vec::new().into_iter();
            return Some(Err(e.into()));
        }
        loop {
            let series = self.series.next()?;
            if let Some(later) = self.series.as_slice().get(AHEAD) {
                soon(&**later);
            }
            let (mint_ms, maxt_ms) = (self.read.mint_ms, self.read.maxt_ms);
            let state = series.state();
            if let Some((from, to)) = self.newest_of
                && !self.has_deleted
                && let Some((t_ms, value)) = state.newest_float(to, &self.reader)
            {
                drop(state);
                if t_ms < from {
                    continue;
                }
                self.given += 1;
                let samples = Box::new(Newest(Some((t_ms, value))));
                return Some(Ok(Series { labels: self.labels(series), samples }));
            }
            let (head, kept) = (&self.read.head, &mut self.file);
            let snapshot = state.snapshot(mint_ms, maxt_ms, Some(&self.reader), |at| part(head, kept, at));
            let late = state.out_of_order().map(|o| o.visible(mint_ms, maxt_ms, &self.reader));
            let late = late.unwrap_or_default();
            drop(state);
            if self.reader.is_expired() {
                self.series = Vec::new().into_iter();
                return Some(Err(StorageError::Other(EXPIRED.to_owned())));
            }
            let Snapshot { chunks, files } = match snapshot {
                Ok(s) => s,
                Err(e) => return Some(Err(e.into())),
            };
            if chunks.is_empty() && late.is_empty() {
                continue; // nothing of it lies in the range
            }
            self.given += 1;
            let deleted = if self.has_deleted { self.read.head.deleted(series.series_ref()) } else { Intervals::new() };
            let (chunks, mut late) = if self.series_only { (Vec::new(), Vec::new()) } else { (chunks, late) };
            self.chunks += chunks.len();
            late.retain(|s| !deleted.iter().any(|(a, b)| (*a..=*b).contains(&s.t_ms)));
            let chunks = chunks.into_iter();
            let in_order = Box::new(ChunkIter { chunks, files, deleted, read: Arc::clone(&self.read) });
            if late.is_empty() {
                return Some(Ok(Series { labels: self.labels(series), samples: in_order }));
            }
            let late = Series { labels: self.labels(Arc::clone(&series)), samples: Box::new(OooIter::new(late)) };
            return merge_series(vec![late, Series { labels: self.labels(series), samples: in_order }]).map(Ok);
        }
    }
}

/// The file of a chunk, without asking for it again where the chunk before was in it.
fn part(head: &Head, kept: &mut Option<FilePart>, at: u64) -> Result<FilePart, Error> {
    if let Some(part) = kept.as_ref().filter(|k| k.has(at >> 32, at as u32 as usize)) {
        return Ok(part.clone());
    }
    let part = head.chunk_file(at)?;
    *kept = Some(part.clone());
    Ok(part)
}

/// The newest sample of a series, when it is all that is wanted.
struct Newest(Option<(i64, f64)>);

impl SampleIter for Newest {
    fn next_batch(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError> {
        out.clear();
        let Some((t_ms, value)) = self.0.take() else { return Ok(false) };
        let (times, values) = out.floats_mut();
        times.push(t_ms);
        values.push(value);
        Ok(true)
    }
}

/// Decodes chunks that follow each other in time, a few at a time.
struct ChunkIter {
    chunks: std::vec::IntoIter<ChunkView>,
    files: Files,
    deleted: Intervals,
    read: Arc<ReadContext>,
}

impl SampleIter for ChunkIter {
    fn next_batch(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError> {
        let ReadContext { from_ms, maxt_ms, head, .. } = &*self.read;
        loop {
            out.clear();
            let all = self.chunks.as_mut_slice();
            let n = all.len().min(CHECKED_AT_ONCE);
            let next = all.get_mut(..n).unwrap_or(&mut []);
            if next.is_empty() {
                return Ok(false);
            }
            self.files.check(next, head.chunks_dir())?;
            let files = &self.files;
            let run = next.iter().map(|c| Run { encoding: c.encoding, data: files.bytes(&c.data), visible: c.visible });
            let done = decode_run(run, out);
            let n = done.map_err(|m| Error::Invalid(format!("head chunk: {}", m.0)))?;
            self.files.if_torn(head.chunks_dir())?;
            self.chunks.nth(n.saturating_sub(1));
            trim(out, *from_ms, *maxt_ms, &self.deleted);
            if !out.is_empty() {
                return Ok(true);
            }
        }
    }
    fn next_ms(&self) -> Option<i64> {
        Some(self.chunks.as_slice().first().map_or(i64::MAX, |c| c.mint_ms))
    }
    fn skip_to(&mut self, t_ms: i64) {
        let skip = self.chunks.as_slice().iter().take_while(|c| c.maxt_ms < t_ms).count();
        if skip > 0 {
            self.chunks.nth(skip - 1);
        }
    }
}

/// Removes samples outside the inclusive range and inside deleted stretches.
pub fn trim(batch: &mut SampleBatch, mint_ms: i64, maxt_ms: i64, deleted: &Intervals) {
    let from = batch.t_ms.partition_point(|t| *t < mint_ms);
    let to = batch.t_ms.partition_point(|t| *t <= maxt_ms);
    cut(&mut batch.t_ms, from, to);
    cut(&mut batch.start_ms, from, to);
    match &mut batch.values {
        Column::Floats(v) => cut(v, from, to),
        Column::Histograms(v) => cut(v, from, to),
    }
    let (Some(first), Some(last)) = (batch.t_ms.first().copied(), batch.t_ms.last().copied()) else { return };
    for (a, b) in deleted.iter().filter(|(a, b)| *b >= first && *a <= last) {
        let from = batch.t_ms.partition_point(|t| t < a);
        let to = batch.t_ms.partition_point(|t| t <= b);
        batch.t_ms.drain(from..to);
        if !batch.start_ms.is_empty() {
            batch.start_ms.drain(from..to);
        }
        match &mut batch.values {
            Column::Floats(v) => drop(v.drain(from..to)),
            Column::Histograms(v) => drop(v.drain(from..to)),
        }
    }
}

fn cut<T>(v: &mut Vec<T>, from: usize, to: usize) {
    v.truncate(to);
    if from > 0 {
        v.drain(..from.min(v.len()));
    }
}
