//! The histogram side of a series: its open chunk, when it is cut, and what goes on in the next one.
use ferula_model::{FloatHistogram, Histogram};
use ferula_storage::AppendError;

use super::state::{HistogramPart, OpenHistogram, predicted_end, range_end};
use super::{CutRules, FullChunk, HISTOGRAM_MIN_SAMPLES, HISTOGRAM_TARGET_BYTES, State};
use crate::chunk::histogram::Fit;
use crate::chunk::histogram_layout::ResetHeader;
use crate::chunk::{float_histogram, histogram};
use crate::record::histograms::Native;

impl State {
    /// Stores a histogram, as [`State::append_float`].
    pub fn append_histogram(
        &mut self,
        start_ms: i64,
        t_ms: i64,
        native: Native,
        commit: (u64, u64),
        rules: CutRules,
        store: &mut dyn FnMut(FullChunk) -> FullChunk,
    ) -> Result<bool, AppendError> {
        self.check_histogram(t_ms, &native)?;
        if self.max_time() == Some(t_ms) {
            return Ok(false);
        }
        if self.has_open_floats() {
            self.cut(store);
        }
        if self.histogram_is_full(t_ms, rules) {
            // The samples go on where they were: no reset is known between the two chunks.
            let header = match (&native, self.last_histogram()) {
                (Native::Integer(h), Some(Native::Integer(_))) => {
                    continued(self.try_append(t_ms, &native), || histogram::Open::first_header(h))
                }
                (Native::Float(h), Some(Native::Float(_))) => {
                    continued(self.try_append(t_ms, &native), || float_histogram::Open::first_header(h))
                }
                _ => ResetHeader::Unknown,
            };
            self.cut(store);
            self.open_histogram(header, start_ms, t_ms, &native, rules);
        } else {
            match self.append_open(start_ms, t_ms, &native) {
                Some(Fit::Appended) => {}
                Some(Fit::NewChunk(header)) => {
                    self.cut(store);
                    self.open_histogram(header, start_ms, t_ms, &native, rules);
                }
                None => {
                    self.cut(store);
                    let header = match &native {
                        Native::Integer(h) => histogram::Open::first_header(h),
                        Native::Float(h) => float_histogram::Open::first_header(h),
                    };
                    self.open_histogram(header, start_ms, t_ms, &native, rules);
                }
            }
        }
        if let Some(h) = self.histogram_mut() {
            h.last = native;
        }
        self.last.t_ms = t_ms;
        self.note(commit);
        Ok(true)
    }

    /// What appending to a copy of the open chunk would say.
    fn try_append(&self, t_ms: i64, native: &Native) -> Fit {
        match (self.histogram().and_then(|h| h.open.as_ref()), native) {
            (Some(OpenHistogram::Integer(open)), Native::Integer(h)) => open.clone().append(0, t_ms, h),
            (Some(OpenHistogram::Float(open)), Native::Float(h)) => open.clone().append(0, t_ms, h),
            _ => Fit::NewChunk(ResetHeader::Unknown),
        }
    }
    fn append_open(&mut self, start_ms: i64, t_ms: i64, native: &Native) -> Option<Fit> {
        match (self.histogram_mut().and_then(|h| h.open.as_mut()), native) {
            (Some(OpenHistogram::Integer(open)), Native::Integer(h)) => Some(open.append(start_ms, t_ms, h)),
            (Some(OpenHistogram::Float(open)), Native::Float(h)) => Some(open.append(start_ms, t_ms, h)),
            _ => None,
        }
    }

    fn open_histogram(&mut self, header: ResetHeader, start_ms: i64, t_ms: i64, native: &Native, rules: CutRules) {
        let start_ms = rules.histogram_starts.then_some(start_ms);
        let open = match native {
            Native::Integer(h) => OpenHistogram::Integer(histogram::Open::new(header, start_ms, t_ms, h)),
            Native::Float(h) => OpenHistogram::Float(float_histogram::Open::new(header, start_ms, t_ms, h)),
        };
        self.next_cut_ms = range_end(t_ms, rules.chunk_range_ms);
        self.set_histogram(HistogramPart { open: Some(open), mint_ms: t_ms, has_end: false, last: native.clone() });
    }

    fn histogram_is_full(&mut self, t_ms: i64, rules: CutRules) -> bool {
        let (last_t, next_cut) = (self.last.t_ms, self.next_cut_ms);
        let Some((part, bytes, (samples, samples_max))) = self.histogram_mut().and_then(|p| {
            let open = p.open.as_ref()?;
            let (bytes, count) = (open.bytes().len(), open.count());
            Some((p, bytes, count))
        }) else {
            return false;
        };
        let range_end = range_end(part.mint_ms, rules.chunk_range_ms);
        if !part.has_end && bytes >= HISTOGRAM_TARGET_BYTES / 4 {
            part.has_end = true;
            let ratio = HISTOGRAM_TARGET_BYTES as f64 / bytes as f64;
            self.next_cut_ms = predicted_end(part.mint_ms, last_t, next_cut, ratio);
        }
        let full = t_ms >= self.next_cut_ms || bytes >= HISTOGRAM_TARGET_BYTES * 2;
        (full && samples >= HISTOGRAM_MIN_SAMPLES) || t_ms >= range_end || samples >= samples_max
    }
}

fn continued(fit: Fit, first: impl FnOnce() -> ResetHeader) -> ResetHeader {
    match fit {
        Fit::NewChunk(header) => header,
        Fit::Appended => match first() {
            ResetHeader::Gauge => ResetHeader::Gauge,
            _ => ResetHeader::NotReset,
        },
    }
}

/// Bit-wise equality, so that two stale markers are the same sample.
pub(super) fn same(a: &Native, b: &Native) -> bool {
    fn integer(a: &Histogram, b: &Histogram) -> bool {
        a.sum.to_bits() == b.sum.to_bits()
            && (a.is_stale()
                || Histogram { sum: 0.0, counter_reset_hint: b.counter_reset_hint, ..a.clone() }
                    == Histogram { sum: 0.0, ..b.clone() })
    }
    fn float(a: &FloatHistogram, b: &FloatHistogram) -> bool {
        a.sum.to_bits() == b.sum.to_bits()
            && (a.is_stale()
                || FloatHistogram { sum: 0.0, counter_reset_hint: b.counter_reset_hint, ..a.clone() }
                    == FloatHistogram { sum: 0.0, ..b.clone() })
    }
    match (a, b) {
        (Native::Integer(a), Native::Integer(b)) => integer(a, b),
        (Native::Float(a), Native::Float(b)) => float(a, b),
        _ => false,
    }
}
