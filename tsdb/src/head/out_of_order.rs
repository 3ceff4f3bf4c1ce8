//! Samples that came out of order, inside the window: kept sorted beside the series' chunks until they are cut into
//! blocks of their own.
//!
//! They have a log of their own (`wbl/`), since the head's is cut by time. Cost: 24 bytes a sample.
use std::sync::Arc;

use ferula_model::FloatHistogram;
use ferula_storage::{SampleBatch, SampleIter, StorageError};

use crate::record::histograms::Native;

#[derive(Clone, Debug)]
pub enum OooValue {
    /// Bits of a float.
    Float(u64),
    Histogram(Arc<Native>),
}

/// The samples of one series, in order of time.
#[derive(Clone, Debug, Default)]
pub struct OutOfOrder {
    samples: Vec<(i64, OooValue)>,
}

impl OutOfOrder {
    /// `false`: there is a sample of this time already, which stays.
    pub fn insert(&mut self, t_ms: i64, value: OooValue) -> bool {
        match self.samples.binary_search_by_key(&t_ms, |s| s.0) {
            Ok(_) => false,
            Err(at) => {
                self.samples.insert(at, (t_ms, value));
                true
            }
        }
    }
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
    /// Those of the inclusive range.
    pub fn range(&self, mint_ms: i64, maxt_ms: i64) -> &[(i64, OooValue)] {
        let from = self.samples.partition_point(|s| s.0 < mint_ms);
        let to = self.samples.partition_point(|s| s.0 <= maxt_ms);
        self.samples.get(from..to).unwrap_or(&[])
    }
    pub fn bounds(&self) -> Option<(i64, i64)> {
        Some((self.samples.first()?.0, self.samples.last()?.0))
    }
    /// Forgets the samples of these ascending times.
    pub fn remove(&mut self, times: &[i64]) {
        self.samples.retain(|s| times.binary_search(&s.0).is_err());
        self.samples.shrink_to_fit();
    }
}

/// Hands out copied samples, one batch for each run of one kind.
pub struct OooIter {
    samples: std::iter::Peekable<std::vec::IntoIter<(i64, OooValue)>>,
}

impl OooIter {
    pub fn new(samples: Vec<(i64, OooValue)>) -> OooIter {
        OooIter { samples: samples.into_iter().peekable() }
    }
}

impl SampleIter for OooIter {
    fn next_batch(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError> {
        out.clear();
        let Some((_, first)) = self.samples.peek() else { return Ok(false) };
        if matches!(first, OooValue::Float(_)) {
            let (times, values) = out.floats_mut();
            while let Some((t, OooValue::Float(bits))) = self.samples.next_if(|(_, v)| matches!(v, OooValue::Float(_)))
            {
                times.push(t);
                values.push(f64::from_bits(bits));
            }
        } else {
            let (times, values) = out.histograms_mut();
            while let Some((t, OooValue::Histogram(h))) =
                self.samples.next_if(|(_, v)| matches!(v, OooValue::Histogram(_)))
            {
                times.push(t);
                values.push(Arc::new(to_float(&h)));
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
