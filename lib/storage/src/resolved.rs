//! What a store remembers of a selection until it is asked again.
use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A place for what a store found out about one selector: which series its matchers mean. It belongs to whoever asks the
/// same again and again (a rule), and goes along in [`crate::SelectHints`]. Only the store that filled it reads it, and
/// only the store knows when it no longer holds; answers are the same with and without it.
#[derive(Debug, Default)]
pub struct Resolved {
    kept: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
    /// How often it was filled.
    fillings: AtomicU64,
}

impl Resolved {
    /// What was left here, if it is of the store's own kind.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        kept.and_then(|kept| kept.downcast().ok())
    }

    /// To be called whenever the series may be others than at the last call, and only then.
    pub fn set<T: Any + Send + Sync>(&self, kept: Arc<T>) {
        let mut slot = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(kept);
        self.fillings.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets what is kept: it costs more than it is worth.
    pub fn clear(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A number that is another one once the store has found other series; `None` while it keeps nothing here.
    pub fn version(&self) -> Option<u64> {
        let slot = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        slot.is_some().then(|| self.fillings.load(Ordering::Acquire))
    }
}
