//! The listener of every role: binding, and an accept loop around hyper that survives slow, idle and hostile clients.
//!
//! `axum::serve` has no header deadline, no connection limit and no end to its graceful shutdown; this has.
mod activity;
pub mod body;
pub mod compress;
mod params;
mod passwords;
mod serve;
pub(crate) mod tls;
pub(crate) mod web_config;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;

pub use params::Params;
pub use web_config::{WebConfig, WebConfigError};

/// Deadlines and limits of a [`Listener`]. The defaults are meant for production.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// From the first byte of a request (or from the accept, for the first one) to the end of its header.
    pub header_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How long a client may refuse to take a single byte of an answer.
    pub write_timeout: Duration,
    /// Open connections over all addresses. At the limit the longest idle one makes room; if all are busy, the
    /// newcomer is told 503.
    pub connections_max: usize,
    /// How long requests in flight may go on after the shutdown signal.
    pub drain_timeout: Duration,
    /// TLS, authentication and headers of `--web.config.file`.
    pub web: Option<Arc<WebConfig>>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            write_timeout: Duration::from_secs(30),
            connections_max: 512,
            drain_timeout: Duration::from_millis(700),
            web: None,
        }
    }
}

/// An address that could not be bound, in the words Go uses: `listen tcp 127.0.0.1:9090: bind: address already in use`.
#[derive(Debug, thiserror::Error)]
#[error("listen tcp {address}: {reason}")]
pub struct BindError {
    pub address: String,
    pub reason: String,
    #[source]
    pub source: io::Error,
}

/// Numbers about open connections, shared with whoever wants to export them.
#[derive(Clone, Debug, Default)]
pub struct ListenStats(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    open: AtomicUsize,
    refused: AtomicUsize,
    evicted: AtomicUsize,
}

impl ListenStats {
    /// Connections open now.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }
    /// Connections answered 503 because all others were busy, since the start.
    pub fn refused(&self) -> usize {
        self.0.refused.load(Ordering::Relaxed)
    }
    /// Idle connections closed early to make room, since the start.
    pub fn evicted(&self) -> usize {
        self.0.evicted.load(Ordering::Relaxed)
    }
}

/// Bound sockets, ready to serve.
pub struct Listener {
    sockets: Vec<TcpListener>,
    options: ListenOptions,
    stats: ListenStats,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("addresses", &self.local_addrs()).finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds every address, or none. An address is `host:port`, `[v6]:port` or `:port` (all interfaces, both families);
    /// port 0 asks for a free one, see [`Listener::local_addrs`].
    pub async fn bind<A: AsRef<str>>(addresses: &[A], options: ListenOptions) -> Result<Listener, BindError> {
        let mut sockets = Vec::with_capacity(addresses.len());
        for address in addresses {
            let address = address.as_ref();
            sockets.push(bind_one(address).await.map_err(|source| BindError {
                address: address.to_owned(),
                reason: reason(&source),
                source,
            })?);
        }
        Ok(Listener { sockets, options, stats: ListenStats::default() })
    }

    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|s| s.local_addr().ok()).collect()
    }

    pub fn stats(&self) -> ListenStats {
        self.stats.clone()
    }

    /// Serves `router` until `shutdown` resolves, then closes idle connections at once, lets requests in flight go on
    /// for the drain timeout, and drops the rest. Handlers find the peer's address as the extension
    /// `axum::extract::ConnectInfo<SocketAddr>`.
    pub async fn serve(self, router: axum::Router, shutdown: impl Future<Output = ()>) {
        serve::serve(self.sockets, self.options, self.stats, router, shutdown).await;
    }
}

async fn bind_one(address: &str) -> io::Result<TcpListener> {
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "missing port in address"))?;
    let port: u16 = port.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "invalid port"))?;
    if host.is_empty() {
        // As Go does it: one socket for both families, or IPv4 alone where the machine has no IPv6.
        return match TcpListener::bind((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)).await {
            Err(e) if e.kind() != io::ErrorKind::AddrInUse && e.kind() != io::ErrorKind::PermissionDenied => {
                TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).await
            }
            done => done,
        };
    }
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    TcpListener::bind((host, port)).await
}

fn reason(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "bind: cannot assign requested address".to_owned(),
        io::ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
        _ => e.to_string(),
    }
}
