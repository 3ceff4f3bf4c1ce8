//! Measures the compaction of the head: extra memory, time, and how long appends wait meanwhile.
//!
//! `cargo run --release -p ferula-tsdb --example compaction [series] [minutes] [folder]`; no result is asserted.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ferula_fs::Disk;
use ferula_instrument::Registry;
use ferula_model::{Labels, SeriesRef, SystemClock, Value};
use ferula_storage::{AppendOptions, Appendable, Durability};
use ferula_tsdb::{Db, Options};

type Failure = Box<dyn std::error::Error>;
const TARGET: usize = 500;

fn rss_mb() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("RssAnon")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn labels(i: usize) -> Labels {
    let (pod, metric) = (i / TARGET, i % TARGET);
    Labels::from_pairs([
        ("__name__", format!("container_metric_number_{metric}_total")),
        ("cluster", "production-eu-1".to_owned()),
        ("instance", format!("10.12.{}.{}:9100", pod / 250, pod % 250)),
        ("job", "kubelet".to_owned()),
        ("namespace", format!("team-{}", pod % 60)),
        ("pod", format!("app-{}-7d9f8c6b5-{pod:05}", pod % 40)),
    ])
}

fn scrape(db: &Db, refs: &mut [SeriesRef], first: usize, minute: i64) -> Result<Duration, Failure> {
    let started = Instant::now();
    let mut app = db.appender();
    for (i, r) in refs.iter_mut().enumerate() {
        let n = first + i;
        let labels = r.is_none().then(|| labels(n));
        let value = (minute * (n as i64 % 97) + n as i64) as f64;
        let t_ms = 1_700_006_400_000 + minute * 60_000 + (n / TARGET % 977) as i64;
        *r = app.append(*r, labels.as_ref(), 0, t_ms, Value::Float(value), &AppendOptions::default())?;
    }
    app.commit(Durability::Written)?;
    Ok(started.elapsed())
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (series, minutes) = (number(0, 300_000), number(1, 190) as i64);
    let dir = args.get(2).map_or_else(|| std::env::temp_dir().join("ferula-compaction"), std::path::PathBuf::from);
    let _ = std::fs::remove_dir_all(&dir);
    let options = Options { background: false, ..Options::default() };
    let db = Db::open(&dir, options, Arc::new(Disk), Arc::new(SystemClock), &Registry::new())?;
    let mut refs = vec![SeriesRef::NONE; series];
    for minute in 0..minutes {
        for (target, part) in refs.chunks_mut(TARGET).enumerate() {
            scrape(&db, part, target * TARGET, minute)?;
        }
    }
    let before = rss_mb();
    let (done, peak) = (AtomicBool::new(false), AtomicU64::new(before));
    let mut waits: Vec<Duration> = Vec::new();
    let mut took = Duration::ZERO;
    std::thread::scope(|scope| -> Result<(), Failure> {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(rss_mb(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let compaction = scope.spawn(|| {
            let started = Instant::now();
            let result = db.compact();
            done.store(true, Ordering::Relaxed);
            result.map(|()| started.elapsed())
        });
        let mut minute = minutes;
        'scrapes: loop {
            for (target, part) in refs.chunks_mut(TARGET).enumerate() {
                waits.push(scrape(&db, part, target * TARGET, minute)?);
                std::thread::sleep(Duration::from_millis(2)); // as many scrapes would come
                if done.load(Ordering::Relaxed) {
                    break 'scrapes;
                }
            }
            minute += 1;
        }
        took = compaction.join().map_err(|_| "compaction panicked")??;
        let _ = watcher.join();
        Ok(())
    })?;
    waits.sort_unstable();
    let at = |part: f64| waits.get((waits.len() as f64 * part) as usize).copied().unwrap_or_default();
    let peak = peak.load(Ordering::Relaxed);
    println!(
        "compaction of {series} series, {minutes} minutes: {took:.1?}; anonymous memory {before} MB before, {peak} MB at \
         most ({:+.0} %), {} MB after; {} appends of {TARGET} meanwhile: half within {:?}, 99 % within {:?}, longest {:?}",
        (peak as f64 / before as f64 - 1.0) * 100.0,
        rss_mb(),
        waits.len(),
        at(0.5),
        at(0.99),
        waits.last().copied().unwrap_or_default(),
    );
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
