//! Every case of the parser corpus (`FERULA_CORPUS`), scraped from a socket into a store, against what Prometheus 3.5 stores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferula_instrument::Registry;
use ferula_model::number::{format_f, format_g};
use ferula_model::{FloatHistogram, Labels, SystemClock};
use ferula_scraper_scrape::{Health, ScrapeManager, ScrapeOptions};
use serde_json::{Value, json};
use support::{Answer, Server, Store, job, until};

fn body_of(corpus: &Path, case: &str) -> Option<Vec<u8>> {
    let parser = corpus.join("parser");
    let (family, name) = case.split_once('-')?;
    let paths: Vec<PathBuf> = match family {
        "om" => vec![parser.join("openmetrics").join(name).join("metrics")],
        "textparse" => vec![parser.join("textparse").join(name)],
        _ => vec![parser.join("expfmt-corpus").join(name), parser.join("expfmt").join(name)],
    };
    paths.iter().find(|p| p.is_file()).and_then(|p| std::fs::read(p).ok())
}

/// The query API's form of a number, through which the baseline was read.
fn api_form(v: f64) -> String {
    if v != 0.0 && v.is_finite() && (v.abs() < 1e-6 || v.abs() >= 1e21) { format_g(v) } else { format_f(v) }
}

fn histogram_form(h: &FloatHistogram) -> Value {
    let rule = |low: bool, high: bool| match (low, high) {
        (false, true) => 0,
        (true, false) => 1,
        (false, false) => 2,
        (true, true) => 3,
    };
    let buckets: Vec<Value> = h
        .buckets()
        .iter()
        .filter(|b| b.count != 0.0)
        .map(|b| {
            let rule = rule(b.lower_inclusive, b.upper_inclusive);
            json!([rule, api_form(b.lower), api_form(b.upper), api_form(b.count)])
        })
        .collect();
    let mut out = json!({"count": api_form(h.count), "sum": api_form(h.sum)});
    if !buckets.is_empty() {
        out["buckets"] = Value::Array(buckets);
    }
    out
}

/// Labels as the baseline has them: without the target's.
fn own_labels(labels: &Labels) -> BTreeMap<&str, &str> {
    labels.iter().filter(|(n, _)| !matches!(*n, "instance" | "job")).collect()
}

const REPORTS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

async fn outcome(body: &[u8], content_type: &str, more: &str) -> Value {
    let server = Server::start(Answer::raw(&format!("content-type: {content_type}\r\n"), body)).await;
    let (mut store, registry) = (Store::default(), Registry::new());
    store.accept_old = true;
    let options = ScrapeOptions { first_scrape_at_once: true, ..ScrapeOptions::default() };
    let manager = ScrapeManager::new(options, Arc::new(store.clone()), Arc::new(SystemClock), &registry).unwrap();
    let mut config = job(&[server.address()], more);
    config.scrape_interval = ferula_yaml::Duration::from_secs(3600);
    config.scrape_timeout = ferula_yaml::Duration::from_secs(60);
    manager.apply(vec![config], &Labels::empty()).unwrap();
    let find = || manager.targets()[0].active.first().filter(|t| t.health != Health::Unknown).cloned();
    until(|| manager.targets().first().is_some_and(|p| !p.active.is_empty()) && find().is_some()).await;
    let target = find().unwrap();
    let now = target.last_scrape_ms.unwrap();
    let mut meta = Vec::new();
    manager.for_each_family(&mut |_, family, m| {
        meta.push(json!([family, m.metric_type.as_str(), m.help, m.unit]));
    });
    meta.sort_by_key(Value::to_string);
    manager.stop().await;
    let (label_sets, histograms) = (store.label_sets(), store.histograms());
    let (mut series, mut reports) = (Vec::new(), BTreeMap::new());
    for (printed, samples) in store.samples() {
        let labels = &label_sets[&printed];
        let own = own_labels(labels);
        if REPORTS.contains(&labels.metric_name()) && own.len() == 1 {
            reports.insert(labels.metric_name().to_owned(), api_form(samples[0].1));
            continue;
        }
        let at_now = samples.iter().find(|(t, _)| *t == now).map(|(_, v)| *v);
        let value = match (at_now, histograms.get(&printed)) {
            (Some(_), Some(h)) => histogram_form(h),
            (Some(v), None) => json!(api_form(v)),
            (None, _) => Value::Null,
        };
        let timed: Vec<Value> =
            samples.iter().filter(|(t, _)| *t != now).map(|(t, v)| json!([t, api_form(*v)])).collect();
        series.push(json!([own, value, timed]));
    }
    series.sort_by_key(Value::to_string);
    // The store keeps no exemplar whose labels are longer than OpenMetrics allows.
    let is_short = |l: &Labels| l.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum::<usize>() <= 128;
    let mut exemplars: Vec<String> = store
        .exemplars()
        .iter()
        .filter(|(_, e)| is_short(&e.labels))
        .map(|(labels, e)| {
            let t = match e.t_ms {
                None => Value::Null,
                Some(t) if t % 1000 == 0 => json!(t / 1000),
                Some(t) => json!(t as f64 / 1000.0),
            };
            let inner: BTreeMap<&str, &str> = e.labels.iter().collect();
            json!([own_labels(labels), inner, api_form(e.value), t]).to_string()
        })
        .collect();
    exemplars.sort();
    let reason = target.last_error.split(" (line ").next().unwrap_or("").to_owned();
    json!({
        "error": reason, "up": reports.get("up"), "meta": meta, "series": series, "exemplars": exemplars,
        "scraped": reports.get("scrape_samples_scraped"), "post": reports.get("scrape_samples_post_metric_relabeling"),
    })
}

