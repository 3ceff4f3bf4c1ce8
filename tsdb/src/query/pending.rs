//! Reading while the log is still being read: every answer waits until the head is whole.
use std::sync::Weak;
use std::time::Duration;

use ferula_model::Matcher;
use ferula_storage::{
    Annotations, ExemplarSeries, LabelHints, Querier, QueryContext, Queryable, SelectHints, SeriesSet, StorageError,
};

use crate::db::Db;

/// How often deadline and cancellation are looked at.
const POLL: Duration = Duration::from_millis(20);

/// Becomes a querier of the whole store when it is first asked something.
pub struct PendingQuerier {
    db: Weak<Db>,
    mint_ms: i64,
    maxt_ms: i64,
}

impl PendingQuerier {
    pub fn new(db: Weak<Db>, mint_ms: i64, maxt_ms: i64) -> PendingQuerier {
        PendingQuerier { db, mint_ms, maxt_ms }
    }
    fn wait(&self, ctx: &QueryContext) -> Result<Box<dyn Querier>, StorageError> {
        loop {
            ctx.check()?;
            let db = self.db.upgrade().ok_or_else(|| StorageError::NotReady("the store is closed".to_owned()))?;
            if db.head().wait_replayed(POLL) {
                return db.querier(self.mint_ms, self.maxt_ms);
            }
        }
    }
}

impl Querier for PendingQuerier {
    fn select(
        &self,
        ctx: &QueryContext,
        sorted: bool,
        hints: &SelectHints,
        matchers: &[Matcher],
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        self.wait(ctx)?.select(ctx, sorted, hints, matchers)
    }
    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        hints: &LabelHints,
        matchers: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        self.wait(ctx)?.label_values(ctx, name, hints, matchers)
    }
    fn label_names(
        &self,
        ctx: &QueryContext,
        hints: &LabelHints,
        matchers: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        self.wait(ctx)?.label_names(ctx, hints, matchers)
    }
    fn exemplars(
        &self,
        ctx: &QueryContext,
        matcher_sets: &[Vec<Matcher>],
    ) -> Result<Vec<ExemplarSeries>, StorageError> {
        self.wait(ctx)?.exemplars(ctx, matcher_sets)
    }
}
