//! `prometheus_target_*`, by upstream's names.
use ferula_instrument::{Counter, CounterVec, GaugeVec, Registry, SummaryVec};

#[derive(Clone)]
pub(crate) struct Metrics {
    pub pools: Counter,
    pub pools_failed: Counter,
    pub pool_reloads: Counter,
    /// Always 0: what could fail is refused before anything is reloaded.
    pub _pool_reloads_failed: Counter,
    pub pool_syncs: CounterVec,
    pub pool_targets: GaugeVec,
    pub pool_target_limit: GaugeVec,
    pub exceeded_target_limit: Counter,
    pub exceeded_label_limits: Counter,
    pub exceeded_sample_limit: Counter,
    pub exceeded_body_size: Counter,
    pub duplicate_timestamp: Counter,
    pub out_of_order: Counter,
    pub out_of_bounds: Counter,
    pub cache_flush_forced: Counter,
    pub exemplar_out_of_order: Counter,
    pub exceeded_bucket_limit: Counter,
    pub sync_failed: CounterVec,
    pub sync_length: SummaryVec,
    pub interval_length: SummaryVec,
    pub reload_length: SummaryVec,
    /// A target's samples that posed as the server's own report series.
    pub spoofed: Counter,
    /// New series refused because a budget was spent.
    pub series_refused: CounterVec,
}

impl Metrics {
    pub(crate) fn new(r: &Registry) -> Metrics {
        const QUANTILES: &[f64] = &[0.01, 0.05, 0.5, 0.90, 0.99];
        Metrics {
            pools: r.counter("prometheus_target_scrape_pools_total", "Total number of scrape pool creation attempts."),
            pools_failed: r.counter(
                "prometheus_target_scrape_pools_failed_total",
                "Total number of scrape pool creations that failed.",
            ),
            pool_reloads: r
                .counter("prometheus_target_scrape_pool_reloads_total", "Total number of scrape pool reloads."),
            _pool_reloads_failed: r.counter(
                "prometheus_target_scrape_pool_reloads_failed_total",
                "Total number of failed scrape pool reloads.",
            ),
            pool_syncs: r.counter_vec(
                "prometheus_target_scrape_pool_sync_total",
                "Total number of syncs that were executed on a scrape pool.",
                &["scrape_job"],
            ),
            pool_targets: r.gauge_vec(
                "prometheus_target_scrape_pool_targets",
                "Current number of targets in this scrape pool.",
                &["scrape_job"],
            ),
            pool_target_limit: r.gauge_vec(
                "prometheus_target_scrape_pool_target_limit",
                "Maximum number of targets allowed in this scrape pool.",
                &["scrape_job"],
            ),
            exceeded_target_limit: r.counter(
                "prometheus_target_scrape_pool_exceeded_target_limit_total",
                "Total number of times scrape pools hit the target limit, during sync or config reload.",
            ),
            exceeded_label_limits: r.counter(
                "prometheus_target_scrape_pool_exceeded_label_limits_total",
                "Total number of times scrape pools hit the label limits, during sync or config reload.",
            ),
            exceeded_sample_limit: r.counter(
                "prometheus_target_scrapes_exceeded_sample_limit_total",
                "Total number of scrapes that hit the sample limit and were rejected.",
            ),
            exceeded_body_size: r.counter(
                "prometheus_target_scrapes_exceeded_body_size_limit_total",
                "Total number of scrapes that hit the body size limit",
            ),
            duplicate_timestamp: r.counter(
                "prometheus_target_scrapes_sample_duplicate_timestamp_total",
                "Total number of samples rejected due to duplicate timestamps but different values.",
            ),
            out_of_order: r.counter(
                "prometheus_target_scrapes_sample_out_of_order_total",
                "Total number of samples rejected due to not being out of the expected order.",
            ),
            out_of_bounds: r.counter(
                "prometheus_target_scrapes_sample_out_of_bounds_total",
                "Total number of samples rejected due to timestamp falling outside of the time bounds.",
            ),
            cache_flush_forced: r.counter(
                "prometheus_target_scrapes_cache_flush_forced_total",
                "How many times a scrape cache was flushed due to getting big while scrapes are failing.",
            ),
            exemplar_out_of_order: r.counter(
                "prometheus_target_scrapes_exemplar_out_of_order_total",
                "Total number of exemplar rejected due to not being out of the expected order.",
            ),
            exceeded_bucket_limit: r.counter(
                "prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total",
                "Total number of scrapes that hit the native histogram bucket limit and were rejected.",
            ),
            sync_failed: r.counter_vec(
                "prometheus_target_sync_failed_total",
                "Total number of target sync failures.",
                &["scrape_job"],
            ),
            sync_length: r.summary_vec(
                "prometheus_target_sync_length_seconds",
                "Actual interval to sync the scrape pool.",
                &["scrape_job"],
                QUANTILES,
            ),
            interval_length: r.summary_vec(
                "prometheus_target_interval_length_seconds",
                "Actual intervals between scrapes.",
                &["interval"],
                QUANTILES,
            ),
            reload_length: r.summary_vec(
                "prometheus_target_reload_length_seconds",
                "Actual interval to reload the scrape pool with a given configuration.",
                &["interval"],
                QUANTILES,
            ),
            spoofed: r.counter(
                "ferula_target_scrapes_report_series_spoofed_total",
                "Total number of samples dropped because they posed as report series of their target.",
            ),
            series_refused: r.counter_vec(
                "ferula_target_scrapes_series_refused_total",
                "Total number of new series refused because a series budget was exceeded, by whose budget it was.",
                &["scrape_job", "budget"],
            ),
        }
    }
}