fn expected(record: &Value) -> Value {
    let mut series = record["series"].as_array().unwrap().clone();
    series.sort_by_key(Value::to_string);
    let mut meta = record["meta"].as_array().unwrap().clone();
    meta.sort_by_key(Value::to_string);
    let mut exemplars: Vec<String> = record["exemplars"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|e| serde_json::from_str::<Value>(e.as_str().unwrap()).unwrap().to_string())
        .collect();
    exemplars.sort();
    json!({
        "error": record["error"], "up": record["up"], "meta": meta, "series": series, "exemplars": exemplars,
        "scraped": record["scrape_samples_scraped"], "post": record["scrape_samples_post_metric_relabeling"],
    })
}

const TEXT: &str = "text/plain; version=0.0.4";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";
const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

#[tokio::test(flavor = "multi_thread")]
async fn scrapes_leave_what_prometheus_leaves() {
    let Ok(corpus) = std::env::var("FERULA_CORPUS").map(PathBuf::from) else {
        println!("SKIPPED scrape corpus: FERULA_CORPUS is not set");
        return;
    };
    let text = std::fs::read_to_string(corpus.join("baseline-3.5.3/parser.json")).expect("parser.json");
    let records: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    let (mut right, mut wrong) = (0, Vec::new());
    for (name, record) in &records {
        let (variant, case) = name.split_once(':').unwrap();
        let body = body_of(&corpus, case).unwrap_or_else(|| panic!("no body for {name}"));
        let is_text = variant == "txt" || case.ends_with("prom.txt") || case == "expfmt-text";
        let content_type = match variant {
            "pb" => PROTOBUF,
            _ if is_text => TEXT,
            _ => OPENMETRICS,
        };
        let more = match variant {
            "ts" => "",
            "nhcb" => "honor_timestamps: false\nconvert_classic_histograms_to_nhcb: true",
            _ => "honor_timestamps: false",
        };
        let (got, expect) = (outcome(&body, content_type, more).await, expected(record));
        if got == expect {
            right += 1;
            continue;
        }
        let mut text = name.clone();
        for key in ["error", "up", "scraped", "post", "meta", "series", "exemplars"] {
            if got[key] != expect[key] {
                let (g, e) = (got[key].to_string(), expect[key].to_string());
                let at = g.bytes().zip(e.bytes()).take_while(|(a, b)| a == b).count().saturating_sub(60);
                let cut = |s: &str| s.chars().skip(at).take(300).collect::<String>();
                text.push_str(&format!("\n  {key}: got    …{}\n  {key}: expect …{}", cut(&g), cut(&e)));
            }
        }
        wrong.push(text);
    }
    for w in wrong.iter().take(20) {
        println!("{w}");
    }
    println!("scrape corpus: {right} of {}", records.len());
    assert!(wrong.is_empty(), "{} cases differ", wrong.len());
}
