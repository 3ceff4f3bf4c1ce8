//! The head through the storage contracts: rules of appending, isolation, restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::sync::Arc;

use ferula_fs::{Disk, Faulty, Fs};
use ferula_model::{
    CounterResetHint, Exemplar, Histogram, Labels, MatchOp, Matcher, SeriesRef, Span, Value, stale_nan,
};
use ferula_storage::{AppendError, AppendOptions, Appendable, Durability, LabelHints, QueryContext, Queryable};
use ferula_tsdb::{Compression, Error, Options};
use support::*;

const DIR: &str = "/data";

fn faulty() -> (Arc<Faulty>, Arc<ferula_tsdb::Db>) {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options());
    (fs, db)
}

#[test]
fn samples_come_back() {
    let (_, db) = faulty();
    let (a, b) = (labels("__name__=up,job=a"), labels("__name__=up,job=b"));
    for t in 1..=500 {
        let mut app = db.appender();
        append(&mut *app, &a, t * 15_000, t as f64).unwrap();
        append(&mut *app, &b, t * 15_000, -t as f64).unwrap();
        let stats = app.commit(Durability::Synced).unwrap();
        assert_eq!(stats.floats, 2);
    }
    let content = read_all(&*db);
    assert_eq!((content.len(), content[&a].len()), (2, 500));
    assert_eq!(content[&b][499], (7_500_000, Sample::Float(-500.0)));
    let part = read(&*db, 30_000, 60_000, &[Matcher::equal("job", "a")]);
    assert_eq!(floats(&part, &a), "30000=2 45000=3 60000=4", "bounds are inclusive");
    assert_eq!(part.len(), 1);
    let stats = db.head_stats();
    assert_eq!((stats.series, stats.label_pairs, stats.min_time_ms, stats.max_time_ms), (2, 3, 15_000, 7_500_000));
}

#[test]
fn rules_of_appending() {
    let (_, db) = faulty();
    let l = labels("__name__=x");
    put(&db, &l, 1000, 1.0).unwrap(); // an empty head takes 1970
    assert_eq!(put(&db, &l, 1000, 1.0), Ok(()), "the very same sample again");
    assert_eq!(put(&db, &l, 1000, 2.0), Err(AppendError::DuplicateTimestamp));
    assert_eq!(put(&db, &l, 999, 2.0), Err(AppendError::OutOfOrder));
    put(&db, &l, 10_000_000, 3.0).unwrap();
    assert_eq!(put(&db, &l, 10_000_000 - 3_600_001, 2.0), Err(AppendError::OutOfBounds));
    put(&db, &labels("__name__=y"), 10_000_000 - 3_600_000, 2.0).unwrap();
    assert_eq!(put(&db, &Labels::empty(), 10_000_000, 2.0), Err(AppendError::InvalidLabels));
    let mut app = db.appender();
    let unknown = app.append(SeriesRef(77), None, 0, 10_000_001, Value::Float(1.0), &AppendOptions::default());
    assert_eq!(unknown, Err(AppendError::UnknownSeries));
    let only = AppendOptions { existing_series_only: true, ..AppendOptions::default() };
    let new = labels("__name__=new");
    let refused = app.append(SeriesRef::NONE, Some(&new), 0, 10_000_001, Value::Float(1.0), &only);
    assert_eq!(refused, Err(AppendError::SeriesBudget));
    let id = append(&mut *app, &l, 10_000_001, 4.0).unwrap();
    app.append(id, None, 0, 10_000_002, Value::Float(5.0), &AppendOptions::default()).unwrap();
    // Accepted now, refused when applied: the batch has a newer one before it.
    app.append(id, None, 0, 10_000_001, Value::Float(9.0), &AppendOptions::default()).unwrap();
    let stats = app.commit(Durability::Written).unwrap();
    assert_eq!((stats.floats, stats.out_of_order), (2, 1));
    assert_eq!(floats(&read_all(&*db), &l), "1000=1 10000000=3 10000001=4 10000002=5");
}

