//! The synthetic series every scrape leaves: `up` and its companions.
use ferula_model::labels::{METRIC_NAME, METRIC_TYPE, METRIC_UNIT};
use ferula_model::{Labels, LabelsBuilder, Metadata, MetricType, SeriesRef, Value};
use ferula_storage::{AppendError, AppendOptions, Appender};

use crate::ingest::Pass;
use crate::target::Target;

/// In the order of [`Report::values`].
const NAMES: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];
/// The first so many are always written, the others with `extra_scrape_metrics`.
const ALWAYS: usize = 5;

/// What one scrape has to report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Report {
    pub is_up: bool,
    pub duration_seconds: f64,
    pub scraped: u64,
    pub post_relabel: u64,
    pub added: u64,
    pub timeout_seconds: f64,
    pub sample_limit: u64,
    /// Uncompressed; -1 when the limit was exceeded, 0 on any other failure.
    pub body_bytes: i64,
}

impl Report {
    fn values(&self) -> [f64; NAMES.len()] {
        [
            if self.is_up { 1.0 } else { 0.0 },
            self.duration_seconds,
            self.scraped as f64,
            self.post_relabel as f64,
            self.added as f64,
            self.timeout_seconds,
            self.sample_limit as f64,
            self.body_bytes as f64,
        ]
    }
}

/// References of a target's report series.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReportSeries([SeriesRef; NAMES.len()]);

impl ReportSeries {
    pub(crate) fn append(&mut self, app: &mut dyn Appender, pass: &Pass<'_>, extra: bool, report: &Report) {
        self.append_values(app, pass, extra, report.values(), &AppendOptions::default());
    }

    /// Ends all of them, when the target is gone.
    pub(crate) fn append_stale(&mut self, app: &mut dyn Appender, pass: &Pass<'_>, extra: bool) {
        let options = AppendOptions { reject_out_of_order: true, ..AppendOptions::default() };
        self.append_values(app, pass, extra, [ferula_model::stale_nan(); NAMES.len()], &options);
    }

    fn append_values(
        &mut self,
        app: &mut dyn Appender,
        pass: &Pass<'_>,
        extra: bool,
        values: [f64; NAMES.len()],
        options: &AppendOptions<'_>,
    ) {
        let count = if extra { NAMES.len() } else { ALWAYS };
        for (i, (series, value)) in self.0.iter_mut().zip(values).enumerate().take(count) {
            let (value, t_ms) = (Value::Float(value), pass.t_ms);
            let mut result = Err(AppendError::UnknownSeries);
            if !series.is_none() {
                result = app.append(*series, None, 0, t_ms, value, options);
            }
            if result == Err(AppendError::UnknownSeries) {
                let name = NAMES.get(i).copied().unwrap_or_default();
                let metadata = pass.passes_metadata.then(|| metadata_of(i));
                let options = AppendOptions { metadata: metadata.as_ref(), ..*options };
                let mut labels = LabelsBuilder::from_view(&pass.target.labels);
                labels.set(METRIC_NAME, name);
                result = app.append(SeriesRef::NONE, Some(&labels.labels()), 0, t_ms, value, &options);
            }
            // Refusals are expected where a target left and came back within one interval.
            if let Ok(known) = result {
                *series = known;
            }
        }
    }
}

/// Help and unit of the report series of that number, in upstream's words: they are read by whom metadata is sent to.
fn metadata_of(i: usize) -> Metadata {
    const TEXTS: [(&str, &str); NAMES.len()] = [
        ("Health of the scrape target. 1 means the target is healthy, 0 if the scrape failed.", "targets"),
        ("Duration of the last scrape in seconds.", "seconds"),
        ("Number of samples last scraped.", "samples"),
        ("Number of samples remaining after metric relabeling was applied.", "samples"),
        ("Number of series in the last scrape.", "series"),
        ("The configured scrape timeout for a target.", "seconds"),
        ("The configured sample limit for a target. Returns zero if there is no limit configured.", "samples"),
        (
            "The uncompressed size of the last scrape response, if successful. Scrapes failing because body_size_limit is exceeded report -1, other scrape failures report 0.",
            "bytes",
        ),
    ];
    let (help, unit) = TEXTS.get(i).copied().unwrap_or_default();
    Metadata { metric_type: MetricType::Gauge, help: help.to_owned(), unit: unit.to_owned() }
}

/// Whether a scraped sample would land in one of the server's own report series of this target, or beside it with another
/// type.
pub(crate) fn is_report_series(labels: &Labels, target: &Target) -> bool {
    NAMES.contains(&labels.metric_name())
        && labels
            .iter()
            .filter(|(name, _)| !matches!(*name, METRIC_NAME | METRIC_TYPE | METRIC_UNIT))
            .eq(target.labels.iter().filter(|(n, _)| *n != METRIC_NAME))
}
