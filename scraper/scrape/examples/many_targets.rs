//! Many targets: whether all are scraped on time, what they cost in CPU and memory, and what churn does to the rest.
//!
//! `cargo run --release -p ferula-scraper-scrape --example many_targets [targets] [series] [interval s] [seconds] [churned per minute]`
//!
//! The exporter is a process of its own, and the store forgets everything: what is measured is scraping alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
use std::collections::HashMap;
use std::io::BufRead;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ferula_instrument::Registry;
use ferula_model::{Labels, SeriesRef, SystemClock, Value};
use ferula_scraper_scrape::config::{GlobalConfig, ScrapeConfig};
use ferula_scraper_scrape::{ScrapeManager, ScrapeOptions};
use ferula_storage::{AppendError, AppendOptions, Appendable, Appender, CommitStats, Durability, StorageError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Series of `up` are told apart by this bit of their reference.
const UP: u64 = 1 << 40;

#[derive(Default)]
struct Counts {
    next: AtomicU64,
    samples: AtomicU64,
    /// By instance: scrapes that succeeded, and that failed.
    ups: Mutex<HashMap<u64, (String, u64, u64)>>,
}

#[derive(Clone, Default)]
struct Forgetful(Arc<Counts>);

impl Appendable for Forgetful {
    fn appender(&self) -> Box<dyn Appender> {
        Box::new(self.clone())
    }
}

impl Appender for Forgetful {
    fn append(
        &mut self,
        series: SeriesRef,
        labels: Option<&Labels>,
        _start_ms: i64,
        _t_ms: i64,
        value: Value<'_>,
        _options: &AppendOptions<'_>,
    ) -> Result<SeriesRef, AppendError> {
        let counts = &self.0;
        counts.samples.fetch_add(1, Ordering::Relaxed);
        let series = match labels {
            Some(l) => {
                let n = counts.next.fetch_add(1, Ordering::Relaxed) + 1;
                let is_up = l.get("__name__") == Some("up");
                let n = if is_up { n | UP } else { n };
                if is_up {
                    let instance = l.get("instance").unwrap_or("").to_owned();
                    counts.ups.lock().unwrap().insert(n, (instance, 0, 0));
                }
                SeriesRef(n)
            }
            None => series,
        };
        if series.0 & UP != 0
            && let Value::Float(v) = value
            && let Some((_, good, bad)) = counts.ups.lock().unwrap().get_mut(&series.0)
        {
            if v == 1.0 { *good += 1 } else { *bad += 1 }
        }
        Ok(series)
    }
    fn commit(self: Box<Self>, _: Durability) -> Result<CommitStats, StorageError> {
        Ok(CommitStats::default())
    }
    fn rollback(self: Box<Self>) {}
}

/// Answers everything on every loopback address with the same page; numbers change a little.
fn serve(series: usize) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(async {
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        let lines = (0..series).map(|i| {
            format!("some_metric_total{{path=\"/api/v1/thing/{i}\",code=\"200\",method=\"GET\"}} {}\n", i * 1000)
        });
        let body: String = lines.collect();
        let answer = Arc::new(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        loop {
            let Ok((mut socket, _)) = listener.accept().await else { continue };
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut head = [0u8; 1024];
                while socket.read(&mut head).await.is_ok_and(|n| n > 0) {
                    if socket.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn rss_kib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    text.lines().find(|l| l.starts_with("VmRSS")).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Seconds of processor time used so far.
fn cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn config(addresses: &[String], interval_s: u64) -> ScrapeConfig {
    let list: Vec<String> = addresses.iter().map(|a| format!("'{a}'")).collect();
    let yaml = format!(
        "job_name: j\nscrape_interval: {interval_s}s\nscrape_timeout: {interval_s}s\nstatic_configs: [{{targets: [{}]}}]",
        list.join(",")
    );
    let config: ScrapeConfig = ferula_yaml::from_str("", &yaml).unwrap();
    config.resolve(&GlobalConfig::default().resolve().unwrap()).unwrap()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == "serve") {
        return serve(arguments[1].parse().unwrap());
    }
    let number = |i: usize, default: u64| arguments.get(i).map_or(default, |a| a.parse().unwrap());
    let (targets, series, interval_s, seconds, churn) =
        (number(0, 10_000), number(1, 100), number(2, 15), number(3, 60), number(4, 0));
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["serve", &series.to_string()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let port = port.trim().to_owned();
    let address = |i: u64| format!("127.{}.{}.{}:{port}", 1 + i / 65_536, i / 256 % 256, i % 256);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (store, registry, empty) = (Forgetful::default(), Registry::new(), rss_kib());
        let manager = ScrapeManager::new(ScrapeOptions::default(), Arc::new(store.clone()), Arc::new(SystemClock), &registry).unwrap();
        let mut alive: Vec<u64> = (0..targets).collect();
        let addresses = |alive: &[u64]| alive.iter().map(|i| address(*i)).collect::<Vec<_>>();
        manager.apply(vec![config(&addresses(&alive), interval_s)], &Labels::empty()).unwrap();
        tokio::time::sleep(Duration::from_secs(2 * interval_s + 1)).await; // everybody has been met
        let (samples, cpu, started) = (store.0.samples.load(Ordering::Relaxed), cpu_s(), Instant::now());
        let before: HashMap<String, u64> = store.0.ups.lock().unwrap().values().map(|(i, good, _)| (i.clone(), *good)).collect();
        let (mut next, mut churned) = (targets, 0);
        while started.elapsed() < Duration::from_secs(seconds) {
            tokio::time::sleep(Duration::from_secs(5).min(Duration::from_secs(seconds) - started.elapsed().min(Duration::from_secs(seconds)))).await;
            if churn > 0 {
                let some = churn / 12;
                // The newest half is what comes and goes; the older half must not notice.
                alive.drain(alive.len() / 2..alive.len() / 2 + usize::try_from(some).unwrap());
                alive.extend(next..next + some);
                next += some;
                churned += some;
                manager.apply(vec![config(&addresses(&alive), interval_s)], &Labels::empty()).unwrap();
            }
        }
        let (took, cpu) = (started.elapsed().as_secs_f64(), cpu_s() - cpu);
        let samples = (store.0.samples.load(Ordering::Relaxed) - samples) as f64;
        let due = (took / interval_s as f64).floor() as u64;
        let (mut stable, mut missed, mut failed) = (0, 0, 0);
        let still: std::collections::HashSet<String> = addresses(&alive[..alive.len() / 2]).into_iter().collect();
        for (instance, good, bad) in store.0.ups.lock().unwrap().values() {
            if still.contains(instance) || churn == 0 {
                stable += 1;
                missed += due.saturating_sub(good + bad - before.get(instance).copied().unwrap_or(0));
                failed += bad;
            }
        }
        println!(
            "{targets} targets x {series} series at {interval_s} s for {took:.0} s, {churned} targets replaced: {:.0} samples/s, \
             {:.2} cores, {:.2} s of CPU per million samples",
            samples / took,
            cpu / took,
            cpu / samples * 1e6
        );
        println!("{stable} stable targets, each due {due} times: {missed} scrapes missed, {failed} failed");
        println!("{:.1} KiB resident per target", (rss_kib() - empty) / targets as f64);
        manager.stop().await;
    });
    let _ = child.kill();
    let _ = child.wait();
}
