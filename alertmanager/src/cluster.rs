//! Several Alertmanagers as one: who is there, and how news gets from one to all others.
//!
//! ```text
//! swim.rs    membership (SWIM, foca): who is alive. Small datagrams
//! stream.rs  one stream per member for news; exchanges of everything at joining, when a member comes (back), and
//!            every push-pull interval with one of them
//! wire.rs    the bytes of both
//! driver.rs  the task that owns membership, timers and streams
//! core/peers.rs  what the news mean: turns, intents, merging
//! ```
//!
//! With `--cluster.tls-config` everything goes over TLS: streams as they are, and datagrams as frames of a stream of their own.
//!
//! News go straight to every member, so a cluster is meant to have some members, not hundreds. A lost message costs at most
//! a repeated notification; the next exchange makes up for it. Upstream's flags, our own protocol: members are
//! Alertmanagers of ours only.
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ferula_net::mutual::{MutualTls, MutualTlsError};
use tokio::sync::{mpsc, oneshot};

use crate::core::Intent;
use crate::time;

mod driver;
mod stream;
mod swim;
mod wire;

pub(crate) use driver::start;
pub(crate) use swim::Member;

/// A refusal is logged once in so long, and no more of them at a time: strangers do not fill the log.
const REFUSAL_QUIET: Duration = Duration::from_secs(60);
const REFUSALS_MAX: usize = 100;

/// Upstream's `--cluster.*` flags; times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterOptions {
    /// `--cluster.listen-address`; empty switches the cluster off.
    pub listen_address: String,
    /// `--cluster.advertise-address`; empty: the address this machine is reached at.
    pub advertise_address: String,
    /// `--cluster.peer`, `host:port` each
    pub peers: Vec<String>,
    /// `--cluster.peer-name`; empty: made up once, kept in the data folder.
    pub peer_name: String,
    pub peer_timeout_ms: i64,
    pub peers_resolve_timeout_ms: i64,
    pub gossip_interval_ms: i64,
    pub pushpull_interval_ms: i64,
    pub tcp_timeout_ms: i64,
    pub probe_timeout_ms: i64,
    pub probe_interval_ms: i64,
    pub settle_timeout_ms: i64,
    pub reconnect_interval_ms: i64,
    pub reconnect_timeout_ms: i64,
    pub label: String,
    /// `--cluster.tls-config`; empty: nothing is encrypted.
    pub tls_config_file: String,
}

impl Default for ClusterOptions {
    fn default() -> ClusterOptions {
        ClusterOptions {
            listen_address: String::new(),
            advertise_address: String::new(),
            peers: Vec::new(),
            peer_name: String::new(),
            peer_timeout_ms: 15_000,
            peers_resolve_timeout_ms: 15_000,
            gossip_interval_ms: 200,
            pushpull_interval_ms: 60_000,
            tcp_timeout_ms: 10_000,
            probe_timeout_ms: 500,
            probe_interval_ms: 1_000,
            settle_timeout_ms: 60_000,
            reconnect_interval_ms: 10_000,
            reconnect_timeout_ms: 6 * 3_600_000,
            label: String::new(),
            tls_config_file: String::new(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("cluster.listen-address {address:?}: {reason}")]
    Listen { address: String, reason: String },
    #[error("cluster.advertise-address {0:?} is no address")]
    Advertise(String),
    #[error("cluster.tls-config: {0}")]
    Tls(#[from] MutualTlsError),
}

/// What the outside sees.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// All members, this one included, in the order of their turns.
    pub members: Vec<Member>,
    pub position: usize,
    pub is_settled: bool,
    /// Members that were lost and are still called.
    pub failed: usize,
}

/// Counts since the start, for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub news_sent: Messages,
    pub news_received: Messages,
    /// All that one side knows, once per exchange.
    pub states_sent: Messages,
    pub states_received: Messages,
    /// News that wait for a stream.
    pub queued: u64,
    /// News that found a member's queue full, or its stream broken.
    pub pruned: u64,
    pub joined: u64,
    pub left: u64,
    pub reconnections: u64,
    pub reconnections_failed: u64,
    /// Configured peers that were called because they were not there.
    pub refreshed: u64,
    pub refreshed_failed: u64,
    pub name_conflicts: u64,
    /// With `--cluster.tls-config` only.
    pub tls: Option<TlsCounts>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Messages {
    pub count: u64,
    pub bytes: u64,
}
impl Messages {
    fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes as u64;
    }
}

/// What goes through TLS.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TlsCounts {
    pub packet_bytes_sent: u64,
    pub packet_bytes_received: u64,
    pub streams_sent: u64,
    pub streams_received: u64,
    pub read_errors: u64,
    pub packet_write_errors: u64,
    pub stream_write_errors: u64,
}

