//! Targets that mean harm: each ends in `up 0` with a clear reason or in a clean parse, with bounded memory, and the
//! honest target beside them is scraped on time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::sync::Arc;
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::{Budget, Labels, SystemClock};
use ferula_scraper_scrape::{Health, ScrapeManager, ScrapeOptions, TargetSnapshot};
use support::{Answer, Server, Store, gzip, job, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// More than the longest line, which a vector that doubles may hold twice.
const BUDGET_BYTES: u64 = 48 << 20;

/// What a hostile server does with a connection once the request is in.
async fn misbehave(kind: &str, socket: &mut TcpStream) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n";
    let close = format!("{head}connection: close\r\n\r\n");
    match kind {
        "endless body" | "endless line" | "endless comment" => {
            socket.write_all(close.as_bytes()).await?;
            let piece = match kind {
                "endless body" => "metric{a=\"b\"} 1\n".repeat(4096),
                "endless line" => "x".repeat(65536),
                _ => format!("# {}", "x".repeat(65536)),
            };
            loop {
                socket.write_all(piece.as_bytes()).await?;
            }
        }
        "endless header" => {
            socket.write_all(head.as_bytes()).await?;
            loop {
                socket.write_all(format!("x-a: {}\r\n", "y".repeat(1000)).as_bytes()).await?;
            }
        }
        "endless 1xx" => loop {
            socket.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await?;
        },
        "slow header" => {
            for b in close.bytes().cycle() {
                socket.write_all(&[b]).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        }
        "slow body" => {
            socket.write_all(close.as_bytes()).await?;
            loop {
                socket.write_all(b"a").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        "silence" => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Ok(())
        }
        "short body" => socket.write_all(format!("{head}content-length: 1000\r\n\r\na 1\n").as_bytes()).await,
        "broken chunks" => {
            socket.write_all(format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\na 1\n").as_bytes()).await
        }
        "length and chunks" => {
            let both =
                "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n4\r\na 1\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n";
            socket.write_all(format!("{head}{both}").as_bytes()).await
        }
        "endless trailer" => {
            socket.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n4\r\na 1\n\r\n0\r\n").as_bytes()).await?;
            loop {
                socket.write_all(format!("x-a: {}\r\n", "y".repeat(1000)).as_bytes()).await?;
            }
        }
        "reset" | "reset in the body" => {
            if kind != "reset" {
                socket.write_all(format!("{head}content-length: 1000\r\n\r\na 1\n").as_bytes()).await?;
            }
            socket.set_zero_linger() // closed at once, with RST
        }
        "two lengths" => {
            socket.write_all(format!("{head}content-length: 4\r\ncontent-length: 8\r\n\r\na 1\nb 2\n").as_bytes()).await
        }
        "not http" => socket.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await,
        other => panic!("no such behaviour: {other}"),
    }
}

async fn hostile(kind: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0u8; 4096];
                let _ = socket.read(&mut request).await;
                let _ = misbehave(kind, &mut socket).await;
            });
        }
    });
    address
}

struct Scraped {
    store: Store,
    budget: Budget,
    target: TargetSnapshot,
}

