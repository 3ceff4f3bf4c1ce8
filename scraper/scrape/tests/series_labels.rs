//! Which series a scrape comes to, ours beside the real Prometheus (`PEERS`): random metric relabelling rules, and type and
//! unit as labels.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferula_instrument::Registry;
use ferula_model::{Labels, SystemClock};
use ferula_proto::{Message, metrics as wire};
use ferula_scraper_scrape::config::{GlobalConfig, ScrapeConfig};
use ferula_scraper_scrape::{ScrapeManager, ScrapeOptions};
use ferula_testkit::Peer;
use support::rules::{Random, VALUES, rule};
use support::{Answer, Server, Store, until};

/// All labels of a series, by name.
type Series = BTreeMap<String, String>;

#[derive(serde::Deserialize)]
struct File {
    scrape_configs: Vec<ScrapeConfig>,
}

/// The series of all jobs of `yaml`, once each job's target was scraped.
async fn ours(yaml: &str, features: &[&str]) -> BTreeSet<Series> {
    let file: File = ferula_yaml::from_str("test", yaml).unwrap();
    let mut global = GlobalConfig { prefers_protobuf: true, ..GlobalConfig::default() }.resolve().unwrap();
    global.scrape_native_histograms = Some(true);
    let jobs: Vec<ScrapeConfig> = file.scrape_configs.into_iter().map(|j| j.resolve(&global).unwrap()).collect();
    let (store, count) = (Store::default(), jobs.len());
    let type_and_unit_labels = features.contains(&"type-and-unit-labels");
    let options = ScrapeOptions { first_scrape_at_once: true, type_and_unit_labels, ..ScrapeOptions::default() };
    let manager =
        ScrapeManager::new(options, Arc::new(store.clone()), Arc::new(SystemClock), &Registry::new()).unwrap();
    manager.apply(jobs, &Labels::empty()).unwrap();
    until(|| store.samples().keys().filter(|s| s.starts_with("{__name__=\"up\"")).count() == count).await;
    manager.stop().await;
    let with_samples = store.samples();
    let stored = store.label_sets().into_iter().filter(|(printed, _)| with_samples.contains_key(printed));
    stored.map(|(_, l)| l.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()).collect()
}

async fn theirs(peer: &Peer, yaml: &str, features: &[&str], jobs: usize) -> BTreeSet<Series> {
    let running = peer.start(|launch| {
        vec![
            format!("--config.file={}", launch.file("prometheus.yml", yaml)),
            format!("--storage.tsdb.path={}", launch.dir.join("data").display()),
            format!("--web.listen-address={}", launch.addr),
            format!("--enable-feature=native-histograms,{}", features.join(",")),
        ]
    });
    let json = |path: &str| serde_json::from_str::<serde_json::Value>(&running.get(path).1).unwrap();
    let count = "/api/v1/query?query=count(up)";
    until(|| json(count)["data"]["result"][0]["value"][1].as_str() == Some(&jobs.to_string())).await;
    let all = json("/api/v1/series?match[]=%7B__name__!=%22%22%7D");
    let of = |s: &serde_json::Value| serde_json::from_value(s.clone()).unwrap();
    all["data"].as_array().unwrap().iter().map(of).collect()
}

async fn compare(what: &str, yaml: &str, features: &[&str], jobs: usize) -> usize {
    let peer = match Peer::find("prometheus", (3, 5, 0)) {
        Ok(peer) => peer,
        Err(why) => {
            println!("SKIPPED {what} beside Prometheus: {why}");
            return usize::MAX;
        }
    };
    let (mine, theirs) = (ours(yaml, features).await, theirs(&peer, yaml, features, jobs).await);
    println!(
        "{what}: {} series, Prometheus {}, equal {}",
        mine.len(),
        theirs.len(),
        mine.intersection(&theirs).count()
    );
    for (who, only) in [("ours", mine.difference(&theirs)), ("theirs", theirs.difference(&mine))] {
        for series in only.take(10) {
            let job = format!("- job_name: {}\n", series["job"]);
            let config = yaml.find(&job).map_or("", |at| yaml[at..].lines().nth(1).unwrap_or(""));
            println!("only {who}: {series:?}\n  {config}");
        }
    }
    assert!(mine == theirs, "{what}");
    mine.len()
}

