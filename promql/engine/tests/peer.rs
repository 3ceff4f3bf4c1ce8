//! Thousands of generated queries over HTTP against a real Prometheus that has the same data: instant and range queries,
//! values, labels, errors, warnings. `PEERS` names the folder that holds it; `CONFORMANCE_QUERIES` how many seeds.
//! What differs is made as small as it gets before it is printed, with its seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use ferula_instrument::Registry;
use ferula_promql_engine::test_language::{MemoryStore, load_block};
use ferula_promql_engine::{Engine, EngineOptions, Evaluation, QueryOptions, SampleValue, Value};
use ferula_promql_parser::{Expr, ParseOptions, ValueType, parse_expr_with};
use ferula_storage::QueryContext;
use ferula_testkit::{Peer, Running, skipped};

/// What Prometheus changed on purpose after 3.5, or does not know yet.
const CHANGED: [&str; 5] = ["first_over_time", "mad_over_time", "ts_of_", "histogram_fraction", "minute("];
const SEEDS: u64 = 3200;

/// A real Prometheus on a data folder into which our store wrote this.
fn prometheus(series: &str) -> Option<Running> {
    let peer = Peer::find("prometheus", (3, 5, 0)).map_err(|why| skipped("engine/peer", &why)).ok()?;
    Some(peer.start(|launch| {
        let config = launch.file("config", "global: {scrape_interval: 1h}\n");
        let data = launch.dir.join("store");
        let options = ferula_tsdb::Options { background: false, ..Default::default() };
        let (fs, clock) = (Arc::new(ferula_fs::Disk), Arc::new(ferula_model::SystemClock));
        let db = ferula_tsdb::Db::open(&data, options, fs, clock, &Registry::new()).unwrap();
        load_block(&*db, 15_000, series).unwrap();
        db.close().unwrap();
        vec![
            format!("--config.file={config}"),
            format!("--storage.tsdb.path={}", data.display()),
            "--storage.tsdb.retention.time=100y".to_owned(),
            "--enable-feature=promql-experimental-functions".to_owned(),
            format!("--web.listen-address={}", launch.addr),
        ]
    }))
}

/// An answer as a client sees it: series to points, or an error; and warnings with infos.
#[derive(Debug, PartialEq)]
struct Seen {
    error: bool,
    points: BTreeMap<String, Vec<(i64, String)>>,
    notes: Vec<String>,
}

/// A note without what was added or left out since 3.5: empty names, and how far from monotonic buckets were.
fn plain(note: &str) -> String {
    let note = note.replace(" for metric name \"\"", "");
    match note.find("#histogram_quantile)") {
        Some(at) => note[..at].to_owned(),
        None => note,
    }
}

/// Whether all that differs is how far counters of histograms are extrapolated: since prometheus/prometheus#16828 (3.6) no
/// further than to where the count was zero, and the whole histogram by the count's factor. So where the series begins
/// ours are less than those of 3.5, count and sum in one proportion.
fn is_extrapolated(query: &str, ours: &Seen, theirs: &Seen) -> bool {
    let of = |seen: &Seen| -> Vec<(i64, String)> { seen.points.values().flatten().cloned().collect() };
    let parts = |v: &str| -> Option<(f64, f64)> {
        let (count, sum) = v.strip_prefix("histogram ")?.split_once(' ')?;
        Some((count.parse().ok()?, sum.parse().ok()?))
    };
    let as_known = |(x, y): (&(i64, String), &(i64, String))| {
        let (Some(x), Some(y)) = (parts(&x.1), parts(&y.1)) else { return x == y };
        x == y || (x.0 < y.0 && (x.0 / y.0 - x.1 / y.1).abs() < 1e-9)
    };
    let (mine, other) = (of(ours), of(theirs));
    (query.starts_with("increase(") || query.starts_with("rate("))
        && (&ours.notes, ours.points.keys().collect::<Vec<_>>()) == (&theirs.notes, theirs.points.keys().collect())
        && mine.iter().map(|(t, _)| t).eq(other.iter().map(|(t, _)| t))
        && mine.iter().zip(&other).all(as_known)
}

