//! The accept loop, the life of one connection, and the drain.
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use futures::FutureExt;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use super::activity::{Activity, InFlight, Verdict, Watched};
use super::web_config::Admission;
use super::{ListenOptions, ListenStats, WebConfig};

/// Newcomers that are being told 503 at the same time; beyond that they are just closed.
const REFUSALS_MAX: usize = 64;
/// What an evicted connection gets to finish a request that arrived at the same moment.
const EVICTION_GRACE: Duration = Duration::from_millis(250);
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
Retry-After: 1\r\nConnection: close\r\nContent-Length: 21\r\n\r\ntoo many connections\n";

struct Shared {
    options: ListenOptions,
    stats: ListenStats,
    router: axum::Router,
    open: Mutex<HashMap<u64, Arc<Activity>>>,
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Activity>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Whether there is room for one more, after closing the longest idle connection if need be.
    fn make_room(&self) -> bool {
        let mut open = self.open();
        if open.len() < self.options.connections_max.max(1) {
            return true;
        }
        let longest_idle = open
            .iter()
            .filter(|(_, a)| a.is_idle())
            .min_by_key(|(_, a)| a.opened() + Duration::from_millis(a.idle_since()))
            .map(|(id, _)| *id);
        // Removed here, not when its task ends: each newcomer must find another one to close.
        let Some(evicted) = longest_idle.and_then(|id| open.remove(&id)) else { return false };
        self.stats.0.evicted.fetch_add(1, Relaxed);
        evicted.close.notify_one();
        true
    }
}

/// Takes a connection off the books when its task ends, however it ends.
struct Registered {
    shared: Arc<Shared>,
    id: u64,
}

impl Registered {
    fn new(shared: &Arc<Shared>, id: u64, activity: &Arc<Activity>) -> Registered {
        shared.open().insert(id, Arc::clone(activity));
        shared.stats.0.open.fetch_add(1, Relaxed);
        Registered { shared: Arc::clone(shared), id }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.open().remove(&self.id);
        self.shared.stats.0.open.fetch_sub(1, Relaxed);
    }
}

pub(super) async fn serve(
    sockets: Vec<TcpListener>,
    options: ListenOptions,
    stats: ListenStats,
    router: axum::Router,
    shutdown: impl Future<Output = ()>,
) {
    let shared = Arc::new(Shared { options, stats, router, open: Mutex::default() });
    let (stop, stopped) = watch::channel(false);
    let mut loops = JoinSet::new();
    for (n, socket) in (0u64..).zip(sockets) {
        // Connection ids of different sockets never meet: each loop counts in its own range.
        loops.spawn(accept(socket, Arc::clone(&shared), stopped.clone(), n << 48));
    }
    shutdown.await;
    stop.send_replace(true);
    while loops.join_next().await.is_some() {}
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|s| *s).await; // an error means the sender is gone, which is the same
}

async fn accept(socket: TcpListener, shared: Arc<Shared>, stop: watch::Receiver<bool>, first_id: u64) {
    let mut stopping = pin!(stopped(stop.clone()));
    let mut connections = JoinSet::new();
    let mut refusals = JoinSet::new();
    let mut next_id = first_id;
    loop {
        tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) if !shared.make_room() => {
                    shared.stats.0.refused.fetch_add(1, Relaxed);
                    if refusals.len() < REFUSALS_MAX {
                        refusals.spawn(refuse(stream));
                    }
                }
                Ok((stream, peer)) => {
                    next_id += 1;
                    let activity = Activity::new();
                    let registered = Registered::new(&shared, next_id, &activity);
                    connections.spawn(connection(stream, peer, registered, activity, stop.clone()));
                }
                Err(e) => {
                    // Mostly no file descriptor left: give one back, and do not spin meanwhile.
                    tracing::warn!(error = %e, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            _ = connections.join_next(), if !connections.is_empty() => {}
            _ = refusals.join_next(), if !refusals.is_empty() => {}
            () = stopping.as_mut() => break,
        }
    }
    drop(socket);
    let drained = async { while connections.join_next().await.is_some() {} };
    // What is left after that is aborted as the set is dropped.
    let _ = tokio::time::timeout(shared.options.drain_timeout, drained).await;
}

/// Tells a newcomer that everything is busy. Reads a little first, since closing over unread bytes resets the answer away.
async fn refuse(mut stream: TcpStream) {
    let answer = async {
        stream.write_all(REFUSAL).await?;
        stream.shutdown().await?;
        let mut sink = [0u8; 4096];
        while stream.read(&mut sink).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), answer).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    registered: Registered,
    activity: Arc<Activity>,
    stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let options = &registered.shared.options;
    let Some(web) = options.web.as_ref().filter(|web| web.is_tls()) else {
        exchange(stream, peer, registered, activity, stop).await;
        return;
    };
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(options.header_timeout, handshake(stream, web)) => accepted,
        () = activity.close.notified() => return,
        () = stopped(stop.clone()) => return,
    };
    match accepted {
        Ok(Ok(stream)) => exchange(stream, peer, registered, activity, stop).await,
        Ok(Err(e)) => tracing::debug!(%peer, error = %e, "TLS handshake error"),
        Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
    }
}

