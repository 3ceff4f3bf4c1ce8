//! The task that keeps this member in its cluster.
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ferula_net::mutual::MutualTls;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::stream::{self, Ends, Lane};
use super::swim::{PACKET_BYTES_MAX, Step, Swim};
use super::{Cluster, ClusterError, ClusterOptions, Command, Counts, Member, TlsCounts, View, wire};
use crate::app::Alertmanager;
use crate::core::Place;

/// How long the good-bye may take to get through.
const FAREWELL: Duration = Duration::from_millis(500);

/// So many looks in a row must find the same members before the cluster counts as settled, as upstream.
const STABLE_LOOKS: u32 = 3;

/// Binds the addresses and starts the membership on the current runtime. It ends with [`Cluster::leave`], or with `am`.
pub(crate) async fn start(
    am: &Arc<Alertmanager>,
    options: ClusterOptions,
    storage: &std::path::Path,
    now_ms: i64,
) -> Result<Arc<Cluster>, ClusterError> {
    let tls = match options.tls_config_file.as_str() {
        "" => None,
        file => Some(MutualTls::load(file)?),
    };
    let (udp, tcp) = bind(&options.listen_address).await?;
    let listening = tcp
        .local_addr()
        .map_err(|e| ClusterError::Listen { address: options.listen_address.clone(), reason: e.to_string() })?;
    let peers = resolve(&options.peers, &options).await;
    let advertised = advertised(&options, listening, &peers).await?;
    let name = super::name(&options, storage, now_ms);
    let me = Member { name: name.clone(), addr: advertised, generation: now_ms.max(0).unsigned_abs() };
    let (commands, inbox) = mpsc::channel(4_096);
    let cluster = Arc::new(Cluster {
        name: name.into(),
        advertised,
        commands: commands.clone(),
        view: Mutex::new(View { members: vec![me.clone()], ..View::default() }),
        counts: Mutex::new(Counts { tls: tls.is_some().then(TlsCounts::default), ..Counts::default() }),
        refusals: Mutex::default(),
        options,
        tls,
    });
    let ends = Ends { am: Arc::downgrade(am), cluster: cluster.clone(), me: me.clone() };
    let is_tls = cluster.tls.is_some();
    let swim = Swim::new(me, &cluster.options, fastrand::u64(..));
    let mut driver = Driver {
        began: Instant::now(),
        ends: ends.clone(),
        swim,
        // Nothing that comes without TLS is listened to.
        udp: if is_tls { None } else { Some(udp) },
        speakers: HashMap::new(),
        packets: HashMap::new(),
        carriers: JoinSet::new(),
        lost: HashMap::new(),
        exchanges: JoinSet::new(),
        exchanging: HashSet::new(),
        stable: (0, 0),
    };
    driver.tell_place();
    tokio::spawn(async move {
        let listening = tokio::spawn(stream::listen(ends, tcp, commands));
        driver.run(inbox, peers).await;
        listening.abort();
    });
    Ok(cluster)
}

/// The same port for datagrams and streams.
async fn bind(address: &str) -> Result<(UdpSocket, TcpListener), ClusterError> {
    let failed = |reason: String| ClusterError::Listen { address: address.to_owned(), reason };
    let wanted = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    let found = tokio::net::lookup_host(&wanted).await.map_err(|e| failed(e.to_string()))?.next();
    let addr = found.ok_or_else(|| failed("no such address".to_owned()))?;
    let mut reason = String::new();
    // With port 0 the streams' port may be taken for datagrams: another one then.
    for _ in 0..if addr.port() == 0 { 20 } else { 1 } {
        let tcp = TcpListener::bind(addr).await.map_err(|e| failed(e.to_string()))?;
        let port = tcp.local_addr().map_err(|e| failed(e.to_string()))?.port();
        match UdpSocket::bind((addr.ip(), port)).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(e) => reason = e.to_string(),
        }
    }
    Err(failed(reason))
}

/// Addresses behind the given names; those that cannot be resolved now are asked for again when reconnecting.
async fn resolve(peers: &[String], options: &ClusterOptions) -> Vec<SocketAddr> {
    let patience = Duration::from_millis(options.peers_resolve_timeout_ms.max(1).unsigned_abs());
    let mut out = Vec::new();
    for peer in peers.iter().filter(|p| !p.is_empty()) {
        match tokio::time::timeout(patience, tokio::net::lookup_host(peer.as_str())).await {
            Ok(Ok(found)) => out.extend(found.filter(wire::is_usable)),
            Ok(Err(error)) => tracing::warn!(peer, %error, "A cluster peer cannot be resolved"),
            Err(_) => tracing::warn!(peer, "A cluster peer cannot be resolved in time"),
        }
    }
    out
}

