//! A store of any size that holds no samples: a sample is a pure function of its series and its number, made when it is
//! read, 120 at a time as from a chunk. Only labels are held, and which series matchers select, as an index knows it.
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ferula_model::{Labels, Matcher};
use ferula_storage::{
    Annotations, LabelHints, Querier, QueryContext, Queryable, SampleBatch, SampleIter, SelectHints, Series, SeriesSet,
    StorageError,
};

pub const STEP_MS: i64 = 15_000;
/// Samples of one batch: those of a chunk.
const BATCH: i64 = 120;

/// Three metrics of `series` series each, and one series of `kube_pod_info` per ten of them.
#[derive(Clone)]
pub struct Made(Arc<Inner>);

struct Inner {
    metrics: [(&'static str, Vec<Arc<Labels>>); 4],
    /// By the matchers in words.
    selected: Mutex<HashMap<String, Selected>>,
}

/// Metric and series.
type Selected = Arc<[(usize, usize)]>;

impl Made {
    pub fn new(series: usize) -> Made {
        let le = ["0.005", "0.01", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "10", "+Inf"];
        let bucket = |i: usize| {
            Arc::new(Labels::from_pairs([
                ("__name__", "http_request_duration_seconds_bucket"),
                ("code", if i / 10 % 5 == 4 { "500" } else { "200" }),
                ("handler", &format!("/api/v1/handler{}", i / 10 % 10)),
                ("instance", &format!("10.0.{}.{}:8080", i / 25_600, i / 100 % 256)),
                ("job", "api-server"),
                ("le", le[i % 10]),
            ]))
        };
        let container = |name: &str, i: usize| {
            Arc::new(Labels::from_pairs([
                ("__name__", name),
                ("container", &format!("c{}", i % 10)),
                ("namespace", &format!("team-{}", i / 10 % 20)),
                ("pod", &format!("app-7c9d8b6f5d-{:05}", i / 10)),
            ]))
        };
        let pod = |i: usize| {
            Arc::new(Labels::from_pairs([
                ("__name__", "kube_pod_info"),
                ("namespace", &format!("team-{}", i % 20)),
                ("node", &format!("node-{:04}", i / 10)),
                ("pod", &format!("app-7c9d8b6f5d-{i:05}")),
            ]))
        };
        let (cpu, memory) = ("container_cpu_usage_seconds_total", "container_memory_working_set_bytes");
        let metrics = [
            ("http_request_duration_seconds_bucket", (0..series).map(bucket).collect()),
            (cpu, (0..series).map(|i| container(cpu, i)).collect()),
            (memory, (0..series).map(|i| container(memory, i)).collect()),
            ("kube_pod_info", (0..series / 10).map(pod).collect()),
        ];
        Made(Arc::new(Inner { metrics, selected: Mutex::default() }))
    }

    fn selected(&self, matchers: &[Matcher]) -> Selected {
        let mut known = self.0.selected.lock().unwrap();
        let find = || {
            let fits = |l: &Labels| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or("")));
            let of_metric = |(m, (_, all)): (usize, &(&str, Vec<Arc<Labels>>))| {
                let fitting = all.iter().enumerate().filter(|(_, l)| fits(l));
                fitting.map(|(i, _)| (m, i)).collect::<Vec<_>>()
            };
            self.0.metrics.iter().enumerate().flat_map(of_metric).collect()
        };
        Arc::clone(known.entry(format!("{matchers:?}")).or_insert_with(find))
    }
}

impl Queryable for Made {
    fn querier(&self, mint_ms: i64, maxt_ms: i64) -> Result<Box<dyn Querier>, StorageError> {
        Ok(Box::new(Bounded { store: self.clone(), mint_ms, maxt_ms }))
    }
}

struct Bounded {
    store: Made,
    mint_ms: i64,
    maxt_ms: i64,
}

impl Querier for Bounded {
    fn select(
        &self,
        _: &QueryContext,
        _: bool,
        hints: &SelectHints,
        matchers: &[Matcher],
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let (mint_ms, maxt_ms) = hints.within(self.mint_ms, self.maxt_ms);
        let selected = self.store.selected(matchers);
        Ok(Box::new(Found { store: self.store.clone(), selected, next: 0, mint_ms, maxt_ms }))
    }
    fn label_values(
        &self,
        _: &QueryContext,
        _: &str,
        _: &LabelHints,
        _: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        Ok(Default::default())
    }
    fn label_names(
        &self,
        _: &QueryContext,
        _: &LabelHints,
        _: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        Ok(Default::default())
    }
}

struct Found {
    store: Made,
    selected: Selected,
    next: usize,
    mint_ms: i64,
    maxt_ms: i64,
}

impl SeriesSet for Found {
    fn next(&mut self) -> Option<Result<Series, StorageError>> {
        let (metric, series) = *self.selected.get(self.next)?;
        self.next += 1;
        let (name, all) = &self.store.0.metrics[metric];
        // A hundred targets, each with its own scrape offset.
        let offset_ms = (series as i64 / 100 % 100) * 147;
        let samples = Samples {
            offset_ms,
            next: (self.mint_ms - offset_ms + STEP_MS - 1).div_euclid(STEP_MS),
            last: (self.maxt_ms - offset_ms).div_euclid(STEP_MS),
            kind: match *name {
                "kube_pod_info" => Kind::Info,
                "container_memory_working_set_bytes" => Kind::Gauge,
                _ => Kind::Counter,
            },
            seed: (series as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        };
        Some(Ok(Series { labels: Arc::clone(&all[series]) as _, samples: Box::new(samples) }))
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Info,
}

struct Samples {
    offset_ms: i64,
    /// Numbers of samples: time is `offset_ms + number * STEP_MS`.
    next: i64,
    last: i64,
    kind: Kind,
    seed: u64,
}

impl SampleIter for Samples {
    fn next_batch(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError> {
        out.clear();
        // Batches end where chunks would, wherever reading began.
        let end = ((self.next.div_euclid(BATCH) + 1) * BATCH).min(self.last + 1);
        let numbers = self.next..end;
        let seed = self.seed;
        // Cheap, and different enough that no sum is trivial.
        let noise = |i: i64| (i as u64 ^ seed).wrapping_mul(0xd134_2543_de82_ef95) >> 56;
        let (times, values) = out.floats_mut();
        times.extend(numbers.clone().map(|i| self.offset_ms + i * STEP_MS));
        match self.kind {
            Kind::Counter => values.extend(numbers.map(|i| (i as u64 * 256 + noise(i)) as f64 * 0.125)),
            Kind::Gauge => values.extend(numbers.map(|i| 1e8 + (noise(i) * 4096) as f64)),
            Kind::Info => values.extend(numbers.map(|_| 1.0)),
        }
        self.next = self.next.max(end);
        Ok(!out.is_empty())
    }
    fn next_ms(&self) -> Option<i64> {
        Some(if self.next <= self.last { self.offset_ms + self.next * STEP_MS } else { i64::MAX })
    }
    fn skip_to(&mut self, t_ms: i64) {
        let first = (t_ms - self.offset_ms).div_euclid(STEP_MS);
        self.next = self.next.max(first);
    }
}
