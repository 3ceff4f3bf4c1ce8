//! Measures what matters, on this machine: append and commit, memory per series, XOR coding, replay, select.
//!
//! `cargo run --release -p ferula-tsdb --example measure [series] [samples] [zstd]`; no result is asserted. Memory is that of
//! a fresh process, so one compression at a time.
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use ferula_fs::Disk;
use ferula_instrument::Registry;
use ferula_model::{Labels, Matcher, SeriesRef, SystemClock, Value};
use ferula_storage::{AppendOptions, Appendable, Durability, QueryContext, Queryable, SampleBatch, SelectHints};
use ferula_tsdb::chunk::xor;
use ferula_tsdb::{Compression, Db, Options};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn rss_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|p| p.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn open(dir: &std::path::Path, compression: Compression) -> Result<Arc<Db>, ferula_tsdb::Error> {
    let options = Options { wal_compression: compression, ..Options::default() };
    Db::open(dir, options, Arc::new(Disk), Arc::new(SystemClock), &Registry::new())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).filter_map(|a| a.parse::<usize>().ok());
    let (series, rounds) = (args.next().unwrap_or(300_000), args.next().unwrap_or(24));
    let mut rng = 88172645463325252u64;
    let mut random = move || {
        rng ^= rng << 13;
        rng ^= rng >> 7;
        rng ^= rng << 17;
        rng
    };

    let (mut chunk, mut state) = (Vec::new(), xor::State::default());
    let values: Vec<u64> = (0..120).map(|i| ((i * 40 + random() % 20) as f64).to_bits()).collect();
    let started = cpu_seconds();
    for _ in 0..200_000 {
        chunk.clear();
        state = xor::State::default();
        for (i, v) in values.iter().enumerate() {
            xor::append(&mut chunk, &mut state, 1_700_000_000_000 + i as i64 * 15_000, *v);
        }
        black_box(&chunk);
    }
    println!(
        "xor encode: {:.0} M samples per CPU second, {} bytes for 120",
        24.0 / (cpu_seconds() - started),
        chunk.len()
    );
    black_box(&state);
    let (mut t, mut v) = (Vec::new(), Vec::new());
    let started = cpu_seconds();
    for _ in 0..1_000_000 {
        t.clear();
        v.clear();
        let _ = xor::decode(&chunk, usize::MAX, &mut t, &mut v);
        black_box((&t, &v));
    }
    println!("xor decode: {:.0} M samples per CPU second", 120.0 / (cpu_seconds() - started));

    let label_sets: Vec<Labels> = (0..series)
        .map(|i| {
            let (pod, metric) = (i / 500, i % 500);
            Labels::from_pairs([
                ("__name__", format!("container_metric_number_{metric}_total")),
                ("cluster", "production-eu-1".to_owned()),
                ("container", format!("app-{}", pod % 40)),
                ("endpoint", "https-metrics".to_owned()),
                ("instance", format!("10.12.{}.{}:9100", pod / 250, pod % 250)),
                ("job", "kubelet".to_owned()),
                ("namespace", format!("team-{}", pod % 60)),
                ("node", format!("node-{}.eu.example.com", pod % 100)),
                ("pod", format!("app-{}-7d9f8c6b5-{pod:05}", pod % 40)),
                ("service", format!("svc-{}", pod % 40)),
            ])
        })
        .collect();
    let zstd = std::env::args().any(|a| a == "zstd");
    for compression in [if zstd { Compression::Zstd } else { Compression::Snappy }] {
        let dir = std::env::temp_dir().join(format!("ferula-measure-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let before = rss_bytes();
        let db = open(&dir, compression)?;
        let mut refs = vec![SeriesRef::NONE; series];
        let mut counters = vec![0u64; series];
        let options = AppendOptions::default();
        let (mut first, mut later) = (0.0, 0.0);
        for round in 0..rounds {
            let cpu = cpu_seconds();
            for (target, chunk) in refs.chunks_mut(500).enumerate() {
                let mut app = db.appender();
                for (i, r) in chunk.iter_mut().enumerate() {
                    let n = target * 500 + i;
                    counters[n] += if n % 5 == 0 { 0 } else { random() % 100 };
                    let t = 1_700_000_000_000 + round as i64 * 15_000 + (target % 977) as i64;
                    let labels = if round == 0 { Some(&label_sets[n]) } else { None };
                    *r = app.append(*r, labels, 0, t, Value::Float(counters[n] as f64), &options)?;
                }
                app.commit(Durability::Written)?;
            }
            // As often as the store itself would at the speed of scrapes: what is not synced is kept in memory.
            db.wal().sync()?;
            *(if round == 0 { &mut first } else { &mut later }) += cpu_seconds() - cpu;
        }
        let samples = (series * (rounds - 1)) as f64;
        println!(
            "{compression:?}: new series {:.2} us, append+commit {:.0} ns/sample (of it ~5 ns the generator)",
            first * 1e6 / series as f64,
            later * 1e9 / samples
        );
        std::thread::sleep(std::time::Duration::from_secs(2)); // the restart index is written once a second
        println!("  memory {} bytes/series", (rss_bytes() - before) / series as u64 - 16);
        let wal: u64 = std::fs::read_dir(dir.join("wal"))?.flatten().map(|e| e.metadata().map_or(0, |m| m.len())).sum();
        println!("  log {:.2} bytes/sample all in", wal as f64 / (series * rounds) as f64);
        for (what, matchers) in [
            ("one metric", vec![Matcher::equal("__name__", "container_metric_number_7_total")]),
            ("all of a job", vec![Matcher::equal("job", "kubelet")]),
        ] {
            let started = Instant::now();
            let q = db.querier(0, i64::MAX)?;
            let mut set = q.select(&QueryContext::background(), false, &SelectHints::default(), &matchers)?;
            let (mut n, mut samples, mut batch) = (0, 0, SampleBatch::default());
            while let Some(s) = set.next() {
                let mut s = s?;
                n += 1;
                while s.samples.next_batch(&mut batch)? {
                    samples += batch.len();
                }
            }
            let e = started.elapsed();
            println!(
                "  select {what}: {n} series, {samples} samples in {e:?} ({:.0} ns/series)",
                e.as_nanos() as f64 / n as f64
            );
        }
        drop(db);
        let (started, cpu) = (Instant::now(), cpu_seconds());
        let db = open(&dir, compression)?;
        println!(
            "  replay {:.2} s, {:.2} CPU-s, {:.0} ns/sample",
            started.elapsed().as_secs_f64(),
            cpu_seconds() - cpu,
            (cpu_seconds() - cpu) * 1e9 / (series * rounds) as f64
        );
        drop(db);
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}