#[test]
fn a_rollback_leaves_nothing() {
    let (fs, db) = faulty();
    let l = labels("__name__=x");
    let mut app = db.appender();
    append(&mut *app, &l, 1000, 1.0).unwrap();
    app.rollback();
    assert!(read_all(&*db).is_empty());
    put(&db, &l, 2000, 2.0).unwrap();
    let again = open(Arc::new(fs.kill_image()), Path::new(DIR), options());
    assert_eq!(floats(&read_all(&*again), &l), "2000=2", "the series record was written with the second batch");
}

#[test]
fn a_reader_sees_whole_commits_as_of_its_beginning() {
    let (_, db) = faulty();
    let (a, b) = (labels("__name__=x,i=a"), labels("__name__=x,i=b"));
    let mut app = db.appender();
    append(&mut *app, &a, 1000, 1.0).unwrap();
    append(&mut *app, &b, 1000, 1.0).unwrap();
    let before = db.querier(i64::MIN, i64::MAX).unwrap();
    app.commit(Durability::Written).unwrap();
    let ctx = QueryContext::background();
    assert!(before.select(&ctx, true, &Default::default(), &[]).unwrap().next().is_none());
    assert_eq!(read_all(&*db).len(), 2);
    for t in 2..400 {
        put(&db, &a, t * 1000, 1.0).unwrap();
    }
    assert!(before.select(&ctx, true, &Default::default(), &[]).unwrap().next().is_none(), "not even full chunks");
}

#[test]
fn concurrent_readers_never_see_half_a_commit() {
    let (_, db) = faulty();
    let series: Vec<_> = (0..20).map(|i| labels(&format!("__name__=x,i={i}"))).collect();
    std::thread::scope(|s| {
        s.spawn(|| {
            for t in 1..300 {
                let mut app = db.appender();
                for l in &series {
                    append(&mut *app, l, t * 1000, t as f64).unwrap();
                }
                app.commit(Durability::Written).unwrap();
            }
        });
        for _ in 0..200 {
            let content = read_all(&*db);
            let last: Vec<_> = content.values().map(|s| s.last().unwrap().0).collect();
            assert!(last.is_empty() || last.len() == 20);
            assert!(last.windows(2).all(|w| w[0] == w[1]), "{last:?}");
        }
    });
}

fn native(count: u64, buckets: &[i64]) -> Histogram {
    Histogram {
        schema: 1,
        zero_threshold: 0.001,
        count,
        sum: count as f64 * 1.5,
        positive_spans: vec![Span { offset: 0, length: buckets.len() as u32 }],
        positive_buckets: buckets.to_vec(),
        ..Histogram::default()
    }
}

#[test]
fn histograms_travel_from_append_to_query_and_over_a_restart() {
    let (fs, db) = faulty();
    let l = labels("__name__=h");
    let put = |t, value: Value<'_>| {
        let mut app = db.appender();
        let result = app.append(SeriesRef::NONE, Some(&l), 0, t, value, &AppendOptions::default());
        app.commit(Durability::Written).unwrap();
        result.map(|_| ())
    };
    let mut want = Vec::new();
    for i in 1..=150i64 {
        // Buckets appear as time goes on, counts grow; at 100 everything starts again.
        let n = if i >= 100 { i - 99 } else { i };
        let width = 1 + (n / 10) as usize;
        let deltas: Vec<i64> = (0..width).map(|b| if b == 0 { n } else { 0 }).collect();
        let h = native((n * width as i64) as u64, &deltas);
        put(i * 1000, Value::Histogram(&h)).unwrap();
        want.push((i * 1000, h.to_float()));
    }
    assert_eq!(put(150_000, Value::Histogram(&native(1, &[1]))), Err(AppendError::DuplicateTimestamp));
    assert_eq!(put(151_000, Value::Histogram(&native(5, &[1]))), Err(AppendError::InvalidHistogram));
    put(152_000, Value::Float(stale_nan())).unwrap();
    put(153_000, Value::Float(7.0)).unwrap();
    let float = native(3, &[3]).to_float();
    put(154_000, Value::FloatHistogram(&float)).unwrap();
    for db in [db.clone(), open(Arc::new(fs.kill_image()), Path::new(DIR), options())] {
        let content = read_all(&*db);
        let got = &content[&l];
        assert_eq!(got.len(), 153);
        for ((t, got), (wt, want)) in got.iter().zip(&want) {
            let Sample::Histogram(got) = got else { panic!("float at {t}") };
            assert_eq!((t, got.count, got.sum), (wt, want.count, want.sum));
            let (g, w): (Vec<_>, Vec<_>) = (got.buckets(), want.buckets());
            let filled = |b: Vec<ferula_model::histogram::Bucket>| -> Vec<(f64, f64)> {
                b.iter().filter(|b| b.count != 0.0).map(|b| (b.upper, b.count)).collect()
            };
            assert_eq!(filled(g), filled(w));
        }
        let Sample::Histogram(at_1) = &got[1].1 else { panic!() };
        assert_eq!(at_1.counter_reset_hint, CounterResetHint::NotCounterReset);
        assert!(matches!(&got[150].1, Sample::Histogram(h) if h.is_stale()));
        assert_eq!(got[151].1, Sample::Float(7.0));
        assert!(matches!(&got[152].1, Sample::Histogram(h) if h.count == 3.0));
    }
}

