//! The Alertmanager as a member of a cluster: what it takes in from peers, and what it tells them.
use std::sync::Arc;
use std::time::Duration;

use super::{Alertmanager, Error};
use crate::cluster::{self, Cluster};
use crate::core::{Delivery, Intent, LogChange, Place};
use crate::metrics::ClusterMetrics;
use crate::silence::Silence;
use crate::store::{self, Entry};

impl Alertmanager {
    /// Joins the cluster of the options, or does nothing if there is none. To be called once, before
    /// [`Alertmanager::run`], on the runtime that runs it.
    pub async fn join(self: &Arc<Self>) -> Result<(), Error> {
        self.trace(); // requests are answered from here on
        let options = self.options.cluster.clone();
        if options.listen_address.is_empty() {
            return Ok(());
        }
        let _ = self.cluster_metrics.set(ClusterMetrics::new(&self.registry));
        let cluster = cluster::start(self, options, &self.options.storage_path, self.clock.now_ms()).await?;
        tracing::info!(name = &*cluster.name, address = %cluster.advertised, "Clustering as");
        self.heard_of(&cluster.name);
        let _ = self.cluster.set(cluster);
        Ok(())
    }

    pub(crate) fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.get()
    }

    /// Where peers reach this member; None without a cluster.
    pub fn cluster_address(&self) -> Option<std::net::SocketAddr> {
        self.cluster().map(|c| c.advertised)
    }

    /// A member is alive.
    pub(crate) fn heard_of(&self, name: &str) {
        if let Some(metrics) = self.cluster_metrics.get() {
            metrics.alive.with(&[name]).inc();
        }
    }

    pub(crate) fn set_place(&self, place: Place) {
        self.recorder.set_position(place.position);
        self.core().set_place(place);
        self.wake.notify_one();
    }

    pub(crate) fn receive_intent(&self, intent: Intent) {
        self.core().receive_intent(intent, self.now());
    }

    /// Takes in what a peer knows, records with their lengths. What was news is written down, and not passed on: the peer
    /// has told everybody itself.
    pub(crate) fn receive_entries(self: &Arc<Self>, bytes: &[u8]) {
        let (mut silences, mut log, mut alerts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut unknown, now) = (0usize, self.now());
        let entries: Vec<Option<Entry>> = store::delimited(bytes).map(|record| Entry::read(record?)).collect();
        {
            let mut core = self.core();
            for entry in entries {
                match entry {
                    Some(Entry::Silence(s)) => {
                        let id = s.id.clone();
                        if core.receive_silence(s, now) {
                            silences.extend(core.silences.get(&id).cloned());
                        }
                    }
                    Some(Entry::Log(change)) => {
                        if core.receive_log(change.clone(), now) {
                            log.push(change);
                        }
                    }
                    Some(Entry::Alerts(all)) => {
                        alerts.extend(all.into_iter().filter_map(|a| core.receive_alert(a, now)))
                    }
                    Some(Entry::Group(_)) | None => unknown += 1,
                }
            }
        }
        if unknown > 0 {
            tracing::warn!(unknown, "A peer sent entries that cannot be read");
        }
        self.keep(self.store.write_alerts(&alerts), "Alerts of a peer");
        if !alerts.is_empty() {
            self.wake.notify_one();
        }
        if !silences.is_empty() || !log.is_empty() {
            let am = self.clone();
            tokio::task::spawn_blocking(move || {
                let written = am.store.write_silences(&silences).and_then(|()| am.store.write_log(&log));
                if written.is_err() {
                    am.metrics.journal_errors.inc();
                }
            });
        }
    }

    /// All that a peer should know, as records. The log comes first: it says what need not be told again.
    pub(crate) fn everything(&self) -> Vec<Vec<u8>> {
        let (log, silences, alerts) = {
            let core = self.core();
            let log: Vec<LogChange> = core.nflog.iter().map(|(k, e)| (k.clone(), e.clone())).collect();
            let silences: Vec<Arc<Silence>> = core.silences.iter().cloned().collect();
            (log, silences, core.kept_alerts())
        };
        let retention_ms = self.options.retention_ms;
        let log = log.iter().map(store::log_record);
        let silences = silences.iter().map(|s| store::silence_record(s, retention_ms));
        log.chain(silences).chain(alerts.iter().map(|a| store::alert_record(a))).collect()
    }

    /// Tells peers that this member is at it, for as long as one peer timeout; again while it tries. 0 takes it back.
    pub(super) fn announce(&self, delivery: &Delivery, is_over: bool) {
        if let Some(cluster) = self.cluster() {
            let lease_ms = if is_over { 0 } else { cluster.options.peer_timeout_ms };
            cluster.announce(&Intent { key: delivery.key.clone(), holder: cluster.name.clone(), lease_ms });
        }
    }

    /// How often an intent is renewed; never without a cluster.
    pub(super) fn renewal(&self) -> Duration {
        self.cluster().map_or(Duration::from_secs(86_400), |c| {
            Duration::from_millis((c.options.peer_timeout_ms / 3).max(100).unsigned_abs())
        })
    }
}
