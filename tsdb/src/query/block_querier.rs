//! Reading one block. Damage makes the affected part of the answer a warning, not an error.
use std::sync::Arc;

use ferula_model::{Charge, Matcher};
use ferula_storage::{
    Annotations, LabelHints, Querier, QueryContext, QueryStats, SampleBatch, SampleIter, SelectHints, Series,
    SeriesSet, StorageError,
};
use smallvec::SmallVec;

use super::head_querier::limited;
use super::run::{Run, SAMPLES_MAX, decode_run};
use super::samples::trim;
use super::select::select;
use crate::block::Block;
use crate::chunk::Encoding;
use crate::chunk::xor::AT_ONCE;
use crate::error::Error;
use crate::head::Intervals;
use crate::index::ChunkMeta;

const SERIES_BYTES: u64 = 400;
const CHECK_EVERY: usize = 1024;

pub struct BlockQuerier {
    block: Arc<Block>,
    mint_ms: i64,
    maxt_ms: i64,
}

impl BlockQuerier {
    pub fn new(block: Arc<Block>, mint_ms: i64, maxt_ms: i64) -> BlockQuerier {
        BlockQuerier { block, mint_ms, maxt_ms }
    }
    fn refs(&self, ctx: &QueryContext, matchers: &[Matcher]) -> Result<(Vec<u32>, Charge), StorageError> {
        ctx.check()?;
        let refs = select(&self.block.index, matchers)?;
        let charge = ctx.budget.charge(refs.len() as u64 * SERIES_BYTES)?;
        Ok((refs, charge))
    }
    fn warning(&self, e: &Error) -> Annotations {
        let mut notes = Annotations::default();
        notes.warn(format!("block {}: {e}", self.block.meta.ulid));
        notes
    }
}

/// To be called often: looks at deadline and cancellation now and then.
fn checks(ctx: &QueryContext) -> impl FnMut() -> Result<(), StorageError> + '_ {
    let mut n = 0usize;
    move || {
        n += 1;
        if n.is_multiple_of(CHECK_EVERY) { Ok(ctx.check()?) } else { Ok(()) }
    }
}

