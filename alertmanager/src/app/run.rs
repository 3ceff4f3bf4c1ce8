//! The loop that sends what comes due and keeps the disk tidy.
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use ferula_otlp::Kind;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{Alertmanager, UNSYNCED_BYTES};
use crate::core::{Delivery, LogChange};
use crate::history::Event;
use crate::notify;
use crate::recorder::Event as Recorded;
use crate::store::{self, State, Unsynced};

/// How long an accepted alert may be unknown to the disk.
const ALERTS_SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// How long a stop waits for deliveries in flight.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

const BEGINNING: Duration = Duration::from_millis(10);

/// Changes of the notification log on their way to the disk.
#[derive(Default)]
pub(super) struct LogQueue {
    waiting: Vec<(Vec<LogChange>, oneshot::Sender<bool>)>,
    is_writing: bool,
}

impl Alertmanager {
    /// Sends what comes due, keeps state tidy on disk, until `shutdown`; then writes the last snapshots.
    pub async fn run(self: &Arc<Self>, shutdown: impl Future<Output = ()>) {
        self.recorder.start();
        self.trace();
        let mut shutdown = std::pin::pin!(shutdown);
        let mut deliveries = JoinSet::new();
        let mut next_snapshot = self.clock.monotonic() + self.maintenance_interval();
        let mut next_sync = self.clock.monotonic();
        loop {
            let (due, unsaved, timers, quiet, next_ms) = {
                let mut core = self.core();
                let now = self.now();
                let due = core.advance(now);
                let quiet = core.take_suppressions();
                (due, core.take_unsaved(), core.take_unsaved_timers(now), quiet, core.next_due_mono_ms())
            };
            let quiet: Vec<Event<'_>> = quiet.iter().map(Event::of_suppression).collect();
            self.history.write(self.clock.now_ms(), &quiet);
            // Nobody else writes timers, so the last record of a group is the latest.
            self.keep(self.store.write_groups(&timers), "Timers of groups");
            self.save_later(&unsaved);
            for delivery in due {
                self.spawn(&mut deliveries, delivery);
            }
            let mono = self.clock.monotonic();
            if mono >= next_snapshot {
                next_snapshot = mono + self.maintenance_interval();
                let am = self.clone();
                // Its errors are counted and logged inside.
                tokio::task::spawn_blocking(move || am.maintain());
            }
            if let Some(unsynced) = self.take_unsynced(mono >= next_sync) {
                next_sync = mono + ALERTS_SYNC_INTERVAL;
                let am = self.clone();
                tokio::task::spawn_blocking(move || {
                    if am.store.sync(unsynced).is_err() {
                        am.metrics.journal_errors.inc();
                    }
                });
            }
            let mut next = Duration::from_millis(u64::try_from(next_ms).unwrap_or(0)).min(next_snapshot);
            if self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                next = next.min(next_sync);
            }
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(next.saturating_sub(mono)) => {}
                Some(_) = deliveries.join_next() => {}
            }
        }
        if let Some(cluster) = self.cluster() {
            cluster.leave().await;
        }
        // What is nearly through gets the chance to be remembered; retries go on after the next start.
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, async { while deliveries.join_next().await.is_some() {} }).await;
        deliveries.shutdown().await;
        self.recorder.stop().await;
        self.tracer.stop().await;
        let am = self.clone();
        let _ = tokio::task::spawn_blocking(move || am.maintain()).await;
    }

    /// What is to be synced now: anything when its time has come, before that only much.
    fn take_unsynced(&self, is_time: bool) -> Option<Unsynced> {
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        unsynced.take_if(|u| is_time || u.size_bytes >= UNSYNCED_BYTES)
    }

    fn maintenance_interval(&self) -> Duration {
        Duration::from_millis(self.options.maintenance_interval_ms.max(1_000).unsigned_abs())
    }

    fn maintain(&self) {
        let now_ms = self.clock.now_ms();
        {
            let mut core = self.core();
            let started = self.clock.monotonic();
            core.silences.collect_garbage(now_ms, self.options.retention_ms);
            let between = self.clock.monotonic();
            core.nflog.collect_garbage(now_ms);
            self.metrics.silences_gc.observe_duration(between.saturating_sub(started));
            self.metrics.nflog_gc.observe_duration(self.clock.monotonic().saturating_sub(between));
        }
        self.store.snapshot(&self.metrics, self.clock.as_ref(), || {
            let core = self.core();
            let log: Vec<LogChange> = core.nflog.iter().map(|(k, e)| (k.clone(), e.clone())).collect();
            let silences = core.silences.iter().cloned().collect();
            State { silences, log, alerts: core.kept_alerts(), groups: core.timers(self.now()) }
        });
    }

    fn spawn(self: &Arc<Self>, deliveries: &mut JoinSet<()>, delivery: Delivery) {
        let am = self.clone();
        deliveries.spawn(async move {
            let mut next = Some(delivery);
            while let Some(delivery) = next.take() {
                let loaded = am.loaded();
                let permits = loaded
                    .permits
                    .get(&(
                        delivery.integration.receiver.clone(),
                        delivery.integration.name(),
                        delivery.integration.index,
                    ))
                    .cloned();
                let (is_delivered, data) = {
                    let (_running, mut beginning) = match &permits {
                        Some(p) => (p.running.acquire().await.ok(), p.beginning.acquire().await.ok()),
                        None => (None, None),
                    };
                    let begun = tokio::time::Instant::now() + BEGINNING;
                    am.announce(&delivery, false);
                    let deliver = notify::deliver(&loaded.context, &loaded.clients, &delivery);
                    let mut deliver = std::pin::pin!(deliver);
                    let tried = loop {
                        tokio::select! {
                            tried = &mut deliver => break tried,
                            () = tokio::time::sleep_until(begun), if beginning.is_some() => beginning = None,
                            () = tokio::time::sleep(am.renewal()) => am.announce(&delivery, false),
                        }
                    };
                    drop(beginning);
                    let error = tried.error.as_ref().map(|e| e.message.as_str());
                    am.history.write(am.clock.now_ms(), &[Event::of_delivery(&delivery, tried.attempts, error)]);
                    (tried.error.is_none(), tried.data)
                };
                if let (true, Some(flush)) = (is_delivered, &delivery.notification.flush) {
                    am.recorder.record(|| Recorded::Notification {
                        told: delivery.notification.clone(),
                        flush: flush.clone(),
                        integration: delivery.integration.name(),
                        index: delivery.integration.index,
                    });
                }
                let (change, more) = {
                    let mut core = am.core();
                    core.remember(delivery.id, data);
                    core.finish(delivery.id, is_delivered, am.now())
                };
                if let Some(change) = change {
                    let _span = am.tracer.start("notify.SetNotifiesStage.Exec", Kind::Internal, delivery.trace);
                    // The log is on disk before the group's next step: a crash then repeats nothing.
                    am.save(vec![change]).await;
                }
                am.announce(&delivery, true);
                // One integration was busy, so at most one delivery follows.
                next = more.into_iter().next();
            }
            am.wake.notify_one();
        });
    }

    /// Writes changes of the notification log and waits until they are durable.
    async fn save(self: &Arc<Self>, changes: Vec<LogChange>) {
        if let Some(cluster) = self.cluster() {
            // Before the disk: a peer that hears of it late would tell it again.
            cluster.tell(&changes.iter().map(store::log_record).collect::<Vec<_>>());
        }
        let (done, written) = oneshot::channel();
        let is_idle = {
            let mut queue = self.log_queue();
            queue.waiting.push((changes, done));
            !std::mem::replace(&mut queue.is_writing, true)
        };
        if is_idle {
            let am = self.clone();
            tokio::task::spawn_blocking(move || am.write_queued());
        }
        if !matches!(written.await, Ok(true)) {
            self.metrics.journal_errors.inc();
            tracing::error!("The notification log could not be written: after a crash a notification may be repeated");
        }
    }

    fn log_queue(&self) -> MutexGuard<'_, LogQueue> {
        self.log_queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is queued until nothing is: one thread and one sync for all deliveries that end meanwhile.
    fn write_queued(&self) {
        loop {
            let waiting = {
                let mut queue = self.log_queue();
                let waiting = std::mem::take(&mut queue.waiting);
                queue.is_writing = !waiting.is_empty();
                waiting
            };
            if waiting.is_empty() {
                return;
            }
            let (changes, done): (Vec<Vec<LogChange>>, Vec<oneshot::Sender<bool>>) = waiting.into_iter().unzip();
            let is_written = self.store.write_log(&changes.concat()).is_ok();
            for waiter in done {
                let _ = waiter.send(is_written); // who does not wait any more does not need to know
            }
        }
    }

    fn save_later(self: &Arc<Self>, changes: &[LogChange]) {
        if !changes.is_empty() {
            let (am, changes) = (self.clone(), changes.to_vec());
            tokio::spawn(async move { am.save(changes).await });
        }
    }
}
