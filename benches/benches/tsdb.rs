//! The store: chunk coding, appending with its log, writing the log, selecting, replaying, compacting.
#![allow(clippy::unwrap_used)]
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ferula_model::{Labels, MatchOp, Matcher, SeriesRef, SystemClock, Value};
use ferula_storage::{AppendOptions, Appendable, Durability, QueryContext, Queryable, SampleBatch, SelectHints};
use ferula_tsdb::chunk::xor;
use ferula_tsdb::head::postings::intersect;
use ferula_tsdb::query::select::select;
use ferula_tsdb::record::samples::{Sample, encode};
use ferula_tsdb::wal::compress::Compressor;
use ferula_tsdb::{Compression, Db, Options};

const SERIES: usize = 20_000;
const BATCH: usize = 500;

fn open(dir: &Path) -> Arc<Db> {
    let options = Options { background: false, ..Options::default() };
    Db::open(dir, options, Arc::new(ferula_fs::Disk), Arc::new(SystemClock), &ferula_instrument::Registry::new())
        .unwrap()
}

fn series() -> Vec<Labels> {
    let of = |i: usize| {
        Labels::from_pairs([
            ("__name__", format!("metric_{}_total", i % BATCH)),
            ("instance", format!("10.0.0.{}:9100", i / BATCH)),
            ("job", "node".to_owned()),
            ("zone", format!("zone-{}", i / BATCH % 3)),
        ])
    };
    (0..SERIES).map(of).collect()
}

/// One sample for each series, in batches as a scrape makes them.
fn round(db: &Db, labels: &[Labels], refs: &mut [SeriesRef], t_ms: i64) {
    for (refs, labels) in refs.chunks_mut(BATCH).zip(labels.chunks(BATCH)) {
        let mut app = db.appender();
        for (i, (r, l)) in refs.iter_mut().zip(labels).enumerate() {
            let labels = r.is_none().then_some(l);
            let value = Value::Float((t_ms / 15_000 * i as i64) as f64);
            *r = app.append(*r, labels, 0, t_ms, value, &AppendOptions::default()).unwrap();
        }
        app.commit(Durability::Written).unwrap();
    }
}

fn read(db: &Db, matchers: &[Matcher]) -> usize {
    let querier = db.querier(0, i64::MAX).unwrap();
    let mut set = querier.select(&QueryContext::background(), false, &SelectHints::default(), matchers).unwrap();
    let (mut samples, mut batch) = (0, SampleBatch::default());
    while let Some(s) = set.next() {
        let mut s = s.unwrap();
        while s.samples.next_batch(&mut batch).unwrap() {
            samples += batch.len();
        }
    }
    samples
}

fn chunks(c: &mut Criterion) {
    let values: Vec<u64> = (0..120u64).map(|i| ((i * 40 + i * i % 17) as f64).to_bits()).collect();
    let encode = || {
        let (mut chunk, mut state) = (Vec::with_capacity(512), xor::State::default());
        for (i, v) in values.iter().enumerate() {
            xor::append(&mut chunk, &mut state, 1_700_000_000_000 + i as i64 * 15_000, *v);
        }
        chunk
    };
    let chunk = encode();
    let mut group = c.benchmark_group("xor, 120 samples");
    group.throughput(Throughput::Elements(120));
    group.bench_function("encode", |b| b.iter(encode));
    let (mut t, mut v) = (Vec::new(), Vec::new());
    group.bench_function("decode", |b| {
        b.iter(|| {
            t.clear();
            v.clear();
            xor::decode(black_box(&chunk), usize::MAX, &mut t, &mut v).map_err(|m| m.0).unwrap();
        })
    });
}

fn head(c: &mut Criterion) {
    let labels = series();
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let mut refs = vec![SeriesRef::NONE; SERIES];
    let mut t_ms = 1_700_000_000_000;
    let mut group = c.benchmark_group("head, 20k series");
    group.sample_size(20);
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("append and commit a round", |b| {
        b.iter(|| {
            t_ms += 15_000;
            round(&db, &labels, &mut refs, t_ms);
        })
    });
    // As remote senders have it: any series next to any other.
    let mut order: Vec<usize> = (0..SERIES).collect();
    let mut seed = 88_172_645_463_325_252u64;
    order.sort_by_cached_key(|_| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    });
    let batch = |batch: &[usize], t_ms: i64| {
        let mut app = db.appender();
        for i in batch {
            let (r, value) = (refs.get(*i).copied().unwrap(), Value::Float((t_ms / 15_000 * *i as i64) as f64));
            app.append(r, None, 0, t_ms, value, &AppendOptions::default()).unwrap();
        }
        app
    };
    group.bench_function("append and commit a round in random order", |b| {
        b.iter(|| {
            t_ms += 15_000;
            for some in order.chunks(BATCH) {
                batch(some, t_ms).commit(Durability::Written).unwrap();
            }
        })
    });
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("commit a batch", |b| {
        let appended = || {
            t_ms += 15_000;
            batch(&order[..BATCH], t_ms)
        };
        b.iter_batched(appended, |app| app.commit(Durability::Written).unwrap(), BatchSize::PerIteration)
    });
    let re = |p: &str| vec![Matcher::new(MatchOp::RegexMatch, "__name__", p).unwrap()];
    for (what, matchers) in [
        ("select one metric", vec![Matcher::equal("__name__", "metric_7_total")]),
        ("select three by expression", re("metric_(7|8|9)_total")),
        ("select a prefix", re("metric_49.*")),
        ("select by a part", re(".*9_to.*")),
    ] {
        group.throughput(Throughput::Elements(read(&db, &matchers) as u64));
        group.bench_function(what, |b| b.iter(|| read(&db, &matchers)));
    }
}

