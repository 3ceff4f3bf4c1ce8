//! Recording rules: a query whose result is written back under a new name.
use std::collections::HashSet;

use ferula_model::LabelsBuilder;
use ferula_model::labels::METRIC_NAME;

use crate::alerting::Evaluation;
use crate::file::RuleConfig;
use crate::query::Sample;

/// The series to write.
pub(crate) fn evaluate(
    config: &RuleConfig,
    mut result: Vec<Sample>,
    e: &Evaluation<'_>,
) -> Result<Vec<Sample>, String> {
    let mut seen = HashSet::with_capacity(result.len());
    for sample in &mut result {
        let mut b = LabelsBuilder::from_view(&sample.labels);
        b.set(METRIC_NAME, &config.name);
        for (n, v) in &config.labels {
            b.set(n, v);
        }
        sample.labels = b.labels();
        if !seen.insert(sample.labels.clone()) {
            return Err("vector contains metrics with the same labelset after applying rule labels".into());
        }
    }
    let series = result.len() as u64;
    if e.limit > 0 && series > e.limit {
        return Err(format!("exceeded limit of {} with {series} series", e.limit));
    }
    Ok(result)
}
