//! Rebuilding the head from records of the log.
use hashbrown::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use ferula_fs::Fs;
use ferula_model::Labels;

use super::covered::Covered;
use super::exemplars::Verdict;
use super::gather::{Applied, Gather};
use super::head_chunks::Loaded;
use super::out_of_order::{LateSample, OooValue};
use super::series::MemSeries;
use super::{Head, add};
use crate::chunk_snapshot::{ChunkSnapshot, Rescued, Sink};
use crate::encoding::Malformed;
use crate::format::record as kind;
use crate::record;
use crate::record::exemplars::ExemplarRecord;
use crate::record::tombstones::Tombstone;

/// The commit of what was in the log at the start.
const SEEN_BY_ALL: (u64, u64) = (0, u64::MAX);

/// What a replay found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayStats {
    pub records: u64,
    pub series: u64,
    pub samples: u64,
    pub histograms: u64,
    /// Samples whose series record is lost. They are never given to another series.
    pub orphaned: u64,
    /// Records that did not decode although their checksum was right.
    pub malformed: u64,
    /// Records of a type this program does not know.
    pub unknown: u64,
    /// Samples that only a chunk snapshot had.
    pub from_snapshot: u64,
}

/// Applies records one by one.
pub struct Replay<'a> {
    head: &'a Head,
    /// A series that was created anew after it had been dropped has two references in the log.
    aliases: HashMap<u64, Arc<MemSeries>>,
    chunks: Loaded,
    covered: Covered,
    pub stats: ReplayStats,
    gather: Gather,
    applied: Applied,
    /// Samples before this are in blocks.
    valid_from: i64,
    rescued: Rescued,
}

impl<'a> Replay<'a> {
    /// `chunks`: full chunks found in files; their samples are not taken from the log again.
    pub fn new(head: &'a Head, chunks: Loaded) -> Self {
        let valid_from = head.min_valid_time.load(Ordering::Acquire);
        let mut replay = Replay {
            head,
            aliases: HashMap::new(),
            covered: Covered::new(&chunks),
            chunks,
            stats: ReplayStats::default(),
            gather: Gather::default(),
            applied: Applied::nothing(),
            valid_from,
            rescued: Rescued::default(),
        };
        // Those that the restart index named.
        for series in head.series.all() {
            replay.adopt(&series);
        }
        replay.chunks.retain(|series| head.series.by_ref(series).is_none());
        replay
    }

    /// What the log says of series, and nothing else of it: for the part of it that the restart index does not cover.
    pub fn note_series(head: &Head, bytes: &[u8]) {
        // Malformed records are counted when everything is read.
        let _ = match record::kind(bytes) {
            kind::SERIES => record::series::decode(bytes, |series_ref, pairs| {
                head.insert_logged(series_ref, &Labels::from_pairs(pairs.iter().copied()));
            }),
            kind::SAMPLES | kind::SAMPLES_V2 => record::samples::decode(bytes, |s| head.note_ref(s.series)),
            _ => Ok(()),
        };
    }

    fn adopt(&mut self, series: &MemSeries) {
        let of_series = self.chunks.of(series.series_ref());
        let from = of_series.partition_point(|(_, c)| c.maxt_ms < self.valid_from);
        let found: Box<[_]> = of_series.iter().skip(from).map(|(_, c)| c.clone()).collect();
        let (Some(first), Some(last)) = (found.first(), found.last()) else { return };
        self.applied.mint_ms = self.applied.mint_ms.min(first.mint_ms.max(self.valid_from));
        self.applied.maxt_ms = self.applied.maxt_ms.max(last.maxt_ms);
        add(&self.head.counts.chunks_created, found.len() as u64);
        series.state().adopt(found);
        self.covered.begin(series.series_ref());
    }

    fn find(head: &Head, aliases: &HashMap<u64, Arc<MemSeries>>, series_ref: u64) -> Option<Arc<MemSeries>> {
        head.series.by_ref(series_ref).or_else(|| aliases.get(&series_ref).cloned())
    }