#[test]
fn matchers_find_what_they_should() {
    let (_, db) = faulty();
    let all: Vec<Labels> = (0..60)
        .map(|i| {
            let mut text = format!("__name__=m{},inst=host-{i}", i % 3);
            if i % 2 == 0 {
                text += &format!(",env={}", ["prod", "dev"][i / 2 % 2]);
            }
            labels(&text)
        })
        .collect();
    let mut app = db.appender();
    for l in &all {
        append(&mut *app, l, 1000, 1.0).unwrap();
    }
    app.commit(Durability::Written).unwrap();
    let m = |op, n: &str, v: &str| Matcher::new(op, n, v).unwrap();
    use MatchOp::*;
    let sets = [
        vec![],
        vec![m(Equal, "__name__", "m1")],
        vec![m(Equal, "__name__", "m1"), m(Equal, "env", "")],
        vec![m(Equal, "__name__", "nope")],
        vec![m(NotEqual, "env", "prod")],
        vec![m(NotEqual, "env", "")],
        vec![m(RegexMatch, "inst", "host-1|host-7|none")],
        vec![m(RegexMatch, "inst", "host-1.*")],
        vec![m(RegexMatch, "inst", ".*"), m(RegexNoMatch, "inst", "host-.")],
        vec![m(RegexMatch, "env", "prod|")],
        vec![m(RegexMatch, "env", ".+"), m(Equal, "__name__", "m0"), m(RegexNoMatch, "inst", ".*[05]")],
        vec![m(RegexNoMatch, "env", ".*")],
        vec![m(RegexNoMatch, "env", "(dev|)"), m(RegexMatch, "__name__", "m[02]")],
        vec![m(RegexMatch, "missing", ".*"), m(Equal, "env", "dev")],
        vec![m(RegexMatch, "missing", ".+")],
    ];
    for set in sets {
        let want: Vec<_> = {
            let mut w: Vec<_> =
                all.iter().filter(|l| set.iter().all(|m| m.matches(l.get(&m.name).unwrap_or("")))).cloned().collect();
            w.sort();
            w
        };
        let got: Vec<_> = read(&*db, 0, 2000, &set).into_keys().collect();
        assert_eq!(got, want, "{set:?}");
        let q = db.querier(0, 2000).unwrap();
        let (values, _) = q.label_values(&QueryContext::background(), "env", &LabelHints::default(), &set).unwrap();
        let mut want_values: Vec<_> = want.iter().filter_map(|l| l.get("env")).map(str::to_owned).collect();
        want_values.sort();
        want_values.dedup();
        assert_eq!(values, want_values, "{set:?}");
    }
    let q = db.querier(0, 2000).unwrap();
    let (names, notes) = q.label_names(&QueryContext::background(), &LabelHints { limit: 2 }, &[]).unwrap();
    assert_eq!(names, ["__name__", "env"]);
    assert_eq!(notes.warnings.len(), 1);
    let top = db.status(1);
    assert_eq!(top.series_count_by_metric_name, [("m0".to_owned(), 20)]);
    assert_eq!(top.label_value_count_by_label_name, [("inst".to_owned(), 60)]);
}

