//! What strangers may send: the server answers, stays small, and goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::time::Duration;

use ferula_net::listen::ListenOptions;
use support::{CONFIG, Server, with_data};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn raw(s: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(s.address).await.unwrap();
    let _ = stream.write_all(request).await; // the server may have had enough already
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await; // a reset ends it as well
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_body_ends() {
    let s = Server::start_with(CONFIG, |o| o.remote_write.body_bytes_max = 1 << 20).await;
    let head = "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n\
                Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let mut request = head.as_bytes().to_vec();
    for _ in 0..64 {
        request.extend_from_slice(b"10000\r\n");
        request.extend_from_slice(&[b'x'; 0x10000]);
        request.extend_from_slice(b"\r\n");
    }
    let answer = raw(&s, &request).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let form = "POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                Content-Length: 99999999999\r\nConnection: close\r\n\r\nquery=1";
    let answer = raw(&s, form.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("request body too large"), "{answer}");
    assert_eq!(s.get("/-/healthy").await.status, 200);
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_keep_probes_out() {
    let listen = ListenOptions { connections_max: 32, ..ListenOptions::default() };
    let s = Server::start_with(CONFIG, |o| o.listen = listen).await;
    let mut silent = Vec::new();
    for i in 0..100 {
        let mut stream = TcpStream::connect(s.address).await.unwrap();
        if i % 2 == 0 {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: ").await; // may be closed for the next one already
        }
        silent.push(stream);
    }
    // New connections, as probes make them: one that was kept may be closed for another newcomer while it is used again.
    for _ in 0..10 {
        let answer = raw(&s, b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_death_end_in_time() {
    let s = Server::start_with(CONFIG, |o| {
        o.engine.timeout = Duration::from_millis(300);
        o.query_memory_bytes_max = 64 << 20;
    })
    .await;
    let deep = format!("{}1{}", "(".repeat(20_000), ")".repeat(20_000));
    let long = format!("1{}", "+1".repeat(100_000));
    let wide = format!("{{__name__=~\"{}\"}}", "(a|b)*".repeat(3_000));
    for query in [
        "count_over_time(vector(1)[10y:1ms])",
        "quantile_over_time(0.5, count_over_time(vector(1)[1d:1s])[1d:1s])",
        "sum_over_time(sum_over_time(sum_over_time(vector(1)[1h:1s])[1h:1s])[1h:1s])",
        "label_replace(vector(1), \"a\", \"$1$1\", \"b\", \"(\")",
        deep.as_str(),
        long.as_str(),
        wide.as_str(),
        "\u{0}\u{ffff}{}",
    ] {
        let body = format!("query={}", query.replace('%', "%25").replace('+', "%2B").replace('&', "%26"));
        let answer = s.post("/api/v1/query", "application/x-www-form-urlencoded", body).await;
        let shown = query.chars().take(60).collect::<String>();
        // Whoever is fast enough may answer; nobody may take longer than the timeout or die of it.
        assert!(matches!(answer.status, 200 | 400 | 422 | 503), "{shown}: {} {}", answer.status, answer.text);
        assert_eq!(answer.json()["status"], if answer.status == 200 { "success" } else { "error" });
    }
    assert_eq!(s.get("/api/v1/query?query=1").await.status, 200);
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_get_an_answer() {
    let s = with_data().await;
    for (request, status) in [
        ("GET /api/v1/status/tsdb?limit=1000000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        ("GET //etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        ("GET /api/v1/label/..%2F..%2F/values HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        ("GET http://evil/graph HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n", 302),
        ("GET /graph?%0d%0aSet-Cookie:x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 302),
        ("DELETE /api/v1/query HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
        ("BREW / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    ] {
        let answer = raw(&s, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{answer}");
        assert!(!answer.contains("\r\nSet-Cookie") && !answer.contains("root:"), "{answer}");
    }
    s.stop().await;
}