fn postings(c: &mut Criterion) {
    let labels = series();
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    round(&db, &labels, &mut vec![SeriesRef::NONE; SERIES], 1_700_000_000_000);
    let mut group = c.benchmark_group("postings, 20k series");
    let (a, b): (Vec<u32>, Vec<u32>) = ((0..1_000_000).step_by(3).collect(), (0..1_000_000).step_by(40).collect());
    group.throughput(Throughput::Elements(b.len() as u64));
    group.bench_function("intersect 333k with 25k", |bench| bench.iter(|| intersect(black_box(&a), black_box(&b))));
    group.throughput(Throughput::Elements(1));
    for (what, matchers) in [
        ("two equal matchers", vec![Matcher::equal("zone", "zone-1"), Matcher::equal("job", "node")]),
        (
            "one equal, one expression",
            vec![
                Matcher::equal("zone", "zone-1"),
                Matcher::new(MatchOp::RegexMatch, "instance", "10.0.0.(1|2|3).*").unwrap(),
            ],
        ),
    ] {
        group.bench_function(what, |b| b.iter(|| select(&db.head().index(), black_box(&matchers)).unwrap()));
    }
}

fn log(c: &mut Criterion) {
    let mut group = c.benchmark_group("log, batches of 500 samples");
    group.throughput(Throughput::Elements(BATCH as u64));
    for kind in [Compression::Snappy, Compression::Zstd] {
        let dir = tempfile::tempdir().unwrap();
        let wal = ferula_tsdb::wal::Wal::open(Arc::new(ferula_fs::Disk), dir.path(), 0).unwrap();
        let (mut compressor, mut n) = (Compressor::new(kind), 0i64);
        group.bench_function(format!("encode, {} and write", kind.name()), |b| {
            b.iter(|| {
                n += 1;
                let sample = |i: usize| Sample {
                    series: 1000 + i as u64,
                    start_ms: 0,
                    t_ms: n * 15_000,
                    value: (n * i as i64) as f64,
                };
                let record = compressor.record(|out| {
                    encode(ferula_tsdb::format::record::SAMPLES, (0..BATCH).map(sample), out);
                });
                wal.write(vec![record]).unwrap()
            })
        });
    }
}

fn compaction(c: &mut Criterion) {
    const ROUNDS: i64 = 60;
    let labels = series();
    let mut group = c.benchmark_group("compaction");
    group.sample_size(10);
    group.throughput(Throughput::Elements(ROUNDS as u64 * SERIES as u64));
    // The head spans more than three hours: two of them become a block.
    let filled = || {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path());
        let mut refs = vec![SeriesRef::NONE; SERIES];
        (0..ROUNDS).for_each(|i| round(&db, &labels, &mut refs, 1_699_999_200_000 + i * 200_000));
        (dir, db)
    };
    group.bench_function("head to block, 20k series x 60", |b| {
        b.iter_batched(
            filled,
            |(dir, db)| {
                db.compact().unwrap();
                (dir, db)
            },
            BatchSize::PerIteration,
        )
    });
}

fn replay(c: &mut Criterion) {
    let labels = series();
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let mut refs = vec![SeriesRef::NONE; SERIES];
    (0..60).for_each(|i| round(&db, &labels, &mut refs, 1_700_000_000_000 + i * 15_000));
    drop(db);
    let mut group = c.benchmark_group("restart");
    group.sample_size(10);
    group.throughput(Throughput::Elements(60 * SERIES as u64));
    group.bench_function("replay 20k series x 60", |b| {
        b.iter_batched(|| (), |()| open(dir.path()), BatchSize::PerIteration)
    });
}

criterion_group!(all, chunks, head, log, postings, replay, compaction);
criterion_main!(all);
