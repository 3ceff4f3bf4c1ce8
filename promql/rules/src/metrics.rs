//! The `prometheus_rule_*` metrics, with upstream's names and help texts.
use ferula_instrument::{Counter, CounterVec, Gauge, GaugeVec, Registry, Summary};

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub evaluation_duration: Summary,
    pub group_duration: Summary,
    pub expansions: Counter,
    pub expansion_failures: Counter,
    evaluations: CounterVec,
    failures: CounterVec,
    missed: CounterVec,
    iterations: CounterVec,
    interval: GaugeVec,
    last_evaluation: GaugeVec,
    last_duration: GaugeVec,
    last_rule_duration_sum: GaugeVec,
    last_restore_duration: GaugeVec,
    rules: GaugeVec,
    samples: GaugeVec,
}

/// The metrics of one group.
#[derive(Clone, Debug)]
pub(crate) struct GroupMetrics {
    pub all: Metrics,
    pub evaluations: Counter,
    pub failures: Counter,
    pub missed: Counter,
    pub iterations: Counter,
    pub interval: Gauge,
    pub last_evaluation: Gauge,
    pub last_duration: Gauge,
    pub last_rule_duration_sum: Gauge,
    pub last_restore_duration: Gauge,
    pub rules: Gauge,
    pub samples: Gauge,
}

impl Metrics {
    pub fn new(r: &Registry) -> Metrics {
        let label = &["rule_group"];
        Metrics {
            evaluation_duration: r.summary(
                "prometheus_rule_evaluation_duration_seconds",
                "The duration for a rule to execute.",
                &[0.5, 0.9, 0.99],
            ),
            group_duration: r.summary(
                "prometheus_rule_group_duration_seconds",
                "The duration of rule group evaluations.",
                &[0.01, 0.05, 0.5, 0.9, 0.99],
            ),
            expansions: r.counter(
                "prometheus_template_text_expansions_total",
                "The total number of template text expansions.",
            ),
            expansion_failures: r.counter(
                "prometheus_template_text_expansion_failures_total",
                "The total number of template text expansion failures.",
            ),
            evaluations: r.counter_vec(
                "prometheus_rule_evaluations_total",
                "The total number of rule evaluations.",
                label,
            ),
            failures: r.counter_vec(
                "prometheus_rule_evaluation_failures_total",
                "The total number of rule evaluation failures.",
                label,
            ),
            missed: r.counter_vec(
                "prometheus_rule_group_iterations_missed_total",
                "The total number of rule group evaluations missed due to slow rule group evaluation.",
                label,
            ),
            iterations: r.counter_vec(
                "prometheus_rule_group_iterations_total",
                "The total number of scheduled rule group evaluations, whether executed or missed.",
                label,
            ),
            interval: r.gauge_vec("prometheus_rule_group_interval_seconds", "The interval of a rule group.", label),
            last_evaluation: r.gauge_vec(
                "prometheus_rule_group_last_evaluation_timestamp_seconds",
                "The timestamp of the last rule group evaluation in seconds.",
                label,
            ),
            last_duration: r.gauge_vec(
                "prometheus_rule_group_last_duration_seconds",
                "The duration of the last rule group evaluation.",
                label,
            ),
            last_rule_duration_sum: r.gauge_vec(
                "prometheus_rule_group_last_rule_duration_sum_seconds",
                "The sum of time in seconds it took to evaluate each rule in the group regardless of concurrency. This should be higher than the group duration if rules are evaluated concurrently.",
                label,
            ),
            last_restore_duration: r.gauge_vec(
                "prometheus_rule_group_last_restore_duration_seconds",
                "The duration of the last alert rules alerts restoration using the `ALERTS_FOR_STATE` series.",
                label,
            ),
            rules: r.gauge_vec("prometheus_rule_group_rules", "The number of rules.", label),
            samples: r.gauge_vec(
                "prometheus_rule_group_last_evaluation_samples",
                "The number of samples returned during the last rule group evaluation.",
                label,
            ),
        }
    }

    /// The metrics of the group whose key is `file;name`.
    pub fn group(&self, key: &str) -> GroupMetrics {
        let k = &[key];
        GroupMetrics {
            all: self.clone(),
            evaluations: self.evaluations.with(k),
            failures: self.failures.with(k),
            missed: self.missed.with(k),
            iterations: self.iterations.with(k),
            interval: self.interval.with(k),
            last_evaluation: self.last_evaluation.with(k),
            last_duration: self.last_duration.with(k),
            last_rule_duration_sum: self.last_rule_duration_sum.with(k),
            last_restore_duration: self.last_restore_duration.with(k),
            rules: self.rules.with(k),
            samples: self.samples.with(k),
        }
    }

    /// Forgets a group that is gone.
    pub fn remove(&self, key: &str) {
        let k = &[key];
        for v in [&self.evaluations, &self.failures, &self.missed, &self.iterations] {
            v.remove(k);
        }
        for v in [
            &self.interval,
            &self.last_evaluation,
            &self.last_duration,
            &self.last_rule_duration_sum,
            &self.last_restore_duration,
            &self.rules,
            &self.samples,
        ] {
            v.remove(k);
        }
    }
}
