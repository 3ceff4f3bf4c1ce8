//! What travels with samples: their order, start times, exemplars, metadata, and when late ones become visible.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::sync::Arc;

use ferula_fs::Faulty;
use ferula_model::{Exemplar, Histogram, Labels, Matcher, Metadata, MetricType, SeriesRef, Span, Value, stale_nan};
use ferula_storage::{
    AppendError, AppendOptions, Appendable, Appender, Durability, QueryContext, Queryable, SampleBatch,
};
use ferula_tsdb::{Db, Options};
use support::*;

const DIR: &str = "/data";
const MINUTE: i64 = 60_000;

fn histogram(n: u64) -> Histogram {
    Histogram {
        count: n,
        sum: n as f64,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![n as i64],
        ..Histogram::default()
    }
}

fn add(app: &mut dyn Appender, l: &Labels, start: i64, t: i64, v: Value<'_>) -> Result<SeriesRef, AppendError> {
    app.append(SeriesRef::NONE, Some(l), start, t, v, &AppendOptions::default())
}

/// Time and start time of every sample.
fn starts(db: &Db, l: &Labels) -> Vec<(i64, i64)> {
    let querier = db.querier(i64::MIN, i64::MAX).unwrap();
    let matchers: Vec<Matcher> = l.iter().map(|(n, v)| Matcher::equal(n, v)).collect();
    let mut set = querier.select(&QueryContext::background(), true, &Default::default(), &matchers).unwrap();
    let (mut out, mut batch) = (Vec::new(), SampleBatch::default());
    while let Some(series) = set.next() {
        let mut samples = series.unwrap().samples;
        while samples.next_batch(&mut batch).unwrap() {
            assert!(batch.start_ms.is_empty() || batch.start_ms.len() == batch.len());
            batch.start_ms.resize(batch.len(), 0);
            out.extend(batch.t_ms.iter().copied().zip(batch.start_ms.iter().copied()));
        }
    }
    out
}

#[test]
fn a_batch_is_applied_in_the_order_it_came() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options());
    let (l, other) = (labels("__name__=x"), labels("__name__=y"));
    let h = histogram(4);
    let mut app = db.appender();
    add(&mut *app, &l, 0, 1000, Value::Float(1.0)).unwrap();
    add(&mut *app, &other, 0, 1000, Value::Histogram(&h)).unwrap();
    add(&mut *app, &l, 0, 2000, Value::Histogram(&h)).unwrap();
    add(&mut *app, &l, 0, 3000, Value::Float(stale_nan())).unwrap(); // of a histogram's kind, as its series is by now
    add(&mut *app, &l, 0, 4000, Value::Float(2.0)).unwrap();
    add(&mut *app, &other, 0, 2000, Value::Float(3.0)).unwrap();
    add(&mut *app, &l, 0, 5000, Value::FloatHistogram(&h.to_float())).unwrap();
    let stats = app.commit(Durability::Written).unwrap();
    assert_eq!((stats.floats, stats.histograms, stats.out_of_order), (3, 4, 0));
    for db in [db, open(Arc::new(fs.kill_image()), Path::new(DIR), options())] {
        let content = read_all(&*db);
        assert_eq!(floats(&content, &l), "1000=1 2000=h4 3000=h0 4000=2 5000=h4");
        assert_eq!(floats(&content, &other), "1000=h4 2000=3");
    }
}