#[test]
fn cancelled_and_over_budget_queries_stop() {
    let (_, db) = faulty();
    for i in 0..10 {
        put(&db, &labels(&format!("__name__=x,i={i}")), 1000, 1.0).unwrap();
    }
    let q = db.querier(0, 2000).unwrap();
    let ctx = QueryContext::background();
    ctx.cancel.cancel();
    assert!(q.select(&ctx, true, &Default::default(), &[]).is_err());
    let small = QueryContext::new(None, ferula_model::Budget::root("query", 100));
    assert!(q.select(&small, true, &Default::default(), &[]).is_err());
}

#[test]
fn a_restart_finds_everything_and_goes_on() {
    for wal_compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        let fs = Arc::new(Faulty::default());
        let options = Options { wal_compression, max_exemplars: 10, ..options() };
        let db = open(fs.clone(), Path::new(DIR), options.clone());
        let series: Vec<_> = (0..50).map(|i| labels(&format!("__name__=x,i={i}"))).collect();
        let exemplar = Exemplar { labels: labels("trace=1"), value: 2.0, t_ms: None };
        for t in 1..200 {
            let mut app = db.appender();
            for l in &series {
                append(&mut *app, l, t * 1000, t as f64).unwrap();
            }
            if t == 100 {
                let with = AppendOptions { exemplars: std::slice::from_ref(&exemplar), ..AppendOptions::default() };
                app.append(SeriesRef::NONE, Some(&series[3]), 0, 100_500, Value::Float(0.5), &with).unwrap();
            }
            app.commit(Durability::Written).unwrap();
        }
        let want = read_all(&*db);
        let last_ref = db.head().last_ref();
        let again = open(Arc::new(fs.kill_image()), Path::new(DIR), options.clone());
        assert_eq!(read_all(&*again), want);
        assert_eq!(again.head().last_ref(), last_ref);
        let q = again.querier(0, i64::MAX).unwrap();
        let found = q.exemplars(&QueryContext::background(), &[vec![Matcher::equal("i", "3")]]).unwrap();
        assert_eq!((found.len(), found[0].exemplars[0].t_ms), (1, Some(100_500)));
        put(&again, &labels("__name__=new"), 200_000, 1.0).unwrap();
        assert_eq!(again.head().last_ref(), last_ref + 1, "references are never given out twice");
    }
}

#[test]
fn what_was_acknowledged_as_synced_survives_a_power_cut() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options());
    let l = labels("__name__=x");
    for t in 1..100i64 {
        let mut app = db.appender();
        append(&mut *app, &l, t * 1000, t as f64).unwrap();
        let durability = if t % 10 == 0 { Durability::Synced } else { Durability::Written };
        app.commit(durability).unwrap();
        if t % 10 == 5 {
            let image = Arc::new(fs.crash_image(t as u64));
            let again = open(image.clone(), Path::new(DIR), options());
            let got = read_all(&*again);
            let got = got.get(&l).map_or(0, Vec::len) as i64;
            assert!(got >= t / 10 * 10, "{got} samples at {t}");
        }
    }
}

