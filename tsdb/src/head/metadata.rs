//! Type, unit and help of series, kept when `metadata_records` is set: the log has them, and a checkpoint goes on with them.
//!
//! Cost: about 24 bytes a series; the series of one family share the text.
use std::sync::Arc;

use ferula_model::Metadata;
use hashbrown::{HashMap, HashSet};

#[derive(Debug, Default)]
pub struct SeriesMetadata {
    of: HashMap<u64, Arc<Metadata>>,
    texts: HashSet<Arc<Metadata>>,
}

impl SeriesMetadata {
    pub fn get(&self, series: u64) -> Option<&Arc<Metadata>> {
        self.of.get(&series)
    }
    pub fn set(&mut self, series: u64, metadata: &Metadata) {
        let shared = match self.texts.get(metadata) {
            Some(known) => Arc::clone(known),
            None => {
                let new = Arc::new(metadata.clone());
                self.texts.insert(Arc::clone(&new));
                new
            }
        };
        self.of.insert(series, shared);
    }
    /// Forgets series, and texts that no other has.
    pub fn remove(&mut self, dead: &HashSet<u32>) {
        self.of.retain(|series, _| u32::try_from(*series).is_ok_and(|s| !dead.contains(&s)));
        self.texts.retain(|text| Arc::strong_count(text) > 1);
    }
}
