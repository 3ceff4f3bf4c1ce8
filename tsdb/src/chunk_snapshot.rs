//! The chunk snapshot that a Prometheus left at its shutdown: found, and read into a head while the log is.
//!
//! The log has everything that a snapshot has, unless somebody took segments away; so the snapshot is read at the place of
//! the log that it stands for, and only what is missing by then is taken from it. That is logged, and then the snapshot
//! moves aside: left behind it would make Prometheus give out references twice.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferula_fs::Fs;
use ferula_storage::{Column, SampleBatch};

use crate::chunk::histogram_layout::Header;
use crate::chunk::{self, Encoding, histogram};
use crate::encoding::Malformed;
use crate::error::Error;
use crate::format::{chunk_snapshot as kind, names, record as log};
use crate::head::out_of_order::{LateSample, OooValue};
use crate::record;
use crate::record::exemplars::ExemplarRecord;
use crate::record::histograms::Native;
use crate::record::samples::Sample;
use crate::record::tombstones::Tombstone;
use crate::wal::reader::SegmentReader;
use crate::wal::segment;

/// Where the newest snapshot is and up to which segment of the log it goes.
#[derive(Clone, Debug)]
pub struct ChunkSnapshot {
    pub segment: u64,
    dir: PathBuf,
}

/// What a snapshot is read into.
pub(crate) trait Sink {
    /// A series; returns the reference it goes by here and its newest sample, or nothing if it is not to be believed.
    fn series(&mut self, series: u64, labels: &[(&str, &str)]) -> Option<(u64, Option<i64>)>;
    /// A sample newer than all that the series had.
    fn sample(&mut self, series: u64, sample: LateSample);
    fn tombstone(&mut self, t: Tombstone);
    fn exemplar(&mut self, e: ExemplarRecord);
}

impl ChunkSnapshot {
    /// The newest of `root`.
    pub fn find(fs: &dyn Fs, root: &Path) -> Result<Option<ChunkSnapshot>, Error> {
        let entries = fs.list(root).map_err(Error::io("listing", root))?;
        let place = |name: &str| {
            let (segment, offset) = name.strip_prefix(names::CHUNK_SNAPSHOT_PREFIX)?.split_once('.')?;
            Some((names::number(segment)?, names::number(offset)?))
        };
        let found = entries.iter().filter(|e| e.is_dir).filter_map(|e| Some((place(&e.name)?, &e.name))).max();
        Ok(found.map(|((segment, _), name)| ChunkSnapshot { segment, dir: root.join(name) }))
    }

    /// Hands everything to `sink`. An error says that some of it could not be read; what could be was handed on.
    pub(crate) fn read(&self, fs: &dyn Fs, sink: &mut dyn Sink) -> Result<(), Error> {
        let mut damage = None;
        for n in segment::list(fs, &self.dir)? {
            let path = segment::path(&self.dir, n);
            let bytes = fs.map(&path).map_err(Error::io("mapping", &path))?;
            let mut reader = SegmentReader::new(&bytes);
            let (mut bytes_read, mut behind) = (Vec::new(), bytes.behind());
            while reader.next(&mut bytes_read) {
                if let Err(m) = record_into(&bytes_read, sink) {
                    damage.get_or_insert((path.clone(), reader.offset(), m.0));
                }
                behind.passed(reader.offset());
            }
            Error::if_torn(&path, &bytes)?;
            if let Some(d) = reader.damages.first() {
                damage.get_or_insert((path, d.from, d.reason));
            }
        }
        damage.map_or(Ok(()), |(path, offset, what)| Err(Error::corrupt(&path, offset, what)))
    }
}

