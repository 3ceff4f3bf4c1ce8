//! The listener against clients that are slow, silent, greedy or gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use ferula_net::listen::{ListenOptions, ListenStats, Listener, body};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};

struct Served {
    address: SocketAddr,
    stats: ListenStats,
    stop: oneshot::Sender<()>,
    done: tokio::task::JoinHandle<()>,
}

async fn serve(router: Router, options: ListenOptions) -> Served {
    let listener = Listener::bind(&["127.0.0.1:0"], options).await.unwrap();
    let (address, stats) = (listener.local_addrs()[0], listener.stats());
    let (stop, stopped) = oneshot::channel::<()>();
    let done = tokio::spawn(listener.serve(router, async {
        let _ = stopped.await;
    }));
    Served { address, stats, stop, done }
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" })).route("/panic", get(|| async { panic_now() }))
}

fn panic_now() -> &'static str {
    panic!("on purpose")
}

async fn to_end(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await; // a reset ends it as well
    String::from_utf8_lossy(&text).into_owned()
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut s = TcpStream::connect(address).await.unwrap();
    s.write_all(request.as_bytes()).await.unwrap();
    to_end(&mut s).await
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn answers_and_survives_a_panic() {
    let s = serve(hello(), ListenOptions::default()).await;
    assert!(ask(s.address, GET).await.ends_with("\r\n\r\nhello"));
    let panicked = ask(s.address, &GET.replace("/ ", "/panic ")).await;
    assert!(panicked.starts_with("HTTP/1.1 500 "), "{panicked}");
    assert!(ask(s.address, GET).await.ends_with("hello"));
    s.stop.send(()).unwrap();
    s.done.await.unwrap();
    assert!(TcpStream::connect(s.address).await.is_err(), "the socket is closed");
}

#[tokio::test]
async fn a_header_that_never_ends_is_cut_off() {
    let options = ListenOptions { header_timeout: Duration::from_millis(30), ..ListenOptions::default() };
    let s = serve(hello(), options).await;
    for begun in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n", "PRI * HTTP/2.0\r\n\r\n"] {
        let answer = ask(s.address, begun).await;
        assert!(!answer.contains("200"), "{begun:?} got {answer:?}");
    }
}

#[tokio::test]
async fn a_kept_connection_ends_when_it_idles_too_long() {
    let options = ListenOptions { idle_timeout: Duration::from_millis(300), ..ListenOptions::default() };
    let s = serve(hello(), options).await;
    let mut c = TcpStream::connect(s.address).await.unwrap();
    c.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(to_end(&mut c).await.ends_with("hello"), "the answer, then the end of the idle connection");
}

#[tokio::test]
async fn idle_connections_make_room_and_busy_ones_do_not() {
    let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let router = {
        let (entered, go_on) = (Arc::clone(&entered), Arc::clone(&go_on));
        hello().route(
            "/slow",
            get(move || async move {
                entered.notify_one();
                go_on.notified().await;
                "slow"
            }),
        )
    };
    let s = serve(router, ListenOptions { connections_max: 2, ..ListenOptions::default() }).await;
    // Half-open ones: each newcomer pushes the oldest out and is served.
    let mut half_open = Vec::new();
    for _ in 0..6 {
        half_open.push(TcpStream::connect(s.address).await.unwrap());
    }
    assert!(ask(s.address, GET).await.ends_with("hello"));
    assert!(s.stats.evicted() >= 4, "{:?}", s.stats);
    assert_eq!(s.stats.refused(), 0);
    // Two busy ones: the third is told so.
    let slow = GET.replace("/ ", "/slow ");
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut c = TcpStream::connect(s.address).await.unwrap();
        c.write_all(slow.as_bytes()).await.unwrap();
        entered.notified().await;
        busy.push(c);
    }
    let refused = ask(s.address, GET).await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("Retry-After: 1"), "{refused}");
    go_on.notify_waiters();
    for mut c in busy {
        assert!(to_end(&mut c).await.ends_with("slow"));
    }
    assert!(ask(s.address, GET).await.ends_with("hello"));
}