struct Both<'a> {
    server: &'a Running,
    engine: Engine,
    store: Arc<MemoryStore>,
}

#[derive(Clone, Copy, Debug)]
enum When {
    Instant(i64),
    Range(i64, i64, i64),
}

fn key(labels: &BTreeMap<String, String>) -> String {
    format!("{labels:?}")
}

/// Twelve digits: sums of histograms go through other orders there.
fn number(v: f64) -> String {
    if v.is_nan() { "NaN".to_owned() } else { format!("{v:.11e}") }
}

impl Both<'_> {
    fn ours(&self, expr: &Expr, query: &str, when: When) -> Seen {
        let (ctx, options) = (QueryContext::background(), QueryOptions { text: Some(query), ..Default::default() });
        let answer = match when {
            When::Instant(t) => self.engine.instant(&ctx, &*self.store, expr, t, &options),
            When::Range(a, b, step) => self.engine.range(&ctx, &*self.store, expr, a, b, step, &options),
        };
        let Ok(Evaluation { value, annotations, .. }) = answer else {
            return Seen { error: true, points: BTreeMap::new(), notes: Vec::new() };
        };
        let text = |v: &SampleValue| match v {
            SampleValue::Float(v) => number(*v),
            SampleValue::Histogram(h) => format!("histogram {} {}", number(h.count), number(h.sum)),
        };
        let of = |labels: &ferula_model::Labels| {
            key(&labels.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
        };
        let mut points: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
        match value {
            Value::Vector(all) => {
                for s in all {
                    points.entry(of(&s.labels)).or_default().push((s.t_ms, text(&s.value)));
                }
            }
            Value::Matrix(all) => {
                for s in all {
                    let floats = s.floats.iter().map(|(t, v)| (*t, number(*v)));
                    let histograms =
                        s.histograms.iter().map(|(t, h)| (*t, text(&SampleValue::Histogram(Arc::clone(h)))));
                    let mut list: Vec<_> = floats.chain(histograms).collect();
                    list.sort();
                    points.insert(of(&s.labels), list);
                }
            }
            other => panic!("{query}: {other:?}"),
        }
        let mut notes: Vec<String> = annotations.warnings.iter().chain(&annotations.infos).map(|n| plain(n)).collect();
        notes.sort();
        Seen { error: false, points, notes }
    }

    fn asked(&self, query: &str, when: When) -> serde_json::Value {
        let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
        let encoded: String = query.bytes().map(|b| format!("%{b:02X}")).collect();
        let path = match when {
            When::Instant(t) => format!("/api/v1/query?query={encoded}&time={}", seconds(t)),
            When::Range(a, b, step) => format!(
                "/api/v1/query_range?query={encoded}&start={}&end={}&step={}",
                seconds(a),
                seconds(b),
                seconds(step)
            ),
        };
        let (_, text) = self.server.get(&path);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{query}: {e}: {text}"))
    }

    fn theirs(&self, query: &str, when: When) -> Seen {
        let answer = self.asked(query, when);
        let mut seen = Seen { error: answer["status"] != "success", points: BTreeMap::new(), notes: Vec::new() };
        let strings = |v: &serde_json::Value| -> Vec<String> {
            v.as_array().into_iter().flatten().map(|s| s.as_str().unwrap().to_owned()).collect()
        };
        if !seen.error {
            seen.notes = [strings(&answer["warnings"]), strings(&answer["infos"])].concat();
            seen.notes.iter_mut().for_each(|n| *n = plain(n));
            seen.notes.sort();
        }
        for s in answer["data"]["result"].as_array().into_iter().flatten() {
            let labels = s["metric"].as_object().unwrap();
            let labels = labels.iter().map(|(n, v)| (n.clone(), v.as_str().unwrap().to_owned())).collect();
            let mut list = Vec::new();
            let one = |p: &serde_json::Value, list: &mut Vec<(i64, String)>| {
                let t = (p[0].as_f64().unwrap() * 1000.0).round() as i64;
                let parse = |v: &serde_json::Value| number(v.as_str().unwrap().parse::<f64>().unwrap());
                let text = match &p[1] {
                    h if h.is_object() => format!("histogram {} {}", parse(&h["count"]), parse(&h["sum"])),
                    v => parse(v),
                };
                list.push((t, text));
            };
            for name in ["value", "histogram"] {
                s.get(name).into_iter().for_each(|p| one(p, &mut list));
            }
            for name in ["values", "histograms"] {
                s[name].as_array().into_iter().flatten().for_each(|p| one(p, &mut list));
            }
            list.sort();
            seen.points.insert(key(&labels), list);
        }
        seen
    }

    /// Both answers where they differ.
    fn differ(&self, query: &str, when: When) -> Option<(Seen, Seen)> {
        let options = ParseOptions { experimental_functions: true, ..ParseOptions::default() };
        let expr = parse_expr_with(query, &options).ok()?;
        if expr.value_type() != ValueType::Vector {
            return None;
        }
        let (mut ours, theirs) = (self.ours(&expr, query, when), self.theirs(query, when));
        // Of several such infos of one step upstream keeps the last, in the order of its storage.
        let dropped = |n: &String| n.contains("incompatible sample types") && !theirs.notes.contains(n);
        if theirs.notes.iter().any(|n| n.contains("incompatible sample types")) {
            ours.notes.retain(|n| !dropped(n));
        }
        // Of histograms of which only count and sum are used, more resets are noticed since.
        ours.notes.retain(|n| !n.contains("conflicting counter resets") || theirs.notes.contains(n));
        (ours != theirs).then_some((ours, theirs))
    }

    /// The series of an instant answer in the order they have, ours and theirs.
    fn orders(&self, query: &str, t_ms: i64) -> (Vec<String>, Vec<String>) {
        let options = ParseOptions { experimental_functions: true, ..ParseOptions::default() };
        let expr = parse_expr_with(query, &options).unwrap();
        let (ctx, options) = (QueryContext::background(), QueryOptions::default());
        let answer = self.engine.instant(&ctx, &*self.store, &expr, t_ms, &options).unwrap();
        let Value::Vector(all) = answer.value else { panic!("{query}: not a vector") };
        let ours = all.iter().map(|s| s.labels.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect());
        let theirs = self.asked(query, When::Instant(t_ms));
        let list = theirs["data"]["result"].as_array().unwrap().iter();
        let theirs = list.map(|s| serde_json::from_value(s["metric"].clone()).unwrap());
        (ours.map(|l| key(&l)).collect(), theirs.map(|l| key(&l)).collect())
    }

    /// The smallest part of a query that still differs.
    fn minimised(&self, query: &str, when: When) -> String {
        let options = ParseOptions { experimental_functions: true, ..ParseOptions::default() };
        let Ok(expr) = parse_expr_with(query, &options) else { return query.to_owned() };
        let mut open: Vec<&Expr> = expr.children();
        while let Some(e) = open.pop() {
            let part = &query[e.span().start as usize..e.span().end as usize];
            if part.len() < query.len() && self.differ(part, when).is_some() {
                return self.minimised(part, when);
            }
            open.extend(e.children());
        }
        query.to_owned()
    }
}

