//! One series over all steps: the unit that flows between operators.
use std::sync::Arc;

use ferula_model::{FloatHistogram, STALE_NAN};

use crate::error::QueryError;
use crate::identity::Identity;

/// Marks a step without a float. The stale marker never is a value here: selectors resolve it.
pub(crate) const ABSENT: f64 = f64::from_bits(STALE_NAN);

#[inline(always)]
pub(crate) fn is_present(v: f64) -> bool {
    v.to_bits() != STALE_NAN
}

/// Values of one series at every step: a dense float column, histograms beside it where there are any. A step holds a
/// float, a histogram, or nothing.
#[derive(Clone)]
pub(crate) struct Column {
    pub id: Identity,
    /// The metric's name goes when the query ends (delayed name removal).
    pub drop_name: bool,
    /// One per step.
    pub floats: Vec<f64>,
    /// In step order.
    pub histograms: Vec<(u32, Arc<FloatHistogram>)>,
}

/// A value at one step.
#[derive(Clone, Debug)]
pub(crate) enum Point {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Column {
    pub fn new(id: Identity, n: usize) -> Column {
        Column { id, drop_name: false, floats: vec![ABSENT; n], histograms: Vec::new() }
    }
    /// No value at any step.
    pub fn is_vacant(&self) -> bool {
        self.histograms.is_empty() && !self.floats.iter().any(|v| is_present(*v))
    }
    pub fn histogram(&self, step: usize) -> Option<&Arc<FloatHistogram>> {
        if self.histograms.is_empty() {
            return None;
        }
        let i = self.histograms.binary_search_by_key(&(step as u32), |(s, _)| *s).ok()?;
        self.histograms.get(i).map(|(_, h)| h)
    }
    pub fn has(&self, step: usize) -> bool {
        self.floats.get(step).is_some_and(|v| is_present(*v)) || self.histogram(step).is_some()
    }
    pub fn point(&self, step: usize) -> Option<Point> {
        match self.floats.get(step) {
            Some(v) if is_present(*v) => Some(Point::Float(*v)),
            _ => self.histogram(step).map(|h| Point::Histogram(Arc::clone(h))),
        }
    }
    /// Steps must be set in rising order.
    pub fn set(&mut self, step: usize, point: Point) {
        match point {
            Point::Float(v) => {
                if let Some(slot) = self.floats.get_mut(step) {
                    *slot = v;
                }
            }
            Point::Histogram(h) => self.histograms.push((step as u32, h)),
        }
    }
    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.floats.iter().filter(|v| is_present(**v)).count() as u64 + self.histogram_weight()
    }
    /// Bytes held, roughly.
    pub fn bytes(&self) -> u64 {
        8 * self.floats.capacity() as u64 + 128 + 400 * self.histograms.len() as u64
    }
    fn histogram_weight(&self) -> u64 {
        self.histograms.iter().map(|(_, h)| histogram_samples(h)).sum()
    }
    /// Whether the two have a value at the same step.
    pub fn overlaps(&self, other: &Column) -> bool {
        if self.histograms.is_empty() && other.histograms.is_empty() {
            return self.floats.iter().zip(&other.floats).any(|(a, b)| is_present(*a) && is_present(*b));
        }
        (0..self.floats.len()).any(|i| self.has(i) && other.has(i))
    }
    /// Takes over the values of `other`, which has none where this has.
    pub fn absorb(&mut self, other: Column) {
        for (a, b) in self.floats.iter_mut().zip(other.floats) {
            if !is_present(*a) {
                *a = b;
            }
        }
        if !other.histograms.is_empty() {
            self.histograms.extend(other.histograms);
            self.histograms.sort_by_key(|(s, _)| *s);
        }
    }
}

/// A histogram weighs as many samples as its memory would hold (16 bytes each), as upstream counts.
pub(crate) fn histogram_samples(h: &FloatHistogram) -> u64 {
    let buckets = h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len();
    let bytes = 168 + 8 * buckets + 8 * (h.positive_spans.len() + h.negative_spans.len());
    (bytes as u64 + 8) / 16
}

/// Columns one after the other.
pub(crate) trait SeriesStream {
    /// The next series that has any value; after `None` or an error there is nothing more.
    fn next(&mut self) -> Result<Option<Column>, QueryError>;
}

pub(crate) type Stream<'q> = Box<dyn SeriesStream + 'q>;

/// A stream out of a closure.
pub(crate) struct FromFn<F>(pub F);

impl<F: FnMut() -> Result<Option<Column>, QueryError>> SeriesStream for FromFn<F> {
    fn next(&mut self) -> Result<Option<Column>, QueryError> {
        (self.0)()
    }
}

pub(crate) fn stream<'q>(f: impl FnMut() -> Result<Option<Column>, QueryError> + 'q) -> Stream<'q> {
    Box::new(FromFn(f))
}

/// Applies `f` to every series; those it empties are left out.
pub(crate) fn map<'q>(
    mut input: Stream<'q>,
    mut f: impl FnMut(&mut Column) -> Result<(), QueryError> + 'q,
) -> Stream<'q> {
    stream(move || {
        while let Some(mut c) = input.next()? {
            f(&mut c)?;
            if !c.is_vacant() {
                return Ok(Some(c));
            }
        }
        Ok(None)
    })
}

pub(crate) fn from_vec<'q>(columns: Vec<Column>) -> Stream<'q> {
    let mut columns = columns.into_iter();
    stream(move || Ok(columns.next()))
}