#[test]
fn what_was_expected_decides_nothing() {
    let db = open(Arc::new(Faulty::default()), Path::new(DIR), options());
    // More than a page of references, so that expectations cross pages.
    let all: Vec<Labels> = (0..600).map(|i| labels(&format!("__name__=x,i={i},same=for_all"))).collect();
    let mut app = db.appender();
    let refs: Vec<SeriesRef> = all.iter().map(|l| add(&mut *app, l, 0, 1000, Value::Float(1.0)).unwrap()).collect();
    app.commit(Durability::Written).unwrap();
    let (unknown, plain) = (SeriesRef(999_999), AppendOptions::default());
    let mut app = db.appender();
    // Right, with gaps, in another order, of series that are not there, too short; and new series in between.
    let expectations: [Vec<SeriesRef>; 6] = [
        refs.clone(),
        refs.iter().copied().step_by(3).collect(),
        refs.iter().copied().rev().collect(),
        vec![unknown, refs[1], SeriesRef::NONE, refs[0]],
        refs[..2].to_vec(),
        Vec::new(),
    ];
    for (round, expected) in expectations.iter().enumerate() {
        let t = 2000 + round as i64;
        app.expect(expected);
        for (i, (r, l)) in refs.iter().zip(&all).enumerate() {
            if i % 100 == 7 {
                let new = labels(&format!("__name__=new,i={i},round={round},same=for_all"));
                add(&mut *app, &new, 0, t, Value::Float(i as f64)).unwrap();
            }
            let given = if i % 50 == 3 {
                add(&mut *app, l, 0, t, Value::Float(i as f64))
            } else {
                app.append(*r, None, 0, t, Value::Float(i as f64), &plain)
            };
            assert_eq!(given, Ok(*r));
        }
        app.expect(expected);
        assert_eq!(app.append(unknown, None, 0, t, Value::Float(0.0), &plain), Err(AppendError::UnknownSeries));
    }
    app.commit(Durability::Written).unwrap();
    let content = read_all(&*db);
    assert_eq!(content.len(), 600 + 6 * expectations.len());
    for (i, l) in all.iter().enumerate() {
        let rounds: String = (0..expectations.len()).map(|r| format!(" {}={i}", 2000 + r)).collect();
        assert_eq!(floats(&content, l), format!("1000=1{rounds}"));
    }
}

#[test]
fn start_times_survive_restart_and_compaction() {
    let options = Options {
        start_times: true,
        xor2: true,
        histogram_starts: true,
        out_of_order_window_ms: 600 * MINUTE,
        ..options()
    };
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options.clone());
    let (f, h, late, none) = (labels("__name__=f"), labels("__name__=h"), labels("__name__=l"), labels("__name__=n"));
    let mut want: [Vec<(i64, i64)>; 3] = Default::default();
    for m in 1..400i64 {
        let t = m * MINUTE;
        // A new process every 150 minutes, and none known in the beginning.
        let start = if m < 20 { 0 } else { (m / 150) * 150 * MINUTE + 7 };
        let mut app = db.appender();
        add(&mut *app, &f, start, t, Value::Float(m as f64)).unwrap();
        add(&mut *app, &h, start, t, Value::Histogram(&histogram(m as u64))).unwrap();
        add(&mut *app, &none, 0, t, Value::Float(1.0)).unwrap();
        app.commit(Durability::Written).unwrap();
        want[0].push((t, start));
        want[1].push((t, start));
    }
    let mut app = db.appender();
    for m in [300, 200, 250] {
        add(&mut *app, &late, m, m * MINUTE, Value::Float(m as f64)).unwrap();
    }
    app.commit(Durability::Written).unwrap();
    want[2].extend([(200 * MINUTE, 200), (250 * MINUTE, 250), (300 * MINUTE, 300)]);
    let got = |db: &Db| [starts(db, &f), starts(db, &h), starts(db, &late)];
    assert_eq!(got(&db), want);
    assert!(starts(&db, &none).iter().all(|(_, s)| *s == 0));
    let again = open(Arc::new(fs.kill_image()), Path::new(DIR), options.clone());
    assert_eq!(got(&again), want);
    db.compact().unwrap();
    assert!(!db.blocks().is_empty());
    assert_eq!(got(&db), want);
    // A border inside a chunk has it encoded anew.
    let matchers = [vec![Matcher::equal("__name__", "f")], vec![Matcher::equal("__name__", "h")]];
    db.delete_series(&matchers, 30 * MINUTE, 31 * MINUTE).unwrap();
    db.clean_tombstones().unwrap();
    want[..2].iter_mut().for_each(|w| w.retain(|(t, _)| !(30 * MINUTE..=31 * MINUTE).contains(t)));
    assert_eq!(got(&db), want);
}

#[test]
fn start_times_are_dropped_unless_asked_for() {
    let db = open(Arc::new(Faulty::default()), Path::new(DIR), options());
    let l = labels("__name__=f");
    add(&mut *db.appender(), &l, 5, 1000, Value::Float(1.0)).unwrap();
    let mut app = db.appender();
    add(&mut *app, &l, 5, 1000, Value::Float(1.0)).unwrap();
    app.commit(Durability::Written).unwrap();
    assert_eq!(starts(&db, &l), [(1000, 0)]);
}

