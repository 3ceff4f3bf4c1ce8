//! Warnings and infos that travel beside a result.
use std::collections::BTreeSet;

/// Distinct warnings and infos; the API caps how many it prints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    pub warnings: BTreeSet<String>,
    pub infos: BTreeSet<String>,
}

impl Annotations {
    pub fn warn(&mut self, text: impl Into<String>) {
        self.warnings.insert(text.into());
    }
    pub fn info(&mut self, text: impl Into<String>) {
        self.infos.insert(text.into());
    }
    pub fn merge(&mut self, other: Annotations) {
        self.warnings.extend(other.warnings);
        self.infos.extend(other.infos);
    }
    pub fn is_empty(&self) -> bool {
        self.warnings.is_empty() && self.infos.is_empty()
    }
}
