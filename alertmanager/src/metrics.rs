//! Alertmanager's own metrics, under upstream's names.
use ferula_instrument::{Counter, CounterVec, Family, Gauge, Histogram, HistogramVec, Registry, Summary};
use ferula_model::MetricType;

use crate::cluster::{Counts, Messages, View};
use crate::core::Now;

#[derive(Clone)]
pub struct Metrics {
    pub received_firing: Counter,
    pub received_resolved: Counter,
    pub invalid: Counter,
    pub limited: Counter,
    pub notifications: CounterVec,
    pub notifications_failed: CounterVec,
    pub suppressed: CounterVec,
    pub requests: CounterVec,
    pub requests_failed: CounterVec,
    pub latency: HistogramVec,
    pub config_hash: Gauge,
    pub reload_successful: Gauge,
    pub reload_success_time: Gauge,
    pub dispatch: Summary,
    pub groups: Gauge,
    pub inhibition_rules: Gauge,
    pub receivers: Gauge,
    pub integrations: Gauge,
    pub http_requests: HistogramVec,
    pub http_response_bytes: HistogramVec,
    pub http_limited: Counter,
    pub http_in_flight: Gauge,
    pub journal_errors: Counter,
    pub silences_maintenance: Counter,
    pub silences_maintenance_errors: Counter,
    pub silences_snapshot_size: Gauge,
    pub silences_snapshot: Summary,
    pub silences_gc: Summary,
    pub silences_queries: Counter,
    pub silences_query: Histogram,
    pub silences_scanned: Counter,
    pub silences_skipped: Counter,
    /// Silences of the snapshot with a matcher that does not compile.
    pub silences_uncompiled: Counter,
    pub nflog_maintenance: Counter,
    pub nflog_maintenance_errors: Counter,
    pub nflog_snapshot_size: Gauge,
    pub nflog_snapshot: Summary,
    pub nflog_gc: Summary,
    pub nflog_queries: Counter,
    pub nflog_query: Histogram,
}

/// Every reason a failed notification may carry; present from the start, at zero.
pub const REASONS: [&str; 7] =
    ["clientError", "authError", "rateLimited", "serverError", "contextCanceled", "contextDeadlineExceeded", "other"];
/// Integrations this build sends through.
pub const INTEGRATIONS: [&str; 20] = [
    "dingtalk",
    "discord",
    "email",
    "feishu",
    "incidentio",
    "mattermost",
    "msteams",
    "msteamsv2",
    "opsgenie",
    "pagerduty",
    "pushover",
    "rocketchat",
    "slack",
    "sms",
    "sns",
    "telegram",
    "victorops",
    "webex",
    "webhook",
    "wechat",
];

/// Prometheus's default buckets, seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

