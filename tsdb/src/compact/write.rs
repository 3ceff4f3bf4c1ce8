//! Merging sources into a new block.
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use ferula_fs::Fs;
use ferula_model::{FloatHistogram, Histogram, Labels};

use super::source::{Piece, Source, SourceSeries};
use crate::block::chunk_file::ChunkWriter;
use crate::block::meta::{Meta, Stats};
use crate::block::{Block, Tombstones};
use crate::chunk::histogram::Fit;
use crate::chunk::histogram_layout::Header;
use crate::chunk::{Encoding, float_histogram, histogram, xor, xor2};
use crate::encoding::Malformed;
use crate::error::{CUT, Error};
use crate::format::names;
use crate::head::Intervals;
use crate::head::out_of_order::{LateSample, OooValue};
use crate::head::read::add_interval;
use crate::head::series::Bytes;
use crate::index::{ChunkMeta, IndexWriter};
use crate::record::histograms::Native;

/// Samples in a chunk that had to be encoded anew.
const SAMPLES_PER_CHUNK: u16 = 120;

/// Writes everything the sources have in the half-open range of `meta` (its statistics are filled in), syncs it, reads
/// it back, and gives it its name. `None` when there is nothing: then nothing is left behind either.
pub fn block(
    fs: &dyn Fs,
    root: &Path,
    mut meta: Meta,
    mut sources: Vec<Box<dyn Source + '_>>,
) -> Result<Option<Block>, Error> {
    let dir = root.join(&meta.ulid);
    let tmp = root.join(format!("{}{}", meta.ulid, names::TMP_FOR_CREATION));
    if fs.exists(&tmp) {
        fs.remove_dir_all(&tmp).map_err(Error::io("removing", &tmp))?;
    }
    fs.create_dir_all(&tmp).map_err(Error::io("creating", &tmp))?;
    let result = fill(fs, &tmp, &mut meta, &mut sources);
    if result.is_err() || meta.stats.num_samples == 0 {
        if let Err(e) = fs.remove_dir_all(&tmp) {
            tracing::warn!(dir = %tmp.display(), error = %e, "cannot remove an unfinished block");
        }
        return result.map(|()| None);
    }
    verify(fs, &tmp, &meta)?;
    fs.rename(&tmp, &dir).map_err(Error::io("renaming", &tmp))?;
    fs.sync_dir(root).map_err(Error::io("syncing", root))?;
    Block::open(fs, &dir).map(Some)
}

