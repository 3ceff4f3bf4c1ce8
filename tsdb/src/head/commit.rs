//! Logging a batch and making it visible.
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use ferula_storage::{AppendError, CommitStats, Durability};

use super::append::{Batch, Pending, PendingValue};
use super::exemplars::Verdict;
use super::out_of_order::{LateSample, OooValue};
use super::series::{MemSeries, SeriesLabels};
use super::{Head, add};
use crate::error::Error;
use crate::format::record as format;
use crate::record;
use crate::record::histograms::Native;
use crate::record::samples::Sample;
use crate::wal::compress::Compressor;
use crate::wal::writer::Packed;

impl Head {
    /// Writes the batch to the log, applies it as one commit, and waits for the sync if asked to.
    pub(super) fn commit(&self, batch: Batch, durability: Durability) -> Result<CommitStats, Error> {
        let mut stats = CommitStats { series_created: batch.created, ..CommitStats::default() };
        stats.exemplars_out_of_order = batch.late_exemplars;
        if batch.samples.is_empty() && batch.exemplars.is_empty() && batch.metadata.is_empty() {
            return Ok(stats);
        }
        if let Some(space) = &self.space {
            space.admit()?;
        }
        let (records, fresh) = match &self.wal {
            Some(_) => self.with_compressor(|c| self.records(&batch, c)),
            None => (Vec::new(), None),
        };
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let position = match &self.wal {
            Some(wal) => Some(wal.write(records).inspect_err(|e| self.note_failure(e))?),
            None => None,
        };
        if let Some(fresh) = fresh {
            for series in batch.series() {
                series.logged.store(true, Ordering::Release);
            }
            self.note_fresh(fresh);
        }
        self.widen(batch.mint_ms.max(self.min_valid_time()), batch.maxt_ms);
        match self.defer(batch, &mut stats) {
            Some(batch) => {
                let late = self.apply_counted(batch, &mut stats);
                drop(gate);
                self.log_late(late, durability)?;
            }
            None => drop(gate),
        }
        if let (Some(wal), Some(position), Durability::Synced) = (&self.wal, position, durability) {
            wal.sync_to(position)?;
        }
        Ok(stats)
    }

    fn note_failure(&self, error: &Error) {
        if let (Some(space), true) = (&self.space, error.is_disk_full()) {
            space.note_full();
        }
    }

    /// Makes a batch visible that is in the log. Returns what had to be kept beside the chunks.
    pub(super) fn apply_counted(&self, batch: Batch, stats: &mut CommitStats) -> Late {
        let late = self.apply(batch, stats);
        add(&self.counts.floats_appended, stats.floats);
        add(&self.counts.histograms_appended, stats.histograms);
        add(&self.counts.exemplars_appended, stats.exemplars);
        late
    }

    /// Series first, so that a reader of the log knows them when their samples come. Whoever commits a series' first
    /// sample logs it, whoever created it: two appenders may both do so, which does no harm.
    /// Also returns the record of new series as it is, for the restart index.
    fn records(&self, batch: &Batch, compressor: &mut Compressor) -> (Vec<Packed>, Option<Vec<u8>>) {
        let (mut records, mut fresh) = (Vec::new(), None);
        if batch.has_unlogged {
            let mut new: Vec<&MemSeries> = batch.series().filter(|s| !s.is_logged()).collect();
            new.sort_unstable_by_key(|s| s.series_ref());
            new.dedup_by_key(|s| s.series_ref());
            let mut out = Vec::with_capacity(new.len() * 200);
            let texts = self.symbols.texts();
            record::series::encode::<SeriesLabels<_, _>, _>(
                new.iter().map(|s| (s.series_ref(), s.labels(&texts))),
                &mut out,
            );
            records.push(compressor.compress(&out));
            fresh = Some(out);
        }
        if !batch.metadata.is_empty() {
            records.push(
                compressor.record(|out| {
                    record::metadata::encode(batch.metadata.iter().map(|(s, m)| (s.series_ref(), m)), out)
                }),
            );
        }
        let mut from = 0;
        for to in batch.borders() {
            self.sample_records(batch, from..to, compressor, &mut records);
            from = to;
        }
        if !batch.exemplars.is_empty() {
            records
                .push(compressor.record(|out| record::exemplars::encode(batch.exemplars.iter().map(|(_, e)| e), out)));
        }
        (records, fresh)
    }