#[test]
fn a_damaged_log_is_used_as_far_as_it_can_be_read() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options());
    let l = labels("__name__=x");
    let mut offsets = Vec::new();
    for t in 1..20_000 {
        put(&db, &l, t * 10, t as f64).unwrap();
        offsets.push(db.wal().position().offset);
    }
    let image = fs.kill_image();
    let path = Path::new("/data/wal/00000000");
    let file = image.open(path, ferula_fs::Open::Write).unwrap();
    let size = file.size_bytes().unwrap();
    file.write_at(size / 2, &[0xff; 10]).unwrap(); // in the middle
    file.truncate(size - 3).unwrap(); // and a torn tail
    let original = image.read(path).unwrap();
    let image = Arc::new(image);
    let again = open(image.clone(), Path::new(DIR), options());
    let got = read_all(&*again);
    let lost = 19_999 - got[&l].len();
    assert!(lost > 1 && lost < 1500, "{lost} lost: at most one page and the last record");
    assert_eq!(got[&l].last().unwrap().0, 199_980);
    let quarantine = image.list(Path::new("/data/quarantine")).unwrap();
    assert_eq!(quarantine.len(), 1);
    let kept = Path::new("/data/quarantine").join(&quarantine[0].name);
    assert_eq!(image.read(&kept.join("00000000")).unwrap(), original, "the original is untouched");
    assert!(String::from_utf8(image.read(&kept.join("report.json")).unwrap()).unwrap().contains("\"damages\""));
    put(&again, &l, 300_000, 1.0).unwrap();
    drop(again);
    let third = open(image.clone(), Path::new(DIR), options());
    assert_eq!(read_all(&*third)[&l].len(), got[&l].len() + 1);
    assert_eq!(image.list(Path::new("/data/quarantine")).unwrap().len(), 1, "the repaired segment is whole");
    let strict = Options { strict_recovery: true, ..options() };
    drop(third);
    let damaged = fs.kill_image();
    damaged.open(path, ferula_fs::Open::Write).unwrap().write_at(size / 2, &[0xff; 10]).unwrap();
    assert!(matches!(try_open(Arc::new(damaged), Path::new(DIR), strict), Err(Error::Corrupt { .. })));
}

#[test]
fn a_full_disk_refuses_commits_and_recovers() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options());
    let l = labels("__name__=x");
    put(&db, &l, 1000, 1.0).unwrap();
    fs.set_capacity(fs.used_bytes() + 5);
    let mut app = db.appender();
    append(&mut *app, &l, 2000, 2.0).unwrap();
    assert!(app.commit(Durability::Written).is_err());
    assert_eq!(floats(&read_all(&*db), &l), "1000=1", "queries go on, and show nothing that is not logged");
    fs.set_capacity(u64::MAX);
    put(&db, &l, 3000, 3.0).unwrap();
    let again = open(Arc::new(fs.kill_image()), Path::new(DIR), options());
    assert_eq!(floats(&read_all(&*again), &l), "1000=1 3000=3");
}

#[test]
fn one_process_for_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let db = open_disk(dir.path());
    let second = try_open(Arc::new(Disk), dir.path(), options()).unwrap_err();
    assert!(matches!(second, Error::Locked { .. }), "{second}");
    db.close().unwrap();
    drop(open_disk(dir.path()));
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let unwritable = try_open(Arc::new(Disk), &file.join("x"), options()).unwrap_err();
    assert!(unwritable.to_string().contains("cannot be written"), "{unwritable}");
}

#[test]
fn full_chunks_live_in_files_and_a_damaged_file_is_rebuilt() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options());
    let series: Vec<_> = (0..40).map(|i| labels(&format!("__name__=x,i={i}"))).collect();
    let mut rng = fastrand::Rng::with_seed(1);
    for t in 1..1500i64 {
        let mut app = db.appender();
        for l in &series {
            append(&mut *app, l, t * 1000, rng.f64()).unwrap();
        }
        app.commit(Durability::Written).unwrap();
    }
    let want = read_all(&*db);
    let killed = fs.kill_image();
    let path = Path::new("/data/chunks_head/000001");
    let size = killed.metadata(path).unwrap().len as usize;
    assert!(size > 300_000, "{size}");
    let again = open(Arc::new(killed), Path::new(DIR), options());
    assert!(read_all(&*again) == want);
    for step in 0..40usize {
        let image = Arc::new(fs.kill_image());
        let f = image.open(path, ferula_fs::Open::Write).unwrap();
        let at = 5 + step * (size - 10) / 40;
        match step % 3 {
            0 => f.truncate(at as u64).unwrap(),
            1 => f.write_at(at as u64, &[rng.u8(..); 3]).unwrap(),
            _ => f.write_at(at as u64, &[0; 600]).unwrap(),
        }
        let again = open(image.clone(), Path::new(DIR), options());
        assert!(read_all(&*again) == want, "damage at {at}");
        put(&again, &series[0], 1_500_000, 1.0).unwrap();
        drop(again);
        assert_eq!(read_all(&*open(image, Path::new(DIR), options()))[&series[0]].len(), want[&series[0]].len() + 1);
    }
}