#[test]
fn answers_are_the_servers() {
    let Some(server) = prometheus(support::DATA) else { return };
    let both = Both { server: &server, engine: Engine::new(EngineOptions::default()), store: support::store() };
    let seeds = std::env::var("CONFORMANCE_QUERIES").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS);
    let (mut asked, mut wrong) = (0, Vec::new());
    for seed in 0..seeds {
        let query = support::expression(seed);
        if CHANGED.iter().any(|c| query.contains(c)) {
            continue;
        }
        let t_ms = 60_000 + (seed as i64 * 7_919) % 1_380_000;
        for when in [When::Instant(t_ms), When::Range(60_000, 1_440_000, 61_000)] {
            asked += 1;
            if both.differ(&query, when).is_some() {
                let small = both.minimised(&query, when);
                let (ours, theirs) = both.differ(&small, when).unwrap();
                if is_extrapolated(&small, &ours, &theirs) {
                    continue;
                }
                wrong.push(format!("seed {seed} {when:?}: {small}\n   ours: {ours:?}\n theirs: {theirs:?}"));
            }
        }
    }
    println!("engine/peer: {asked} queries, {} differ", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n"));
}

/// Series most of which have the value of another at any time: counters of three containers per pod that grow by amounts
/// whose sums are equal, or equal but for the order they are added in, and gauges of few values. All begin at once and in
/// the order of their labels: upstream goes by the order in which its head met them.
fn ties() -> String {
    let (mut random, mut lines) = (support::Random(7), Vec::new());
    for pod in 0..26 {
        for c in 0..3 {
            let grows = ["0.1", "0.2", "0.3", "0.7", "0.1"][random.below(5)];
            let gap = random.below(40);
            lines.push(format!("cpu{{c=\"{c}\", n=\"{}\", pod=\"{pod:02}\"}} 0 _x{gap} 0+{grows}x120", pod % 4));
        }
        let values: Vec<&str> =
            (0..140).map(|_| ["1", "2", "2", "3", "0", "-0", "NaN", "Inf", "_", "3"][random.below(10)]).collect();
        lines.push(format!("v{{i=\"{pod:02}\", n=\"{}\"}} 1 {}", pod % 3, values.join(" ")));
    }
    lines.sort();
    lines.join("\n")
}

