//! Streams between members: news one way, and exchanges of everything both ways; packets where TLS is spoken.
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

use super::wire::{self, Hello, WireError};
use super::{Cluster, Command, Member};
use crate::app::Alertmanager;

/// Streams that may come in at a time.
const STREAMS_MAX: usize = 256;
/// News that may wait for one member.
const NEWS_QUEUE: usize = 4_096;
/// Packets that may wait for one member. They lose their meaning within seconds.
const PACKET_QUEUE: usize = 64;
/// A stream without news is closed by the one who speaks, before the one who listens gives up.
const SPEAKER_IDLE: Duration = Duration::from_secs(60);
const LISTENER_IDLE: Duration = Duration::from_secs(180);

/// A connection, plain or TLS.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
type Stream = Box<dyn Duplex>;

/// What a one-way stream carries. A large piece of news must not make its member look dead, so packets go apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    News,
    Packets,
}

impl Lane {
    pub(super) fn queue(self) -> usize {
        match self {
            Lane::News => NEWS_QUEUE,
            Lane::Packets => PACKET_QUEUE,
        }
    }
}

/// What streams need of their member.
#[derive(Clone)]
pub(super) struct Ends {
    pub am: Weak<Alertmanager>,
    pub cluster: Arc<Cluster>,
    pub me: Member,
}

impl Ends {
    fn hello(&self, is_exchange: bool) -> Hello {
        Hello { label: self.cluster.options.label.clone(), from: self.me.clone(), is_exchange }
    }
    fn patience(&self) -> Duration {
        Duration::from_millis(self.cluster.options.tcp_timeout_ms.max(1).unsigned_abs())
    }
    async fn timely<T>(&self, what: impl Future<Output = Result<T, WireError>>) -> Result<T, WireError> {
        tokio::time::timeout(self.patience(), what).await.unwrap_or(Err(WireError::Timeout))
    }
    async fn connect(&self, to: SocketAddr) -> Result<Stream, WireError> {
        let tcp = self.timely(async { Ok(TcpStream::connect(to).await?) }).await?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.cluster.tls else { return Ok(Box::new(tcp)) };
        let stream = self.timely(async { tls.connect(tcp, to).await.map_err(WireError::Tls) }).await?;
        self.cluster.count_tls(|c| c.streams_sent += 1);
        Ok(Box::new(stream))
    }

    async fn accept(&self, tcp: TcpStream) -> Result<Stream, WireError> {
        let Some(tls) = &self.cluster.tls else { return Ok(Box::new(tcp)) };
        let stream = self.timely(async { tls.accept(tcp).await.map_err(WireError::Tls) }).await?;
        self.cluster.count_tls(|c| c.streams_received += 1);
        Ok(Box::new(stream))
    }

    fn take(&self, kind: u8, payload: &[u8]) {
        let Some(am) = self.am.upgrade() else { return };
        match kind {
            wire::ENTRIES => am.receive_entries(payload),
            wire::INTENT => {
                if let Some(intent) = wire::read_intent(payload) {
                    am.receive_intent(intent);
                }
            }
            // A newer member's news; what they mean is not known here.
            _ => tracing::debug!(kind, "A frame of an unknown kind"),
        }
    }

    async fn write_everything(&self, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), WireError> {
        let records = self.am.upgrade().map(|am| am.everything()).unwrap_or_default();
        let mut size = 0;
        for frame in wire::entry_frames(&records) {
            size += frame.len();
            self.timely(async { Ok(to.write_all(&frame).await?) }).await?;
        }
        self.timely(async {
            to.write_all(&wire::frame(wire::END, &[])).await?;
            Ok(to.flush().await?)
        })
        .await?;
        self.cluster.count(|c| c.states_sent.add(size));
        Ok(())
    }

    async fn read_everything(&self, from: &mut (impl AsyncRead + Unpin)) -> Result<(), WireError> {
        let mut size = 0;
        loop {
            let (kind, payload) = self.timely(wire::read_frame(from)).await?;
            if kind == wire::END {
                break;
            }
            size += payload.len();
            self.take(kind, &payload);
        }
        self.cluster.count(|c| c.states_received.add(size));
        Ok(())
    }
}

/// Exchanges everything with whoever listens at `to`, and says who that is.
pub(super) async fn exchange(ends: Ends, to: SocketAddr) -> Result<Member, WireError> {
    let (read, write) = tokio::io::split(ends.connect(to).await?);
    let (mut read, mut write) = (BufReader::new(read), BufWriter::new(write));
    ends.timely(wire::write_hello(&mut write, &ends.hello(true))).await?;
    let hello = ends.timely(wire::read_hello(&mut read, &ends.cluster.options.label)).await?;
    if hello.from.addr == ends.me.addr {
        return Ok(hello.from); // ourselves, found through a name for all members
    }
    ends.write_everything(&mut write).await?;
    ends.read_everything(&mut read).await?;
    Ok(hello.from)
}