#[test]
fn head_chunks_that_cannot_be_written_stay_in_memory() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options());
    let series: Vec<_> = (0..30).map(|i| labels(&format!("__name__=x,i={i}"))).collect();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut refused = 0;
    for t in 1..3000i64 {
        if t % 5 == 0 {
            // Either the log's or the chunk file's next write fails.
            fs.fail_at(fs.operations() + rng.u64(..3), std::io::ErrorKind::Other);
        }
        let mut app = db.appender();
        for l in &series {
            append(&mut *app, l, t * 1000, rng.f64()).unwrap();
        }
        refused += u64::from(app.commit(Durability::Written).is_err());
    }
    assert!(refused > 0);
    fs.fail_at(u64::MAX, std::io::ErrorKind::Other);
    let want = read_all(&*db);
    let again = open(Arc::new(fs.kill_image()), Path::new(DIR), options());
    assert!(read_all(&*again) == want, "chunks that are not in the files come back from the log");
}

#[test]
fn labels_of_a_selection_are_those_of_its_series() {
    use ferula_model::MatchOp;
    let fs = Arc::new(Faulty::default());
    let db = open(fs, Path::new(DIR), options());
    // Some names have few values, some one for each series, some are rare.
    let all: Vec<_> = (0..3000)
        .map(|i| {
            let mut pairs = vec![
                ("__name__".to_owned(), format!("m{}", i % 7)),
                ("job".to_owned(), format!("j{}", i % 3)),
                ("pod".to_owned(), format!("p{i:04}")),
            ];
            if i % 50 == 0 {
                pairs.push(("zone".to_owned(), format!("z{}", i % 4)));
            }
            if i == 2999 {
                pairs.push(("rare".to_owned(), "x".to_owned()));
            }
            ferula_model::Labels::from_pairs(pairs)
        })
        .collect();
    let check = |db: &ferula_tsdb::Db| {
        let q = db.querier(i64::MIN, i64::MAX).unwrap();
        for (op, name, value) in [
            (MatchOp::Equal, "job", "j1"),
            (MatchOp::NotEqual, "job", "j1"),
            (MatchOp::RegexMatch, "pod", "p00.*"),
            (MatchOp::Equal, "pod", "p2999"),
            (MatchOp::NotEqual, "zone", ""),
            (MatchOp::Equal, "job", "nobody"),
        ] {
            let m = [Matcher::new(op, name, value).unwrap()];
            let of = |l: &&ferula_model::Labels| m[0].matches(l.get(name).unwrap_or(""));
            let chosen: Vec<_> = all.iter().filter(of).collect();
            let names: std::collections::BTreeSet<&str> =
                chosen.iter().flat_map(|l| l.iter().map(|(n, _)| n)).collect();
            let got = q.label_names(&QueryContext::background(), &LabelHints::default(), &m).unwrap().0;
            assert_eq!(got, names.into_iter().collect::<Vec<_>>(), "{m:?}");
            for name in ["job", "pod", "zone", "rare", "none"] {
                let values: std::collections::BTreeSet<&str> = chosen.iter().filter_map(|l| l.get(name)).collect();
                let got = q.label_values(&QueryContext::background(), name, &LabelHints::default(), &m).unwrap().0;
                assert_eq!(got, values.into_iter().collect::<Vec<_>>(), "{name} of {m:?}");
            }
        }
    };
    let fill = |t_ms: i64| {
        let mut app = db.appender();
        for l in &all {
            append(&mut *app, l, t_ms, 1.0).unwrap();
        }
        app.commit(Durability::Written).unwrap();
    };
    fill(0);
    check(&db);
    // And of a block: the head keeps a series that no selection has.
    (1..4).for_each(|hour| fill(hour * 3_600_000));
    put(&db, &labels("__name__=other"), 12 * 3_600_000, 1.0).unwrap();
    db.compact().unwrap();
    assert!(!db.blocks().is_empty() && db.head().series_count() == 1);
    check(&db);
}