/// Scrapes `address` until the first verdict, beside an honest target that must not notice.
async fn scrape(address: String, more: &str) -> Scraped {
    let honest = Server::start(Answer::text("fine 1\n")).await;
    let (store, registry) = (Store::default(), Registry::new());
    let budget = Budget::root("scrape bodies", BUDGET_BYTES);
    let options = ScrapeOptions { first_scrape_at_once: true, body_budget: budget.clone(), ..ScrapeOptions::default() };
    let manager = ScrapeManager::new(options, Arc::new(store.clone()), Arc::new(SystemClock), &registry).unwrap();
    let mut config = job(std::slice::from_ref(&address), more);
    config.scrape_interval = ferula_yaml::Duration::from_secs(2);
    config.scrape_timeout = ferula_yaml::Duration::from_ms(1500);
    let mut beside = job(&[honest.address()], "");
    beside.job_name = "honest".into();
    beside.scrape_interval = ferula_yaml::Duration::from_secs(1);
    beside.scrape_timeout = ferula_yaml::Duration::from_secs(1);
    manager.apply(vec![config, beside], &Labels::empty()).unwrap();
    let find = || {
        let pools = manager.targets();
        let pool = pools.iter().find(|p| p.name == "j").unwrap();
        pool.active.first().filter(|t| t.health != Health::Unknown).cloned()
    };
    until(|| find().is_some()).await;
    let fine = format!("{{__name__=\"up\", instance=\"{}\", job=\"honest\"}}", honest.address());
    until(|| store.values(&fine).len() >= 2).await;
    assert!(store.values(&fine).iter().all(|v| v == "1"), "the honest target was disturbed");
    let target = find().unwrap();
    manager.stop().await;
    assert!(budget.peak_bytes() <= BUDGET_BYTES);
    assert_eq!(budget.used_bytes(), 0, "every body was given back");
    assert!(target.last_error.len() <= 512, "{} bytes of error", target.last_error.len());
    Scraped { store, budget, target }
}