#[tokio::test]
async fn a_drain_lets_work_finish_and_then_ends() {
    let entered = Arc::new(Notify::new());
    let router = {
        let entered = Arc::clone(&entered);
        hello()
            .route(
                "/never",
                get({
                    let entered = Arc::clone(&entered);
                    move || async move {
                        entered.notify_one();
                        std::future::pending::<()>().await;
                    }
                }),
            )
            .route(
                "/soon",
                get(move || async move {
                    entered.notify_one();
                    tokio::task::yield_now().await;
                    "soon"
                }),
            )
    };
    let s =
        serve(router, ListenOptions { drain_timeout: Duration::from_millis(300), ..ListenOptions::default() }).await;
    let mut idle = TcpStream::connect(s.address).await.unwrap();
    let mut never = TcpStream::connect(s.address).await.unwrap();
    never.write_all(GET.replace("/ ", "/never ").as_bytes()).await.unwrap();
    entered.notified().await;
    let mut soon = TcpStream::connect(s.address).await.unwrap();
    soon.write_all(GET.replace("/ ", "/soon ").as_bytes()).await.unwrap();
    entered.notified().await;
    s.stop.send(()).unwrap();
    assert!(to_end(&mut soon).await.ends_with("soon"));
    assert_eq!(to_end(&mut idle).await, "");
    s.done.await.unwrap(); // does not wait for /never
    assert_eq!(to_end(&mut never).await, "");
    assert_eq!(s.stats.open(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_drops_its_handler() {
    struct Dropped(Option<oneshot::Sender<()>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.take().unwrap().send(());
        }
    }
    let (tell, told) = oneshot::channel();
    let guard = Arc::new(std::sync::Mutex::new(Some(Dropped(Some(tell)))));
    let entered = Arc::new(Notify::new());
    let router = {
        let entered = Arc::clone(&entered);
        Router::new().route(
            "/",
            get(move || async move {
                let _guard = guard.lock().unwrap().take();
                entered.notify_one();
                std::future::pending::<()>().await;
            }),
        )
    };
    let s = serve(router, ListenOptions::default()).await;
    let mut c = TcpStream::connect(s.address).await.unwrap();
    c.write_all(GET.as_bytes()).await.unwrap();
    entered.notified().await;
    drop(c);
    told.await.unwrap();
    drop(s);
}

#[tokio::test]
async fn bodies_are_counted_while_they_are_read() {
    let read = |request: Request| async move {
        match body::read(request.into_body(), 1000, Duration::from_millis(60)).await {
            Ok(b) => format!("{} bytes", b.len()),
            Err(e) => e.to_string(),
        }
    };
    let s = serve(Router::new().route("/", axum::routing::post(read)), ListenOptions::default()).await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let chunk = format!("258\r\n{}\r\n", "x".repeat(600));
    for (body, expect) in [
        ("Content-Length: 3\r\n\r\nabc".to_owned(), "3 bytes"),
        ("Content-Length: 1000000000\r\n\r\nabc".to_owned(), "http: request body too large"),
        (format!("Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"), "600 bytes"),
        (format!("Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}"), "http: request body too large"),
        (format!("Transfer-Encoding: chunked\r\n\r\n{chunk}"), "timed out reading the request body"),
    ] {
        let answer = ask(s.address, &format!("{head}{body}")).await;
        assert!(answer.ends_with(expect), "{expect}: {answer}");
    }
}

#[tokio::test]
async fn a_taken_address_is_one_clear_line() {
    let s = serve(hello(), ListenOptions::default()).await;
    let text = s.address.to_string();
    let e = Listener::bind(&[text.as_str()], ListenOptions::default()).await.unwrap_err();
    assert_eq!(e.to_string(), format!("listen tcp {text}: bind: address already in use"));
    let e = Listener::bind(&["nonsense"], ListenOptions::default()).await.unwrap_err();
    assert_eq!(e.to_string(), "listen tcp nonsense: missing port in address");
}
