//! What issue trackers call queries of death: each gets a clear error, small and soon, and nobody else notices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::sync::Arc;
use std::time::Duration;

use ferula_model::SystemClock;
use support::{Answer, CONFIG, ENDLESS, Server, form};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const FORM: &str = "application/x-www-form-urlencoded";
/// Everything that takes PromQL, and the parameter that it comes in.
const DOORS: [(&str, &str); 6] = [
    ("/api/v1/query", "query"),
    ("/api/v1/query_range", "start=0&end=60&step=15&query"),
    ("/api/v1/format_query", "query"),
    ("/api/v1/parse_query", "query"),
    ("/api/v1/query_exemplars", "start=0&end=60&query"),
    ("/api/v1/series", "match[]"),
];

async fn ask(s: &Server, door: (&str, &str), query: &str) -> Answer {
    s.post(door.0, FORM, format!("{}={}", door.1, form(query))).await
}

/// Status, kind and size of an error; its text.
fn refused(answer: &Answer, shown: &str) -> String {
    assert_eq!(answer.status, 400, "{shown}: {}", answer.text);
    assert!(answer.text.len() <= 4096, "{shown}: {} bytes", answer.text.len());
    let json = answer.json();
    assert_eq!((&json["status"], &json["errorType"]), (&"error".into(), &"bad_data".into()), "{shown}");
    json["error"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn parse_errors_say_where() {
    let s = Server::start(CONFIG).await;
    for (query, want) in [
        ("sum(", "1:5: parse error: unclosed left parenthesis"),
        ("up{", "1:4: parse error: unexpected end of input inside braces"),
        ("up\n  + + * 3", "2:7: parse error: unexpected <op:*>"),
        ("rate(up)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector"),
        ("\"ü\" + §", "1:8: parse error: unexpected character: '§'"),
        ("", "unknown position: parse error: no expression found in input"),
    ] {
        let error = refused(&ask(&s, DOORS[0], query).await, query);
        assert_eq!(error, format!("invalid parameter \"query\": {want}"), "{query}");
    }
    s.stop().await;
}

/// Whatever of a long query is quoted in the error, it stays small; at every door.
#[tokio::test(flavor = "multi_thread")]
async fn errors_are_small_however_long_the_query() {
    let s = Server::start(CONFIG).await;
    let long = "ü\"\\".repeat(50_000);
    let x = "x".repeat(200_000);
    for query in [
        format!("{x}(1)"),
        format!("up{{a=\"{x}"),
        format!("up{{a=~\"({x}\"}}"),
        format!("up{{a=~\"{}\"}}", "(".repeat(200_000)),
        format!("up{{{x}}}"),
        format!("up '{long}'"),
        format!("'{x}' + 1 {x}"),
        format!("sum by ('{x}', 1) (up)"),
        format!("up offset {}", "9".repeat(200_000)),
        format!("up # {x}\n )"),
        "[".repeat(900_000),
        "-".repeat(900_000),
        "a,".repeat(450_000),
        "{} or ".repeat(150_000),
        format!("1{}", "+1".repeat(200_000)),
        format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("{}1{}", "abs(".repeat(10_000), ")".repeat(10_000)),
        format!("up{}", "[1m:1s]".repeat(10_000)),
        format!("up{{{}}}", "a!=\"b\",".repeat(100_000)) + "}",
        // 1 MiB is the longest that is looked at; a list of alternatives may be that long.
        "x".repeat((1 << 20) + 1),
    ] {
        for door in DOORS {
            let shown = format!("{} {}", door.0, query.chars().take(40).collect::<String>());
            refused(&ask(&s, door, &query).await, &shown);
        }
    }
    let alternatives = (0..100_000).map(|i| format!("n{i:07}")).collect::<Vec<_>>().join("|");
    let answer = ask(&s, DOORS[0], &format!("up{{a=~\"{alternatives}\"}}")).await;
    assert_eq!(answer.data()["result"], serde_json::json!([]));
    s.stop().await;
}

/// The caps, in words; and what is longer than any query may be is not even read.
#[tokio::test(flavor = "multi_thread")]
async fn caps_name_themselves() {
    let s = Server::start(CONFIG).await;
    let many = vec![format!("(a{})", "+a".repeat(900)); 12].join("+");
    for (query, want) in [
        (format!("sum by (a{}) (b)", ",a".repeat(100_000)), "query has more than 200000 tokens"),
        (format!("1{}", "+1".repeat(2_000)), "query has more than 1000 operators in a row"),
        (format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)), "query is nested deeper than 128 levels"),
        (many, "query has more than 10000 selectors"),
        ("{a=~\"((a{0,100}){0,100}){0,100}\"}".to_owned(), "error parsing regexp: "),
        ("x".repeat(2 << 20), "query is 2097152 bytes long, the limit is 1048576"),
    ] {
        let shown: String = query.chars().take(40).collect();
        let error = refused(&ask(&s, DOORS[0], &query).await, &shown);
        assert!(error.contains(want), "{shown}: {error}");
    }
    for door in DOORS {
        let body = format!("{}={}", door.1, "1+".repeat(5_000_000));
        let error = refused(&s.post(door.0, FORM, body).await, door.0);
        assert!(error.contains("limit") || error.contains("too large"), "{}: {error}", door.0);
    }
    assert_eq!(s.get("/api/v1/query?query=1").await.status, 200);
    s.stop().await;
}

