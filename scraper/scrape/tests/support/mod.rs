//! A store in memory that can be looked into, and a target that answers what a test wants.
#![allow(dead_code)] // every test file uses its part
pub mod rules;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ferula_model::{Exemplar, FloatHistogram, Labels, SeriesRef, Value, is_stale_nan};
use ferula_scraper_scrape::config::{GlobalConfig, ScrapeConfig};
use ferula_storage::{AppendError, AppendOptions, Appendable, Appender, CommitStats, Durability, StorageError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Samples by series: time, value.
pub type Samples = BTreeMap<String, Vec<(i64, f64)>>;

#[derive(Default)]
struct Inner {
    by_labels: HashMap<Labels, SeriesRef>,
    labels: HashMap<SeriesRef, Labels>,
    samples: HashMap<SeriesRef, BTreeMap<i64, f64>>,
    exemplars: Vec<(Labels, Exemplar)>,
    histograms: BTreeMap<String, FloatHistogram>,
    next: u64,
    commits: usize,
}

/// Accepts samples in any order, but one value per time; `strict` refuses what is older than the newest.
#[derive(Clone, Default)]
pub struct Store {
    inner: Arc<Mutex<Inner>>,
    pub accept_old: bool,
}

struct Batch {
    store: Store,
    pending: Vec<(SeriesRef, i64, f64)>,
    exemplars: Vec<(Labels, Exemplar)>,
}

impl Appendable for Store {
    fn appender(&self) -> Box<dyn Appender> {
        Box::new(Batch { store: self.clone(), pending: Vec::new(), exemplars: Vec::new() })
    }
}

impl Appender for Batch {
    fn append(
        &mut self,
        series: SeriesRef,
        labels: Option<&Labels>,
        _start_ms: i64,
        t_ms: i64,
        value: Value<'_>,
        options: &AppendOptions<'_>,
    ) -> Result<SeriesRef, AppendError> {
        let mut inner = self.store.inner.lock().unwrap();
        let series = match labels {
            Some(l) => match inner.by_labels.get(l) {
                Some(s) => *s,
                None if options.existing_series_only => return Err(AppendError::SeriesBudget),
                None => {
                    inner.next += 1;
                    let s = SeriesRef(inner.next);
                    inner.by_labels.insert(l.clone(), s);
                    inner.labels.insert(s, l.clone());
                    s
                }
            },
            None if inner.labels.contains_key(&series) => series,
            None => return Err(AppendError::UnknownSeries),
        };
        let (v, histogram) = match value {
            Value::Float(v) => (v, None),
            Value::Histogram(h) => (h.sum, Some(h.to_float())),
            Value::FloatHistogram(h) => (h.sum, Some(h.clone())),
        };
        if let Some(h) = histogram {
            let printed = inner.labels[&series].to_string();
            inner.histograms.insert(printed, h);
        }
        let pending = self.pending.iter().filter(|(s, _, _)| *s == series).map(|(_, t, v)| (*t, *v));
        let held = inner.samples.get(&series).into_iter().flatten().map(|(t, v)| (*t, *v));
        let all: Vec<(i64, f64)> = held.chain(pending).collect();
        if let Some((_, old)) = all.iter().find(|(t, _)| *t == t_ms) {
            return if old.to_bits() == v.to_bits() { Ok(series) } else { Err(AppendError::DuplicateTimestamp) };
        }
        let newest = all.iter().map(|(t, _)| *t).max();
        if newest.is_some_and(|n| t_ms < n) && (options.reject_out_of_order || !self.store.accept_old) {
            return Err(AppendError::OutOfOrder);
        }
        self.pending.push((series, t_ms, v));
        let labels = inner.labels[&series].clone();
        self.exemplars.extend(options.exemplars.iter().map(|e| (labels.clone(), e.clone())));
        Ok(series)
    }
    fn commit(self: Box<Self>, _durability: Durability) -> Result<CommitStats, StorageError> {
        let mut inner = self.store.inner.lock().unwrap();
        for (series, t, v) in &self.pending {
            inner.samples.entry(*series).or_default().insert(*t, *v);
        }
        inner.exemplars.extend(self.exemplars);
        inner.commits += 1;
        Ok(CommitStats { floats: self.pending.len() as u64, ..CommitStats::default() })
    }
    fn rollback(self: Box<Self>) {}
}

impl Store {
    pub fn samples(&self) -> Samples {
        let inner = self.inner.lock().unwrap();
        let of = |s: &SeriesRef| inner.labels[s].to_string();
        inner.samples.iter().map(|(s, m)| (of(s), m.iter().map(|(t, v)| (*t, *v)).collect())).collect()
    }
    pub fn exemplars(&self) -> Vec<(Labels, Exemplar)> {
        self.inner.lock().unwrap().exemplars.clone()
    }
    /// The newest histogram of every series that has any, committed or not.
    pub fn histograms(&self) -> BTreeMap<String, FloatHistogram> {
        self.inner.lock().unwrap().histograms.clone()
    }
    pub fn label_sets(&self) -> BTreeMap<String, Labels> {
        self.inner.lock().unwrap().by_labels.keys().map(|l| (l.to_string(), l.clone())).collect()
    }
    pub fn commits(&self) -> usize {
        self.inner.lock().unwrap().commits
    }
    /// Samples of the series whose labels print so, `stale` for markers.
    pub fn values(&self, series: &str) -> Vec<String> {
        let show = |v: &f64| if is_stale_nan(*v) { "stale".to_owned() } else { v.to_string() };
        self.samples().get(series).into_iter().flatten().map(|(_, v)| show(v)).collect()
    }
    /// As after a garbage collection: references are unknown, samples stay.
    pub fn forget_references(&self) {
        let mut inner = self.inner.lock().unwrap();
        let old: Vec<(SeriesRef, Labels)> = inner.labels.drain().collect();
        inner.by_labels.clear();
        for (series, labels) in old {
            inner.next += 1;
            let renamed = SeriesRef(inner.next);
            let samples = inner.samples.remove(&series).unwrap_or_default();
            inner.samples.insert(renamed, samples);
            inner.by_labels.insert(labels.clone(), renamed);
            inner.labels.insert(renamed, labels);
        }
    }
}

/// The body so many times over, each time as a gzip member of its own.
pub fn gzip(body: &[u8], times: usize) -> Vec<u8> {
    use std::io::Write;
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    e.write_all(body).unwrap();
    e.finish().unwrap().repeat(times)
}

/// One scripted HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer(pub Vec<u8>);

impl Answer {
    pub fn text(body: &str) -> Answer {
        Answer::typed("text/plain; version=0.0.4", body)
    }
    pub fn typed(content_type: &str, body: &str) -> Answer {
        Answer::raw(&format!("content-type: {content_type}\r\n"), body.as_bytes())
    }
    pub fn raw(headers: &str, body: &[u8]) -> Answer {
        let mut out = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}\r\n", body.len()).into_bytes();
        out.extend_from_slice(body);
        Answer(out)
    }
    pub fn gzip(body: &[u8], times: usize) -> Answer {
        Answer::raw("content-type: text/plain\r\ncontent-encoding: gzip\r\n", &gzip(body, times))
    }
    pub fn status(line: &str) -> Answer {
        Answer(format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n").into_bytes())
    }
}

/// A server on a free port of the loopback.
pub struct Server {
    pub port: u16,
    pub connections: Arc<AtomicUsize>,
    pub requests: Arc<AtomicUsize>,
    pub last_head: Arc<Mutex<String>>,
    answer: Arc<Mutex<Answer>>,
}

impl Server {
    pub async fn start(answer: Answer) -> Server {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            requests: Arc::default(),
            last_head: Arc::default(),
            answer: Arc::new(Mutex::new(answer)),
        };
        let (connections, requests) = (Arc::clone(&server.connections), Arc::clone(&server.requests));
        let (answer, last_head) = (Arc::clone(&server.answer), Arc::clone(&server.last_head));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (answer, requests, last_head) =
                    (Arc::clone(&answer), Arc::clone(&requests), Arc::clone(&last_head));
                tokio::spawn(async move {
                    let mut seen = Vec::new();
                    let mut chunk = [0u8; 4096];
                    while let Ok(n @ 1..) = socket.read(&mut chunk).await {
                        seen.extend_from_slice(&chunk[..n]);
                        if !seen.ends_with(b"\r\n\r\n") {
                            continue;
                        }
                        *last_head.lock().unwrap() = String::from_utf8_lossy(&seen).into_owned();
                        seen.clear();
                        requests.fetch_add(1, Ordering::SeqCst);
                        let bytes = answer.lock().unwrap().0.clone();
                        if socket.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        server
    }
    pub fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// A job named `j` over the addresses, with more YAML fields.
pub fn job(addresses: &[String], more: &str) -> ScrapeConfig {
    let yaml = format!(
        "job_name: j\nscrape_interval: 100ms\nscrape_timeout: 100ms\nstatic_configs: [{{targets: [{}]}}]\n{more}",
        addresses.iter().map(|a| format!("\"{a}\"")).collect::<Vec<_>>().join(", ")
    );
    let config: ScrapeConfig = ferula_yaml::from_str("test", &yaml).unwrap();
    config.resolve(&GlobalConfig::default().resolve().unwrap()).unwrap()
}

/// Waits for a condition that must come true; how long it takes does not matter.
pub async fn until(mut condition: impl FnMut() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the condition never came true");
}