fn record_into(bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Malformed> {
    match record::kind(bytes) {
        kind::SERIES => {
            let found = record::chunk_snapshot::series(bytes)?;
            let Some((series, newest)) = sink.series(found.series, &found.labels) else { return Ok(()) };
            match found.chunk {
                Some((encoding, maxt_ms, data)) if newest.is_none_or(|t| t < maxt_ms) => {
                    samples(encoding, data, newest, &mut |s| sink.sample(series, s))
                }
                _ => Ok(()), // the log had all of it: the usual case
            }
        }
        kind::TOMBSTONES => record::chunk_snapshot::tombstones(bytes, |t| sink.tombstone(t)),
        kind::EXEMPLARS => record::exemplars::decode(bytes, |e| sink.exemplar(e)),
        _ => Err(Malformed("unknown type of record in a chunk snapshot")),
    }
}

/// Samples of a chunk behind `newest`, in order. All or none: an undecodable chunk is not believed in part.
fn samples(
    encoding: Encoding,
    data: &[u8],
    newest: Option<i64>,
    each: &mut dyn FnMut(LateSample),
) -> Result<(), Malformed> {
    let is_new = |t_ms: i64| newest.is_none_or(|n| n < t_ms);
    let start = |starts: &[i64], i: usize| starts.get(i).copied().unwrap_or(0);
    if let Encoding::Histogram | Encoding::HistogramStarts = encoding {
        let header = if encoding == Encoding::Histogram { Header::Plain } else { Header::Starts };
        let (mut t_ms, mut values, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        histogram::decode(data, header, usize::MAX, &mut t_ms, &mut values, &mut starts)?;
        for (i, (t_ms, h)) in t_ms.into_iter().zip(values).enumerate().filter(|(_, (t, _))| is_new(*t)) {
            let value = OooValue::Histogram(Arc::new(Native::Integer(h)));
            each(LateSample { t_ms, start_ms: start(&starts, i), value });
        }
        return Ok(());
    }
    let mut batch = SampleBatch::default();
    chunk::decode(encoding, data, usize::MAX, &mut batch)?;
    let value = |i: usize| match &batch.values {
        Column::Floats(v) => v.get(i).map(|v| OooValue::Float(v.to_bits())),
        Column::Histograms(h) => h.get(i).map(|h| OooValue::Histogram(Arc::new(Native::Float((**h).clone())))),
    };
    for (i, t_ms) in batch.t_ms.iter().copied().enumerate().filter(|(_, t)| is_new(*t)) {
        if let Some(value) = value(i) {
            each(LateSample { t_ms, start_ms: start(&batch.start_ms, i), value });
        }
    }
    Ok(())
}

/// Records for the log of what only the snapshot had, in the order in which a replay needs them.
#[derive(Debug, Default)]
pub(crate) struct Rescued {
    pub records: Vec<Vec<u8>>,
    floats: Vec<Sample>,
    histograms: Vec<(u64, i64, i64, Native)>,
    pub samples: u64,
}

/// Samples in one record.
const RECORD_SAMPLES: usize = 4096;

impl Rescued {
    pub fn series(&mut self, series: u64, labels: &ferula_model::Labels) {
        let mut out = Vec::new();
        record::series::encode::<ferula_model::Labels, _>(std::iter::once((series, labels)), &mut out);
        self.records.push(out);
    }
    pub fn sample(&mut self, series: u64, sample: &LateSample) {
        self.samples += 1;
        let (start_ms, t_ms) = (sample.start_ms, sample.t_ms);
        match &sample.value {
            OooValue::Float(bits) => {
                self.floats.push(Sample { series, start_ms, t_ms, value: f64::from_bits(*bits) });
            }
            OooValue::Histogram(h) => self.histograms.push((series, start_ms, t_ms, (**h).clone())),
        }
        if self.floats.len() + self.histograms.len() >= RECORD_SAMPLES {
            self.flush();
        }
    }
    /// A series has one open chunk, so that its samples are of one kind and need not be kept in order with those of others.
    pub fn flush(&mut self) {
        if !self.floats.is_empty() {
            let kind = if self.floats.iter().any(|s| s.start_ms != 0) { log::SAMPLES_V2 } else { log::SAMPLES };
            let mut out = Vec::new();
            record::samples::encode(kind, self.floats.drain(..), &mut out);
            self.records.push(out);
        }
        let has_starts = self.histograms.iter().any(|h| h.1 != 0);
        for kind in log::ALL_HISTOGRAMS {
            let of_kind = self.histograms.iter().filter(|h| record::histograms::kind_of(&h.3, has_starts) == kind);
            let mut of_kind = of_kind.map(|(series, start_ms, t_ms, h)| (*series, *start_ms, *t_ms, h)).peekable();
            if of_kind.peek().is_some() {
                let mut out = Vec::new();
                record::histograms::encode(kind, of_kind, &mut out);
                self.records.push(out);
            }
        }
        self.histograms.clear();
    }
    pub fn tombstone(&mut self, t: Tombstone) {
        let mut out = Vec::new();
        record::tombstones::encode(std::iter::once(t), &mut out);
        self.records.push(out);
    }
    pub fn exemplar(&mut self, e: &ExemplarRecord) {
        let mut out = Vec::new();
        record::exemplars::encode(std::iter::once(e), &mut out);
        self.records.push(out);
    }
}