    /// The records of a part of the batch: floats first, then histograms, type by type.
    fn sample_records(
        &self,
        batch: &Batch,
        part: std::ops::Range<usize>,
        compressor: &mut Compressor,
        records: &mut Vec<Packed>,
    ) {
        let samples = || batch.samples.get(part.clone()).unwrap_or(&[]).iter().zip(part.clone());
        let start = |i: usize| batch.starts.get(i).copied().unwrap_or(0);
        let mut floats = samples()
            .filter_map(|(s, i)| match &s.value {
                PendingValue::Float(bits) => Some(Sample {
                    series: s.series.series_ref(),
                    start_ms: start(i),
                    t_ms: s.t_ms,
                    value: f64::from_bits(*bits),
                }),
                PendingValue::Histogram(_) => None,
            })
            .peekable();
        if floats.peek().is_some() {
            records.push(compressor.record(|out| {
                out.reserve(part.len() * 12 + 32);
                record::samples::encode(self.samples_kind(), floats, out);
            }));
        }
        if batch.histograms == 0 {
            return;
        }
        for kind in format::ALL_HISTOGRAMS {
            let mut of_kind = samples()
                .filter_map(|(s, i)| match &s.value {
                    PendingValue::Histogram(h) if record::histograms::kind_of(h, self.start_times) == kind => {
                        Some((s.series.series_ref(), start(i), s.t_ms, &**h))
                    }
                    _ => None,
                })
                .peekable();
            if of_kind.peek().is_some() {
                records.push(compressor.record(|out| record::histograms::encode(kind, of_kind, out)));
            }
        }
    }

    fn samples_kind(&self) -> u8 {
        if self.start_times { format::SAMPLES_V2 } else { format::SAMPLES }
    }

    /// Returns what had to be kept beside the chunks.
    fn apply(&self, mut batch: Batch, stats: &mut CommitStats) -> Late {
        let commit = self.isolation.begin();
        let mark = (commit.id, self.isolation.low_watermark());
        // Compaction may have begun since the samples were checked: what it cuts off is refused from here on.
        let valid_from = self.min_valid_time();
        let head_max = self.max_time();
        let rules = self.rules();
        let mut late = Late::default();
        let is_late = |result: Result<bool, AppendError>, t_ms| {
            result == Err(AppendError::OutOfOrder) && self.takes_out_of_order(t_ms, head_max) == Ok(true)
        };
        for (i, Pending { series, t_ms, value }) in batch.samples.drain(..).enumerate() {
            let start_ms = batch.starts.get(i).copied().unwrap_or(0);
            let mut store = |chunk| self.store_chunk(series.series_ref(), chunk);
            let mut state = series.state();
            match value {
                PendingValue::Float(bits) => {
                    let mut result = match t_ms < valid_from {
                        true => Err(AppendError::OutOfOrder),
                        false => state.append_float(start_ms, t_ms, bits, mark, rules, &mut store),
                    };
                    if is_late(result, t_ms) {
                        let sample = LateSample { t_ms, start_ms, value: OooValue::Float(bits) };
                        result = Ok(state.insert_out_of_order(sample, mark));
                        let value = f64::from_bits(bits);
                        late.floats.push(Sample { series: series.series_ref(), start_ms, t_ms, value });
                    }
                    stats.floats += u64::from(result == Ok(true));
                    self.count_refused(result, false, stats);
                }
                PendingValue::Histogram(native) => {
                    let kept = if self.wbl.get().is_some() { Some(Arc::new((*native).clone())) } else { None };
                    let mut result = match t_ms < valid_from {
                        true => Err(AppendError::OutOfOrder),
                        false => state.append_histogram(start_ms, t_ms, *native, mark, rules, &mut store),
                    };
                    if is_late(result, t_ms)
                        && let Some(native) = kept
                    {
                        let value = OooValue::Histogram(Arc::clone(&native));
                        result = Ok(state.insert_out_of_order(LateSample { t_ms, start_ms, value }, mark));
                        late.histograms.push((series.series_ref(), start_ms, t_ms, native));
                    }
                    stats.histograms += u64::from(result == Ok(true));
                    self.count_refused(result, true, stats);
                }
            }
        }
        self.give_back(std::mem::take(&mut batch.samples));
        if !batch.metadata.is_empty() {
            let mut table = self.metadata();
            batch.metadata.iter().for_each(|(s, m)| table.set(s.series_ref(), m));
        }
        if !batch.exemplars.is_empty() {
            let mut ring = self.exemplars();
            for (_, e) in batch.exemplars {
                stats.exemplars += u64::from(ring.add(e) == Verdict::New);
            }
        }
        late
    }