impl Metrics {
    pub fn new(r: &Registry) -> Metrics {
        let uncompiled = r.counter_vec(
            "alertmanager_silences_matcher_compile_errors_total",
            "How many silence matcher compilations failed.",
            &["stage"],
        );
        uncompiled.with(&["index"]); // a silence is compiled before it is indexed
        let received = r.counter_vec(
            "alertmanager_alerts_received_total",
            "The total number of received alerts.",
            &["status", "version"],
        );
        let m = Metrics {
            received_firing: received.with(&["firing", "v2"]),
            received_resolved: received.with(&["resolved", "v2"]),
            invalid: r
                .counter_vec("alertmanager_alerts_invalid_total", "The total number of received alerts that were invalid.", &["version"])
                .with(&["v2"]),
            limited: r.counter("alertmanager_alerts_limited_total", "The total number of alerts refused because of a limit."),
            notifications: r.counter_vec(
                "alertmanager_notifications_total",
                "The total number of attempted notifications.",
                &["integration"],
            ),
            notifications_failed: r.counter_vec(
                "alertmanager_notifications_failed_total",
                "The total number of failed notifications.",
                &["integration", "reason"],
            ),
            suppressed: r.counter_vec(
                "alertmanager_notifications_suppressed_total",
                "The total number of notifications suppressed for being silenced, inhibited, outside of active time intervals or within muted time intervals.",
                &["reason"],
            ),
            requests: r.counter_vec(
                "alertmanager_notification_requests_total",
                "The total number of attempted notification requests.",
                &["integration"],
            ),
            requests_failed: r.counter_vec(
                "alertmanager_notification_requests_failed_total",
                "The total number of failed notification requests.",
                &["integration"],
            ),
            latency: r.histogram_vec(
                "alertmanager_notification_latency_seconds",
                "The latency of notifications in seconds.",
                &["integration"],
                &[1.0, 5.0, 10.0, 15.0, 20.0],
            ),
            config_hash: r.gauge("alertmanager_config_hash", "Hash of the currently loaded alertmanager configuration."),
            reload_successful: r.gauge(
                "alertmanager_config_last_reload_successful",
                "Whether the last configuration reload attempt was successful.",
            ),
            reload_success_time: r.gauge(
                "alertmanager_config_last_reload_success_timestamp_seconds",
                "Timestamp of the last successful configuration reload.",
            ),
            dispatch: r.summary(
                "alertmanager_dispatcher_alert_processing_duration_seconds",
                "Time to take in one batch of alerts.",
                &[],
            ),
            groups: r.gauge("alertmanager_dispatcher_aggregation_groups", "Number of active aggregation groups"),
            inhibition_rules: r.gauge("alertmanager_inhibition_rules", "Number of configured inhibition rules."),
            receivers: r.gauge("alertmanager_receivers", "Number of configured receivers."),
            integrations: r.gauge("alertmanager_integrations", "Number of configured integrations."),
            http_requests: r.histogram_vec(
                "alertmanager_http_request_duration_seconds",
                "Histogram of latencies for HTTP requests.",
                &["handler", "method", "code"],
                &BUCKETS,
            ),
            http_response_bytes: r.histogram_vec(
                "alertmanager_http_response_size_bytes",
                "Histogram of response size for HTTP requests.",
                &["handler", "method"],
                &ferula_instrument::exponential_buckets(100.0, 10.0, 7),
            ),
            http_limited: r
                .counter_vec(
                    "alertmanager_http_concurrency_limit_exceeded_total",
                    "Total number of times an HTTP request failed because the concurrency limit was reached.",
                    &["method"],
                )
                .with(&["get"]),
            http_in_flight: r
                .gauge_vec("alertmanager_http_requests_in_flight", "Current number of HTTP requests being processed.", &["method"])
                .with(&["get"]),
            journal_errors: r.counter("alertmanager_journal_errors_total", "Failed writes or syncs of the journal of silences and notifications."),
            silences_maintenance: r.counter("alertmanager_silences_maintenance_total", "How many maintenances were executed for silences."),
            silences_maintenance_errors: r
                .counter("alertmanager_silences_maintenance_errors_total", "How many maintenances were executed for silences that failed."),
            silences_snapshot_size: r.gauge("alertmanager_silences_snapshot_size_bytes", "Size of the last silence snapshot in bytes."),
            silences_snapshot: r.summary("alertmanager_silences_snapshot_duration_seconds", "Duration of the last silence snapshot.", &[]),
            silences_gc: r.summary("alertmanager_silences_gc_duration_seconds", "Duration of the last silence garbage collection cycle.", &[]),
            silences_queries: r.counter("alertmanager_silences_queries_total", "How many silence queries were received."),
            silences_query: r.histogram(
                "alertmanager_silences_query_duration_seconds",
                "Duration of silence query evaluation.",
                &BUCKETS,
            ),
            silences_scanned: r.counter(
                "alertmanager_silences_query_silences_scanned_total",
                "How many silences were scanned during query evaluation.",
            ),
            silences_skipped: r.counter(
                "alertmanager_silences_query_silences_skipped_total",
                "How many silences were skipped during query evaluation, as an index said that they do not match.",
            ),
            silences_uncompiled: uncompiled.with(&["load_snapshot"]),
            nflog_query: r.histogram(
                "alertmanager_nflog_query_duration_seconds",
                "Duration of notification log query evaluation.",
                &BUCKETS,
            ),
            nflog_snapshot: r.summary("alertmanager_nflog_snapshot_duration_seconds", "Duration of the last notification log snapshot.", &[]),
            nflog_gc: r.summary("alertmanager_nflog_gc_duration_seconds", "Duration of the last notification log garbage collection cycle.", &[]),
            nflog_maintenance: r.counter("alertmanager_nflog_maintenance_total", "How many maintenances were executed for the notification log."),
            nflog_maintenance_errors: r
                .counter("alertmanager_nflog_maintenance_errors_total", "How many maintenances were executed for the notification log that failed."),
            nflog_snapshot_size: r.gauge("alertmanager_nflog_snapshot_size_bytes", "Size of the last notification log snapshot in bytes."),
            nflog_queries: r.counter("alertmanager_nflog_queries_total", "Number of notification log queries were received."),
        };
        // Nothing here that could fail, and no limit that could be reached: alerting rules still find their series.
        for (name, help) in [
            ("alertmanager_silences_query_errors_total", "How many silence received queries did not succeed."),
            ("alertmanager_silences_gc_errors_total", "How many silence GC errors were encountered."),
            ("alertmanager_nflog_query_errors_total", "Number notification log received queries that failed."),
            (
                "alertmanager_dispatcher_aggregation_group_limit_reached_total",
                "Number of times when dispatcher failed to create new aggregation group due to limit.",
            ),
            (
                "alertmanager_dispatcher_aggregation_group_creation_given_up_total",
                "Number of alerts dropped because aggregation group creation exceeded the retry limit.",
            ),
            (
                "alertmanager_dispatcher_aggregation_group_creation_retries_total",
                "Number of CAS retries while creating aggregation groups under contention.",
            ),
            (
                "alertmanager_nflog_gossip_messages_propagated_total",
                "Number of received gossip messages that have been further gossiped.",
            ),
            (
                "alertmanager_silences_gossip_messages_propagated_total",
                "Number of received gossip messages that have been further gossiped.",
            ),
        ] {
            r.counter(name, help);
        }
        for integration in INTEGRATIONS {
            m.notifications.with(&[integration]);
            m.requests.with(&[integration]);
            m.requests_failed.with(&[integration]);
            m.latency.with(&[integration]);
            for reason in REASONS {
                m.notifications_failed.with(&[integration, reason]);
            }
        }
        m
    }
}

