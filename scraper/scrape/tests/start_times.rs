//! Start times of counters, summaries and histograms: as zeros beside the real Prometheus (`PEERS`), with the samples, and
//! the metadata that the store is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferula_instrument::Registry;
use ferula_model::{Clock, Labels, Matcher, SystemClock};
use ferula_proto::{Message, metrics as wire};
use ferula_scraper_scrape::{ScrapeManager, ScrapeOptions, StartTimes};
use ferula_storage::{Column, QueryContext, Queryable, SampleBatch};
use ferula_testkit::Peer;
use ferula_tsdb::{Db, Options};
use support::{Answer, Server, job, until};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";
const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
const MINUTE: i64 = 60_000;

/// When the metrics of a page began to count.
#[derive(Clone, Copy)]
struct Starts {
    base: i64,
    restarted: i64,
}

impl Starts {
    /// By the metric's name; 0 for none.
    fn of(self, name: &str) -> i64 {
        match name {
            "recent" => self.base - 30_000,
            "earlier" => self.base - 40 * MINUTE,
            // Before what an empty head takes, and after the sample.
            "long_ago" => self.base - 180 * MINUTE,
            "to_come" => self.base + 60 * MINUTE,
            "restarted" => self.restarted,
            "hist" | "summ" | "native" => self.base - 20_000,
            _ => 0,
        }
    }
}

const COUNTERS: [&str; 6] = ["recent", "earlier", "long_ago", "to_come", "restarted", "unknown"];

fn text_page(s: Starts, value: f64) -> String {
    let seconds = |name: &str| s.of(name) as f64 / 1000.0;
    let mut out = String::new();
    for name in COUNTERS {
        out.push_str(&format!("# TYPE {name} counter\n# HELP {name} h\n{name}_total{{a=\"1\"}} {value}\n"));
        if s.of(name) != 0 {
            out.push_str(&format!("{name}_created{{a=\"1\"}} {}\n{name}_total{{a=\"2\"}} {value}\n", seconds(name)));
        }
    }
    out.push_str("# TYPE hist histogram\n");
    for (le, n) in [("0.5", 1.0), ("1", 2.0), ("+Inf", 3.0)] {
        out.push_str(&format!("hist_bucket{{le=\"{le}\"}} {}\n", n * value));
    }
    out.push_str(&format!("hist_count {}\nhist_sum {value}\nhist_created {}\n", 3.0 * value, seconds("hist")));
    out.push_str(&format!("# TYPE summ summary\nsumm{{quantile=\"0.5\"}} 2\nsumm_count 5\nsumm_sum {value}\n"));
    out.push_str(&format!("summ_created {}\n", seconds("summ")));
    out.push_str(&format!("# TYPE level gauge\nlevel {value}\nlevel_created 5\n# EOF\n"));
    out
}

fn timestamp(ms: i64) -> Option<wire::Timestamp> {
    (ms != 0).then(|| wire::Timestamp { seconds: Some(ms / 1000), nanos: Some((ms % 1000) as i32 * 1_000_000) })
}