#[test]
fn among_equals_the_same_are_picked() {
    let series = ties();
    let Some(server) = prometheus(&series) else { return };
    let store = Arc::new(MemoryStore::new());
    load_block(&*store, 15_000, &series).unwrap();
    let both = Both { server: &server, engine: Engine::new(EngineOptions::default()), store };
    let (mut asked, mut wrong) = (0, Vec::new());
    for of in ["v", "v > 1", "sum by (pod) (rate(cpu[5m]))", "rate(cpu[2m])", "avg by (pod) (cpu)"] {
        for op in ["topk", "bottomk", "limitk", "topk by (n)", "bottomk by (n)"] {
            for k in [1, 2, 3, 5, 8, 12, 20, 100] {
                let (op, by) = op.split_once(' ').unwrap_or((op, ""));
                let query = format!("{op} {by} ({k}, {of})");
                asked += 1;
                // Over many steps a comparison's series come in the order of a Go map: another one each time.
                let range = (of != "v > 1").then_some(When::Range(60_000, 2_000_000, 15_000));
                if let Some((ours, theirs)) = range.and_then(|r| both.differ(&query, r)) {
                    wrong.push(format!("{query}\n   ours: {ours:?}\n theirs: {theirs:?}"));
                }
                // Go's sort keeps the order of equals for up to twelve; what it does with more is nobody's promise.
                for t_ms in (60_000..2_000_000).step_by(105_000).filter(|_| k <= 12) {
                    asked += 1;
                    let (ours, theirs) = both.orders(&query, t_ms);
                    if ours != theirs {
                        wrong.push(format!("{query} at {t_ms}\n   ours: {ours:?}\n theirs: {theirs:?}"));
                    }
                }
            }
        }
    }
    println!("engine/peer: {asked} queries among equals, {} differ", wrong.len());
    assert!(
        wrong.is_empty(),
        "{} of {asked}: {}",
        wrong.len(),
        wrong.iter().take(6).cloned().collect::<Vec<_>>().join("\n")
    );
}