fn fill(fs: &dyn Fs, tmp: &Path, meta: &mut Meta, sources: &mut [Box<dyn Source + '_>]) -> Result<(), Error> {
    let mut symbols = BTreeSet::new();
    sources.iter().for_each(|s| s.symbols(&mut symbols));
    let mut index = IndexWriter::create(fs, &tmp.join(names::INDEX), symbols)?;
    let mut chunks = ChunkWriter::create(fs, &tmp.join(names::CHUNKS))?;
    let mut heads: Vec<Option<SourceSeries>> = Vec::new();
    for s in sources.iter_mut() {
        heads.push(s.next()?);
    }
    let mut stats = Stats::default();
    while let Some(labels) = heads.iter().flatten().map(|s| &s.labels).min().cloned() {
        let mut same = Vec::new();
        for (head, source) in heads.iter_mut().zip(sources.iter_mut()) {
            if head.as_ref().is_some_and(|s| s.labels == labels) {
                same.extend(head.take());
                *head = source.next()?;
            }
        }
        let pieces = combine(same, meta.min_time_ms, meta.max_time_ms)
            .map_err(|m| Error::corrupt(tmp, 0, format!("series {labels:?}: {}", m.0)))?;
        series(&labels, &pieces, &mut index, &mut chunks, &mut stats)?;
    }
    meta.stats = stats;
    chunks.finish()?;
    index.finish()?;
    Tombstones::default().write(fs, tmp)?;
    meta.write(fs, tmp)?;
    fs.sync_dir(tmp).map_err(Error::io("syncing", tmp))
}

fn series(
    labels: &Labels,
    pieces: &[Piece],
    index: &mut IndexWriter,
    chunks: &mut ChunkWriter<'_>,
    stats: &mut Stats,
) -> Result<(), Error> {
    if pieces.is_empty() {
        return Ok(());
    }
    let mut metas = Vec::with_capacity(pieces.len());
    for p in pieces {
        let chunk_ref = chunks.write(p.encoding, &p.data)?;
        if p.data.is_torn() {
            return Err(Error::Invalid(format!("a source of the block: {CUT}")));
        }
        metas.push(ChunkMeta { mint_ms: p.mint_ms, maxt_ms: p.maxt_ms, chunk_ref });
        let n = u64::from(p.encoding.count(&p.data));
        stats.num_samples += n;
        *(if p.encoding.is_float() { &mut stats.num_float_samples } else { &mut stats.num_histogram_samples }) += n;
    }
    stats.num_chunks += metas.len() as u64;
    stats.num_series += 1;
    index.series(labels, &metas)
}

/// Opens the new block and looks at all of it: only what can be read may replace what it was made of.
fn verify(fs: &dyn Fs, tmp: &Path, meta: &Meta) -> Result<(), Error> {
    use super::source::BlockSource;
    let block = Block::open(fs, tmp)?;
    let mut source = BlockSource::new(&block)?;
    let (mut series, mut samples) = (0, 0);
    while let Some(s) = source.next()? {
        series += 1;
        samples += s.pieces.iter().map(|p| u64::from(p.encoding.count(&p.data))).sum::<u64>();
    }
    if (series, samples) != (meta.stats.num_series, meta.stats.num_samples) {
        return Err(Error::corrupt(
            tmp,
            0,
            format!("{series} series and {samples} samples were read back, not what was written"),
        ));
    }
    Ok(())
}

/// The chunks of one series, of all sources: passed on as they are where they follow each other within the range and
/// nothing is deleted, encoded anew where not.
fn combine(sources: Vec<SourceSeries>, mint_ms: i64, end_ms: i64) -> Result<Vec<Piece>, Malformed> {
    let single = sources.len() == 1;
    let is_whole = |p: &Piece, deleted: &Intervals| {
        p.mint_ms >= mint_ms && p.maxt_ms < end_ms && !deleted.iter().any(|(a, b)| *a <= p.maxt_ms && *b >= p.mint_ms)
    };
    let untouched = sources.iter().all(|s| s.pieces.iter().all(|p| is_whole(p, &s.deleted)));
    if untouched {
        let mut pieces: Vec<Piece> = sources.iter().flat_map(|s| s.pieces.iter().cloned()).collect();
        pieces.sort_by_key(|p| p.mint_ms);
        if pieces.windows(2).all(|w| matches!(w, [a, b] if a.maxt_ms < b.mint_ms)) {
            return Ok(pieces);
        }
    }
    if single {
        // Chunk by chunk: only those at the border or with deletions are touched.
        let mut out = Vec::new();
        for s in &sources {
            for p in &s.pieces {
                if is_whole(p, &s.deleted) {
                    out.push(p.clone());
                    continue;
                }
                let mut samples = Vec::new();
                collect(p, &outside(&s.deleted, mint_ms, end_ms), &mut samples)?;
                encode(samples, &mut out);
            }
        }
        if out.windows(2).all(|w| matches!(w, [a, b] if a.maxt_ms < b.mint_ms)) {
            return Ok(out);
        }
    }
    let mut samples = Vec::new();
    for s in &sources {
        let deleted = outside(&s.deleted, mint_ms, end_ms);
        for p in &s.pieces {
            collect(p, &deleted, &mut samples)?;
        }
    }
    samples.sort_by_key(|s| s.t_ms); // stable: of equal times the first source's stays
    samples.dedup_by_key(|s| s.t_ms);
    let mut out = Vec::new();
    encode(samples, &mut out);
    Ok(out)
}

/// What is deleted, and everything outside the half-open range.
fn outside(deleted: &Intervals, mint_ms: i64, end_ms: i64) -> Intervals {
    let mut all = deleted.clone();
    if let Some(before) = mint_ms.checked_sub(1) {
        add_interval(&mut all, i64::MIN, before);
    }
    add_interval(&mut all, end_ms, i64::MAX);
    all
}

struct Sample {
    t_ms: i64,
    /// 0 for none.
    start_ms: i64,
    value: Value,
}

enum Value {
    Float(u64),
    Integer(Box<Histogram>),
    FloatHistogram(Arc<FloatHistogram>),
}

fn collect(p: &Piece, deleted: &Intervals, out: &mut Vec<Sample>) -> Result<(), Malformed> {
    let (mut times, mut starts) = (Vec::new(), Vec::new());
    let header = match p.encoding {
        Encoding::HistogramStarts | Encoding::FloatHistogramStarts => Header::Starts,
        _ => Header::Plain,
    };
    let values: Vec<Value> = match p.encoding {
        Encoding::Xor | Encoding::Xor2 => {
            let mut values = Vec::new();
            match p.encoding {
                Encoding::Xor => xor::decode(&p.data, usize::MAX, &mut times, &mut values)?,
                _ => xor2::decode(&p.data, usize::MAX, &mut times, &mut values, &mut starts)?,
            }
            values.into_iter().map(|v| Value::Float(v.to_bits())).collect()
        }
        Encoding::Histogram | Encoding::HistogramStarts => {
            let mut values = Vec::new();
            histogram::decode(&p.data, header, usize::MAX, &mut times, &mut values, &mut starts)?;
            values.into_iter().map(|h| Value::Integer(Box::new(h))).collect()
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramStarts => {
            let mut values = Vec::new();
            float_histogram::decode(&p.data, header, usize::MAX, &mut times, &mut values, &mut starts)?;
            values.into_iter().map(Value::FloatHistogram).collect()
        }
    };
    if p.data.is_torn() {
        return Err(Malformed(CUT));
    }
    starts.resize(times.len(), 0);
    let keep = |t: i64| !deleted.iter().any(|(a, b)| (*a..=*b).contains(&t));
    let all = times.into_iter().zip(starts).zip(values);
    out.extend(all.filter(|((t, _), _)| keep(*t)).map(|((t_ms, start_ms), value)| Sample { t_ms, start_ms, value }));
    Ok(())
}

/// A chunk being encoded. One without start times gets the older encoding, which every reader knows.
enum Open {
    Floats(Vec<u8>, xor::State),
    FloatsWithStarts(Vec<u8>, xor2::State),
    Integer(histogram::Open),
    Float(float_histogram::Open),
}

impl Open {
    fn encoding(&self) -> Encoding {
        match self {
            Open::Floats(..) => Encoding::Xor,
            Open::FloatsWithStarts(..) => Encoding::Xor2,
            Open::Integer(o) if o.header() == Header::Starts => Encoding::HistogramStarts,
            Open::Integer(_) => Encoding::Histogram,
            Open::Float(o) if o.header() == Header::Starts => Encoding::FloatHistogramStarts,
            Open::Float(_) => Encoding::FloatHistogram,
        }
    }
    fn bytes(&self) -> &[u8] {
        match self {
            Open::Floats(chunk, _) | Open::FloatsWithStarts(chunk, _) => chunk,
            Open::Integer(o) => &o.chunk,
            Open::Float(o) => &o.chunk,
        }
    }
    /// A new chunk, whose first sample this is.
    fn new(s: &Sample) -> Open {
        let start_ms = (s.start_ms != 0).then_some(s.start_ms);
        match (&s.value, start_ms) {
            (Value::Float(bits), None) => {
                let (mut chunk, mut state) = (Vec::new(), xor::State::default());
                xor::append(&mut chunk, &mut state, s.t_ms, *bits);
                Open::Floats(chunk, state)
            }
            (Value::Float(bits), Some(start_ms)) => {
                let (mut chunk, mut state) = (Vec::new(), xor2::State::default());
                xor2::append(&mut chunk, &mut state, start_ms, s.t_ms, *bits);
                Open::FloatsWithStarts(chunk, state)
            }
            (Value::Integer(h), _) => {
                Open::Integer(histogram::Open::new(histogram::Open::first_header(h), start_ms, s.t_ms, h))
            }
            (Value::FloatHistogram(h), _) => {
                Open::Float(float_histogram::Open::new(float_histogram::Open::first_header(h), start_ms, s.t_ms, h))
            }
        }
    }
    /// Appends if it fits.
    fn append(&mut self, s: &Sample) -> bool {
        let takes_starts = !matches!(self.encoding(), Encoding::Xor | Encoding::Histogram | Encoding::FloatHistogram);
        if self.encoding().count(self.bytes()) >= SAMPLES_PER_CHUNK || (s.start_ms != 0 && !takes_starts) {
            return false;
        }
        match (self, &s.value) {
            (Open::Floats(chunk, state), Value::Float(bits)) => {
                xor::append(chunk, state, s.t_ms, *bits);
                true
            }
            (Open::FloatsWithStarts(chunk, state), Value::Float(bits)) => {
                xor2::append(chunk, state, s.start_ms, s.t_ms, *bits);
                true
            }
            (Open::Integer(o), Value::Integer(h)) => o.append(s.start_ms, s.t_ms, h) == Fit::Appended,
            (Open::Float(o), Value::FloatHistogram(h)) => o.append(s.start_ms, s.t_ms, h) == Fit::Appended,
            _ => false,
        }
    }
}

/// Chunks of samples that came out of order; their times ascend.
pub(super) fn encode_late(samples: Vec<LateSample>) -> Vec<Piece> {
    let value = |v| match v {
        OooValue::Float(bits) => Value::Float(bits),
        OooValue::Histogram(h) => match Arc::unwrap_or_clone(h) {
            Native::Integer(h) => Value::Integer(Box::new(h)),
            Native::Float(h) => Value::FloatHistogram(Arc::new(h)),
        },
    };
    let mut out = Vec::new();
    let samples = samples.into_iter().map(|s| Sample { t_ms: s.t_ms, start_ms: s.start_ms, value: value(s.value) });
    encode(samples.collect(), &mut out);
    out
}

fn encode(samples: Vec<Sample>, out: &mut Vec<Piece>) {
    let mut open: Option<(i64, Open)> = None;
    let mut last = i64::MIN;
    let mut close = |mint_ms: i64, maxt_ms: i64, o: Open| {
        let encoding = o.encoding();
        out.push(Piece { mint_ms, maxt_ms, encoding, data: Bytes::Memory(Arc::from(o.bytes())) });
    };
    for s in samples {
        let fits = open.as_mut().is_some_and(|(_, o)| o.append(&s));
        if !fits && let Some((mint, full)) = open.replace((s.t_ms, Open::new(&s))) {
            close(mint, last, full);
        }
        last = s.t_ms;
    }
    if let Some((mint, o)) = open {
        close(mint, last, o);
    }
}
