//! Checkpoints: what old segments hold and is still needed, written as a small log of its own in `checkpoint.<last>/`.
use std::path::Path;
use std::sync::Arc;

use ferula_fs::Fs;

use super::compress::{Compression, Compressor};
use super::reader::SegmentReader;
use super::segment;
use super::writer::Wal;
use crate::encoding::{Malformed, crc_more};
use crate::error::Error;
use crate::format::{names, record as kind};
use crate::record;

/// What survives.
pub struct Keep<'a> {
    /// Whether a series is still in the head.
    pub series: &'a dyn Fn(u64) -> bool,
    /// Samples before this are in blocks.
    pub mint_ms: i64,
    pub compression: Compression,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub records: u64,
    pub dropped_series: u64,
    pub dropped_samples: u64,
    /// Damaged stretches in the input; they were stepped over.
    pub damages: usize,
}

/// Merges the newest checkpoint and the segments after it up to `last` into `checkpoint.<last>`. The old checkpoint and
/// the segments stay; [`remove_before`] takes them away once the new one has been read back.
pub fn write(fs: &Arc<dyn Fs>, wal: &Path, last: u64, keep: &Keep<'_>) -> Result<Stats, Error> {
    let dir = wal.join(names::checkpoint(last));
    let tmp = wal.join(format!("{}{}", names::checkpoint(last), names::TMP));
    if fs.exists(&tmp) {
        fs.remove_dir_all(&tmp).map_err(Error::io("removing", &tmp))?;
    }
    let mut stats = Stats::default();
    let mut inputs = Vec::new();
    let mut first = 0;
    if let Some((n, old)) = segment::checkpoints(&**fs, wal)?.pop() {
        first = n + 1;
        inputs.extend(segment::list(&**fs, &old)?.into_iter().map(|s| segment::path(&old, s)));
    }
    let segments = segment::list(&**fs, wal)?;
    inputs.extend(segments.into_iter().filter(|s| (first..=last).contains(s)).map(|s| segment::path(wal, s)));
    let out = Wal::open(Arc::clone(fs), &tmp, 0)?.without_rescue();
    let mut compressor = Compressor::new(keep.compression);
    let mut written = Content::default();
    for path in inputs {
        let bytes = fs.map(&path).map_err(Error::io("mapping", &path))?;
        let mut reader = SegmentReader::new(&bytes);
        let (mut input, mut behind) = (Vec::new(), bytes.behind());
        while reader.next(&mut input) {
            behind.passed(reader.offset());
            match filter(&input, keep, &mut stats) {
                Ok(Some(filtered)) => {
                    written.add(&filtered);
                    out.write(vec![compressor.compress(&filtered)])?;
                }
                Ok(None) => {}
                Err(m) => tracing::warn!(file = %path.display(), what = m.0, "a malformed record is left out"),
            }
        }
        Error::if_torn(&path, &bytes)?;
        stats.damages += reader.damages.len();
    }
    out.sync()?;
    drop(out);
    stats.records = written.records;
    // Only what reads back as it was meant may take the place of the old checkpoint and the segments.
    let read_back = read_back(&**fs, &tmp)?;
    if read_back != written {
        return Err(Error::corrupt(&tmp, 0, format!("{read_back:?} was read back, {written:?} was written")));
    }
    if fs.exists(&dir) {
        fs.remove_dir_all(&dir).map_err(Error::io("removing", &dir))?;
    }
    fs.rename(&tmp, &dir).map_err(Error::io("renaming", &tmp))?;
    fs.sync_dir(wal).map_err(Error::io("syncing", wal))?;
    Ok(stats)
}

/// Removes what a failed [`write()`] left.
pub fn remove_unfinished(fs: &dyn Fs, wal: &Path) {
    for e in fs.list(wal).unwrap_or_default() {
        if e.is_dir && e.name.starts_with(names::CHECKPOINT_PREFIX) && e.name.ends_with(names::TMP) {
            let _ = fs.remove_dir_all(&wal.join(e.name)); // tried again before the next one
        }
    }
}