    /// Logs what came out of order a second time: the other log is cut by time.
    pub(super) fn log_late(&self, late: Late, durability: Durability) -> Result<(), Error> {
        let Some(wbl) = self.wbl.get() else { return Ok(()) };
        if late.floats.is_empty() && late.histograms.is_empty() {
            return Ok(());
        }
        add(&self.counts.out_of_order_appended, late.floats.len() as u64);
        add(&self.counts.out_of_order_histograms_appended, late.histograms.len() as u64);
        let records = self.with_compressor(|c| late.records(self.start_times, c));
        let position = wbl.write(records)?;
        if durability == Durability::Synced { wbl.sync_to(position) } else { Ok(()) }
    }

    fn count_refused(&self, result: Result<bool, AppendError>, is_histogram: bool, stats: &mut CommitStats) {
        if result.is_err() {
            stats.out_of_order += 1;
            add(self.counts.out_of_order(is_histogram), 1);
        }
    }
}

/// What a commit kept beside the chunks.
#[derive(Default)]
pub(super) struct Late {
    floats: Vec<Sample>,
    histograms: Vec<(u64, i64, i64, Arc<Native>)>,
}

impl Late {
    fn records(self, with_starts: bool, compressor: &mut Compressor) -> Vec<Packed> {
        let mut records = Vec::new();
        if !self.floats.is_empty() {
            let kind = if with_starts { format::SAMPLES_V2 } else { format::SAMPLES };
            records.push(compressor.record(|out| record::samples::encode(kind, self.floats.into_iter(), out)));
        }
        for kind in format::ALL_HISTOGRAMS {
            let is_of_kind = |h: &Native| record::histograms::kind_of(h, with_starts) == kind;
            let mut of_kind = self.histograms.iter().filter(|(.., h)| is_of_kind(h)).peekable();
            if of_kind.peek().is_some() {
                let of_kind = of_kind.map(|(s, start, t, h)| (*s, *start, *t, &**h));
                records.push(compressor.record(|out| record::histograms::encode(kind, of_kind, out)));
            }
        }
        records
    }
}

impl Batch {
    /// Every series of the batch, with repetitions.
    fn series(&self) -> impl Iterator<Item = &MemSeries> {
        let samples = self.samples.iter().map(|s| &*s.series);
        samples.chain(self.exemplars.iter().map(|(s, _)| &**s)).chain(self.metadata.iter().map(|(s, _)| &**s))
    }
    /// Where the batch has to be cut so that in no part a series has samples of two kinds: a reader of the log takes
    /// floats and histograms from different records and would bring them out of order. The last border is the end.
    fn borders(&self) -> Vec<usize> {
        let mut borders = Vec::new();
        if self.histograms > 0 && self.histograms < self.samples.len() {
            let mut kinds = hashbrown::HashMap::new();
            for (i, s) in self.samples.iter().enumerate() {
                let kind = match &s.value {
                    PendingValue::Float(_) => format::SAMPLES,
                    PendingValue::Histogram(h) => record::histograms::kind_of(h, false),
                };
                if kinds.insert(s.series.series_ref(), kind).is_some_and(|before| before != kind) {
                    borders.push(i);
                    kinds.clear();
                    kinds.insert(s.series.series_ref(), kind);
                }
            }
        }
        borders.push(self.samples.len());
        borders
    }
}