const PLAIN_TO_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

async fn handshake(mut stream: TcpStream, web: &WebConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let config = web.tls().ok_or_else(|| std::io::Error::other("no TLS configuration"))?;
    let mut first = [0u8; 1];
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        stream.write_all(PLAIN_TO_TLS).await?;
        stream.shutdown().await?;
        return Err(std::io::Error::other("the client speaks plain HTTP"));
    }
    tokio_rustls::TlsAcceptor::from(config).accept(stream).await
}

/// Serves requests on a connection, be it plain or not, until it ends.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: SocketAddr,
    registered: Registered,
    activity: Arc<Activity>,
    stop: watch::Receiver<bool>,
) {
    let mut stopping = pin!(stopped(stop));
    let shared = Arc::clone(&registered.shared);
    let options = &shared.options;
    let io = TokioIo::new(Watched { stream, activity: Arc::clone(&activity) });
    let service = {
        let (activity, shared) = (Arc::clone(&activity), Arc::clone(&shared));
        hyper::service::service_fn(move |request| answer(Arc::clone(&shared), Arc::clone(&activity), peer, request))
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // hyper counts the wait for the next request as part of reading its header, so its own deadline is the idle one;
    // the header deadline proper is `Activity`'s. Without a timer hyper would have no deadline at all.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Some(options.idle_timeout.max(options.header_timeout)));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(Some(128))
        .max_header_list_size(64 << 10)
        .keep_alive_interval(None);
    let mut served = pin!(builder.serve_connection(io, service));
    let mut hard_end: Option<Instant> = None;
    loop {
        let look_again = match activity.verdict(options, Instant::now()) {
            Verdict::Until(at) => at,
            // Idle: the client gets a clean end of stream. Stalled: it reads nothing, so there is nothing to say.
            Verdict::Idle | Verdict::Stalled => return,
        };
        let look_again = hard_end.map_or(look_again, |end| end.min(look_again));
        tokio::select! {
            done = served.as_mut() => {
                if let Err(e) = done {
                    tracing::debug!(%peer, error = %e, "connection ended");
                }
                return;
            }
            () = tokio::time::sleep_until(look_again.into()) => {
                if hard_end.is_some_and(|end| end <= Instant::now()) && activity.is_idle() {
                    return;
                }
            }
            () = activity.close.notified() => {
                served.as_mut().graceful_shutdown();
                hard_end = Some(Instant::now() + EVICTION_GRACE);
            }
            () = stopping.as_mut(), if hard_end.is_none() => {
                if activity.is_idle() {
                    return;
                }
                served.as_mut().graceful_shutdown();
                hard_end = Some(Instant::now() + options.drain_timeout);
            }
        }
    }
}

async fn answer(
    shared: Arc<Shared>,
    activity: Arc<Activity>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Counted>, Infallible> {
    let in_flight = activity.request(request.version() == Version::HTTP_2);
    let web = shared.options.web.as_ref();
    if let Some(web) = web
        && let Some(response) = refusal(web.admit(request.headers()).await)
    {
        return Ok(with_headers(response, web).map(|body| Counted { body, _in_flight: in_flight }));
    }
    request.extensions_mut().insert(ConnectInfo(peer));
    let path = request.uri().path().to_owned();
    let handled = AssertUnwindSafe(shared.router.clone().oneshot(request.map(Body::new))).catch_unwind().await;
    let response = match handled {
        Ok(Ok(response)) => response,
        Err(_) => {
            tracing::error!(path, "a handler panicked");
            let mut response = Response::new(Body::from("internal error\n"));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    };
    let response = match web {
        Some(web) => with_headers(response, web),
        None => response,
    };
    Ok(response.map(|body| Counted { body, _in_flight: in_flight }))
}

/// The answer to a request that is not let in.
fn refusal(admission: Admission) -> Option<Response<Body>> {
    let (status, text) = match admission {
        Admission::Welcome => return None,
        Admission::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized\n"),
        Admission::TooMany => (StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n"),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
    }
    Some(response)
}

/// Configured headers go where the handler has not set its own.
fn with_headers(mut response: Response<Body>, web: &WebConfig) -> Response<Body> {
    for (name, value) in web.headers() {
        if let Some(name) = name
            && !response.headers().contains_key(&name)
        {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A response body that keeps its request in flight until it is sent or dropped.
struct Counted {
    body: Body,
    _in_flight: InFlight,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
