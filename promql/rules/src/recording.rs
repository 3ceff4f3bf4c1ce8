//! Recording rules: a query whose result is written back under a new name.
use std::collections::HashSet;

use ferula_model::labels::METRIC_NAME;
use ferula_model::{Labels, LabelsBuilder};

use crate::alerting::Evaluation;
use crate::file::RuleConfig;
use crate::query::Sample;

/// The series a rule wrote last time, in the order of its result: mostly they are the same again, and need not be made
/// again.
#[derive(Debug, Default)]
pub(crate) struct Names(Vec<(Labels, Labels)>);

/// The series to write.
pub(crate) fn evaluate(
    config: &RuleConfig,
    mut result: Vec<Sample>,
    e: &Evaluation<'_>,
    names: &mut Names,
) -> Result<Vec<Sample>, String> {
    let known = &mut names.0;
    let same = result.iter().zip(&*known).take_while(|(sample, (from, _))| sample.labels == *from).count();
    if same == result.len() {
        // Unique, because they were last time.
        for (sample, (_, to)) in result.iter_mut().zip(&*known) {
            sample.labels = to.clone();
        }
    } else {
        known.clear();
        let mut seen = HashSet::with_capacity(result.len());
        for sample in &mut result {
            let mut b = LabelsBuilder::from_view(&sample.labels);
            b.set(METRIC_NAME, &config.name);
            for (n, v) in &config.labels {
                b.set(n, v);
            }
            let labels = b.labels();
            if !seen.insert(labels.clone()) {
                known.clear();
                return Err("vector contains metrics with the same labelset after applying rule labels".into());
            }
            known.push((std::mem::replace(&mut sample.labels, labels.clone()), labels));
        }
    }
    let series = result.len() as u64;
    if e.limit > 0 && series > e.limit {
        return Err(format!("exceeded limit of {} with {series} series", e.limit));
    }
    Ok(result)
}
