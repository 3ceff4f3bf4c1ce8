//! What surrounds queries: plans, the query log, limits, clients that go away, and queries nobody should ask.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{CONFIG, ENDLESS, Server, form, with_data};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn plans_are_for_those_who_ask() {
    let s = with_data().await;
    let query = ("query", "sum by (job) (rate(c_total[1m])) + on (job) sum by (job) (rate(c_total[1m]))");
    let plain = s.ask("/api/v1/query", &[query]).await.data();
    assert_eq!(plain.as_object().unwrap().keys().collect::<Vec<_>>(), ["result", "resultType"]);

    let planned = s.ask("/api/v1/query", &[query, ("explain", "plan")]).await.data();
    assert_eq!(planned["result"], json!([]));
    let analyzed = s.ask("/api/v1/query", &[query, ("explain", "analyze"), ("stats", "all")]).await.data();
    assert_eq!(analyzed["result"], plain["result"]);
    assert_eq!(analyzed["stats"]["samples"]["samplesRead"], 4);
    for (data, measured) in [(&planned, false), (&analyzed, true)] {
        let root = &data["explain"];
        assert_eq!(root["node"], "operator");
        let sides = root["operands"].as_array().unwrap();
        assert_eq!(sides.len(), 2);
        assert_eq!(sides[0]["notes"], "shared with an equal expression");
        let rate = &sides[0]["operands"][0];
        assert_eq!((&rate["node"], &rate["expr"]), (&json!("function"), &json!("rate(c_total[1m])")));
        assert_eq!(rate["operands"][0]["operands"], json!([]));
        assert_eq!(rate["samplesDecoded"], if measured { json!(2) } else { Value::Null });
        assert_eq!(root["seconds"].is_number(), measured);
    }
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_log_follows_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first.log"), dir.path().join("second.log"));
    let config = |log: &std::path::Path| format!("global:\n  query_log_file: {}\n", log.display());
    let s = Server::start(&config(&first)).await;
    let lines = |path: &std::path::Path| -> Vec<Value> {
        std::fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    s.ask("/api/v1/query", &[("query", "up"), ("time", "1.5")]).await;
    s.ask("/api/v1/query_range", &[("query", "up * on (z) up"), ("start", "1"), ("end", "60"), ("step", "15")]).await;
    s.ask("/api/v1/query", &[("query", "sum(")]).await; // is none
    s.ask("/api/v1/query", &[("query", "vector(1) + on () (vector(1) or label_replace(vector(1), 'b', '1', '', ''))")])
        .await;
    let logged = lines(&first);
    assert_eq!(logged.len(), 3, "{logged:?}");
    assert_eq!(logged[0]["msg"], "promql query logged");
    let at = "1970-01-01T00:00:01.500Z";
    assert_eq!(logged[0]["params"], json!({"start": at, "end": at, "query": "up", "step": 0}));
    assert_eq!(logged[0]["httpRequest"], json!({"clientIP": "127.0.0.1", "method": "GET", "path": "/api/v1/query"}));
    assert_eq!(logged[0]["stats"]["samples"]["totalQueryableSamples"], 0);
    assert_eq!(logged[1]["params"]["step"], 15);
    assert!(logged[2]["error"].as_str().unwrap().contains("many-to-many matching not allowed"));
    std::fs::write(s.dir.path().join("prometheus.yml"), config(&second)).unwrap();
    assert_eq!(s.post("/-/reload", "text/plain", "").await.status, 200);
    s.ask("/api/v1/query", &[("query", "1")]).await;
    assert_eq!((lines(&first).len(), lines(&second).len()), (3, 1));
    s.stop().await;
}

/// A query whose client hangs up ends long before its timeout, and leaves the file of active queries.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_takes_its_query_along() {
    let s = Server::start_with(CONFIG, |o| o.engine.timeout = Duration::from_secs(3600)).await;
    let running = async || {
        let text = s.get("/metrics").await.text;
        let line = text.lines().find(|l| l.starts_with("prometheus_engine_queries ")).unwrap().to_owned();
        let active = std::fs::read(s.dir.path().join("data/queries.active")).unwrap();
        let active = String::from_utf8(active.into_iter().filter(|b| *b != 0).collect()).unwrap();
        (line.ends_with(" 1"), active.contains("sum_over_time(sum_over_time("))
    };
    let mut client = TcpStream::connect(s.address).await.unwrap();
    let request = format!("GET /api/v1/query?query={} HTTP/1.1\r\nHost: x\r\n\r\n", form(ENDLESS));
    client.write_all(request.as_bytes()).await.unwrap();
    while running().await != (true, true) {
        tokio::task::yield_now().await;
    }
    drop(client);
    while running().await != (false, false) {
        tokio::task::yield_now().await;
    }
    s.stop().await;
}

