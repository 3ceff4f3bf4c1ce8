//! Membership: foca's SWIM state machine, its timers, and what it wants sent. No input or output here.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{
    AccumulatingRuntime, Foca, Identity, NoCustomBroadcast, OwnedNotification, PeriodicParams, PostcardCodec, Timer,
};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

use super::ClusterOptions;

/// A member: its name, where it listens, and when it started, so that one that comes back replaces its former self.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub name: String,
    pub addr: SocketAddr,
    pub generation: u64,
}

impl Identity for Member {
    type Addr = SocketAddr;
    fn renew(&self) -> Option<Member> {
        Some(Member { generation: self.generation + 1, ..self.clone() })
    }
    fn addr(&self) -> SocketAddr {
        self.addr
    }
    fn win_addr_conflict(&self, adversary: &Member) -> bool {
        self.generation > adversary.generation
    }
}

/// What came of a step.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub packets: Vec<(SocketAddr, Vec<u8>)>,
    pub up: Vec<Member>,
    pub down: Vec<Member>,
}

pub(super) struct Swim {
    foca: Foca<Member, PostcardCodec, SmallRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Member>,
    /// By monotonic time, and a number that keeps equal ones apart.
    timers: BTreeMap<(Duration, u64), Timer<Member>>,
    last_timer: u64,
}

/// The largest datagram, as in upstream's library.
pub(super) const PACKET_BYTES_MAX: usize = 1_400;

