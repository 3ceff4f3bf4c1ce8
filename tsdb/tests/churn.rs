//! Series that come and go: what they were made of goes with them, and never under a reader's hands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ferula_fs::Faulty;
use ferula_model::{Labels, Matcher};
use ferula_storage::{Appendable, QueryContext, Queryable, SelectHints};
use ferula_tsdb::Options;
use support::*;

const MINUTE: i64 = 60_000;
const PODS: usize = 1200;

fn pod(generation: i64, i: usize) -> Labels {
    let id = generation as u64 * 1_000_003 + i as u64 * 0x9E37_79B9;
    labels(&format!("__name__=m{},image=registry/app,pod=app-{i}-{id:016x},uid={id:032x}", i % 5))
}

#[test]
fn symbols_of_dead_series_are_freed() {
    let db = open(Arc::new(Faulty::default()), Path::new("/data"), support::options());
    let keep = labels("__name__=up,job=stays");
    let (mut after_first, mut held) = (None, Vec::new());
    // Each generation lives for an hour and a half, then the next one takes its place.
    for generation in 0..8i64 {
        for minute in (0..90).step_by(10) {
            let t = (generation * 90 + minute) * MINUTE;
            let mut app = db.appender();
            append(&mut *app, &keep, t, 1.0).unwrap();
            for i in 0..PODS {
                append(&mut *app, &pod(generation, i), t, 1.0).unwrap();
            }
            app.commit(Default::default()).unwrap();
        }
        if generation == 0 {
            // A reader keeps the labels of series, but no longer the series than it reads them.
            let querier = db.querier(0, i64::MAX).unwrap();
            let matchers = [Matcher::equal("pod", pod(0, 7).get("pod").unwrap())];
            let mut set =
                querier.select(&QueryContext::background(), true, &SelectHints::default(), &matchers).unwrap();
            held.push(set.next().unwrap().unwrap().labels);
        }
        db.compact().unwrap();
        let symbols = db.head().symbols();
        let now = (symbols.len(), symbols.text_bytes(), symbols.texts().held_bytes() as u64);
        let (strings, bytes, held_bytes) = now;
        let (first_strings, first_bytes) = *after_first.get_or_insert((strings, bytes));
        // At most three generations are in the head at a time.
        assert!(strings <= first_strings * 3 + 16 && bytes <= first_bytes * 3 + 4096, "{generation}: {now:?}");
        assert!(held_bytes <= bytes * 5 / 4 + 64 * 1024, "{generation}: {now:?}");
        assert_eq!(held[0].to_labels(), pod(0, 7));
    }
    // Only what stays is left.
    drop(held);
    for minute in 0..400 {
        put(&db, &keep, (720 + minute) * MINUTE, 1.0).unwrap();
    }
    db.compact().unwrap();
    assert_eq!(db.head().series_count(), 1);
    let symbols = db.head().symbols();
    assert_eq!((symbols.len(), symbols.text_bytes()), (4, "__name__upjobstays".len() as u64));
    assert!(symbols.texts().held_bytes() < 128 * 1024, "one bucket is still being filled");
    assert_eq!(db.head().symbols().lookup("registry/app"), None);
    // One that comes back has all its labels.
    put(&db, &pod(0, 1), 1120 * MINUTE, 2.0).unwrap();
    assert_eq!(floats(&read(&*db, 1120 * MINUTE, i64::MAX, &[]), &pod(0, 1)), "67200000=2");
}

/// Series are made of strings that are about to go, while they go.
#[test]
fn series_come_while_symbols_go() {
    let options = Options { block_range_ms: 10 * MINUTE, ..support::options() };
    let db = open(Arc::new(Faulty::default()), Path::new("/data"), options);
    let (stop, wrong) = (AtomicBool::new(false), AtomicBool::new(false));
    let label = |step: i64, i: i64| labels(&format!("__name__=m,shared=s{},own=o{step}-{i}", (step / 3 + i) % 50));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                let querier = db.querier(i64::MIN, i64::MAX).unwrap();
                let ctx = QueryContext::background();
                let mut set = querier.select(&ctx, true, &SelectHints::default(), &[]).unwrap();
                while let Some(series) = set.next() {
                    let l = series.unwrap().labels.to_labels();
                    let own = l.get("own").unwrap_or("").strip_prefix('o').and_then(|o| o.split_once('-'));
                    let own = own.and_then(|(step, i)| Some((step.parse().ok()?, i.parse().ok()?)));
                    let is_right = own.is_some_and(|(step, i)| l == label(step, i));
                    wrong.fetch_or(!is_right, Ordering::AcqRel);
                }
            }
        });
        let writer = scope.spawn(|| {
            for step in 0..150i64 {
                let mut app = db.appender();
                for i in 0..20 {
                    append(&mut *app, &label(step, i), step * MINUTE, step as f64).unwrap();
                }
                app.commit(Default::default()).unwrap();
            }
        });
        while !writer.is_finished() {
            db.compact().unwrap();
        }
        writer.join().unwrap();
        stop.store(true, Ordering::Release);
        reader.join().unwrap();
    });
    assert!(!wrong.load(Ordering::Acquire), "a reader saw labels that nobody wrote");
    db.compact().unwrap();
    let all = read_all(&*db);
    assert_eq!(all.len(), 150 * 20);
    assert!((0..150).all(|step| (0..20).all(|i| all.contains_key(&label(step, i)))));
    let symbols = db.head().symbols();
    let alive = db.head().series_count() as usize;
    assert!(symbols.len() <= alive + 60, "{} strings of {alive} series", symbols.len());
}
