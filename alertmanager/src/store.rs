//! Silences and the notification log on disk.
use std::sync::Arc;

use crate::core::{Core, LogChange};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::silence::Silence;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {}

#[derive(Debug)]
pub struct Store;

impl Store {
    pub fn open(_options: &Options, _core: &mut Core, _now_ms: i64) -> Result<Store, StoreError> {
        Ok(Store)
    }
    pub fn write_log(&self, _changes: &[LogChange]) -> Result<(), StoreError> {
        Ok(())
    }
    pub fn write_silences(&self, _changes: &[Arc<Silence>]) -> Result<(), StoreError> {
        Ok(())
    }
    pub fn snapshot(&self, _metrics: &Metrics, _state: impl FnOnce() -> (Vec<Arc<Silence>>, Vec<LogChange>)) {}
}