    /// Applies a record of the log of samples that came out of order. To be called after the other log is through.
    pub fn apply_late(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let (head, aliases) = (self.head, &self.aliases);
        let insert = |series: u64, sample: LateSample| match Self::find(head, aliases, series) {
            Some(s) => u64::from(s.state().insert_out_of_order(sample, SEEN_BY_ALL)),
            None => 0,
        };
        let (mut samples, mut histograms) = (0, 0);
        let result = match record::kind(bytes) {
            kind::SAMPLES | kind::SAMPLES_V2 => record::samples::decode(bytes, |s| {
                let value = OooValue::Float(s.value.to_bits());
                samples += insert(s.series, LateSample { t_ms: s.t_ms, start_ms: s.start_ms, value });
            }),
            k if kind::ALL_HISTOGRAMS.contains(&k) => record::histograms::decode(bytes, |s| {
                let value = OooValue::Histogram(Arc::new(s.histogram));
                histograms += insert(s.series, LateSample { t_ms: s.t_ms, start_ms: s.start_ms, value });
            }),
            kind::MMAP_MARKERS => Ok(()),
            _ => {
                self.stats.unknown += 1;
                Ok(())
            }
        };
        self.stats.samples += samples;
        self.stats.histograms += histograms;
        self.stats.malformed += u64::from(result.is_err());
        result
    }

    /// Applies a record; one that does not decode although its checksum is right may have been applied in part.
    pub fn apply(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.stats.records += 1;
        let result = match record::kind(bytes) {
            kind::SERIES => self.series(bytes),
            kind::SAMPLES | kind::SAMPLES_V2 => self.samples(bytes),
            k if kind::ALL_HISTOGRAMS.contains(&k) => self.histograms(bytes),
            kind::TOMBSTONES => self.tombstones(bytes),
            kind::EXEMPLARS => self.exemplars(bytes),
            kind::METADATA => self.metadata(bytes),
            kind::MIN_VALID_TIME => record::min_valid_time(bytes).map(|t| self.valid_from = self.valid_from.max(t)),
            kind::MMAP_MARKERS => Ok(()),
            _ => {
                self.stats.unknown += 1;
                Ok(())
            }
        };
        self.stats.malformed += u64::from(result.is_err());
        result
    }

    fn series(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        record::series::decode(bytes, |series_ref, pairs| {
            self.head.note_ref(series_ref);
            self.known_series(series_ref, &labels(pairs));
        })
    }

    /// The series of a series record, and whether it is new.
    fn known_series(&mut self, series_ref: u64, labels: &Labels) -> Option<(Arc<MemSeries>, bool)> {
        if labels.is_empty() {
            return None;
        }
        let (series, is_new) = self.head.create(labels, Some(series_ref), None).ok()?;
        self.stats.series += u64::from(is_new);
        series.logged.store(true, Ordering::Release);
        if is_new {
            self.adopt(&series);
        }
        if series.series_ref() != series_ref {
            self.aliases.insert(series_ref, Arc::clone(&series));
        }
        Some((series, is_new))
    }

    /// The reference a series goes by.
    fn canonical(aliases: &HashMap<u64, Arc<MemSeries>>, series_ref: u64) -> u64 {
        if aliases.is_empty() { series_ref } else { aliases.get(&series_ref).map_or(series_ref, |s| s.series_ref()) }
    }

    fn samples(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let (gather, aliases, covered) = (&mut self.gather, &self.aliases, &mut self.covered);
        let result = record::samples::decode(bytes, |s| {
            let series = Self::canonical(aliases, s.series);
            if s.t_ms >= self.valid_from && !covered.has(self.head, series, s.t_ms) {
                gather.float(series, s.start_ms, s.t_ms, s.value.to_bits());
            }
        });
        self.apply_if_full();
        result
    }

    fn histograms(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let (gather, aliases, covered) = (&mut self.gather, &self.aliases, &mut self.covered);
        let result = record::histograms::decode(bytes, |s| {
            let series = Self::canonical(aliases, s.series);
            if s.t_ms >= self.valid_from && !covered.has(self.head, series, s.t_ms) {
                gather.histogram(series, s.start_ms, s.t_ms, s.histogram);
            }
        });
        self.apply_if_full();
        result
    }

    fn apply_if_full(&mut self) {
        if self.gather.is_full(self.head.series_count()) {
            self.apply_gathered();
        }
    }

    /// Applies what was held back to be sorted.
    pub(crate) fn apply_gathered(&mut self) {
        let done = self.gather.apply(self.head);
        self.applied.merge(&done);
    }

    fn tombstones(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        record::tombstones::decode(bytes, |t| {
            if let Some(series) = Self::find(self.head, &self.aliases, t.series)
                && t.maxt_ms >= self.valid_from
            {
                self.head.add_tombstone(series.series_ref(), t.mint_ms, t.maxt_ms);
            }
        })
    }

