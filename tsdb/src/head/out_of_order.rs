//! Samples that came out of order, inside the window: kept sorted beside the series' chunks until they are cut into
//! blocks of their own.
//!
//! They have a log of their own (`wbl/`), since the head's is cut by time. Cost: 32 bytes a sample.
use std::sync::Arc;

use ferula_model::FloatHistogram;
use ferula_storage::{SampleBatch, SampleIter, StorageError};

use super::isolation::Reader;
use crate::record::histograms::Native;

#[derive(Clone, Debug)]
pub enum OooValue {
    /// Bits of a float.
    Float(u64),
    Histogram(Arc<Native>),
}

#[derive(Clone, Debug)]
pub struct LateSample {
    pub t_ms: i64,
    /// 0 for none.
    pub start_ms: i64,
    pub value: OooValue,
}

/// The samples of one series, in order of time.
#[derive(Clone, Debug, Default)]
pub struct OutOfOrder {
    samples: Vec<LateSample>,
    /// Commit and time of those that some reader may not see yet: only whole commits are visible.
    recent: Vec<(u64, i64)>,
}

impl OutOfOrder {
    /// `commit`: its number, and up to which every reader sees all. `false`: there is a sample of this time already, which
    /// stays.
    pub fn insert(&mut self, sample: LateSample, commit: (u64, u64)) -> bool {
        match self.samples.binary_search_by_key(&sample.t_ms, |s| s.t_ms) {
            Ok(_) => false,
            Err(at) => {
                if self.recent.first().is_some_and(|(id, _)| *id <= commit.1) {
                    self.recent.retain(|(id, _)| *id > commit.1);
                }
                self.recent.push((commit.0, sample.t_ms));
                self.samples.insert(at, sample);
                true
            }
        }
    }
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
    /// Those of the inclusive range.
    pub fn range(&self, mint_ms: i64, maxt_ms: i64) -> &[LateSample] {
        let from = self.samples.partition_point(|s| s.t_ms < mint_ms);
        let to = self.samples.partition_point(|s| s.t_ms <= maxt_ms);
        self.samples.get(from..to).unwrap_or(&[])
    }
    /// Those of the inclusive range that the reader may see.
    pub fn visible(&self, mint_ms: i64, maxt_ms: i64, reader: &Reader) -> Vec<LateSample> {
        let mut hidden: Vec<i64> =
            self.recent.iter().filter(|(id, _)| !reader.sees(*id)).map(|(_, t_ms)| *t_ms).collect();
        hidden.sort_unstable();
        let all = self.range(mint_ms, maxt_ms).iter();
        all.filter(|s| hidden.binary_search(&s.t_ms).is_err()).cloned().collect()
    }
    pub fn bounds(&self) -> Option<(i64, i64)> {
        Some((self.samples.first()?.t_ms, self.samples.last()?.t_ms))
    }
    /// Forgets the samples of these ascending times.
    pub fn remove(&mut self, times: &[i64]) {
        self.samples.retain(|s| times.binary_search(&s.t_ms).is_err());
        self.samples.shrink_to_fit();
        self.recent.retain(|(_, t_ms)| times.binary_search(t_ms).is_err());
        self.recent.shrink_to_fit();
    }
}

/// Hands out copied samples, one batch for each run of one kind.
pub struct OooIter {
    samples: std::iter::Peekable<std::vec::IntoIter<LateSample>>,
    has_starts: bool,
}

impl OooIter {
    pub fn new(samples: Vec<LateSample>) -> OooIter {
        let has_starts = samples.iter().any(|s| s.start_ms != 0);
        OooIter { samples: samples.into_iter().peekable(), has_starts }
    }
}

impl SampleIter for OooIter {
    fn next_batch(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError> {
        out.clear();
        let Some(first) = self.samples.peek() else { return Ok(false) };
        let float = matches!(first.value, OooValue::Float(_));
        while let Some(s) = self.samples.next_if(|s| matches!(s.value, OooValue::Float(_)) == float) {
            match s.value {
                OooValue::Float(bits) => out.floats_mut().1.push(f64::from_bits(bits)),
                OooValue::Histogram(h) => out.histograms_mut().1.push(Arc::new(to_float(&h))),
            }
            out.t_ms.push(s.t_ms);
            if self.has_starts {
                out.start_ms.push(s.start_ms);
            }
        }
        Ok(true)
    }
}

fn to_float(h: &Native) -> FloatHistogram {
    match h {
        Native::Integer(h) if h.is_stale() => FloatHistogram { sum: h.sum, ..FloatHistogram::default() },
        Native::Integer(h) => h.to_float(),
        Native::Float(h) => h.clone(),
    }
}