/// Removes segments up to `last` and checkpoints before it, oldest first: a crash leaves a log without holes.
pub fn remove_before(fs: &dyn Fs, wal: &Path, last: u64) -> Result<(), Error> {
    for n in segment::list(fs, wal)?.into_iter().filter(|n| *n <= last) {
        let path = segment::path(wal, n);
        fs.remove_file(&path).map_err(Error::io("removing", &path))?;
    }
    for (n, dir) in segment::checkpoints(fs, wal)? {
        if n < last {
            fs.remove_dir_all(&dir).map_err(Error::io("removing", &dir))?;
        }
    }
    fs.sync_dir(wal).map_err(Error::io("syncing", wal))
}

/// What a log says: its records and a checksum over all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Content {
    records: u64,
    sum: u32,
}

impl Content {
    fn add(&mut self, record: &[u8]) {
        self.records += 1;
        self.sum = crc_more(self.sum, record);
    }
}

fn read_back(fs: &dyn Fs, dir: &Path) -> Result<Content, Error> {
    let mut content = Content::default();
    for s in segment::list(fs, dir)? {
        let path = segment::path(dir, s);
        let bytes = fs.map(&path).map_err(Error::io("mapping", &path))?;
        let mut reader = SegmentReader::new(&bytes);
        let (mut record, mut behind) = (Vec::new(), bytes.behind());
        while reader.next(&mut record) {
            behind.passed(reader.offset());
            content.add(&record);
        }
        Error::if_torn(&path, &bytes)?;
        if let Some(d) = reader.damages.first() {
            return Err(Error::corrupt(&path, d.from, d.reason));
        }
    }
    Ok(content)
}

/// The part of a record that is still needed; `None` if nothing is.
fn filter(input: &[u8], keep: &Keep<'_>, stats: &mut Stats) -> Result<Option<Vec<u8>>, Malformed> {
    let mut out = Vec::new();
    let wanted = |series: u64, t_ms: i64| t_ms >= keep.mint_ms && (keep.series)(series);
    let mut any = false;
    match record::kind(input) {
        kind::SERIES => {
            let mut kept = Vec::new();
            record::series::decode(input, |r, pairs| {
                if (keep.series)(r) {
                    kept.push((r, ferula_model::Labels::from_pairs(pairs.iter().copied())));
                } else {
                    stats.dropped_series += 1;
                }
            })?;
            any = !kept.is_empty();
            record::series::encode::<ferula_model::Labels, _>(kept.iter().map(|(r, l)| (*r, l)), &mut out);
        }
        k @ (kind::SAMPLES | kind::SAMPLES_V2) => {
            let mut kept = Vec::new();
            record::samples::decode(input, |s| {
                if wanted(s.series, s.t_ms) {
                    kept.push(s);
                } else {
                    stats.dropped_samples += 1;
                }
            })?;
            any = !kept.is_empty();
            record::samples::encode(k, kept.into_iter(), &mut out);
        }
        k if kind::ALL_HISTOGRAMS.contains(&k) => {
            let mut kept = Vec::new();
            record::histograms::decode(input, |s| {
                if wanted(s.series, s.t_ms) {
                    kept.push(s);
                } else {
                    stats.dropped_samples += 1;
                }
            })?;
            any = !kept.is_empty();
            record::histograms::encode(k, kept.iter().map(|s| (s.series, s.start_ms, s.t_ms, &s.histogram)), &mut out);
        }
        kind::TOMBSTONES => {
            let mut kept = Vec::new();
            record::tombstones::decode(input, |t| {
                if wanted(t.series, t.maxt_ms) {
                    kept.push(t);
                }
            })?;
            any = !kept.is_empty();
            record::tombstones::encode(kept.into_iter(), &mut out);
        }
        kind::EXEMPLARS => {
            let mut kept = Vec::new();
            record::exemplars::decode(input, |e| {
                if wanted(e.series, e.t_ms) {
                    kept.push(e);
                }
            })?;
            any = !kept.is_empty();
            record::exemplars::encode(kept.iter(), &mut out);
        }
        kind::METADATA => {
            let mut kept = Vec::new();
            record::metadata::decode(input, |r, m| {
                if (keep.series)(r) {
                    kept.push((r, m));
                }
            })?;
            any = !kept.is_empty();
            record::metadata::encode(kept.iter().map(|(r, m)| (*r, m)), &mut out);
        }
        kind::MMAP_MARKERS => {}
        // Not ours to judge: a newer program may need it.
        _ => return Ok(Some(input.to_vec())),
    }
    Ok(any.then_some(out))
}
