//! From a line's labels to the series that is stored: target labels, conflicts, relabelling, limits. Once per new series.
use std::borrow::Cow;

use ferula_model::labels::{METRIC_NAME, METRIC_TYPE, METRIC_UNIT, quoted};
use ferula_model::{Labels, LabelsBuilder, Metadata, MetricType, relabel};

use crate::error::ScrapeError;
use crate::job::Job;
use crate::metadata::is_part_of;
use crate::report;
use crate::target::Target;

const EXPORTED_PREFIX: &str = "exported_";

/// What a new line comes to.
#[derive(Debug)]
pub(crate) enum Resolved {
    Series(Labels),
    /// Relabelling dropped it.
    Dropped,
    /// It would have overwritten one of the target's own report series.
    Spoofed,
}

/// The family whose type and unit are to become labels, where they are.
pub(crate) type TypedFamily<'f> = Option<(&'f str, &'f Metadata)>;

/// What a line means, once somebody needs to know.
pub(crate) type Resolve<'r> = dyn FnMut(TypedFamily<'_>) -> Result<Resolved, ScrapeError> + 'r;

/// `pairs` as the parser gives them: `__name__` first, empty values and repeated names included.
pub(crate) fn resolve<'p>(
    pairs: &mut Vec<(Cow<'p, str>, Cow<'p, str>)>,
    family: TypedFamily<'p>,
    job: &Job,
    target: &Target,
) -> Result<Resolved, ScrapeError> {
    if let Some((family, metadata)) = family {
        label_type_and_unit(pairs, family, metadata);
    }
    // Sorted, so that the builder only ever appends: a line may hold a hundred thousand labels.
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some(twice) = pairs.windows(2).find_map(|w| match w {
        [a, b] if a.0 == b.0 => Some(&a.0),
        _ => None,
    }) {
        return Err(ScrapeError::InvalidSeries(format!("label name {} is not unique: invalid sample", quoted(twice))));
    }
    let exposed = |name: &str| pairs.binary_search_by(|(n, _)| (**n).cmp(name)).ok().and_then(|i| pairs.get(i));
    let mut b = LabelsBuilder::new();
    for (name, value) in pairs.iter() {
        b.set(name, value);
    }
    if job.config.honor_labels {
        for (name, value) in &target.labels {
            // An exposed empty value also counts: it is how a target takes a label off.
            if exposed(name).is_none() {
                b.set(name, value);
            }
        }
    } else {
        let mut conflicts: Vec<(&str, &str)> = Vec::new();
        for (name, value) in &target.labels {
            if let Some((_, theirs)) = exposed(name)
                && !theirs.is_empty()
            {
                conflicts.push((name, theirs));
            }
            b.set(name, value);
        }
        conflicts.sort_by_key(|(name, _)| name.len());
        for (name, theirs) in conflicts {
            let mut renamed = format!("{EXPORTED_PREFIX}{name}");
            while b.get(&renamed).is_some() {
                renamed.insert_str(0, EXPORTED_PREFIX);
            }
            b.set(&renamed, theirs);
        }
    }
    if !relabel::process(&job.metric_rules, &mut b) || b.is_empty() {
        return Ok(Resolved::Dropped);
    }
    let labels = b.labels();
    check_names(&labels, job)?;
    check_limits(&labels, job)?;
    if report::is_report_series(&labels, target) {
        return Ok(Resolved::Spoofed);
    }
    Ok(Resolved::Series(labels))
}

/// What the target itself says under these names does not count, as long as the metadata say something.
fn label_type_and_unit<'p>(pairs: &mut Vec<(Cow<'p, str>, Cow<'p, str>)>, family: &str, metadata: &'p Metadata) {
    let name = pairs.iter().find(|(n, _)| n == METRIC_NAME).map_or("", |(_, name)| name);
    if !is_part_of(name, family, metadata.metric_type) {
        return;
    }
    let metric_type = if metadata.metric_type == MetricType::Unknown { "" } else { metadata.metric_type.as_str() };
    for (label, value) in [(METRIC_TYPE, metric_type), (METRIC_UNIT, &metadata.unit)] {
        if !value.is_empty() {
            pairs.retain(|(n, _)| n != label);
            pairs.push((label.into(), value.into()));
        }
    }
}

fn check_names(labels: &Labels, job: &Job) -> Result<(), ScrapeError> {
    let name = labels.metric_name();
    if name.is_empty() {
        return Err(ScrapeError::InvalidSeries("missing metric name (__name__ label)".into()));
    }
    let scheme = job.config.name_scheme();
    let valid = scheme.is_valid_metric_name(name) && labels.iter().all(|(n, _)| scheme.is_valid_label_name(n));
    if valid {
        return Ok(());
    }
    Err(ScrapeError::InvalidSeries(format!("invalid metric name or label names: {labels}")))
}

fn first(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

fn check_limits(labels: &Labels, job: &Job) -> Result<(), ScrapeError> {
    let c = &job.config;
    let metric = || first(labels.metric_name(), 50);
    let exceeds = |n: usize, limit: u64| limit > 0 && n as u64 > limit;
    if exceeds(labels.len(), c.label_limit) {
        return Err(ScrapeError::LabelLimit(format!(
            "label_limit exceeded (metric: {}, number of labels: {}, limit: {})",
            metric(),
            labels.len(),
            c.label_limit
        )));
    }
    if c.label_name_length_limit == 0 && c.label_value_length_limit == 0 {
        return Ok(());
    }
    for (name, value) in labels {
        if exceeds(name.len(), c.label_name_length_limit) {
            return Err(ScrapeError::LabelLimit(format!(
                "label_name_length_limit exceeded (metric: {}, label name: {}, length: {}, limit: {})",
                metric(),
                first(name, 50),
                name.len(),
                c.label_name_length_limit
            )));
        }
        if exceeds(value.len(), c.label_value_length_limit) {
            return Err(ScrapeError::LabelLimit(format!(
                "label_value_length_limit exceeded (metric: {}, label name: {}, value: {}, length: {}, limit: {})",
                metric(),
                first(name, 50),
                quoted(&first(value, 50)),
                value.len(),
                c.label_value_length_limit
            )));
        }
    }
    Ok(())
}