impl Metrics {
    /// Does it, and says how long it took. For what takes microseconds, where no decision depends on the time.
    pub fn timed<T>(&self, duration: &Histogram, f: impl FnOnce() -> T) -> T {
        let began = std::time::Instant::now();
        let out = f();
        duration.observe_duration(began.elapsed());
        out
    }
}

/// What only members of a cluster count. Streams carry everything between members, so no message is too large for one.
#[derive(Clone)]
pub(crate) struct ClusterMetrics {
    pub alive: CounterVec,
}

impl ClusterMetrics {
    pub fn new(r: &Registry) -> ClusterMetrics {
        let duration = r.histogram_vec(
            "alertmanager_oversize_gossip_message_duration_seconds",
            "Duration of oversized gossip message requests.",
            &["key"],
            &BUCKETS,
        );
        let counters = [
            ("dropped", "Number of oversized gossip messages that were dropped due to a full message queue."),
            ("failure", "Number of oversized gossip message sends that failed."),
            ("sent", "Number of oversized gossip message sent."),
        ]
        .map(|(what, help)| {
            r.counter_vec(&format!("alertmanager_oversized_gossip_message_{what}_total"), help, &["key"])
        });
        for key in ["nfl", "sil"] {
            duration.with(&[key]);
            counters.iter().for_each(|c| drop(c.with(&[key])));
        }
        let help = "Total number of received alive messages.";
        ClusterMetrics { alive: r.counter_vec("alertmanager_cluster_alive_messages_total", help, &["peer"]) }
    }
}