/// Names that the page uses, and some of the target's.
const LABELS: [&str; 8] = ["__name__", "a", "b", "zone", "job", "instance", "le", "absent"];

fn page(r: &mut Random) -> String {
    let mut out = String::new();
    for metric in 0..30 {
        let mut labels = BTreeMap::new();
        for _ in 0..r.next(4) {
            labels.insert(r.pick(&["a", "b", "zone", "job"]), r.pick(&VALUES));
        }
        let labels: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
        out.push_str(&format!("{}_{metric}{{{}}} 1\n", r.pick(&["x", "prod", "a_total"]), labels.join(",")));
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn relabels_metrics_as_prometheus_does() {
    const JOBS: usize = 80;
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut r = Random(seed);
    let server = Server::start(Answer::text(&page(&mut r))).await;
    let mut yaml = "scrape_configs:\n".to_owned();
    for job in 0..JOBS {
        let rules: Vec<String> = (0..1 + r.next(4)).map(|_| rule(&mut r, &LABELS)).collect();
        yaml.push_str(&format!(
            "- job_name: j{job}\n  metric_relabel_configs: [{}]\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  honor_labels: {}\n  static_configs: [{{targets: ['{}']}}]\n",
            rules.join(", "),
            job % 2 == 0,
            server.address()
        ));
    }
    let series = compare(&format!("metric relabelling, seed {seed}"), &yaml, &[], JOBS).await;
    assert!(series > 5 * JOBS);
}

const TEXT: &str = "# TYPE c counter\n# HELP c h\nc{a=\"1\"} 1\n# TYPE g gauge\ng{__type__=\"mine\",__unit__=\"mine\"} 2\n\
    # TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 1\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_count 1\n\
    s_sum 1\n# TYPE u untyped\nu{__type__=\"mine\",__unit__=\"mine\"} 1\n";
/// Families without a unit come first: version 3.5 takes the last one's for theirs.
const OPENMETRICS: &str = "# TYPE g gauge\ng{__unit__=\"mine\"} 1\n# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE st stateset\n\
    st{st=\"a\"} 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 1\n# TYPE c_seconds counter\n\
    # UNIT c_seconds seconds\n# HELP c_seconds h\nc_seconds_total{a=\"1\"} 1\n# TYPE g_bytes gauge\n\
    # UNIT g_bytes bytes\ng_bytes{__type__=\"mine\",__unit__=\"mine\"} 2\n# EOF\n";

fn protobuf() -> Vec<u8> {
    let family = |name: &str, kind: i32, unit: &str, metric: wire::Metric| wire::MetricFamily {
        name: Some(name.into()),
        r#type: Some(kind),
        unit: Some(unit.into()),
        metric: vec![metric],
        ..Default::default()
    };
    let counter = wire::Counter { value: Some(1.0), ..Default::default() };
    let native = wire::Histogram {
        sample_count: Some(2),
        sample_sum: Some(6.0),
        schema: Some(1),
        zero_threshold: Some(0.001),
        positive_span: vec![wire::BucketSpan { offset: Some(0), length: Some(1) }],
        positive_delta: vec![2],
        ..Default::default()
    };
    let families = [
        family("c_seconds_total", 0, "seconds", wire::Metric { counter: Some(counter), ..Default::default() }),
        family("n_seconds", 4, "seconds", wire::Metric { histogram: Some(native), ..Default::default() }),
    ];
    families.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn type_and_unit_become_labels_as_in_prometheus() {
    let protobuf_type = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let servers = [
        Server::start(Answer::text(TEXT)).await,
        Server::start(Answer::typed("application/openmetrics-text; version=1.0.0", OPENMETRICS)).await,
        Server::start(Answer::raw(&format!("content-type: {protobuf_type}\r\n"), &protobuf())).await,
    ];
    let mut yaml = "scrape_configs:\n".to_owned();
    for (server, job) in servers.iter().zip(["text", "openmetrics", "protobuf"]) {
        yaml.push_str(&format!(
            "- job_name: {job}\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n  static_configs: [{{targets: ['{}']}}]\n",
            server.address()
        ));
    }
    let series = compare("type and unit labels", &yaml, &["type-and-unit-labels"], servers.len()).await;
    assert!(series >= 15 + 18);
}