#[test]
fn late_samples_become_visible_with_their_commit() {
    let options = Options { out_of_order_window_ms: 600 * MINUTE, ..options() };
    let db = open(Arc::new(Faulty::default()), Path::new(DIR), options);
    let l = labels("__name__=f");
    put(&db, &l, 500 * MINUTE, 1.0).unwrap();
    put(&db, &l, 400 * MINUTE, 2.0).unwrap();
    let before = db.querier(i64::MIN, i64::MAX).unwrap();
    put(&db, &l, 300 * MINUTE, 3.0).unwrap();
    put(&db, &l, 350 * MINUTE, 4.0).unwrap();
    struct One(std::sync::Mutex<Option<Box<dyn ferula_storage::Querier>>>);
    impl Queryable for One {
        fn querier(&self, _: i64, _: i64) -> Result<Box<dyn ferula_storage::Querier>, ferula_storage::StorageError> {
            Ok(self.0.lock().unwrap().take().unwrap())
        }
    }
    let seen = read_all(&One(std::sync::Mutex::new(Some(before))));
    assert_eq!(floats(&seen, &l), format!("{}=2 {}=1", 400 * MINUTE, 500 * MINUTE));
    put(&db, &l, 310 * MINUTE, 5.0).unwrap();
    assert_eq!(read_all(&*db)[&l].len(), 5);
}

#[test]
fn exemplars_come_alone_to_series_that_are_known() {
    let db = open(Arc::new(Faulty::default()), Path::new(DIR), Options { max_exemplars: 10, ..options() });
    let (l, unknown) = (labels("__name__=f"), labels("__name__=unknown"));
    let e = |t_ms, value| Exemplar { labels: labels("trace=1"), value, t_ms: Some(t_ms) };
    put(&db, &l, 1000, 1.0).unwrap();
    let mut app = db.appender();
    let series = app.append_exemplar(SeriesRef::NONE, Some(&l), &e(500, 1.0)).unwrap();
    assert_eq!(app.append_exemplar(series, None, &e(600, 2.0)), Ok(series));
    assert_eq!(app.append_exemplar(SeriesRef::NONE, Some(&unknown), &e(1, 1.0)), Err(AppendError::UnknownSeries));
    assert_eq!(app.append_exemplar(SeriesRef(99), None, &e(1, 1.0)), Err(AppendError::UnknownSeries));
    let stats = app.commit(Durability::Written).unwrap();
    assert_eq!((stats.floats, stats.exemplars, stats.series_created), (0, 2, 0));
    let mut app = db.appender();
    assert_eq!(app.append_exemplar(series, None, &e(600, 2.0)), Ok(series), "known already");
    assert_eq!(app.append_exemplar(series, None, &e(600, 1.5)), Err(AppendError::OutOfOrderExemplar));
    assert_eq!(app.append_exemplar(series, None, &e(599, 2.0)), Err(AppendError::OutOfOrderExemplar));
    let late = [e(10, 1.0)];
    let options = AppendOptions { exemplars: &late, ..AppendOptions::default() };
    app.append(series, None, 0, 2000, Value::Float(2.0), &options).unwrap();
    let stats = app.commit(Durability::Written).unwrap();
    assert_eq!((stats.floats, stats.exemplars, stats.exemplars_out_of_order), (1, 0, 1));
    let found = db.querier(0, 1000).unwrap();
    let found = found.exemplars(&QueryContext::background(), &[vec![Matcher::equal("__name__", "f")]]).unwrap();
    assert_eq!(found[0].exemplars.iter().map(|e| e.t_ms).collect::<Vec<_>>(), [Some(500), Some(600)]);
}

#[test]
fn metadata_is_logged_when_it_changes() {
    let options = Options { metadata_records: true, ..options() };
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options.clone());
    let l = labels("__name__=f");
    let m = |help: &str| Metadata { metric_type: MetricType::Counter, help: help.to_owned(), unit: "s".to_owned() };
    let mut series = SeriesRef::NONE;
    for (t, help) in [(1, "one"), (2, "one"), (3, "two")] {
        let metadata = m(help);
        let options = AppendOptions { metadata: Some(&metadata), ..AppendOptions::default() };
        let mut app = db.appender();
        series = app.append(series, Some(&l), 0, t * 1000, Value::Float(1.0), &options).unwrap();
        app.commit(Durability::Written).unwrap();
    }
    for db in [db, open(Arc::new(fs.kill_image()), Path::new(DIR), options)] {
        assert_eq!(db.head().metadata_of(series).as_deref(), Some(&m("two")));
    }
}
