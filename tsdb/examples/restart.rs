//! Measures a restart after a kill: how soon the store takes appends, how soon it answers, CPU and peak memory.
//!
//! `cargo run --release -p ferula-tsdb --example restart [series] [samples] [folder]`; no result is asserted. The program
//! runs itself as two children: one that fills a data directory and kills itself, one that opens it.
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferula_fs::Disk;
use ferula_instrument::Registry;
use ferula_model::{Labels, Matcher, SeriesRef, SystemClock, Value};
use ferula_storage::{AppendOptions, Appendable, Durability, QueryContext, Queryable, SampleBatch, SelectHints};
use ferula_tsdb::{Db, Options};

type Failure = Box<dyn std::error::Error>;

fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(field)).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn open(dir: &Path) -> Result<Arc<Db>, ferula_tsdb::Error> {
    Db::open(dir, Options::default(), Arc::new(Disk), Arc::new(SystemClock), &Registry::new())
}

fn labels(i: usize) -> Labels {
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
}

fn fill(dir: &Path, series: usize, rounds: usize) -> Result<(), Failure> {
    let _ = std::fs::remove_dir_all(dir);
    let db = open(dir)?;
    let mut rng = 88172645463325252u64;
    let mut random = move || {
        rng ^= rng << 13;
        rng ^= rng >> 7;
        rng ^= rng << 17;
        rng
    };
    let mut refs = vec![SeriesRef::NONE; series];
    let mut counters = vec![0u64; series];
    let options = AppendOptions::default();
    for round in 0..rounds {
        for (target, chunk) in refs.chunks_mut(500).enumerate() {
            let mut app = db.appender();
            for (i, r) in chunk.iter_mut().enumerate() {
                let n = target * 500 + i;
                if let Some(c) = counters.get_mut(n) {
                    *c += if n % 5 == 0 { 0 } else { random() % 100 };
                    let t = 1_700_000_000_000 + round as i64 * 15_000 + (target % 977) as i64;
                    let labels = (round == 0).then(|| labels(n));
                    *r = app.append(*r, labels.as_ref(), 0, t, Value::Float(*c as f64), &options)?;
                }
            }
            app.commit(Durability::Written)?;
        }
    }
    std::thread::sleep(Duration::from_secs(3)); // the index is brought up once a second
    let size = |name: &str| -> u64 {
        let files = std::fs::read_dir(dir.join(name)).into_iter().flatten().flatten();
        files.map(|e| e.metadata().map_or(0, |m| m.len())).sum()
    };
    let index = std::fs::metadata(dir.join("restart_index")).map_or(0, |m| m.len());
    println!(
        "before the kill: RSS {} MB, log {:.1} MB, head chunks {:.1} MB, restart index {:.1} MB",
        status("VmRSS") / 1024,
        size("wal") as f64 / 1e6,
        size("chunks_head") as f64 / 1e6,
        index as f64 / 1e6
    );
    std::process::abort(); // nothing is closed
}

fn reopen(dir: &Path, series: usize, rounds: usize) -> Result<(), Failure> {
    let started = Instant::now();
    let db = open(dir)?;
    let mut app = db.appender();
    let t = 1_700_000_000_000 + rounds as i64 * 15_000;
    app.append(SeriesRef::NONE, Some(&labels(0)), 0, t, Value::Float(1.0), &AppendOptions::default())?;
    app.commit(Durability::Written)?;
    let ready = started.elapsed();
    let (ready_cpu, ready_rss) = (cpu_seconds(), status("VmHWM") / 1024);
    let q = db.querier(0, i64::MAX)?;
    let matchers = [Matcher::equal("__name__", "container_metric_number_0_total")];
    let ctx = QueryContext::background();
    let mut set = q.select(&ctx, false, &SelectHints::default(), &matchers)?;
    let whole = started.elapsed();
    let (mut n, mut batch) = (0, SampleBatch::default());
    while let Some(s) = set.next() {
        let mut s = s?;
        while s.samples.next_batch(&mut batch)? {
            n += batch.len();
        }
    }
    println!(
        "takes appends after {:.3} s ({ready_cpu:.2} CPU-s, peak RSS {ready_rss} MB); whole after {:.2} s ({:.2} CPU-s, \
         peak RSS {} MB); {n} of {} samples of one metric are there",
        ready.as_secs_f64(),
        whole.as_secs_f64(),
        cpu_seconds(),
        status("VmHWM") / 1024,
        series.div_ceil(500) * rounds + 1,
    );
    println!("{:?}", db.replay_report());
    std::process::abort();
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (series, rounds) = (number(0, 300_000), number(1, 240));
    let default = std::env::temp_dir().join("ferula-restart");
    let dir = args.get(2).map_or(default, std::path::PathBuf::from);
    match args.get(3).map(String::as_str) {
        Some("fill") => return fill(&dir, series, rounds),
        Some("reopen") => return reopen(&dir, series, rounds),
        _ => {}
    }
    let child = |what: &str| {
        let arguments = [&series.to_string(), &rounds.to_string(), &dir.display().to_string(), what];
        Command::new(std::env::current_exe()?).args(arguments).status()
    };
    child("fill")?;
    for _ in 0..2 {
        child("reopen")?;
    }
    let _ = std::fs::remove_file(dir.join("restart_index"));
    println!("without the index:");
    child("reopen")?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
