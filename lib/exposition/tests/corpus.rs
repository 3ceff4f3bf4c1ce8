//! What Prometheus 3.5 stores for every case of the parser corpus (`FERULA_CORPUS`): errors, metadata, series, exemplars.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ferula_exposition::parse::{Entry, Limits, Parser, Syntax};
use ferula_model::number::{format_f, format_g};
use serde_json::{Value, json};

fn body_of(corpus: &Path, case: &str) -> Option<Vec<u8>> {
    let parser = corpus.join("parser");
    let (family, name) = case.split_once('-')?;
    let candidates: [PathBuf; 3] = match family {
        "om" => [parser.join("openmetrics").join(name).join("metrics"), PathBuf::new(), PathBuf::new()],
        "textparse" => [parser.join("textparse").join(name), PathBuf::new(), PathBuf::new()],
        _ => [parser.join("expfmt-corpus").join(name), parser.join("expfmt").join(name), PathBuf::new()],
    };
    candidates.iter().find(|p| p.is_file()).and_then(|p| std::fs::read(p).ok())
}

/// What a scrape of `body` leaves behind, in the corpus' own form.
fn outcome(body: &[u8], syntax: Syntax, honor_timestamps: bool) -> Value {
    let mut parser = Parser::new(body, syntax, Limits::default());
    let mut meta: BTreeMap<String, (String, String, String)> = BTreeMap::new();
    let mut series: BTreeMap<String, BTreeMap<i64, String>> = BTreeMap::new();
    let (mut error, mut samples) = (String::new(), 0);
    let unknown = || ("unknown".to_owned(), String::new(), String::new());
    while let Some(entry) = parser.next() {
        match entry {
            Ok(Entry::Help { family, text }) => meta.entry(family.into()).or_insert_with(unknown).1 = text.into(),
            Ok(Entry::Type { family, metric_type }) => {
                meta.entry(family.into()).or_insert_with(unknown).0 = metric_type.as_str().into();
            }
            Ok(Entry::Unit { family, unit }) => meta.entry(family.into()).or_insert_with(unknown).2 = unit.into(),
            Ok(Entry::Comment) => {}
            Ok(Entry::Sample(s)) => {
                let mut labels = BTreeMap::new();
                let mut twice = None;
                parser.labels(|n, v| {
                    if labels.insert(n.to_string(), v.to_string()).is_some() {
                        twice = Some(n.to_string());
                    }
                });
                if let Some(name) = twice {
                    error = format!("label name {name:?} is not unique: invalid sample");
                    break;
                }
                labels.retain(|_, v| !v.is_empty());
                for taken in ["job", "instance"] {
                    if let Some(v) = labels.remove(taken) {
                        labels.insert(format!("exported_{taken}"), v);
                    }
                }
                let t = s.t_ms.filter(|_| honor_timestamps).unwrap_or(i64::MAX);
                let of_series = series.entry(json!(labels).to_string()).or_default();
                // A series seen before in the same scrape must bring a timestamp, else it counts as a duplicate.
                if t != i64::MAX || of_series.is_empty() {
                    of_series.entry(t).or_insert_with(|| api_form(s.value));
                }
                samples += 1;
            }
            Err(e) => {
                error = e.reason;
                break;
            }
        }
    }
    if !error.is_empty() {
        series.clear(); // rolled back, but counted
    }
    let series: Vec<Value> = series
        .iter()
        .map(|(labels, values)| {
            let labels: Value = serde_json::from_str(labels).unwrap();
            let now = values.get(&i64::MAX);
            let timed: Vec<Value> =
                values.iter().filter(|(t, _)| **t != i64::MAX).map(|(t, v)| json!([t, v])).collect();
            json!([labels, now, timed])
        })
        .collect();
    let meta: Vec<Value> = meta.iter().map(|(name, (t, h, u))| json!([name, t, h, u])).collect();
    json!({"error": error, "meta": meta, "samples": samples.to_string(), "series": series})
}

/// The query API's form of a number, which the baseline was read through: an exponent only where JavaScript has one.
fn api_form(v: f64) -> String {
    if v != 0.0 && v.is_finite() && (v.abs() < 1e-6 || v.abs() >= 1e21) { format_g(v) } else { format_f(v) }
}

fn expected(record: &Value) -> Value {
    let series: Vec<Value> = record["series"].as_array().unwrap().clone();
    json!({
        "error": record["error"], "meta": record["meta"],
        "samples": record["scrape_samples_post_metric_relabeling"], "series": series,
    })
}

#[test]
fn stores_what_prometheus_stores() {
    let Ok(corpus) = std::env::var("FERULA_CORPUS").map(PathBuf::from) else {
        println!("SKIPPED exposition corpus: FERULA_CORPUS is not set");
        return;
    };
    let text = std::fs::read_to_string(corpus.join("baseline-3.5.3/parser.json")).expect("parser.json");
    let records: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    let (mut total, mut wrong) = (0, Vec::new());
    for (name, record) in &records {
        let (variant, case) = name.split_once(':').unwrap();
        let (syntax, honor) = match variant {
            "txt" => (Syntax::Text, false),
            "om" => (Syntax::OpenMetrics, false),
            "ts" => (Syntax::OpenMetrics, true),
            _ => continue, // nhcb and pb: the scrape crate's test
        };
        let body = body_of(&corpus, case).unwrap_or_else(|| panic!("no body for {name}"));
        let syntax =
            if variant == "ts" && case.ends_with("prom.txt") || case == "expfmt-text" { Syntax::Text } else { syntax };
        if body.is_empty() {
            continue; // a scrape without a body never reaches a parser
        }
        let (got, expect) = (outcome(&body, syntax, honor), expected(record));
        total += 1;
        let sorted = |v: &Value| {
            let mut list: Vec<String> = v["series"].as_array().unwrap().iter().map(|s| s.to_string()).collect();
            list.sort();
            list
        };
        if got["error"] != expect["error"]
            || got["samples"] != expect["samples"]
            || got["meta"] != expect["meta"]
            || sorted(&got) != sorted(&expect)
        {
            let (mut mine, mut theirs) = (sorted(&got), sorted(&expect));
            let common: Vec<String> = mine.iter().filter(|s| theirs.contains(s)).cloned().collect();
            mine.retain(|s| !common.contains(s));
            theirs.retain(|s| !common.contains(s));
            wrong.push(format!(
                "{name}\n  got    {} {} {mine:?} {}\n  expect {} {} {theirs:?} {}",
                got["error"], got["samples"], got["meta"], expect["error"], expect["samples"], expect["meta"]
            ));
        }
    }
    for w in wrong.iter().take(20) {
        println!("{}", w.chars().take(3000).collect::<String>());
    }
    println!("exposition corpus: {} of {total}", total - wrong.len());
    assert!(wrong.is_empty(), "{} cases differ", wrong.len());
}