/// Carries frames to one member until the sender is dropped. What cannot be delivered is dropped, the next exchange makes up
/// for it.
pub(super) async fn speak(ends: Ends, to: SocketAddr, lane: Lane, mut frames: mpsc::Receiver<Arc<[u8]>>) {
    let mut stream: Option<BufWriter<Stream>> = None;
    loop {
        let next = match &stream {
            None => frames.recv().await,
            Some(_) => match tokio::time::timeout(SPEAKER_IDLE, frames.recv()).await {
                Ok(next) => next,
                Err(_) => {
                    close(&ends, stream.take()).await;
                    continue;
                }
            },
        };
        let Some(frame) = next else { return close(&ends, stream).await };
        if lane == Lane::News {
            ends.cluster.count(|c| c.queued = c.queued.saturating_sub(1));
        }
        // A stream may have broken unnoticed: a second one is tried at once.
        let mut is_through = false;
        for _ in 0..2 {
            let mut open = match stream.take() {
                Some(open) => open,
                None => match begin(&ends, to).await {
                    Ok(open) => open,
                    Err(error) => {
                        tracing::debug!(%to, %error, "A member cannot be reached");
                        break;
                    }
                },
            };
            let is_last = frames.is_empty();
            let written = ends
                .timely(async {
                    open.write_all(&frame).await?;
                    if is_last {
                        open.flush().await?;
                    }
                    Ok(())
                })
                .await;
            if written.is_ok() {
                (stream, is_through) = (Some(open), true);
                break;
            }
        }
        let bytes = frame.len() as u64;
        match (lane, is_through) {
            (Lane::News, true) => ends.cluster.count(|c| c.news_sent.add(frame.len())),
            (Lane::News, false) => {
                ends.cluster.count(|c| c.pruned += 1);
                ends.cluster.count_tls(|c| c.stream_write_errors += 1);
            }
            (Lane::Packets, true) => ends.cluster.count_tls(|c| c.packet_bytes_sent += bytes),
            (Lane::Packets, false) => ends.cluster.count_tls(|c| c.packet_write_errors += 1),
        }
    }
}

/// Says that nothing more follows, as TLS wants it said.
async fn close(ends: &Ends, stream: Option<BufWriter<Stream>>) {
    if let Some(mut stream) = stream {
        let _ = ends.timely(async { Ok(stream.shutdown().await?) }).await;
    }
}

async fn begin(ends: &Ends, to: SocketAddr) -> Result<BufWriter<Stream>, WireError> {
    let mut stream = BufWriter::new(ends.connect(to).await?);
    ends.timely(wire::write_hello(&mut stream, &ends.hello(false))).await?;
    Ok(stream)
}

/// Takes streams in for as long as it is polled.
pub(super) async fn listen(ends: Ends, listener: TcpListener, commands: mpsc::Sender<Command>) {
    let permits = Arc::new(Semaphore::new(STREAMS_MAX));
    let mut streams = tokio::task::JoinSet::new();
    loop {
        while streams.try_join_next().is_some() {}
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let (tcp, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: others may be given back.
                tracing::warn!(%error, "A cluster stream could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (ends, commands) = (ends.clone(), commands.clone());
        streams.spawn(async move {
            let _permit = permit;
            if let Err(error) = hear(&ends, tcp, &commands).await {
                ends.cluster.count_tls(|c| c.read_errors += 1);
                match error.is_refusal() {
                    true => ends.cluster.warn_of_refusal(from, &error),
                    false => tracing::debug!(%from, %error, "A cluster stream ended"),
                }
            }
        });
    }
}

async fn hear(ends: &Ends, tcp: TcpStream, commands: &mpsc::Sender<Command>) -> Result<(), WireError> {
    let (read, write) = tokio::io::split(ends.accept(tcp).await?);
    let mut read = BufReader::new(read);
    let hello = ends.timely(wire::read_hello(&mut read, &ends.cluster.options.label)).await?;
    if hello.is_exchange {
        let mut write = BufWriter::new(write);
        ends.timely(wire::write_hello(&mut write, &ends.hello(true))).await?;
        if hello.from.addr == ends.me.addr {
            return Ok(());
        }
        ends.read_everything(&mut read).await?;
        ends.write_everything(&mut write).await?;
        let _ = commands.send(Command::Met(hello.from)).await;
        return Ok(());
    }
    loop {
        match tokio::time::timeout(LISTENER_IDLE, wire::read_frame(&mut read)).await {
            Err(_) => return Ok(()),
            Ok(Err(WireError::Io(e))) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(frame) => {
                let (kind, payload) = frame?;
                if kind == wire::PACKET {
                    ends.cluster.count_tls(|c| c.packet_bytes_received += payload.len() as u64);
                    let _ = commands.send(Command::Packet(payload)).await;
                } else {
                    ends.cluster.count(|c| c.news_received.add(payload.len()));
                    ends.take(kind, &payload);
                }
            }
        }
    }
}
