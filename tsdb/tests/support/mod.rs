//! What the tests of the store share: opening one, appending, reading everything back.
#![allow(dead_code)]
pub mod prometheus;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferula_fs::{Disk, Fs};
use ferula_instrument::Registry;
use ferula_model::{FloatHistogram, Labels, ManualClock, Matcher, SeriesRef, Value};
use ferula_storage::{
    AppendError, AppendOptions, Appendable, Appender, Column, QueryContext, Queryable, SampleBatch, SelectHints,
};
use ferula_tsdb::{Db, Error, Options};

/// No background threads: what happens depends on the test alone.
pub fn options() -> Options {
    Options { background: false, free_space_min_bytes: Some(0), reserve_bytes: 0, ..Options::default() }
}

pub fn try_open(fs: Arc<dyn Fs>, dir: &Path, options: Options) -> Result<Arc<Db>, Error> {
    Db::open(dir, options, fs, Arc::new(ManualClock::at(1_700_000_000_000)), &Registry::new())
}

pub fn open(fs: Arc<dyn Fs>, dir: &Path, options: Options) -> Arc<Db> {
    try_open(fs, dir, options).unwrap()
}

pub fn open_disk(dir: &Path) -> Arc<Db> {
    open(Arc::new(Disk), dir, options())
}

pub fn labels(text: &str) -> Labels {
    Labels::from_pairs(text.split(',').map(|p| p.split_once('=').unwrap()))
}

pub fn append(a: &mut dyn Appender, l: &Labels, t: i64, v: f64) -> Result<SeriesRef, AppendError> {
    a.append(SeriesRef::NONE, Some(l), 0, t, Value::Float(v), &AppendOptions::default())
}

/// One sample, one commit.
pub fn put(db: &Db, l: &Labels, t: i64, v: f64) -> Result<(), AppendError> {
    let mut a = db.appender();
    let result = append(&mut *a, l, t, v).map(|_| ());
    a.commit(Default::default()).unwrap();
    result
}

#[derive(Clone, Debug)]
pub enum Sample {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl PartialEq for Sample {
    fn eq(&self, o: &Self) -> bool {
        match (self, o) {
            (Sample::Float(a), Sample::Float(b)) => a.to_bits() == b.to_bits(),
            (Sample::Histogram(a), Sample::Histogram(b)) => {
                a == b || (a.sum.is_nan() && a.sum.to_bits() == b.sum.to_bits())
            }
            _ => false,
        }
    }
}

pub type Content = BTreeMap<Labels, Vec<(i64, Sample)>>;

pub fn read(db: &dyn Queryable, mint: i64, maxt: i64, matchers: &[Matcher]) -> Content {
    let querier = db.querier(mint, maxt).unwrap();
    let mut set = querier.select(&QueryContext::background(), true, &SelectHints::default(), matchers).unwrap();
    let mut out = Content::new();
    let mut last: Option<Labels> = None;
    while let Some(series) = set.next() {
        let mut series = series.unwrap();
        let l = series.labels.to_labels();
        assert!(last.as_ref().is_none_or(|last| *last < l), "series are sorted");
        last = Some(l.clone());
        let mut batch = SampleBatch::default();
        let mut samples = Vec::new();
        while series.samples.next_batch(&mut batch).unwrap() {
            assert!(!batch.is_empty());
            match &batch.values {
                Column::Floats(v) => {
                    samples.extend(batch.t_ms.iter().copied().zip(v.iter().map(|v| Sample::Float(*v))))
                }
                Column::Histograms(h) => {
                    samples.extend(batch.t_ms.iter().copied().zip(h.iter().map(|h| Sample::Histogram(Arc::clone(h)))))
                }
            }
        }
        assert!(samples.windows(2).all(|w| w[0].0 < w[1].0), "times increase in {l:?}");
        if !samples.is_empty() {
            out.insert(l, samples);
        }
    }
    out
}

pub fn read_all(db: &dyn Queryable) -> Content {
    read(db, i64::MIN, i64::MAX, &[])
}

/// Floats of one series as `t=v`.
pub fn floats(content: &Content, l: &Labels) -> String {
    let samples = content.get(l).map_or(&[][..], |s| s);
    let text: Vec<_> = samples
        .iter()
        .map(|(t, s)| match s {
            Sample::Float(v) => format!("{t}={v}"),
            Sample::Histogram(h) => format!("{t}=h{}", h.count),
        })
        .collect();
    text.join(" ")
}

/// The corpus folder, or `None` after saying that the suite is skipped.
pub fn corpus(suite: &str) -> Option<PathBuf> {
    let found = std::env::var_os("FERULA_CORPUS").map(PathBuf::from).filter(|p| p.is_dir());
    if found.is_none() {
        println!("SKIPPED {suite}: FERULA_CORPUS is not set to the corpus folder");
    }
    found
}

/// A program of the real stack, or `None` after saying that the suite is skipped.
pub fn peer(suite: &str, name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PEERS").map(|p| PathBuf::from(p).join(name)).filter(|p| p.is_file());
    if found.is_none() {
        println!("SKIPPED {suite}: PEERS has no {name}");
    }
    found
}