/// Runs all cases side by side; each has its own servers.
async fn at_once<const N: usize>(cases: [impl Future<Output = ()> + Send + 'static; N]) {
    let mut running = tokio::task::JoinSet::new();
    for case in cases {
        running.spawn(case);
    }
    running.join_all().await;
}

#[track_caller]
fn expect_error(scraped: &Scraped, kind: &str, part: &str) {
    let error = &scraped.target.last_error;
    assert_eq!(scraped.target.health, Health::Down, "{kind}");
    assert!(error.contains(part), "{kind}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_without_end_hit_the_line_limit_or_the_deadline() {
    at_once(["endless body", "endless line", "endless comment"].map(|kind| async move {
        let scraped = scrape(hostile(kind).await, "").await;
        let error = &scraped.target.last_error;
        assert_eq!(scraped.target.health, Health::Down, "{kind}");
        assert!(
            ["exceeds the limit of 16777216 bytes", "deadline exceeded", "memory budget \"one scrape\""]
                .iter()
                .any(|reason| error.contains(reason)),
            "{kind}: {error}"
        );
        let limited = scrape(hostile(kind).await, "body_size_limit: 1MB").await;
        expect_error(&limited, kind, "body size limit exceeded");
        assert!(limited.budget.peak_bytes() < 4 << 20, "{kind}: {}", limited.budget.peak_bytes());
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_broken_connections_end_with_a_reason() {
    let kinds = [
        ("slow header", "context deadline exceeded"),
        ("slow body", "context deadline exceeded"),
        ("silence", "context deadline exceeded"),
        ("endless 1xx", "context deadline exceeded"),
        ("endless header", ""),
        ("endless trailer", ""),
        ("reset", ""),
        ("reset in the body", ""),
        ("short body", ""),
        ("broken chunks", ""),
        ("two lengths", ""),
        ("not http", ""),
    ];
    at_once(kinds.map(|(kind, part)| async move {
        let scraped = scrape(hostile(kind).await, "").await;
        expect_error(&scraped, kind, part);
        assert!(!scraped.target.last_error.is_empty(), "{kind}");
        let foreign = scraped.store.samples().keys().filter(|k| k.contains("job=\"j\"")).count();
        assert_eq!(foreign, 5, "{kind}: only the report series");
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_bodies_are_read_or_refused_quickly() {
    let labels: String = (0..90_000).map(|i| format!("l{i}=\"v\",")).collect();
    let twice = format!("m{{{labels}l5=\"again\"}} 1\n");
    let repeated = "m{a=\"b\"} 1\n".repeat(50_000);
    let kinds = [
        ("newline flood", Answer::gzip(&[b'\n'; 1 << 16], 12 << 4), ""),
        ("the same line again and again", Answer::gzip(repeated.as_bytes(), 1), ""),
        ("zero bytes", Answer::gzip(&[0; 1 << 16], 12 << 4), "expected a valid start token, got \"\\x00\""),
        ("gzip bomb", Answer::gzip(&[b'#'; 1 << 16], 1 << 14), "exceeds the limit of 16777216 bytes"),
        ("gzip bomb of lines", Answer::gzip(&b"a 1\n# b\n".repeat(1 << 13), 1 << 6), ""),
        ("no gzip", Answer::raw("content-type: text/plain\r\ncontent-encoding: gzip\r\n", b"a 1\n"), "gzip: "),
        ("a hundred thousand labels", Answer::text(&twice), "label name \"l5\" is not unique"),
        ("a line of two megabytes", Answer::text(&format!("m{{a=\"{}\"}} 1\n", "x".repeat(2 << 20))), ""),
        (
            "a line of twenty megabytes",
            Answer::text(&format!("m{{a=\"{}\"}} 1\n", "x".repeat(20 << 20))),
            "exceeds the limit of 16777216 bytes",
        ),
        ("no content type", Answer::raw("", b"a 1\n"), "non-compliant scrape target sending blank Content-Type"),
        ("html", Answer::typed("text/html", "<html>"), "received unsupported Content-Type \"text/html\""),
        ("endless content type", Answer::typed(&"x".repeat(60_000), "a 1\n"), "Content-Type"),
        ("far future", Answer::text("a 1 99999999999999\nb 2\n"), ""),
        ("overflowing time", Answer::text("a 1 99999999999999999999\n"), "value out of range"),
        ("protobuf", Answer::typed("application/vnd.google.protobuf", "\u{1}\u{2}"), ""),
        ("families without names", Answer::raw(PROTOBUF_GZIP, &gzip(&[0; 1 << 16], 12 << 4)), ""),
        ("long ago", Answer::text("a 1 5\nb 2\n"), ""),
    ];
    at_once(kinds.map(|(kind, answer, error)| async move {
        let server = Server::start(answer).await;
        let scraped = scrape(server.address(), "").await;
        if error.is_empty() && kind != "protobuf" {
            assert_eq!(scraped.target.last_error, "", "{kind}");
        } else {
            expect_error(&scraped, kind, error);
        }
    }))
    .await;
}

const PROTOBUF_GZIP: &str = "content-type: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited\r\ncontent-encoding: gzip\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn more_series_than_allowed_are_only_counted() {
    let page: String = (0..300_000).map(|i| format!("m{{i=\"{i}\"}} 1\n")).collect();
    let server = Server::start(Answer::gzip(page.as_bytes(), 1)).await;
    let scraped = scrape(server.address(), "sample_limit: 100").await;
    expect_error(&scraped, "a flood of series", "sample limit exceeded");
    assert!(scraped.store.label_sets().len() < 200);
    assert!(scraped.budget.peak_bytes() < 4 << 20, "{}", scraped.budget.peak_bytes());
}

/// What the body says must not depend on which of two lengths is believed.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_smuggled_behind_a_body() {
    let scraped = scrape(hostile("length and chunks").await, "").await;
    let own: Vec<String> = scraped.store.samples().into_keys().filter(|k| k.contains("job=\"j\"")).collect();
    let is_read = own.iter().any(|k| k.contains("__name__=\"a\""));
    assert_eq!(own.len(), if is_read { 6 } else { 5 }, "{own:?}");
    assert_eq!(scraped.target.health, if is_read { Health::Up } else { Health::Down });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_that_took_too_long_gives_its_connection_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (closed, mut is_closed) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let closed = closed.clone();
            tokio::spawn(async move {
                let mut request = [0u8; 4096];
                while socket.read(&mut request).await.is_ok_and(|n| n > 0) {} // never answers
                let _ = closed.send(());
            });
        }
    });
    expect_error(&scrape(address, "").await, "silence", "context deadline exceeded");
    tokio::time::timeout(Duration::from_secs(30), is_closed.recv()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_lead_nowhere_bad() {
    for (to, part) in
        [("file:///etc/passwd", "unsupported protocol scheme \"file\""), ("/metrics", "stopped after 10 redirects")]
    {
        let server =
            Server::start(Answer(format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into()))
                .await;
        expect_error(&scrape(server.address(), "").await, to, part);
    }
}
