//! Logging a batch and making it visible.
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use ferula_model::LabelView;
use ferula_storage::{AppendError, CommitStats, Durability};

use super::append::Batch;
use super::exemplars::Verdict;
use super::out_of_order::OooValue;
use super::series::MemSeries;
use super::{Head, add};
use crate::error::Error;
use crate::record;
use crate::record::histograms::Native;
use crate::record::samples::Sample;
use crate::wal::compress::Compressor;
use crate::wal::writer::Packed;

impl Head {
    /// Writes the batch to the log, applies it as one commit, and waits for the sync if asked to.
    pub(super) fn commit(&self, batch: Batch, durability: Durability) -> Result<CommitStats, Error> {
        let mut stats = CommitStats { series_created: batch.created, ..CommitStats::default() };
        if batch.floats.is_empty() && batch.histograms.is_empty() && batch.exemplars.is_empty() {
            return Ok(stats);
        }
        let (records, fresh) = match &self.wal {
            Some(_) => self.with_compressor(|c| self.records(&batch, c)),
            None => (Vec::new(), None),
        };
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let position = match &self.wal {
            Some(wal) => Some(wal.write(records)?),
            None => None,
        };
        for series in batch.series() {
            series.logged.store(true, Ordering::Release);
        }
        if let Some(fresh) = fresh {
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
        let mut new: Vec<&MemSeries> = batch.series().filter(|s| !s.is_logged()).collect();
        if !new.is_empty() {
            new.sort_unstable_by_key(|s| s.series_ref);
            new.dedup_by_key(|s| s.series_ref);
            let mut out = Vec::with_capacity(new.len() * 200);
            record::series::encode(new.iter().map(|s| (s.series_ref, *s as &dyn LabelView)), &mut out);
            fresh = Some(out.clone());
            records.push(compressor.compress(out));
        }
        if !batch.floats.is_empty() {
            let mut out = Vec::with_capacity(batch.floats.len() * 12 + 32);
            let samples =
                batch.floats.iter().map(|(s, t_ms, value)| Sample { series: s.series_ref, t_ms: *t_ms, value: *value });
            record::samples::encode(samples, &mut out);
            records.push(compressor.compress(out));
        }
        if !batch.exemplars.is_empty() {
            let mut out = Vec::new();
            record::exemplars::encode(batch.exemplars.iter().map(|(_, e)| e), &mut out);
            records.push(compressor.compress(out));
        }
        for kind in record::histograms::KINDS {
            let mut of_kind =
                batch.histograms.iter().filter(|(_, _, h)| record::histograms::kind_of(h) == kind).peekable();
            if of_kind.peek().is_some() {
                let mut out = Vec::new();
                record::histograms::encode(kind, of_kind.map(|(s, t, h)| (s.series_ref, *t, h)), &mut out);
                records.push(compressor.compress(out));
            }
        }
        (records, fresh)
    }

    /// Returns what had to be kept beside the chunks.
    fn apply(&self, batch: Batch, stats: &mut CommitStats) -> Late {
        let commit = self.isolation.begin();
        let mark = (commit.id, self.isolation.low_watermark());
        // Compaction may have begun since the samples were checked: what it cuts off is refused from here on.
        let valid_from = self.min_valid_time();
        let head_max = self.max_time();
        let mut late = Late::default();
        let is_late = |result: Result<bool, AppendError>, t_ms| {
            result == Err(AppendError::OutOfOrder) && self.takes_out_of_order(t_ms, head_max) == Ok(true)
        };
        for (series, t_ms, value) in batch.floats {
            let mut store = |chunk| self.store_chunk(series.series_ref, chunk);
            let mut state = series.state();
            let mut result = match t_ms < valid_from {
                true => Err(AppendError::OutOfOrder),
                false => state.append_float(t_ms, value.to_bits(), mark, self.rules, &mut store),
            };
            if is_late(result, t_ms) {
                result = Ok(state.insert_out_of_order(t_ms, OooValue::Float(value.to_bits())));
                late.floats.push(Sample { series: series.series_ref, t_ms, value });
            }
            stats.floats += u64::from(result == Ok(true));
            self.count_refused(result, stats);
        }
        for (series, t_ms, native) in batch.histograms {
            let mut store = |chunk| self.store_chunk(series.series_ref, chunk);
            let mut state = series.state();
            let kept = if self.wbl.is_some() { Some(Arc::new(native.clone())) } else { None };
            let mut result = match t_ms < valid_from {
                true => Err(AppendError::OutOfOrder),
                false => state.append_histogram(t_ms, native, mark, self.rules, &mut store),
            };
            if is_late(result, t_ms)
                && let Some(native) = kept
            {
                result = Ok(state.insert_out_of_order(t_ms, OooValue::Histogram(Arc::clone(&native))));
                late.histograms.push((series.series_ref, t_ms, native));
            }
            stats.histograms += u64::from(result == Ok(true));
            self.count_refused(result, stats);
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
        let Some(wbl) = &self.wbl else { return Ok(()) };
        if late.floats.is_empty() && late.histograms.is_empty() {
            return Ok(());
        }
        add(&self.counts.out_of_order_appended, (late.floats.len() + late.histograms.len()) as u64);
        let records = self.with_compressor(|c| late.records(c));
        let position = wbl.write(records)?;
        if durability == Durability::Synced { wbl.sync_to(position) } else { Ok(()) }
    }

    fn count_refused(&self, result: Result<bool, AppendError>, stats: &mut CommitStats) {
        if result.is_err() {
            stats.out_of_order += 1;
            add(&self.counts.out_of_order, 1);
        }
    }
}

/// What a commit kept beside the chunks.
#[derive(Default)]
pub(super) struct Late {
    floats: Vec<Sample>,
    histograms: Vec<(u64, i64, Arc<Native>)>,
}

impl Late {
    fn records(self, compressor: &mut Compressor) -> Vec<Packed> {
        let mut records = Vec::new();
        if !self.floats.is_empty() {
            let mut out = Vec::new();
            record::samples::encode(self.floats.into_iter(), &mut out);
            records.push(compressor.compress(out));
        }
        for kind in record::histograms::KINDS {
            let mut of_kind =
                self.histograms.iter().filter(|(_, _, h)| record::histograms::kind_of(h) == kind).peekable();
            if of_kind.peek().is_some() {
                let mut out = Vec::new();
                record::histograms::encode(kind, of_kind.map(|(s, t, h)| (*s, *t, &**h)), &mut out);
                records.push(compressor.compress(out));
            }
        }
        records
    }
}

impl Batch {
    /// Every series of the batch, with repetitions.
    fn series(&self) -> impl Iterator<Item = &MemSeries> {
        let floats = self.floats.iter().map(|(s, ..)| &**s);
        let histograms = self.histograms.iter().map(|(s, ..)| &**s);
        floats.chain(histograms).chain(self.exemplars.iter().map(|(s, _)| &**s))
    }
}
