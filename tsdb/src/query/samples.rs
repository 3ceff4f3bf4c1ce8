//! The samples of one series of the head, on their way to a reader.
use std::sync::Arc;

use ferula_storage::{Column, QueryContext, SampleBatch, SampleIter, StorageError};

use super::run::{Run, decode_run};
use crate::error::Error;
use crate::head::series::{ChunkView, Snapshot};
use crate::head::stored::Files;
use crate::head::{Head, Intervals};

/// Chunks that are looked at together: as many as are decoded together.
const CHECKED_AT_ONCE: usize = 8;

/// What the iterators of a selection share.
#[derive(Clone)]
pub struct ReadContext {
    pub ctx: QueryContext,
    pub head: Arc<Head>,
    pub mint_ms: i64,
    pub maxt_ms: i64,
    /// Samples before this are cut off: what chunks hold before `mint_ms` may be welcome.
    pub from_ms: i64,
}

/// The newest sample of a series, when it is all that is wanted.
pub struct Newest(pub Option<(i64, f64)>);

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
pub struct ChunkIter {
    chunks: std::vec::IntoIter<ChunkView>,
    files: Files,
    deleted: Intervals,
    read: Arc<ReadContext>,
}

impl ChunkIter {
    pub fn new(snapshot: Snapshot, deleted: Intervals, read: Arc<ReadContext>) -> ChunkIter {
        ChunkIter { chunks: snapshot.chunks.into_iter(), files: snapshot.files, deleted, read }
    }
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