impl Swim {
    pub(super) fn new(me: Member, options: &ClusterOptions, seed: u64) -> Swim {
        let ms = |ms: i64| Duration::from_millis(ms.max(1).unsigned_abs());
        let probe_rtt = ms(options.probe_timeout_ms);
        let each = |frequency: Duration, n: usize| {
            Some(PeriodicParams { frequency, num_members: NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN) })
        };
        let config = foca::Config {
            // Shorter than the wait for one answer makes no sense; foca asks for strictly longer.
            probe_period: ms(options.probe_interval_ms).max(probe_rtt + Duration::from_millis(1)),
            probe_rtt,
            num_indirect_probes: NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN),
            max_transmissions: NonZeroU8::new(10).unwrap_or(NonZeroU8::MIN),
            suspect_to_down_after: 4 * ms(options.probe_interval_ms),
            remove_down_after: Some(ms(options.reconnect_timeout_ms)),
            max_packet_size: NonZeroUsize::new(PACKET_BYTES_MAX).unwrap_or(NonZeroUsize::MIN),
            notify_down_members: true,
            periodic_announce: each(ms(options.pushpull_interval_ms), 1),
            periodic_announce_to_down_members: each(ms(options.reconnect_interval_ms), 2),
            periodic_gossip: each(ms(options.gossip_interval_ms), 3),
        };
        Swim {
            foca: Foca::new(me, config, SmallRng::seed_from_u64(seed), PostcardCodec),
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            last_timer: 0,
        }
    }

    pub(super) fn me(&self) -> &Member {
        self.foca.identity()
    }

    /// The other members that are not known to be down.
    pub(super) fn members(&self) -> Vec<Member> {
        self.foca.iter_members().map(|m| m.id().clone()).collect()
    }

    pub(super) fn next_timer(&self) -> Option<Duration> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn packet(&mut self, bytes: &[u8], now: Duration) -> Step {
        if let Err(error) = self.foca.handle_data(bytes, &mut self.runtime) {
            tracing::debug!(%error, "A packet of the cluster was not understood");
        }
        self.step(now)
    }

    /// Makes itself known to a member.
    pub(super) fn announce(&mut self, to: Member, now: Duration) -> Step {
        if let Err(error) = self.foca.announce(to, &mut self.runtime) {
            tracing::debug!(%error, "Could not announce");
        }
        self.step(now)
    }

    pub(super) fn leave(&mut self, now: Duration) -> Step {
        if let Err(error) = self.foca.leave_cluster(&mut self.runtime) {
            tracing::debug!(%error, "Could not leave");
        }
        self.step(now)
    }

    /// Does what has come due.
    pub(super) fn timers(&mut self, now: Duration) -> Step {
        while let Some(first) = self.timers.first_entry() {
            if first.key().0 > now {
                break;
            }
            let timer = first.remove();
            if let Err(error) = self.foca.handle_timer(timer, &mut self.runtime) {
                tracing::debug!(%error, "A timer of the cluster came too late");
            }
        }
        self.step(now)
    }

    fn step(&mut self, now: Duration) -> Step {
        let mut out = Step::default();
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.last_timer += 1;
            self.timers.insert((now + after, self.last_timer), timer);
        }
        while let Some((to, bytes)) = self.runtime.to_send() {
            out.packets.push((to.addr, bytes.to_vec()));
        }
        while let Some(event) = self.runtime.to_notify() {
            match event {
                OwnedNotification::MemberUp(m) => out.up.push(m),
                OwnedNotification::MemberDown(m) => out.down.push(m),
                OwnedNotification::Rename(was, is) => {
                    // Started again before anybody missed it: what it says is new all the same.
                    out.down.push(was);
                    out.up.push(is);
                }
                OwnedNotification::Defunct => tracing::warn!("The cluster took this member for dead"),
                _ => {}
            }
        }
        // Who is renamed while down has not come up.
        let members = self.members();
        out.up.retain(|m| members.contains(m));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A network of members under one clock; a cut member hears and says nothing.
    struct Net {
        nodes: Vec<Swim>,
        cut: Vec<bool>,
        now: Duration,
    }
    impl Net {
        fn new(n: u16) -> Net {
            let options = ClusterOptions::default();
            let member =
                |i: u16| Member { name: format!("m{i}"), addr: ([127, 0, 0, 1], 1000 + i).into(), generation: 1 };
            let nodes = (0..n).map(|i| Swim::new(member(i), &options, u64::from(i) + 1)).collect();
            Net { nodes, cut: vec![false; usize::from(n)], now: Duration::from_secs(9) }
        }
        fn send(&mut self, from: usize, step: Step) {
            let mut wire: VecDeque<(usize, SocketAddr, Vec<u8>)> =
                step.packets.into_iter().map(|(to, p)| (from, to, p)).collect();
            while let Some((from, to, packet)) = wire.pop_front() {
                let to = usize::from(to.port() - 1000);
                if self.cut[from] || self.cut[to] {
                    continue;
                }
                let more = self.nodes[to].packet(&packet, self.now).packets;
                wire.extend(more.into_iter().map(|(next, p)| (to, next, p)));
            }
        }
        fn run(&mut self, s: u64) {
            for _ in 0..s * 20 {
                self.now += Duration::from_millis(50);
                for n in 0..self.nodes.len() {
                    let step = self.nodes[n].timers(self.now);
                    self.send(n, step);
                }
            }
        }
        fn known(&self) -> Vec<usize> {
            self.nodes.iter().map(|n| n.members().len()).collect()
        }
    }

    #[test]
    fn members_find_each_other_lose_each_other_and_meet_again() {
        let mut net = Net::new(3);
        for n in 1..3 {
            let first = net.nodes[0].me().clone();
            let step = net.nodes[n].announce(first, net.now);
            net.send(n, step);
        }
        net.run(3);
        assert_eq!(net.known(), [2, 2, 2]);
        net.cut[2] = true;
        net.run(15);
        assert_eq!(net.known(), [1, 1, 0]);
        net.cut[2] = false;
        net.run(60); // lost members are called every now and then
        assert_eq!(net.known(), [2, 2, 2]);
        let step = net.nodes[0].leave(net.now);
        net.send(0, step);
        net.run(1);
        assert_eq!(&net.known()[1..], [1, 1], "who leaves is not waited for");
    }

    #[test]
    fn foreign_packets_change_nothing() {
        let mut net = Net::new(1);
        for bytes in [&b""[..], b"x", &[0xff; 1400], &[0; 2000]] {
            let step = net.nodes[0].packet(bytes, net.now);
            assert!(step.packets.is_empty() && step.up.is_empty());
        }
    }
}