/// Alerts and silences by state, counted when asked.
pub fn states(core: &crate::core::Core, now: Now, out: &mut Vec<Family>) {
    use crate::silence::State;
    let now_ms = now.wall_ms;
    let (mut active, mut suppressed) = (0u64, 0u64);
    for (alert, _) in core.firing_alerts(now_ms) {
        let (silenced, inhibited) = core.muted_by(&alert.labels, now_ms);
        if silenced.is_empty() && inhibited.is_empty() { active += 1 } else { suppressed += 1 }
    }
    let alerts = [("active", active), ("suppressed", suppressed), ("unprocessed", 0)];
    out.push(gauges("alertmanager_alerts", "How many alerts by state.", &alerts));
    let count = |s: State| core.silences.iter().filter(|x| x.state(now_ms) == s).count() as u64;
    let silences =
        [("active", count(State::Active)), ("expired", count(State::Expired)), ("pending", count(State::Pending))];
    out.push(gauges("alertmanager_silences", "How many silences by state.", &silences));
    let mut pending = Family {
        name: "alertmanager_dispatcher_notifications_pending".into(),
        help: "Groups that are to be looked at, looks that wait for peers, and deliveries under way.".into(),
        ..Default::default()
    };
    pending.metric_type = MetricType::Gauge;
    pending.push_with([], core.pending(now) as f64);
    out.push(pending);
}