    /// Kept only if new ones are; otherwise they stay in the log, and checkpoints carry them on.
    fn metadata(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        record::metadata::decode(bytes, |series, metadata| {
            if self.head.metadata_records
                && let Some(series) = Self::find(self.head, &self.aliases, series)
            {
                self.head.metadata().set(series.series_ref(), &metadata);
            }
        })
    }

    fn exemplars(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        record::exemplars::decode(bytes, |mut e| {
            if let Some(series) = Self::find(self.head, &self.aliases, e.series) {
                e.series = series.series_ref();
                self.head.exemplars().add(e);
            }
        })
    }

    /// Takes from a chunk snapshot what the log has not said by now: to be called behind the segment that it stands for.
    pub(crate) fn apply_snapshot(&mut self, fs: &dyn Fs, snapshot: &ChunkSnapshot) -> Result<(), crate::Error> {
        self.apply_gathered();
        let result = snapshot.read(fs, self);
        self.apply_gathered();
        self.rescued.flush();
        result
    }

    /// Sets the head's range. To be called after the last record. Also returns, for the log, what only a chunk snapshot had.
    pub(crate) fn finish(mut self) -> (ReplayStats, Vec<Vec<u8>>) {
        self.apply_gathered();
        self.stats.samples += self.applied.stats.samples;
        self.stats.histograms += self.applied.stats.histograms;
        self.stats.orphaned += self.applied.stats.orphaned;
        let aliases = self.aliases.iter().map(|(alias, s)| (*alias, s.series_ref()));
        self.head.aliases.write().unwrap_or_else(PoisonError::into_inner).extend(aliases);
        self.head.widen(self.applied.mint_ms, self.applied.maxt_ms);
        // Replayed ones were counted when they first came.
        self.head.counts.series_created.fetch_sub(self.stats.series, Ordering::Relaxed);
        self.stats.from_snapshot = self.rescued.samples;
        (self.stats, self.rescued.records)
    }
}

/// Labels of a record: mostly in order, which saves sorting them.
fn labels(pairs: &[(&str, &str)]) -> Labels {
    let is_sorted = pairs.is_sorted_by(|a, b| a.0 < b.0) && pairs.iter().all(|(_, v)| !v.is_empty());
    if is_sorted { Labels::from_sorted(pairs.iter().copied()) } else { Labels::from_pairs(pairs.iter().copied()) }
}

impl Sink for Replay<'_> {
    fn series(&mut self, series_ref: u64, pairs: &[(&str, &str)]) -> Option<(u64, Option<i64>)> {
        self.head.note_ref(series_ref);
        let labels = Labels::from_pairs(pairs.iter().copied());
        // A snapshot of another time may call another series so: the log is the truth.
        if Self::find(self.head, &self.aliases, series_ref).is_some_and(|s| !s.has_labels(&labels, &self.head.symbols))
        {
            return None;
        }
        let (series, is_new) = self.known_series(series_ref, &labels)?;
        if is_new {
            self.rescued.series(series_ref, &labels);
        }
        let newest = series.state().max_time();
        Some((series.series_ref(), newest))
    }
    fn sample(&mut self, series: u64, sample: LateSample) {
        if sample.t_ms < self.valid_from {
            return;
        }
        self.rescued.sample(series, &sample);
        match sample.value {
            OooValue::Float(bits) => self.gather.float(series, sample.start_ms, sample.t_ms, bits),
            OooValue::Histogram(h) => {
                self.gather.histogram(series, sample.start_ms, sample.t_ms, Arc::unwrap_or_clone(h));
            }
        }
        self.apply_if_full();
    }
    fn tombstone(&mut self, t: Tombstone) {
        let Some(series) = Self::find(self.head, &self.aliases, t.series).map(|s| s.series_ref()) else { return };
        let covers = |(from, to): &(i64, i64)| *from <= t.mint_ms && t.maxt_ms <= *to;
        if t.maxt_ms >= self.valid_from && !self.head.deleted(series).iter().any(covers) {
            self.head.add_tombstone(series, t.mint_ms, t.maxt_ms);
            self.rescued.tombstone(Tombstone { series, ..t });
        }
    }
    fn exemplar(&mut self, mut e: ExemplarRecord) {
        let Some(series) = Self::find(self.head, &self.aliases, e.series) else { return };
        e.series = series.series_ref();
        if self.head.exemplars().add(e.clone()) == Verdict::New {
            self.rescued.exemplar(&e);
        }
    }
}
