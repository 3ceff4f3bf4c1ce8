//! `prometheus_sd_*`, by upstream's names, and the age of every job's targets.
use ferula_instrument::{Counter, CounterVec, Gauge, GaugeVec, Registry, Summary, SummaryVec};

#[derive(Clone)]
pub(crate) struct Metrics {
    pub discovered: GaugeVec,
    pub received_updates: CounterVec,
    pub updates: CounterVec,
    pub failed_configs: GaugeVec,
    pub sent: GaugeVec,
    /// Always 0: nothing is delayed here.
    pub updates_delayed: CounterVec,
    pub last_update: GaugeVec,
    pub refresh_failures: CounterVec,
    pub refresh_duration: SummaryVec,
    pub file_read_errors: Counter,
    pub file_mtime: GaugeVec,
    pub file_scan: Summary,
    pub file_watcher_errors: Counter,
    pub http_failures: Counter,
    pub dns_lookups: Counter,
    pub dns_failures: Counter,
    pub consul_failures: Counter,
    pub consul_duration: SummaryVec,
    pub nomad_failures: Counter,
    pub azure_failures: Counter,
    pub kubernetes_events: CounterVec,
    pub kubernetes_failures: Counter,
}

impl Metrics {
    pub(crate) fn new(r: &Registry) -> Metrics {
        let metrics = Metrics {
            discovered: r.gauge_vec(
                "prometheus_sd_discovered_targets",
                "Current number of discovered targets.",
                &["name", "config"],
            ),
            received_updates: r.counter_vec(
                "prometheus_sd_received_updates_total",
                "Total number of update events received from the SD providers.",
                &["name"],
            ),
            updates: r.counter_vec(
                "prometheus_sd_updates_total",
                "Total number of update events sent to the SD consumers.",
                &["name"],
            ),
            failed_configs: r.gauge_vec(
                "prometheus_sd_failed_configs",
                "Current number of service discovery configurations that failed to load.",
                &["name"],
            ),
            sent: r.gauge_vec(
                "prometheus_sd_last_update_timestamp_seconds",
                "Timestamp of the last update sent to the SD consumers.",
                &["name", "config"],
            ),
            updates_delayed: r.counter_vec(
                "prometheus_sd_updates_delayed_total",
                "Total number of update events that couldn't be sent immediately.",
                &["name"],
            ),
            last_update: r.gauge_vec(
                "ferula_sd_last_update_timestamp_seconds",
                "When service discovery last confirmed the targets of a job.",
                &["name", "config"],
            ),
            refresh_failures: r.counter_vec(
                "prometheus_sd_refresh_failures_total",
                "Number of refresh failures for the given SD mechanism.",
                &["mechanism", "config"],
            ),
            refresh_duration: r.summary_vec(
                "prometheus_sd_refresh_duration_seconds",
                "The duration of a refresh in seconds for the given SD mechanism.",
                &["mechanism", "config"],
                &[0.5, 0.9, 0.99],
            ),
            file_read_errors: r.counter("prometheus_sd_file_read_errors_total", "The number of File-SD read errors."),
            file_mtime: r.gauge_vec(
                "prometheus_sd_file_mtime_seconds",
                "Timestamp (mtime) of files read by FileSD. Timestamp is set at read time.",
                &["filename"],
            ),
            file_scan: r.summary(
                "prometheus_sd_file_scan_duration_seconds",
                "The duration of the File-SD scan in seconds.",
                &[0.5, 0.9, 0.99],
            ),
            file_watcher_errors: r.counter(
                "prometheus_sd_file_watcher_errors_total",
                "The number of File-SD errors caused by filesystem watch failures.",
            ),
            kubernetes_events: r.counter_vec(
                "prometheus_sd_kubernetes_events_total",
                "The number of Kubernetes events handled.",
                &["role", "event"],
            ),
            kubernetes_failures: r
                .counter("prometheus_sd_kubernetes_failures_total", "The number of failed WATCH/LIST requests."),
            dns_lookups: r.counter("prometheus_sd_dns_lookups_total", "The number of DNS-SD lookups."),
            dns_failures: r.counter("prometheus_sd_dns_lookup_failures_total", "The number of DNS-SD lookup failures."),
            consul_failures: r
                .counter("prometheus_sd_consul_rpc_failures_total", "The number of Consul RPC call failures."),
            consul_duration: r.summary_vec(
                "prometheus_sd_consul_rpc_duration_seconds",
                "The duration of a Consul RPC call in seconds.",
                &["endpoint", "call"],
                &[0.5, 0.9, 0.99],
            ),
            azure_failures: r
                .counter("prometheus_sd_azure_failures_total", "Number of Azure service discovery refresh failures."),
            nomad_failures: r
                .counter("prometheus_sd_nomad_failures_total", "Number of nomad service discovery refresh failures."),
            http_failures: r
                .counter("prometheus_sd_http_failures_total", "Number of HTTP service discovery refresh failures."),
        };
        metrics.begin_kubernetes()
    }

    /// Every role and event is there from the start, as upstream's are.
    fn begin_kubernetes(self) -> Metrics {
        for role in ["node", "pod", "service", "endpoints", "endpointslice", "ingress"] {
            for event in ["add", "update", "delete"] {
                self.kubernetes_events.with(&[role, event]).inc_by(0);
            }
        }
        self
    }

    /// Counts what the watches of a role saw since the last time.
    pub(crate) fn count_kubernetes(&self, role: &str, before: &mut [u64; 3], now: [u64; 3]) {
        let since = |i: usize| match (before.get(i), now.get(i)) {
            (Some(b), Some(n)) => n.saturating_sub(*b),
            _ => 0,
        };
        self.kubernetes_events.with(&[role, "update"]).inc_by(since(0));
        self.kubernetes_events.with(&[role, "delete"]).inc_by(since(1));
        self.kubernetes_failures.inc_by(since(2));
        *before = now;
    }

    /// Of one provider's current set.
    pub(crate) fn gauge(&self, name: &str, config: &str) -> Gauge {
        self.discovered.with(&[name, config])
    }
}