/// The address members reach us at: told, or the one listened on, or the one this machine uses towards its peers.
async fn advertised(
    options: &ClusterOptions,
    listening: SocketAddr,
    peers: &[SocketAddr],
) -> Result<SocketAddr, ClusterError> {
    if !options.advertise_address.is_empty() {
        let text = &options.advertise_address;
        let found = tokio::net::lookup_host(text.as_str()).await.ok().and_then(|mut a| a.next());
        return found.filter(wire::is_usable).ok_or_else(|| ClusterError::Advertise(text.clone()));
    }
    if !listening.ip().is_unspecified() {
        return Ok(listening);
    }
    // Connecting a datagram socket sends nothing; it only asks the routing table.
    let towards = peers.first().copied().unwrap_or_else(|| SocketAddr::from(([192, 0, 2, 1], 9)));
    let any: SocketAddr = if towards.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
    let ours = async {
        let socket = UdpSocket::bind(any).await.ok()?;
        socket.connect(towards).await.ok()?;
        socket.local_addr().ok()
    };
    let ip = ours.await.map_or(IpAddr::from([127, 0, 0, 1]), |a| a.ip());
    Ok(SocketAddr::new(ip, listening.port()))
}

/// Why a peer is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// It is, or may become, a member: to know what it knows.
    Exchange,
    /// It is configured and not here.
    Refresh,
    /// It was here.
    Reconnect,
}

/// The next datagram; never without a socket.
async fn receive(udp: Option<&UdpSocket>, into: &mut [u8]) -> std::io::Result<usize> {
    match udp {
        Some(udp) => udp.recv_from(into).await.map(|(size, _)| size),
        None => std::future::pending().await,
    }
}

struct Driver {
    began: Instant,
    ends: Ends,
    swim: Swim,
    udp: Option<UdpSocket>,
    /// News on their way, by the member's address.
    speakers: HashMap<SocketAddr, mpsc::Sender<Arc<[u8]>>>,
    /// Packets on their way, where there are no datagrams, and the tasks that carry them.
    packets: HashMap<SocketAddr, mpsc::Sender<Arc<[u8]>>>,
    carriers: JoinSet<()>,
    /// Members that went without a good-bye, and when.
    lost: HashMap<SocketAddr, Instant>,
    exchanges: JoinSet<(SocketAddr, Call, Result<Member, wire::WireError>)>,
    exchanging: HashSet<SocketAddr>,
    /// Members at the last look, and for how many looks they were as many.
    stable: (usize, u32),
}