/// With every thread for queries taken by a query that does not end, and a hundred more in line, rules are evaluated on
/// time, all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_queries_does_not_stop_rules() {
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let rules = "groups:\n- {name: g, interval: 1s, rules: [{record: r, expr: 'vector(time())'}, {record: s, expr: 'r + 1'}]}\n";
    std::fs::write(dir.path().join("a.rules"), rules).unwrap();
    std::fs::write(dir.path().join("prometheus.yml"), "rule_files: ['*.rules']\n").unwrap();
    let s = Server::start_in(dir, |o| {
        o.engine.timeout = Duration::from_secs(3600);
        o.clock = std::sync::Arc::new(ferula_model::SystemClock);
        o.query_concurrency = 2;
    })
    .await;
    let metric = async |name: &str| -> f64 {
        let text = s.get("/metrics").await.text;
        let values = text.lines().filter(|l| l.starts_with(name)).filter_map(|l| l.rsplit_once(' '));
        values.map(|(_, v)| v.parse::<f64>().unwrap()).sum()
    };
    let request = format!("GET /api/v1/query?query={} HTTP/1.1\r\nHost: x\r\n\r\n", form(ENDLESS));
    let mut clients = Vec::new();
    for _ in 0..102 {
        let mut client = TcpStream::connect(s.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        clients.push(client);
    }
    while metric("prometheus_engine_queries ").await < 102.0 {
        tokio::task::yield_now().await;
    }
    let before = metric("prometheus_rule_group_iterations_total").await;
    while metric("prometheus_rule_group_iterations_total").await < before + 3.0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(metric("prometheus_engine_queries ").await, 102.0, "the queries are still there");
    assert_eq!(metric("prometheus_rule_evaluation_failures_total").await, 0.0);
    drop(clients);
    let data = s.ask("/api/v1/query", &[("query", "count_over_time(s[5m]) > 2")]).await.data();
    assert_eq!(data["result"].as_array().map(Vec::len), Some(1), "{data}");
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_queries_get_clear_errors() {
    let s = Server::start_with(CONFIG, |o| {
        o.engine.samples_max = 1_000_000;
        o.query_memory_bytes_max = 1 << 20;
        o.engine.timeout = Duration::from_secs(3600); // every limit but time
    })
    .await;
    let names: Vec<String> = (0..4000).map(|i| i.to_string()).collect();
    let labels: Vec<[(&str, &str); 2]> = names.iter().map(|n| [("__name__", "m"), ("i", n.as_str())]).collect();
    let series: Vec<support::Written<'_>> =
        labels.iter().map(|l| (&l[..], &[(60, 1.0), (30, 2.0), (0, 3.0)][..])).collect();
    s.store(&series).await;
    let operators = format!("1{}", "+1".repeat(200_000));
    let parentheses = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    let bomb = format!("{{__name__=~\"{}\"}}", "((a{0,100}){0,100}){0,100}");
    // Still longer ones end at the door: hostile.rs.
    let long = format!("up{{a=\"{}\"}}", "x".repeat(2 << 20));
    let instant = "/api/v1/query";
    let range = "/api/v1/query_range";
    for (path, query, status, kind, text) in [
        (instant, operators.as_str(), 400, "bad_data", ""),
        (instant, parentheses.as_str(), 400, "bad_data", ""),
        (instant, bomb.as_str(), 400, "bad_data", ""),
        (instant, long.as_str(), 400, "bad_data", ""),
        (instant, "count_over_time(vector(1)[10y:1ms])", 422, "execution", "too many samples"),
        (
            instant,
            "count_values(\"v\", m * on (i) group_left () label_replace(m, \"x\", \"$1\", \"i\", \"(.*)\"))",
            422,
            "execution",
            "memory budget \"query\" of 1048576 bytes exceeded",
        ),
        (instant, "{__name__=~\".+\"}[1y]", 422, "execution", "memory budget \"query\" of 1048576 bytes exceeded"),
        (range, "m", 422, "execution", "memory budget \"query\" of 1048576 bytes exceeded"),
    ] {
        let encoded: String = form(query);
        let mut body = format!("query={encoded}&time=1700000000");
        if path == range {
            body = format!("query={encoded}&start=1699999000&end=1700000000&step=1");
        }
        let answer = s.post(path, "application/x-www-form-urlencoded", body).await;
        let shown: String = query.chars().take(50).collect();
        assert_eq!(answer.status, status, "{shown}: {}", answer.text.chars().take(300).collect::<String>());
        assert!(answer.text.len() <= 4096 + 100, "{shown}: {} bytes", answer.text.len());
        assert_eq!(answer.json()["errorType"], kind, "{shown}");
        assert!(answer.json()["error"].as_str().unwrap().contains(text), "{shown}: {}", answer.text);
    }
    let year = [("query", "m"), ("start", "1668000000"), ("end", "1700000000"), ("step", "0.001")];
    let answer = s.ask(range, &year).await;
    assert!(answer.text.contains("exceeded maximum resolution of 11,000 points"), "{}", answer.text);
    assert_eq!(s.ask(instant, &[("query", "count(m)")]).await.data()["result"][0]["value"][1], "4000");
    s.stop().await;
}
