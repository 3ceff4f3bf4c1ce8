//! Series with their chunks, in label order, out of the head or a block.
use std::collections::BTreeSet;
use std::sync::Arc;

use ferula_model::{LabelView, Labels};

use crate::block::Block;
use crate::chunk::Encoding;
use crate::error::Error;
use crate::head::out_of_order::LateSample;
use crate::head::series::{Bytes, ChunkView, MemSeries, Snapshot};
use crate::head::symbols::Texts;
use crate::head::{Head, Intervals};
use crate::index::ChunkMeta;
use crate::query::select::LabelIndex;

/// One chunk on its way into a block.
#[derive(Clone, Debug)]
pub struct Piece {
    pub mint_ms: i64,
    pub maxt_ms: i64,
    pub encoding: Encoding,
    pub data: Bytes,
}

/// One series of a source.
#[derive(Debug)]
pub struct SourceSeries {
    pub labels: Labels,
    pub pieces: Vec<Piece>,
    pub deleted: Intervals,
}

/// Hands out series in label order; reads the chunks of one at a time.
pub trait Source {
    fn symbols(&self, into: &mut BTreeSet<Box<str>>);
    fn next(&mut self) -> Result<Option<SourceSeries>, Error>;
}

/// Counts what is read of mapped files. It is not needed again: a compaction that kept it in memory would need as much
/// as all it compacts.
#[derive(Default)]
struct Passed(usize);

impl Passed {
    /// Whether it is time to let go of it.
    fn add(&mut self, bytes: usize) -> bool {
        const STEP: usize = 8 << 20;
        self.0 += bytes;
        let is_due = self.0 >= STEP;
        if is_due {
            self.0 = 0;
        }
        is_due
    }
}

/// The head's samples of a half-open range.
pub struct HeadSource<'a> {
    head: &'a Head,
    passed: Passed,
    /// Has the strings of all these series.
    texts: Arc<Texts>,
    series: std::vec::IntoIter<Arc<MemSeries>>,
    mint_ms: i64,
    end_ms: i64,
}

impl<'a> HeadSource<'a> {
    pub fn new(head: &'a Head, mint_ms: i64, end_ms: i64) -> HeadSource<'a> {
        HeadSource::of(head, head.series.all(), mint_ms, end_ms)
    }
    /// Of some series only.
    pub fn of(head: &'a Head, mut series: Vec<Arc<MemSeries>>, mint_ms: i64, end_ms: i64) -> HeadSource<'a> {
        let texts = head.symbols.texts();
        series.sort_by(|a, b| a.compare_labels(b, &texts));
        HeadSource { head, passed: Passed::default(), texts, series: series.into_iter(), mint_ms, end_ms }
    }
}

impl Source for HeadSource<'_> {
    fn symbols(&self, into: &mut BTreeSet<Box<str>>) {
        let mut seen = hashbrown::HashSet::new();
        for s in self.series.as_slice() {
            for id in s.symbols().iter().flat_map(|(n, v)| [*n, *v]) {
                if seen.insert(id) {
                    into.insert(Box::from(self.texts.get(id)));
                }
            }
        }
    }
    fn next(&mut self) -> Result<Option<SourceSeries>, Error> {
        for s in self.series.by_ref() {
            let last = self.end_ms.saturating_sub(1);
            let Snapshot { mut chunks, files } =
                s.state().snapshot(self.mint_ms, last, None, |at| self.head.chunk_file(at))?;
            if chunks.is_empty() {
                continue;
            }
            files.check(&mut chunks, self.head.chunks_dir())?;
            let bytes = chunks.iter().map(|c| files.bytes(&c.data).len()).sum();
            if self.passed.add(bytes)
                && let Some(chunks) = &self.head.chunks
            {
                chunks.release();
            }
            if let Some(observed) = self.head.observed.get() {
                for c in &chunks {
                    observed.chunk_range_ms.observe((c.maxt_ms - c.mint_ms) as f64);
                    let data = files.bytes(&c.data);
                    observed.chunk_samples.observe(f64::from(c.encoding.count(data)));
                    observed.chunk_bytes.observe(data.len() as f64);
                }
            }
            let piece = |c: ChunkView| {
                let data = files.keep(c.data);
                Piece { mint_ms: c.mint_ms, maxt_ms: c.maxt_ms, encoding: c.encoding, data }
            };
            let pieces = chunks.into_iter().map(piece).collect();
            return Ok(Some(SourceSeries {
                labels: s.labels(&self.texts).to_labels(),
                pieces,
                deleted: self.head.deleted(s.series_ref()),
            }));
        }
        Ok(None)
    }
}

/// The head's samples that came out of order, of a half-open range; remembers what it handed out.
pub struct OutOfOrderSource<'a> {
    inner: HeadSource<'a>,
    pub taken: Vec<(Arc<MemSeries>, Vec<i64>)>,
}

impl<'a> OutOfOrderSource<'a> {
    pub fn new(head: &'a Head, mint_ms: i64, end_ms: i64) -> OutOfOrderSource<'a> {
        OutOfOrderSource { inner: HeadSource::new(head, mint_ms, end_ms), taken: Vec::new() }
    }
}

impl Source for &mut OutOfOrderSource<'_> {
    fn symbols(&self, into: &mut BTreeSet<Box<str>>) {
        self.inner.symbols(into);
    }
    fn next(&mut self) -> Result<Option<SourceSeries>, Error> {
        let (mint_ms, end_ms) = (self.inner.mint_ms, self.inner.end_ms);
        for s in self.inner.series.by_ref() {
            let samples: Vec<LateSample> = match s.state().out_of_order() {
                Some(o) => o.range(mint_ms, end_ms.saturating_sub(1)).to_vec(),
                None => continue,
            };
            if samples.is_empty() {
                continue;
            }
            self.taken.push((Arc::clone(&s), samples.iter().map(|s| s.t_ms).collect()));
            let deleted = self.inner.head.deleted(s.series_ref());
            let pieces = super::write::encode_late(samples);
            return Ok(Some(SourceSeries { labels: s.labels(&self.inner.texts).to_labels(), pieces, deleted }));
        }
        Ok(None)
    }
}

/// A whole block.
pub struct BlockSource<'a> {
    block: &'a Block,
    passed: Passed,
    series: std::vec::IntoIter<u32>,
    metas: Vec<ChunkMeta>,
}

impl<'a> BlockSource<'a> {
    pub fn new(block: &'a Block) -> Result<BlockSource<'a>, Error> {
        Ok(BlockSource { block, passed: Passed::default(), series: block.index.all()?.into_iter(), metas: Vec::new() })
    }
}

impl Source for BlockSource<'_> {
    fn symbols(&self, into: &mut BTreeSet<Box<str>>) {
        into.extend(self.block.index.symbols().map(Box::from));
    }
    fn next(&mut self) -> Result<Option<SourceSeries>, Error> {
        let Some(series) = self.series.next() else { return Ok(None) };
        let labels = self.block.index.series(series, &mut self.metas)?;
        let mut pieces = Vec::with_capacity(self.metas.len());
        for m in &self.metas {
            let (encoding, data) = self.block.mapped_chunk(m.chunk_ref)?;
            if self.passed.add(data.len()) {
                self.block.release();
            }
            pieces.push(Piece { mint_ms: m.mint_ms, maxt_ms: m.maxt_ms, encoding, data: Bytes::Mapped(data) });
        }
        Ok(Some(SourceSeries { labels, pieces, deleted: self.block.deleted(series) }))
    }
}
