//! What is known of an expression before it is evaluated, and what an expression that is evaluated again and again keeps.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use ferula_promql_parser::Expr;
use ferula_storage::Resolved;
use hashbrown::HashMap;

use crate::eval::{Common, GroupTable, Use, picked_from, stats_only, uses};

/// Found in an expression once, whatever the times it is evaluated at. Selectors are known by where they start.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    /// Selectors of whose histograms only count and sum are wanted; see [`stats_only`].
    pub stats_only: Vec<u32>,
    /// What selectors are for.
    pub uses: HashMap<u32, Use>,
    /// Selectors whose series have to come in label order: what picks series depends on it.
    pub sorted: Vec<u32>,
    /// Sub-expressions that occur more than once.
    pub common: Common,
    /// How deep its expressions are nested.
    pub height: usize,
}

impl Outline {
    pub fn of(expr: &Expr) -> Outline {
        let (sorted, stats_only) = (picked_from(expr), stats_only(expr));
        let common = Common::find(expr, &sorted, &stats_only);
        Outline { uses: uses(expr), common, height: height(expr), sorted, stats_only }
    }
}

fn height(expr: &Expr) -> usize {
    let (mut open, mut highest) = (vec![(expr, 1)], 0);
    while let Some((e, h)) = open.pop() {
        highest = highest.max(h);
        open.extend(e.children().into_iter().map(|c| (c, h + 1)));
    }
    highest
}

/// An expression to be evaluated again and again, as rules are. Between evaluations it keeps which series its selectors
/// mean, as long as the store says that they are the same, and the groups of its aggregations. Answers are those of
/// [`Engine::instant`](crate::Engine::instant).
#[derive(Debug)]
pub struct Prepared {
    expr: Arc<Expr>,
    pub(crate) outline: Outline,
    kept: Mutex<Kept>,
}

impl Prepared {
    pub fn new(expr: impl Into<Arc<Expr>>) -> Prepared {
        let expr = expr.into();
        let outline = Outline::of(&expr);
        let selections = expr.selectors().iter().map(|v| (v.span.start, Arc::default())).collect();
        Prepared { expr, outline, kept: Mutex::new(Kept { selections, groups: Mutex::default() }) }
    }
    pub fn expr(&self) -> &Expr {
        &self.expr
    }
    /// What is kept, for one evaluation at a time: another one meanwhile does without.
    pub(crate) fn kept(&self) -> Option<MutexGuard<'_, Kept>> {
        match self.kept.try_lock() {
            Ok(kept) => Some(kept),
            Err(TryLockError::Poisoned(kept)) => Some(kept.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// By where selectors start.
    selections: HashMap<u32, Arc<Resolved>>,
    /// By where aggregations start: their groups, and the version of the selections they were found in.
    groups: Mutex<HashMap<u32, (u64, GroupTable)>>,
}

impl Kept {
    pub fn selection(&self, start: u32) -> Option<Arc<Resolved>> {
        self.selections.get(&start).cloned()
    }
    /// A number for the series of all selections together; `None` when the store keeps one of them not.
    fn version(&self) -> Option<u64> {
        self.selections.values().map(|s| s.version()).sum()
    }
    /// The groups of the aggregation that starts there, if the series are the same as then.
    pub fn take_groups(&self, start: u32) -> Option<GroupTable> {
        let now = self.version()?;
        let (version, table) = self.groups.lock().unwrap_or_else(PoisonError::into_inner).remove(&start)?;
        (version == now).then_some(table)
    }
    pub fn put_groups(&self, start: u32, table: GroupTable) {
        if let Some(version) = self.version()
            && table.len() <= GROUPS_MAX
        {
            self.groups.lock().unwrap_or_else(PoisonError::into_inner).insert(start, (version, table));
        }
    }
}

/// Groups that one aggregation keeps at most: some hundred bytes each.
const GROUPS_MAX: usize = 8192;
