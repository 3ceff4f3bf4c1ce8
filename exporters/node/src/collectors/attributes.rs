//! Families filled from one file each, many times over: what most folders of sysfs look like.
use std::path::Path;

use ferula_exposition::family::{Family, Text};
use ferula_model::MetricType;

use crate::source::Folder;

/// File below the folder, metric, help, type, factor.
pub(super) type Attribute = (&'static str, &'static str, &'static str, MetricType, f64);

pub(super) const COUNTER: MetricType = MetricType::Counter;
pub(super) const GAUGE: MetricType = MetricType::Gauge;

pub(super) struct Attributes {
    table: &'static [Attribute],
    families: Vec<Family>,
}

impl Attributes {
    pub fn new(table: &'static [Attribute]) -> Attributes {
        let family = |(_, name, help, kind, _): &Attribute| Family::new(*name, *help, *kind);
        Attributes { table, families: table.iter().map(family).collect() }
    }

    /// Adds what can be read of one folder.
    pub fn read<const N: usize>(&mut self, folder: &Path, labels: &[(&'static str, Text); N]) {
        let Some(folder) = Folder::open(folder) else { return };
        for ((file, .., factor), family) in self.table.iter().zip(&mut self.families) {
            // Drivers that do not count something say so with all bits set.
            if let Some(v) = folder.number(file).filter(|v| *v < u64::MAX as f64) {
                family.push_with(labels.clone(), v * factor);
            }
        }
    }

    pub fn finish(self, out: &mut Vec<Family>) {
        out.extend(self.families);
    }
}
