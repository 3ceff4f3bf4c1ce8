//! What is kept of a query between its evaluations changes no answer: random histories of a store in which series come,
//! go, become stale, are deleted and cut into blocks, and expressions asked again and again beside the same asked anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::Arc;

use ferula_instrument::Registry;
use ferula_model::{Labels, ManualClock, Matcher, SeriesRef, Value as Stored, stale_nan};
use ferula_promql_engine::{Engine, EngineOptions, Evaluation, Prepared, QueryError, QueryOptions, SampleValue, Value};
use ferula_promql_parser::parse_expr;
use ferula_storage::{AppendOptions, Appendable, Durability, QueryContext};
use ferula_tsdb::{Db, Options};

const EXPRESSIONS: [&str; 16] = [
    "sum by (job) (rate(requests_total[2m]))",
    "sum without (instance) (rate(requests_total[2m]))",
    "sum(requests_total)",
    "avg by (job, zone) (requests_total) / on (job, zone) count by (job, zone) (other)",
    "requests_total > 5",
    "rate(requests_total{job=~\"a|b\"}[5m])",
    "topk by (job) (2, requests_total)",
    "histogram_quantile(0.9, sum by (le, job) (rate(requests_total[2m])))",
    "sum by (job) ({job=\"a\"})",
    "sum by (job) (requests_total or other)",
    "max by (zone) (requests_total{zone=\"\"}) or max by (zone) (other)",
    "absent(requests_total{job=\"c\"})",
    "count by (job) (other{instance!=\"1\"}) + on (job) group_left () sum by (job) (requests_total)",
    "sum by (v) (count_values(\"v\", requests_total))",
    "sum by (job) (max_over_time(sum by (job, zone) (requests_total)[3m:1m]))",
    "label_replace(sum by (job) (renamed), \"x\", \"$1\", \"job\", \"(.*)\")",
];

/// Numbers that are the same in every run (splitmix64).
struct Random(u64);
impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

fn labels(r: &mut Random) -> Labels {
    let name = ["requests_total", "requests_total", "other", "renamed"][r.below(4) as usize];
    let mut pairs = vec![("__name__", name.to_owned()), ("job", ["a", "b", "c"][r.below(3) as usize].to_owned())];
    pairs.push(("instance", r.below(3).to_string()));
    if r.below(2) == 0 {
        pairs.push(("zone", r.below(2).to_string()));
    }
    if r.below(3) == 0 {
        pairs.push(("le", ["1", "5", "+Inf"][r.below(3) as usize].to_owned()));
    }
    Labels::from_pairs(pairs)
}

fn shown(result: Result<Evaluation, QueryError>, sorted: bool) -> String {
    let e = match result {
        Err(e) => return format!("error: {e}"),
        Ok(e) => e,
    };
    let Value::Vector(samples) = e.value else { panic!("a vector") };
    let mut lines: Vec<String> = samples
        .iter()
        .map(|s| match &s.value {
            SampleValue::Float(f) => format!("{} {:016x} {f}", s.labels, f.to_bits()),
            SampleValue::Histogram(h) => format!("{} {h}", s.labels),
        })
        .collect();
    if sorted {
        lines.sort();
    }
    let s = &e.stats;
    format!("{lines:#?} {:?} {} {} {}", e.annotations, s.total_queryable, s.read, s.peak)
}

fn history(seed: u64) -> usize {
    let r = &mut Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let begin = 1_700_000_000_000i64;
    let options = Options { background: false, block_range_ms: 600_000, ..Options::default() };
    let clock = Arc::new(ManualClock::at(begin));
    let db = Db::open(dir.path(), options, Arc::new(ferula_fs::Disk), clock.clone(), &Registry::new()).unwrap();
    let engine = Engine::new(EngineOptions::default());
    let all: Vec<(&str, Prepared)> =
        EXPRESSIONS.iter().map(|text| (*text, Prepared::new(parse_expr(text).unwrap()))).collect();
    let mut live: Vec<(Labels, SeriesRef)> = (0..8).map(|_| (labels(r), SeriesRef::NONE)).collect();
    let (mut t_ms, mut compared) = (begin, 0);
    for _ in 0..60 {
        t_ms += 15_000;
        let mut appender = db.appender();
        for (labels, series) in &mut live {
            if r.below(8) > 0 {
                let v = Stored::Float(r.below(100) as f64 / 8.0);
                *series = appender.append(*series, Some(labels), 0, t_ms, v, &AppendOptions::default()).unwrap();
            }
        }
        appender.commit(Durability::Written).unwrap();
        match r.below(12) {
            0 | 1 => {
                let new = labels(r);
                if live.iter().all(|(l, _)| *l != new) {
                    live.push((new, SeriesRef::NONE));
                }
            }
            2 | 3 if !live.is_empty() => {
                let (gone, series) = live.swap_remove(r.below(live.len() as u64) as usize);
                if r.below(2) == 0 && !series.is_none() {
                    let mut a = db.appender();
                    let v = Stored::Float(stale_nan());
                    a.append(series, Some(&gone), 0, t_ms + 1, v, &AppendOptions::default()).unwrap();
                    a.commit(Durability::Written).unwrap();
                }
            }
            4 => {
                let job = ["a", "b", "c"][r.below(3) as usize];
                db.delete_series(&[vec![Matcher::equal("job", job)]], begin, t_ms - 60_000).unwrap();
            }
            5 => {
                // Long enough that what nobody wrote leaves the head, and its references with it.
                t_ms += 600_000 * r.below(3) as i64;
                clock.set_wall(t_ms);
                db.compact().unwrap();
            }
            _ => {}
        }
        let ctx = QueryContext::background();
        for (text, prepared) in &all {
            let (fresh, any) = (QueryOptions::default(), QueryOptions { any_order: true, ..Default::default() });
            let sorted = !text.starts_with("topk");
            let want = shown(engine.instant(&ctx, &*db, prepared.expr(), t_ms, &fresh), sorted);
            let got = shown(engine.instant_again(&ctx, &*db, prepared, t_ms, &any), sorted);
            assert_eq!(got, want, "{text} at {t_ms}, seed {seed}");
            compared += usize::from(want.contains('{'));
        }
    }
    compared
}

#[test]
fn what_is_kept_changes_no_answer() {
    let compared: usize = (0..12).map(history).sum();
    assert!(compared > 6_000, "only {compared} answers had anything in them");
}

#[test]
fn two_at_a_time_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { background: false, ..Options::default() };
    let clock = Arc::new(ManualClock::at(0));
    let db = Db::open(dir.path(), options, Arc::new(ferula_fs::Disk), clock, &Registry::new()).unwrap();
    let mut a = db.appender();
    for i in 0..100 {
        let l = Labels::from_pairs([("__name__", "x".to_owned()), ("i", i.to_string()), ("g", (i % 7).to_string())]);
        a.append(SeriesRef::NONE, Some(&l), 0, 1000, Stored::Float(f64::from(i)), &AppendOptions::default()).unwrap();
    }
    a.commit(Durability::Written).unwrap();
    let engine = Engine::new(EngineOptions::default());
    let prepared = Prepared::new(parse_expr("sum by (g) (x)").unwrap());
    let ask = || {
        let ctx = QueryContext::background();
        shown(engine.instant_again(&ctx, &*db, &prepared, 1000, &QueryOptions::default()), true)
    };
    let want = ask();
    std::thread::scope(|s| {
        let threads: Vec<_> = (0..4).map(|_| s.spawn(|| (0..200).all(|_| ask() == want))).collect();
        assert!(threads.into_iter().all(|t| t.join().unwrap()));
    });
}