fn family(name: &str, kind: i32, metric: wire::Metric) -> wire::MetricFamily {
    wire::MetricFamily { name: Some(name.into()), r#type: Some(kind), metric: vec![metric], ..Default::default() }
}

fn protobuf_page(s: Starts, value: f64) -> Vec<u8> {
    let mut families = Vec::new();
    for name in COUNTERS {
        let start_timestamp = timestamp(s.of(name));
        let counter = wire::Counter { value: Some(value), start_timestamp, ..Default::default() };
        let metric = wire::Metric { counter: Some(counter), ..Default::default() };
        families.push(family(&format!("{name}_total"), 0, metric));
    }
    let bucket =
        |upper: f64, n: u64| wire::Bucket { upper_bound: Some(upper), cumulative_count: Some(n), ..Default::default() };
    let classic = wire::Histogram {
        sample_count: Some(3),
        sample_sum: Some(value),
        bucket: vec![bucket(0.5, 1), bucket(1.0, 2)],
        start_timestamp: timestamp(s.of("hist")),
        ..Default::default()
    };
    let native = wire::Histogram {
        sample_count: Some(value as u64 + 1),
        sample_sum: Some(6.0),
        schema: Some(1),
        zero_threshold: Some(0.001),
        positive_span: vec![wire::BucketSpan { offset: Some(0), length: Some(2) }],
        positive_delta: vec![1, value as i64 - 1],
        start_timestamp: timestamp(s.of("native")),
        ..Default::default()
    };
    for (name, h) in [("hist", classic), ("native", native)] {
        families.push(family(name, 4, wire::Metric { histogram: Some(h), ..Default::default() }));
    }
    let quantile = vec![wire::Quantile { quantile: Some(0.5), value: Some(2.0) }];
    let start_timestamp = timestamp(s.of("summ"));
    let summary = wire::Summary { sample_count: Some(5), sample_sum: Some(value), quantile, start_timestamp };
    families.push(family("summ", 2, wire::Metric { summary: Some(summary), ..Default::default() }));
    families.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

/// What one series holds: time, start, value (a histogram's count).
type Content = BTreeMap<String, Vec<(i64, i64, f64)>>;

fn printed<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let own = labels.filter(|(n, _)| !matches!(*n, "instance" | "job"));
    own.map(|(n, v)| format!("{n}={v}")).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
}

fn content(db: &Db) -> Content {
    let querier = db.querier(i64::MIN, i64::MAX).unwrap();
    let matchers = [Matcher::equal("job", "j")];
    let mut set = querier.select(&QueryContext::background(), true, &Default::default(), &matchers).unwrap();
    let (mut out, mut batch) = (Content::new(), SampleBatch::default());
    while let Some(series) = set.next() {
        let series = series.unwrap();
        let labels = &series.labels;
        let of = out.entry(printed((0..labels.len()).map(|i| labels.pair(i)))).or_default();
        let mut samples = series.samples;
        while samples.next_batch(&mut batch).unwrap() {
            batch.start_ms.resize(batch.len(), 0);
            for (i, (t, start)) in batch.t_ms.iter().zip(&batch.start_ms).enumerate() {
                let value = match &batch.values {
                    Column::Floats(v) => v[i],
                    Column::Histograms(h) => h[i].count,
                };
                of.push((*t, *start, value));
            }
        }
    }
    out
}

/// What the real one holds, through its API.
fn content_of_peer(peer: &ferula_testkit::Running) -> Content {
    let (_, body) = peer.get("/api/v1/query?query=%7Bjob%3D%22j%22%7D%5B5h%5D");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let mut out = Content::new();
    for series in answer["data"]["result"].as_array().into_iter().flatten() {
        let labels = series["metric"].as_object().unwrap().iter().map(|(n, v)| (n.as_str(), v.as_str().unwrap()));
        let of = out.entry(printed(labels)).or_default();
        let number = |v: &serde_json::Value| v.as_str().unwrap().parse::<f64>().unwrap();
        let time = |v: &serde_json::Value| (v.as_f64().unwrap() * 1000.0).round() as i64;
        for s in series["values"].as_array().into_iter().flatten() {
            of.push((time(&s[0]), 0, number(&s[1])));
        }
        for s in series["histograms"].as_array().into_iter().flatten() {
            of.push((time(&s[0]), 0, number(&s[1]["count"])));
        }
    }
    out
}

/// The zeros at the starts that the page had, and the names of all series.
fn zeros(content: &Content, pages: &[Starts]) -> (BTreeSet<String>, BTreeSet<String>) {
    let names = COUNTERS.iter().chain(&["hist", "summ", "native"]);
    let all: BTreeSet<i64> = names.flat_map(|n| pages.iter().map(move |s| s.of(n))).collect();
    let at_start = content.iter().flat_map(|(series, samples)| {
        let zeros = samples.iter().filter(|(t, _, v)| all.contains(t) && *v == 0.0);
        zeros.map(move |(t, _, _)| format!("{series} @{t}"))
    });
    (at_start.collect(), content.keys().cloned().collect())
}

/// Samples that were scraped after `t_ms`.
fn scraped_after(content: &Content, series: &str, t_ms: i64) -> usize {
    content.get(series).map_or(0, |s| s.iter().filter(|(t, _, _)| *t > t_ms).count())
}

struct World {
    db: Arc<Db>,
    manager: Arc<ScrapeManager>,
    _dir: tempfile::TempDir,
}

fn start(server: &Server, more: &str, storage: Options, change: impl FnOnce(&mut ScrapeOptions)) -> World {
    let (dir, clock, registry) = (tempfile::tempdir().unwrap(), Arc::new(SystemClock), Registry::new());
    let storage = Options { background: false, free_space_min_bytes: Some(0), reserve_bytes: 0, ..storage };
    let db = Db::open(dir.path(), storage, Arc::new(ferula_fs::Disk), clock.clone(), &registry).unwrap();
    let mut options = ScrapeOptions { first_scrape_at_once: true, ..ScrapeOptions::default() };
    change(&mut options);
    let manager = ScrapeManager::new(options, db.clone(), clock, &registry).unwrap();
    manager.apply(vec![job(&[server.address()], more)], &Labels::empty()).unwrap();
    World { db, manager, _dir: dir }
}

fn zeros_wanted(o: &mut ScrapeOptions) {
    o.start_times = StartTimes { as_zeros: true, with_samples: false };
}

async fn compare(peer: &Peer, what: &str, content_type: &str, page: fn(Starts, f64) -> Vec<u8>) {
    let now = || SystemClock.now_ms();
    let answer = |s: Starts, v: f64| Answer::raw(&format!("content-type: {content_type}\r\n"), &page(s, v));
    let first = Starts { base: now(), restarted: now() - 10_000 };
    let server = Server::start(answer(first, 5.0)).await;
    let world = start(&server, "scrape_native_histograms: true", Options::default(), zeros_wanted);
    let config = format!(
        "scrape_configs:\n- job_name: j\n  scrape_interval: 100ms\n  scrape_timeout: 100ms\n  static_configs: [{{targets: ['{}']}}]\n",
        server.address()
    );
    let theirs = peer.start(|launch| {
        vec![
            format!("--config.file={}", launch.file("prometheus.yml", &config)),
            format!("--storage.tsdb.path={}", launch.dir.join("data").display()),
            format!("--web.listen-address={}", launch.addr),
            "--enable-feature=created-timestamp-zero-ingestion,native-histograms".to_owned(),
        ]
    });
    let probe = format!("__name__=restarted_total{}", if content_type == PROTOBUF { "" } else { ",a=1" });
    until(|| scraped_after(&content(&world.db), &probe, first.base) >= 2).await;
    until(|| scraped_after(&content_of_peer(&theirs), &probe, first.base) >= 2).await;
    // The process restarts: from now on it counts anew. A little ahead, so that no page of before is younger. Should a
    // scrape fall on that very millisecond there is no place for a zero; then it restarts again.
    let mut pages = vec![first];
    let restarted = loop {
        let next = Starts { restarted: now() + 250, ..first };
        server.set(answer(next, 1.0));
        until(|| scraped_after(&content(&world.db), &probe, next.restarted) >= 3).await;
        until(|| scraped_after(&content_of_peer(&theirs), &probe, next.restarted) >= 3).await;
        let is_scrape = |c: Content| c["__name__=up"].iter().any(|(t, _, _)| *t == next.restarted);
        if !is_scrape(content(&world.db)) && !is_scrape(content_of_peer(&theirs)) {
            pages.push(next);
            break next.restarted;
        }
    };
    world.manager.stop().await;
    let ((ours, our_names), (peers, peer_names)) =
        (zeros(&content(&world.db), &pages), zeros(&content_of_peer(&theirs), &pages));
    assert_eq!(our_names, peer_names, "{what}");
    assert_eq!(ours, peers, "{what}");
    assert!(ours.contains(&format!("{probe} @{restarted}")), "{what}: {ours:?}");
    println!("{what}: {} zeros in {} series as Prometheus has them", ours.len(), our_names.len());
    assert!(ours.len() >= 9, "{what}: {ours:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn zeros_where_prometheus_has_them() {
    let peer = match Peer::find("prometheus", (3, 5, 0)) {
        Ok(peer) => peer,
        Err(why) => return println!("SKIPPED start times beside Prometheus: {why}"),
    };
    let text: fn(Starts, f64) -> Vec<u8> = |s, v| text_page(s, v).into_bytes();
    compare(&peer, "OpenMetrics", OPENMETRICS, text).await;
    compare(&peer, "protobuf", PROTOBUF, protobuf_page).await;
}

/// Prometheus 3.5 refuses this configuration: there its two parsers would hide the start from each other.
#[tokio::test(flavor = "multi_thread")]
async fn a_converted_histogram_has_its_zero() {
    let page = Starts { base: SystemClock.now_ms(), restarted: 0 };
    let server = Server::start(Answer::typed(OPENMETRICS, &text_page(page, 5.0))).await;
    let world = start(&server, "convert_classic_histograms_to_nhcb: true", Options::default(), zeros_wanted);
    let hist = || content(&world.db).get("__name__=hist").cloned().unwrap_or_default();
    until(|| hist().len() >= 2).await;
    world.manager.stop().await;
    assert_eq!(hist()[0], (page.of("hist"), 0, 0.0));
    assert_eq!(hist()[1].2, 15.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_keep_their_start() {
    let page = Starts { base: SystemClock.now_ms(), restarted: 0 };
    let storage = || Options { start_times: true, xor2: true, histogram_starts: true, ..Options::default() };
    for (content_type, body) in [(OPENMETRICS, text_page(page, 5.0).into_bytes()), (PROTOBUF, protobuf_page(page, 5.0))]
    {
        let server = Server::start(Answer::raw(&format!("content-type: {content_type}\r\n"), &body)).await;
        let kept = |o: &mut ScrapeOptions| o.start_times = StartTimes { as_zeros: false, with_samples: true };
        let world = start(&server, "scrape_native_histograms: true", storage(), kept);
        until(|| content(&world.db).iter().any(|(k, s)| k.contains("recent_total") && s.len() >= 3)).await;
        world.manager.stop().await;
        let mut with_start = 0;
        for (series, samples) in content(&world.db) {
            let name = series.split(['=', ',']).nth(1).unwrap();
            let metric = ["_total", "_bucket", "_count", "_sum"].iter().find_map(|s| name.strip_suffix(s));
            let is_second = series.contains("a=2");
            let expect = if is_second { 0 } else { page.of(metric.unwrap_or(name)) };
            assert!(samples.iter().all(|(_, start, _)| *start == expect), "{series}: {samples:?}, not {expect}");
            with_start += usize::from(expect != 0);
        }
        assert!(with_start >= 10, "{with_start}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_features_start_lines_are_series() {
    let page = Starts { base: SystemClock.now_ms(), restarted: 0 };
    let server = Server::start(Answer::typed(OPENMETRICS, &text_page(page, 5.0))).await;
    let world = start(&server, "", Options::default(), |_| {});
    until(|| content(&world.db).contains_key("__name__=hist_created")).await;
    world.manager.stop().await;
    let all = content(&world.db);
    assert!(all.contains_key("__name__=recent_created,a=1"), "{:?}", all.keys());
    assert!(all.values().flatten().all(|(t, _, _)| *t >= page.base));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_told_the_metadata() {
    let body = |help: &str| {
        Answer::typed(OPENMETRICS, &format!("# TYPE c counter\n# HELP c {help}\nc_total 1\nstray 2\n# EOF\n"))
    };
    let server = Server::start(body("one")).await;
    let storage = Options { metadata_records: true, ..Options::default() };
    let world = start(&server, "", storage, |o| o.passes_metadata = true);
    let series = |name: &str| {
        let name = Labels::from_pairs([("__name__", name), ("instance", &server.address()), ("job", "j")]);
        let mut app = ferula_storage::Appendable::appender(&*world.db);
        let options = ferula_storage::AppendOptions { existing_series_only: true, ..Default::default() };
        let value = ferula_model::Value::Float(0.0);
        let found =
            app.append(ferula_model::SeriesRef::NONE, Some(&name), 0, SystemClock.now_ms() + 1, value, &options);
        app.rollback();
        found.ok().and_then(|s| world.db.head().metadata_of(s))
    };
    until(|| series("c_total").is_some()).await;
    until(|| series("up").is_some()).await;
    let (c, up) = (series("c_total").unwrap(), series("up").unwrap());
    assert_eq!((c.metric_type.as_str(), c.help.as_str()), ("counter", "one"));
    assert_eq!((up.metric_type.as_str(), up.unit.as_str()), ("gauge", "targets"));
    assert!(series("stray").is_none(), "it is not the counter's");
    // A failed scrape in between takes nothing with it.
    server.set(Answer::typed(OPENMETRICS, "# TYPE c counter\n# HELP c two\nc_total 1\nc_total{ 2\n"));
    until(|| world.manager.targets()[0].active[0].last_error.contains("expected label name")).await;
    server.set(body("two"));
    until(|| series("c_total").is_some_and(|m| m.help == "two")).await;
    world.manager.stop().await;
}