impl Driver {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    async fn run(&mut self, mut inbox: mpsc::Receiver<Command>, peers: Vec<SocketAddr>) {
        let o = self.ends.cluster.options.clone();
        let ms = |ms: i64| Duration::from_millis(ms.max(1).unsigned_abs());
        let mut datagram = vec![0; PACKET_BYTES_MAX + 300];
        for peer in peers {
            self.exchange(peer, Call::Exchange);
        }
        let settle_until = self.began + ms(o.settle_timeout_ms);
        let mut looks = tokio::time::interval(ms(o.gossip_interval_ms).max(Duration::from_millis(10)));
        let mut reconnect =
            tokio::time::interval_at(self.began + ms(o.reconnect_interval_ms), ms(o.reconnect_interval_ms));
        let mut pushpull =
            tokio::time::interval_at(self.began + ms(o.pushpull_interval_ms), ms(o.pushpull_interval_ms));
        let mut resolving: Option<tokio::task::JoinHandle<Vec<SocketAddr>>> = None;
        let mut is_settled = false;
        loop {
            let timer =
                self.swim.next_timer().map_or(self.began + Duration::from_secs(86_400 * 365), |t| self.began + t);
            tokio::select! {
                received = receive(self.udp.as_ref(), &mut datagram) => {
                    let Ok(size) = received else { continue };
                    let packet = datagram.get(..size).and_then(|d| wire::read_datagram(&o.label, d));
                    if let Some(packet) = packet.map(<[u8]>::to_vec) {
                        let step = self.swim.packet(&packet, self.now());
                        self.apply(step);
                    }
                }
                command = inbox.recv() => match command {
                    None => return,
                    Some(Command::Tell(frame)) => self.tell(&frame),
                    Some(Command::Met(member)) => self.met(member),
                    Some(Command::Packet(packet)) => {
                        let step = self.swim.packet(&packet, self.now());
                        self.apply(step);
                    }
                    Some(Command::Leave(done)) => {
                        let step = self.swim.leave(self.now());
                        self.apply(step);
                        self.packets.clear(); // nothing follows, so their carriers end when all is said
                        let all = async { while self.carriers.join_next().await.is_some() {} };
                        let _ = tokio::time::timeout(FAREWELL, all).await;
                        let _ = done.send(());
                        return;
                    }
                },
                () = tokio::time::sleep_until(timer) => {
                    let step = self.swim.timers(self.now());
                    self.apply(step);
                }
                Some(ended) = self.exchanges.join_next() => self.exchanged(ended.ok()),
                _ = looks.tick(), if !is_settled => {
                    is_settled = self.look(settle_until);
                }
                _ = reconnect.tick() => {
                    self.forget_lost(ms(o.reconnect_timeout_ms));
                    if resolving.is_none() {
                        let o = o.clone();
                        resolving = Some(tokio::spawn(async move { resolve(&o.peers, &o).await }));
                    }
                }
                found = async { match &mut resolving { Some(r) => r.await, None => std::future::pending().await } } => {
                    resolving = None;
                    self.reconnect(found.unwrap_or_default());
                }
                _ = pushpull.tick() => {
                    let members = self.swim.members();
                    if let Some(one) = members.get(fastrand::usize(..members.len().max(1))) {
                        self.exchange(one.addr, Call::Exchange);
                    }
                }
            }
            if self.ends.am.strong_count() == 0 {
                return;
            }
        }
    }

    fn apply(&mut self, step: Step) {
        for (to, packet) in step.packets {
            self.send(to, &packet);
        }
        if step.up.is_empty() && step.down.is_empty() {
            return;
        }
        for member in step.down {
            tracing::info!(member = member.name, addr = %member.addr, "A cluster member is gone");
            self.speakers.remove(&member.addr);
            self.lost.insert(member.addr, Instant::now());
            self.ends.cluster.count(|c| c.left += 1);
            if let Some(am) = self.ends.am.upgrade() {
                am.core().forget_peer(&member.name);
            }
        }
        for member in step.up {
            tracing::info!(member = member.name, addr = %member.addr, "A cluster member is here");
            self.ends.cluster.count(|c| c.joined += 1);
            if let Some(am) = self.ends.am.upgrade() {
                am.heard_of(&member.name);
            }
            let others = self.swim.members().into_iter().chain([self.swim.me().clone()]);
            if let Some(other) = others.into_iter().find(|o| o.name == member.name && o.addr != member.addr) {
                tracing::warn!(member = member.name, addr = %member.addr, other = %other.addr, "Two cluster members have the same name: turns are by name");
                self.ends.cluster.count(|c| c.name_conflicts += 1);
            }
            self.lost.remove(&member.addr);
            // What was said before it was known.
            self.exchange(member.addr, Call::Exchange);
        }
        self.tell_place();
    }

    /// Sends a packet, or loses it.
    fn send(&mut self, to: SocketAddr, packet: &[u8]) {
        if let Some(udp) = &self.udp {
            let bytes = wire::datagram(&self.ends.cluster.options.label, packet);
            if let Err(error) = udp.try_send_to(&bytes, to) {
                tracing::debug!(%to, %error, "A packet could not be sent");
            }
            return;
        }
        let carrier = self.packets.entry(to).or_insert_with(|| {
            let (packets, inbox) = mpsc::channel(Lane::Packets.queue());
            self.carriers.spawn(stream::speak(self.ends.clone(), to, Lane::Packets, inbox));
            packets
        });
        if carrier.try_send(wire::frame(wire::PACKET, packet).into()).is_err() {
            self.ends.cluster.count_tls(|c| c.packet_write_errors += 1);
        }
    }