enum Command {
    /// A frame for every member.
    Tell(Arc<[u8]>),
    /// An exchange ended well: that is who was at the other end.
    Met(Member),
    /// A packet of the membership protocol that came over a stream.
    Packet(Vec<u8>),
    Leave(oneshot::Sender<()>),
}

/// The handle of a running membership.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub name: Arc<str>,
    pub advertised: SocketAddr,
    pub options: ClusterOptions,
    tls: Option<Arc<MutualTls>>,
    commands: mpsc::Sender<Command>,
    view: Mutex<View>,
    counts: Mutex<Counts>,
    refusals: Mutex<HashMap<(IpAddr, String), Instant>>,
}

impl Cluster {
    pub(crate) fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    pub(crate) fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn count_tls(&self, change: impl FnOnce(&mut TlsCounts)) {
        self.count(|c| {
            if let Some(tls) = &mut c.tls {
                change(tls);
            }
        });
    }

    /// Says who was not let in or did not let us in, and why; the same not again within a minute.
    fn warn_of_refusal(&self, peer: SocketAddr, error: &wire::WireError) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.retain(|_, said| said.elapsed() < REFUSAL_QUIET);
        let is_news =
            refusals.len() < REFUSALS_MAX && refusals.insert((peer.ip(), error.to_string()), Instant::now()).is_none();
        drop(refusals);
        if is_news {
            tracing::warn!(%peer, %error, "A cluster member was refused, or refuses us");
        }
    }

    /// Tells all members about journal records.
    pub(crate) fn tell(&self, records: &[Vec<u8>]) {
        wire::entry_frames(records).into_iter().for_each(|f| self.send(f));
    }

    pub(crate) fn announce(&self, intent: &Intent) {
        self.send(wire::frame(wire::INTENT, &wire::intent(intent)));
    }

    fn send(&self, frame: Vec<u8>) {
        // A queue this full means that nobody listens; the next exchange makes up for what is lost.
        if self.commands.try_send(Command::Tell(frame.into())).is_err() {
            self.count(|c| c.pruned += 1);
        }
    }

    /// Says good-bye, so that nobody waits for this member.
    pub(crate) async fn leave(&self) {
        let (done, gone) = oneshot::channel();
        if self.commands.send(Command::Leave(done)).await.is_ok() {
            let _ = tokio::time::timeout(Duration::from_secs(1), gone).await;
        }
    }
}

/// A name that sorts by age, as upstream's: the time, then chance.
fn new_name(now_ms: i64) -> String {
    format!("{:011X}{:016X}", now_ms.max(0), fastrand::u64(..))
}

/// The name of this member: given, or kept from before, or new.
fn name(options: &ClusterOptions, storage: &std::path::Path, now_ms: i64) -> String {
    if !options.peer_name.is_empty() {
        return options.peer_name.clone();
    }
    let file = storage.join("peer-name");
    let kept = std::fs::read_to_string(&file).ok().map(|t| t.trim().to_owned());
    if let Some(kept) = kept.filter(|n| !n.is_empty() && n.len() <= 100 && n.chars().all(|c| c.is_ascii_alphanumeric()))
    {
        return kept;
    }
    let name = new_name(now_ms);
    if let Err(error) = std::fs::write(&file, &name) {
        let at = time::format_api(now_ms);
        tracing::warn!(%error, at, "The name of this cluster member could not be kept; it changes with a restart");
    }
    name
}
