//! Random operations against a BTreeMap: appends, rollbacks, deletions, compactions, kills, queries.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ferula_fs::Faulty;
use ferula_model::{Labels, MatchOp, Matcher};
use ferula_storage::{Appendable, Durability};
use ferula_tsdb::{Compression, Options};
use proptest::prelude::*;
use support::*;

const MINUTE: i64 = 60_000;

#[derive(Clone, Debug)]
enum Step {
    /// Minutes forward, then one batch with a sample for each series of the mask.
    Commit {
        minutes: i64,
        mask: u16,
        values: u32,
        rolled_back: bool,
        /// Stale markers instead of values.
        stale: bool,
    },
    /// Many regular commits: fills chunks and ranges.
    Run {
        count: i64,
        mask: u16,
    },
    Delete {
        series: usize,
        back_minutes: i64,
        length_minutes: i64,
    },
    Compact,
    CleanTombstones,
    Kill,
    PowerCut {
        seed: u64,
    },
    Query {
        from_back: i64,
        length: i64,
        regex: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..40i64, any::<u16>(), any::<u32>(), prop::bool::weighted(0.1), prop::bool::weighted(0.3))
            .prop_map(|(minutes, mask, values, rolled_back, stale)| Step::Commit { minutes, mask, values, rolled_back, stale }),
        3 => (1..200i64, any::<u16>()).prop_map(|(count, mask)| Step::Run { count, mask }),
        1 => (0..16usize, 0..300i64, 0..200i64)
            .prop_map(|(series, back_minutes, length_minutes)| Step::Delete { series, back_minutes, length_minutes }),
        1 => Just(Step::Compact),
        1 => Just(Step::CleanTombstones),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(|seed| Step::PowerCut { seed }),
        3 => (0..600i64, 0..300i64, 0..4usize)
            .prop_map(|(from_back, length, regex)| Step::Query { from_back, length, regex }),
    ]
}

fn check(steps: Vec<Step>, compression: Compression) {
    let options =
        Options { wal_segment_size_bytes: 64 * 1024, wal_compression: compression, stale_series_min: 1, ..options() };
    let dir = Path::new("/data");
    let all: Vec<Labels> = (0..16).map(|i| labels(&format!("__name__=m{},i=n{i}", i % 3))).collect();
    let mut fs = Arc::new(Faulty::default());
    let mut db = open(fs.clone(), dir, options.clone());
    let mut model: BTreeMap<Labels, BTreeMap<i64, f64>> = BTreeMap::new();
    let mut now = 1_000 * MINUTE;
    for s in steps {
        match s {
            Step::Commit { minutes, mask, values, rolled_back, stale } => {
                now += minutes * MINUTE;
                let mut app = db.appender();
                let mut accepted = Vec::new();
                for (i, l) in all.iter().enumerate().filter(|(i, _)| mask & 1 << i != 0) {
                    let v = match stale {
                        true => f64::from_bits(ferula_model::STALE_NAN),
                        false => f64::from(values.rotate_left(i as u32)),
                    };
                    if append(&mut *app, l, now, v).is_ok() {
                        accepted.push((l, v));
                    }
                }
                if rolled_back {
                    app.rollback();
                } else {
                    app.commit(Durability::Synced).unwrap();
                    for (l, v) in accepted {
                        model.entry(l.clone()).or_default().insert(now, v);
                    }
                }
            }
            Step::Run { count, mask } => {
                for n in 0..count {
                    now += MINUTE;
                    let mut app = db.appender();
                    for (_, l) in all.iter().enumerate().filter(|(i, _)| mask & 1 << i != 0) {
                        append(&mut *app, l, now, n as f64).unwrap();
                        model.entry(l.clone()).or_default().insert(now, n as f64);
                    }
                    app.commit(Durability::Synced).unwrap();
                }
            }
            Step::Delete { series, back_minutes, length_minutes } => {
                let from = now - back_minutes * MINUTE;
                let to = from + length_minutes * MINUTE;
                let l = &all[series];
                let matchers: Vec<_> = l.iter().map(|(n, v)| Matcher::equal(n, v)).collect();
                db.delete_series(&[matchers], from, to).unwrap();
                if let Some(m) = model.get_mut(l) {
                    m.retain(|t, _| *t < from || *t > to);
                }
            }
            Step::Compact => db.compact().unwrap(),
            Step::CleanTombstones => db.clean_tombstones().unwrap(),
            Step::Kill => {
                fs = Arc::new(fs.kill_image());
                db = open(fs.clone(), dir, options.clone());
            }
            Step::PowerCut { seed } => {
                fs = Arc::new(fs.crash_image(seed)); // everything was committed as synced
                db = open(fs.clone(), dir, options.clone());
            }
            Step::Query { from_back, length, regex } => {
                let from = now - from_back * MINUTE;
                let to = from + length * MINUTE;
                let matcher = match regex {
                    0 => Matcher::new(MatchOp::RegexMatch, "i", "n1|n2|n11").unwrap(),
                    1 => Matcher::new(MatchOp::RegexMatch, "i", "n1.*").unwrap(),
                    2 => Matcher::new(MatchOp::NotEqual, "__name__", "m1").unwrap(),
                    _ => Matcher::new(MatchOp::RegexNoMatch, "i", ".*[0-4]").unwrap(),
                };
                let want: Content = model
                    .iter()
                    .filter(|(l, _)| matcher.matches(l.get(&matcher.name).unwrap_or("")))
                    .map(|(l, m)| (l.clone(), m.range(from..=to).map(|(t, v)| (*t, Sample::Float(*v))).collect()))
                    .filter(|(_, s): &(_, Vec<_>)| !s.is_empty())
                    .collect();
                assert_eq!(read(&*db, from, to, std::slice::from_ref(&matcher)), want, "{matcher:?}");
            }
        }
    }
    let want: Content = model
        .into_iter()
        .filter(|(_, m)| !m.is_empty())
        .map(|(l, m)| (l, m.into_iter().map(|(t, v)| (t, Sample::Float(v))).collect()))
        .collect();
    assert_eq!(read_all(&*db), want);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn behaves_like_a_map(steps in proptest::collection::vec(step(), 1..40), zstd: bool) {
        check(steps, if zstd { Compression::Zstd } else { Compression::Snappy });
    }
}
