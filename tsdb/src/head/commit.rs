//! Logging a batch and making it visible.
use std::sync::atomic::Ordering;

use ferula_model::LabelView;
use ferula_storage::{AppendError, CommitStats, Durability};

use super::append::Batch;
use super::exemplars::Verdict;
use super::series::MemSeries;
use super::{Head, add};
use crate::error::Error;
use crate::record;
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
        let position = match &self.wal {
            Some(wal) => Some(wal.write(&self.records(&batch))?),
            None => None,
        };
        for series in batch.series() {
            series.logged.store(true, Ordering::Release);
        }
        self.widen(batch.mint_ms.max(self.min_valid_time()), batch.maxt_ms);
        self.apply(batch, &mut stats);
        add(&self.counts.floats_appended, stats.floats);
        add(&self.counts.histograms_appended, stats.histograms);
        add(&self.counts.exemplars_appended, stats.exemplars);
        if let (Some(wal), Some(position), Durability::Synced) = (&self.wal, position, durability) {
            wal.sync_to(position)?;
        }
        Ok(stats)
    }

    /// Series first, so that a reader of the log knows them when their samples come. Whoever commits a series' first
    /// sample logs it, whoever created it: two appenders may both do so, which does no harm.
    fn records(&self, batch: &Batch) -> Vec<Packed> {
        let mut compressor = Compressor::new(self.compression);
        let mut records = Vec::new();
        let mut new: Vec<&MemSeries> = batch.series().filter(|s| !s.is_logged()).collect();
        if !new.is_empty() {
            new.sort_unstable_by_key(|s| s.series_ref);
            new.dedup_by_key(|s| s.series_ref);
            let mut out = Vec::with_capacity(new.len() * 200);
            record::series::encode(new.iter().map(|s| (s.series_ref, *s as &dyn LabelView)), &mut out);
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
        records
    }

    fn apply(&self, batch: Batch, stats: &mut CommitStats) {
        let commit = self.isolation.begin();
        let mark = (commit.id, self.isolation.low_watermark());
        // Compaction may have begun since the samples were checked: what it cuts off is refused from here on.
        let valid_from = self.min_valid_time();
        for (series, t_ms, value) in batch.floats {
            if t_ms < valid_from {
                self.count_refused(Err(AppendError::OutOfBounds), stats);
                continue;
            }
            let mut store = |chunk| self.store_chunk(series.series_ref, chunk);
            let result = series.state().append_float(t_ms, value.to_bits(), mark, self.rules, &mut store);
            stats.floats += u64::from(result == Ok(true));
            self.count_refused(result, stats);
        }
        for (series, t_ms, native) in batch.histograms {
            if t_ms < valid_from {
                self.count_refused(Err(AppendError::OutOfBounds), stats);
                continue;
            }
            let mut store = |chunk| self.store_chunk(series.series_ref, chunk);
            let result = series.state().append_histogram(t_ms, native, mark, self.rules, &mut store);
            stats.histograms += u64::from(result == Ok(true));
            self.count_refused(result, stats);
        }
        if !batch.exemplars.is_empty() {
            let mut ring = self.exemplars();
            for (_, e) in batch.exemplars {
                stats.exemplars += u64::from(ring.add(e) == Verdict::New);
            }
        }
    }

    fn count_refused(&self, result: Result<bool, AppendError>, stats: &mut CommitStats) {
        if result.is_err() {
            stats.out_of_order += 1;
            add(&self.counts.out_of_order, 1);
        }
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