/// What the cluster looks like; without one it is only said that there is none.
pub(crate) fn cluster(state: Option<(View, Counts)>, out: &mut Vec<Family>) {
    let one = |name: &'static str, help: &'static str, metric_type: MetricType, n: f64| {
        let mut family = Family { name: name.into(), help: help.into(), ..Default::default() };
        family.metric_type = metric_type;
        family.push_with([], n);
        family
    };
    let enabled = f64::from(u8::from(state.is_some()));
    let help = "Indicates whether the clustering is enabled or not.";
    out.push(one("alertmanager_cluster_enabled", help, MetricType::Gauge, enabled));
    let Some((view, c)) = state else { return };
    for (count_name, count_help, size_name, size_help, states, news) in [
        (
            "alertmanager_cluster_messages_sent_total",
            "Total number of cluster messages sent.",
            "alertmanager_cluster_messages_sent_size_total",
            "Total size of cluster messages sent.",
            c.states_sent,
            c.news_sent,
        ),
        (
            "alertmanager_cluster_messages_received_total",
            "Total number of cluster messages received.",
            "alertmanager_cluster_messages_received_size_total",
            "Total size of cluster messages received.",
            c.states_received,
            c.news_received,
        ),
    ] {
        for (name, help, of) in [
            (count_name, count_help, (|m: Messages| m.count) as fn(Messages) -> u64),
            (size_name, size_help, |m: Messages| m.bytes),
        ] {
            let mut family = Family { name: name.into(), help: help.into(), ..Default::default() };
            family.metric_type = MetricType::Counter;
            for (kind, messages) in [("full_state", states), ("update", news)] {
                family.push_with([("msg_type", kind.into())], of(messages) as f64);
            }
            out.push(family);
        }
    }
    let help = "Number of cluster messages which are queued.";
    out.push(one("alertmanager_cluster_messages_queued", help, MetricType::Gauge, c.queued as f64));
    for (name, help, n) in [
        ("alertmanager_cluster_members", "Number indicating current number of members in cluster.", view.members.len()),
        (
            "alertmanager_peer_position",
            "Position the Alertmanager instance believes it's in. The position determines a peer's behavior in the cluster.",
            view.position,
        ),
        (
            "alertmanager_cluster_failed_peers",
            "Number indicating the current number of failed peers in the cluster.",
            view.failed,
        ),
        (
            "alertmanager_cluster_health_score",
            "Health score of the cluster. Lower values are better and zero means 'totally healthy'.",
            view.failed,
        ),
    ] {
        out.push(one(name, help, MetricType::Gauge, n as f64));
    }
    for (name, help, n) in [
        ("alertmanager_cluster_messages_pruned_total", "Total number of cluster messages pruned.", c.pruned),
        ("alertmanager_cluster_peers_joined_total", "A counter of the number of peers that have joined.", c.joined),
        ("alertmanager_cluster_peers_left_total", "A counter of the number of peers that have left.", c.left),
        (
            "alertmanager_cluster_reconnections_total",
            "A counter of the number of cluster peer reconnections.",
            c.reconnections,
        ),
        (
            "alertmanager_cluster_refresh_join_total",
            "A counter of the number of cluster peer joined via refresh.",
            c.refreshed,
        ),
        (
            "alertmanager_cluster_refresh_join_failed_total",
            "A counter of the number of failed cluster peer joined attempts via refresh.",
            c.refreshed_failed,
        ),
        (
            "alertmanager_cluster_peer_name_conflicts_total",
            "Total number of times two members were seen with the same name.",
            c.name_conflicts,
        ),
        // Members carry nothing that could be updated.
        ("alertmanager_cluster_peers_update_total", "A counter of the number of peers that have updated metadata.", 0),
        (
            "alertmanager_cluster_reconnections_failed_total",
            "A counter of the number of failed cluster peer reconnection attempts.",
            c.reconnections_failed,
        ),
    ] {
        out.push(one(name, help, MetricType::Counter, n as f64));
    }
    if let Some(tls) = c.tls {
        for (name, help, n) in [
            (
                "alertmanager_tls_transport_packet_bytes_sent_total",
                "The number of packet bytes sent to outgoing connections (excluding internal metadata).",
                tls.packet_bytes_sent,
            ),
            (
                "alertmanager_tls_transport_packet_bytes_received_total",
                "The number of packet bytes received from incoming connections (excluding internal metadata).",
                tls.packet_bytes_received,
            ),
            (
                "alertmanager_tls_transport_stream_connections_sent_total",
                "The number of stream connections sent.",
                tls.streams_sent,
            ),
            (
                "alertmanager_tls_transport_stream_connections_received_total",
                "The number of stream connections received.",
                tls.streams_received,
            ),
            (
                "alertmanager_tls_transport_read_errors_total",
                "The number of errors encountered while reading from incoming connections.",
                tls.read_errors,
            ),
        ] {
            out.push(one(name, help, MetricType::Counter, n as f64));
        }
        let mut errors = Family {
            name: "alertmanager_tls_transport_write_errors_total".into(),
            help: "The number of errors encountered while writing to outgoing connections.".into(),
            ..Default::default()
        };
        errors.metric_type = MetricType::Counter;
        for (kind, n) in [("packet", tls.packet_write_errors), ("stream", tls.stream_write_errors)] {
            errors.push_with([("connection_type", kind.into())], n as f64);
        }
        out.push(errors);
    }
    let mut info = Family {
        name: "alertmanager_cluster_peer_info".into(),
        help: "A metric with a constant '1' value labeled by peer name.".into(),
        ..Default::default()
    };
    info.metric_type = MetricType::Gauge;
    for member in &view.members {
        info.push_with([("peer", member.name.clone().into())], 1.0);
    }
    out.push(info);
}

fn gauges(name: &'static str, help: &'static str, values: &[(&'static str, u64)]) -> Family {
    let mut family = Family { name: name.into(), help: help.into(), ..Default::default() };
    family.metric_type = MetricType::Gauge;
    for (state, n) in values {
        family.push_with([("state", (*state).into())], *n as f64);
    }
    family
}