impl Querier for BlockQuerier {
    fn select(
        &self,
        ctx: &QueryContext,
        _sorted: bool, // references ascend in label order anyway
        hints: &SelectHints,
        matchers: &[Matcher],
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let (refs, charge) = match self.refs(ctx, matchers) {
            Ok(found) => found,
            Err(StorageError::Corrupt(what)) => {
                let notes = self.warning(&Error::Invalid(what));
                return Ok(Box::new(Warned(notes)));
            }
            Err(e) => return Err(e),
        };
        let (mint_ms, maxt_ms) = hints.within(self.mint_ms, self.maxt_ms);
        Ok(Box::new(BlockSeriesSet {
            ctx: ctx.clone(),
            _charge: charge,
            block: Arc::clone(&self.block),
            refs: refs.into_iter(),
            mint_ms,
            maxt_ms,
            limit: if hints.limit == 0 { usize::MAX } else { hints.limit },
            series_only: hints.series_only,
            given: 0,
            looked_at: 0,
            notes: Annotations::default(),
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
            self.block.index.label_values(name)?.into_iter().collect()
        } else {
            let (refs, _charge) = self.refs(ctx, matchers)?;
            self.block.index.label_values_of(&refs, name, checks(ctx))?
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
            self.block.index.label_names().map(str::to_owned).collect()
        } else {
            let (refs, _charge) = self.refs(ctx, matchers)?;
            self.block.index.label_names_of(&refs, checks(ctx))?
        };
        Ok(limited(names, hints.limit))
    }
}

/// Finds nothing and warns: stands for a block that cannot be read.
pub struct WarningQuerier(pub Annotations);

impl Querier for WarningQuerier {
    fn select(
        &self,
        _: &QueryContext,
        _: bool,
        _: &SelectHints,
        _: &[Matcher],
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        Ok(Box::new(Warned(self.0.clone())))
    }
    fn label_values(
        &self,
        _: &QueryContext,
        _: &str,
        _: &LabelHints,
        _: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        Ok((Vec::new(), self.0.clone()))
    }
    fn label_names(
        &self,
        _: &QueryContext,
        _: &LabelHints,
        _: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        Ok((Vec::new(), self.0.clone()))
    }
}

/// No series, only a warning.
struct Warned(Annotations);
impl SeriesSet for Warned {
    fn next(&mut self) -> Option<Result<Series, StorageError>> {
        None
    }
    fn annotations(&mut self) -> Annotations {
        std::mem::take(&mut self.0)
    }
}

struct BlockSeriesSet {
    ctx: QueryContext,
    _charge: Charge,
    block: Arc<Block>,
    refs: std::vec::IntoIter<u32>,
    mint_ms: i64,
    maxt_ms: i64,
    limit: usize,
    series_only: bool,
    given: usize,
    looked_at: usize,
    notes: Annotations,
}

impl SeriesSet for BlockSeriesSet {
    fn next(&mut self) -> Option<Result<Series, StorageError>> {
        if self.given >= self.limit {
            return None;
        }
        let mut chunks = Vec::new();
        loop {
            let series = self.refs.next()?;
            self.looked_at += 1;
            if self.looked_at.is_multiple_of(CHECK_EVERY)
                && let Err(e) = self.ctx.check()
            {
                self.refs = Vec::new().into_iter();
                return Some(Err(e.into()));
            }
            let labels = match self.block.index.series(series, &mut chunks) {
                Ok(l) => l,
                Err(e) => {
                    self.notes.warn(format!("block {}: {e}", self.block.meta.ulid));
                    continue;
                }
            };
            let deleted = self.block.deleted(series);
            chunks.retain(|c| {
                c.mint_ms <= self.maxt_ms
                    && c.maxt_ms >= self.mint_ms
                    && !deleted.iter().any(|(from, to)| *from <= c.mint_ms && c.maxt_ms <= *to)
            });
            if chunks.is_empty() {
                continue;
            }
            self.given += 1;
            QueryStats::add(&self.ctx.stats.series, 1);
            if self.series_only {
                chunks.clear();
            }
            QueryStats::add(&self.ctx.stats.chunks, chunks.len() as u64);
            let samples = BlockIter {
                block: Arc::clone(&self.block),
                chunks: chunks.into_iter(),
                mint_ms: self.mint_ms,
                maxt_ms: self.maxt_ms,
                deleted,
            };
            return Some(Ok(Series { labels: Arc::new(labels), samples: Box::new(samples) }));
        }
    }
    fn annotations(&mut self) -> Annotations {
        std::mem::take(&mut self.notes)
    }
}

struct BlockIter {
    block: Arc<Block>,
    chunks: std::vec::IntoIter<ChunkMeta>,
    mint_ms: i64,
    maxt_ms: i64,
    deleted: Intervals,
}

impl SampleIter for BlockIter {
    fn next_batch(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError> {
        loop {
            out.clear();
            let all = self.chunks.as_slice();
            if all.is_empty() {
                return Ok(false);
            }
            // No more than will be decoded: a chunk's checksum is computed whenever it is asked for.
            let (mut found, mut samples) = (SmallVec::<[_; AT_ONCE]>::new(), 0);
            for meta in all.iter().take(AT_ONCE) {
                let (encoding, data) = self.block.chunk(meta.chunk_ref)?;
                found.push((encoding, data));
                samples += usize::from(encoding.count(data));
                if encoding != Encoding::Xor || samples >= SAMPLES_MAX {
                    break;
                }
            }
            let run = found.iter().map(|(encoding, data)| Run { encoding: *encoding, data, visible: usize::MAX });
            let decoded = decode_run(run, out);
            let n = decoded.map_err(|m| {
                // The samples of the chunks before the damaged one are there.
                let mut whole = 0;
                let damaged = found.iter().zip(all).find(|((encoding, data), _)| {
                    whole += usize::from(encoding.count(data));
                    whole > out.len()
                });
                let at = damaged.or(found.iter().zip(all).next()).map_or(0, |(_, meta)| meta.chunk_ref as u32 as usize);
                Error::corrupt(&self.block.dir, at, m.0)
            })?;
            self.chunks.nth(n - 1);
            self.block.whole()?;
            trim(out, self.mint_ms, self.maxt_ms, &self.deleted);
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