    /// Tells the core, and whoever asks, who is there.
    fn tell_place(&self) {
        let mut members = self.swim.members();
        members.push(self.swim.me().clone());
        members.sort_by(|a, b| (&a.name, a.addr).cmp(&(&b.name, b.addr)));
        members.dedup_by(|a, b| a.addr == b.addr);
        let cluster = &self.ends.cluster;
        let position = members.iter().position(|m| m.addr == cluster.advertised).unwrap_or(0);
        let is_settled = {
            let mut view = cluster.view.lock().unwrap_or_else(PoisonError::into_inner);
            (view.members, view.position, view.failed) = (members, position, self.lost.len());
            view.is_settled
        };
        if let Some(am) = self.ends.am.upgrade() {
            let peer_timeout_ms = cluster.options.peer_timeout_ms;
            am.set_place(Place { position, peer_timeout_ms, is_settled, is_clustered: true });
        }
    }

    /// One look at whether the members are still coming; true once settled.
    fn look(&mut self, until: Instant) -> bool {
        let n = self.swim.members().len();
        self.stable = if n == self.stable.0 { (n, self.stable.1 + 1) } else { (n, 0) };
        let is_quiet = self.exchanges.is_empty() && self.stable.1 >= STABLE_LOOKS;
        if !is_quiet && Instant::now() < until {
            return false;
        }
        tracing::info!(members = n + 1, is_quiet, "The cluster has settled");
        self.ends.cluster.view.lock().unwrap_or_else(PoisonError::into_inner).is_settled = true;
        self.tell_place();
        true
    }

    fn tell(&mut self, frame: &Arc<[u8]>) {
        for member in self.swim.members() {
            let speaker = self.speakers.entry(member.addr).or_insert_with(|| {
                let (news, inbox) = mpsc::channel(Lane::News.queue());
                tokio::spawn(stream::speak(self.ends.clone(), member.addr, Lane::News, inbox));
                news
            });
            // Counted first: the speaker may be quicker than this task.
            self.ends.cluster.count(|c| c.queued += 1);
            if speaker.try_send(frame.clone()).is_err() {
                self.ends.cluster.count(|c| (c.queued, c.pruned) = (c.queued.saturating_sub(1), c.pruned + 1));
            }
        }
    }

    fn exchange(&mut self, with: SocketAddr, call: Call) {
        if with != self.ends.cluster.advertised && self.exchanging.insert(with) {
            let ends = self.ends.clone();
            self.exchanges.spawn(async move { (with, call, stream::exchange(ends, with).await) });
        }
    }

    fn exchanged(&mut self, ended: Option<(SocketAddr, Call, Result<Member, wire::WireError>)>) {
        let Some((with, call, outcome)) = ended else { return };
        self.exchanging.remove(&with);
        self.ends.cluster.count(|c| match (call, outcome.is_ok()) {
            (Call::Exchange, _) => {}
            (Call::Refresh, true) => c.refreshed += 1,
            (Call::Refresh, false) => c.refreshed_failed += 1,
            (Call::Reconnect, true) => c.reconnections += 1,
            (Call::Reconnect, false) => c.reconnections_failed += 1,
        });
        match outcome {
            Ok(member) => self.met(member),
            Err(error) if error.is_refusal() => self.ends.cluster.warn_of_refusal(with, &error),
            Err(error) => tracing::debug!(%with, %error, "An exchange with a cluster peer failed"),
        }
    }

    fn met(&mut self, member: Member) {
        let is_known = self.swim.members().contains(&member);
        if member.addr != self.ends.cluster.advertised && !is_known && wire::is_usable(&member.addr) {
            let step = self.swim.announce(member, self.now());
            self.apply(step);
        }
    }

    fn forget_lost(&mut self, after: Duration) {
        self.lost.retain(|_, since| since.elapsed() < after);
        let members: HashSet<SocketAddr> = self.swim.members().iter().map(|m| m.addr).collect();
        self.speakers.retain(|addr, _| members.contains(addr));
        self.packets.retain(|addr, _| members.contains(addr));
        while self.carriers.try_join_next().is_some() {}
    }

    /// Calls everybody who should be here and is not.
    fn reconnect(&mut self, configured: Vec<SocketAddr>) {
        let members: HashSet<SocketAddr> = self.swim.members().iter().map(|m| m.addr).collect();
        let lost: Vec<SocketAddr> = self.lost.keys().filter(|a| !members.contains(a)).copied().collect();
        lost.into_iter().for_each(|addr| self.exchange(addr, Call::Reconnect));
        let configured = configured.into_iter().filter(|a| !members.contains(a));
        configured.for_each(|addr| self.exchange(addr, Call::Refresh));
    }
}