/// With one thread for queries, the next query gets an answer only when nothing of the last one goes on working.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_works_on_after_a_timeout_or_a_disconnection() {
    let s = Server::start_with(CONFIG, |o| {
        o.engine.timeout = Duration::from_secs(3600);
        o.engine.samples_max = u64::MAX;
        o.query_concurrency = 1;
    })
    .await;
    let active = || {
        let slots = std::fs::read(s.dir.path().join("data/queries.active")).unwrap();
        String::from_utf8(slots.into_iter().filter(|b| *b != 0).collect()).unwrap()
    };
    for query in [ENDLESS, "count_over_time(vector(1)[10y:1ms])", "quantile_over_time(0.5, vector(1)[10y:1ms])"] {
        let body = format!("timeout=200ms&query={}", form(query));
        let answer = s.post("/api/v1/query", FORM, body).await;
        // What has to hold its samples may come to the end of the memory first.
        let json = answer.json();
        match answer.status {
            503 => assert_eq!(json["errorType"], "timeout", "{query}: {}", answer.text),
            _ => assert!(answer.text.contains("memory budget"), "{query}: {}", answer.text),
        }
        assert_eq!(s.get("/api/v1/query?query=1").await.status, 200);
        assert!(!active().contains("over_time"), "{query}: {}", active());

        let mut client = TcpStream::connect(s.address).await.unwrap();
        let (path, body) = ("/api/v1/query", format!("query={}", form(ENDLESS)));
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        while !active().contains("over_time") {
            tokio::task::yield_now().await;
        }
        drop(client);
        assert_eq!(s.get("/api/v1/query?query=1").await.status, 200);
        assert!(!active().contains("over_time"), "{}", active());
    }
    s.stop().await;
}

/// While two queries that never end have a thread each: other queries, scrapes and rules go on.
#[tokio::test(flavor = "multi_thread")]
async fn others_do_not_notice() {
    let target = Server::start(CONFIG).await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let config = format!(
        "rule_files: [a.rules]\nscrape_configs:\n- {{job_name: t, scrape_interval: 100ms, scrape_timeout: 100ms, \
         static_configs: [{{targets: ['{}']}}]}}\n",
        target.address
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    let rules = "groups: [{name: g, interval: 100ms, rules: [{record: seen, expr: 'count(up)'}]}]";
    std::fs::write(dir.path().join("a.rules"), rules).unwrap();
    let s = Server::start_in(dir, |o| {
        o.engine.timeout = Duration::from_secs(3600);
        o.engine.samples_max = u64::MAX;
        o.clock = Arc::new(SystemClock);
        o.query_concurrency = 3;
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(s.address).await.unwrap();
        let request = format!("GET /api/v1/query?query={} HTTP/1.1\r\nHost: x\r\n\r\n", form(ENDLESS));
        client.write_all(request.as_bytes()).await.unwrap();
        clients.push(client);
    }
    let running = async || s.get("/metrics").await.text.lines().any(|l| l == "prometheus_engine_queries 2");
    while !running().await {
        tokio::task::yield_now().await;
    }
    // Each is asked by a query, which is answered beside them.
    for name in ["up", "seen"] {
        let count = async || {
            let data = s.ask("/api/v1/query", &[("query", &format!("sum(count_over_time({name}[1h]))"))]).await.data();
            data["result"][0]["value"][1].as_str().map_or(0.0, |v| v.parse::<f64>().unwrap())
        };
        let before = count().await;
        while count().await < before + 3.0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(running().await, "the endless ones are still there");
    drop(clients);
    s.stop().await;
    target.stop().await;
}
