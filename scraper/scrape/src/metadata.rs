//! Help, type and unit of a target's metric families, as last scraped.
use ferula_model::{Metadata, MetricType};
use hashbrown::HashMap;

/// Families by name. Those that did not come for some scrapes are forgotten.
#[derive(Default)]
pub(crate) struct Families {
    by_name: HashMap<String, (Metadata, u32)>,
    pass: u32,
}

/// Scrapes a family may be absent before it is forgotten.
const ABSENT_MAX: u32 = 10;

impl Families {
    pub(crate) fn begin(&mut self) {
        self.pass += 1;
    }

    fn of(&mut self, family: &str) -> &mut Metadata {
        let pass = self.pass;
        let (metadata, seen) = self.by_name.entry_ref(family).or_insert_with(|| (Metadata::default(), pass));
        *seen = pass;
        metadata
    }

    pub(crate) fn set(&mut self, family: &str, metadata: Metadata) {
        *self.of(family) = metadata;
    }
    pub(crate) fn set_type(&mut self, family: &str, metric_type: MetricType) {
        self.of(family).metric_type = metric_type;
    }
    pub(crate) fn set_help(&mut self, family: &str, help: &str) {
        let metadata = self.of(family);
        if metadata.help != help {
            help.clone_into(&mut metadata.help);
        }
    }
    pub(crate) fn set_unit(&mut self, family: &str, unit: &str) {
        let metadata = self.of(family);
        if metadata.unit != unit {
            unit.clone_into(&mut metadata.unit);
        }
    }

    /// After a complete scrape.
    pub(crate) fn end(&mut self) {
        let pass = self.pass;
        self.by_name.retain(|_, (_, seen)| pass.saturating_sub(*seen) < ABSENT_MAX);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Metadata)> {
        self.by_name.iter().map(|(name, (metadata, _))| (name.as_str(), metadata))
    }
}
