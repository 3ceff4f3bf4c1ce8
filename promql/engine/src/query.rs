//! What all parts of one running query share.
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ferula_model::Charge;
use ferula_model::labels::quoted;
use ferula_promql_parser::{At, DurationContext, Expr, Span};
use ferula_storage::{Querier, QueryContext};

use crate::column::{ABSENT, Column, SeriesStream};
use crate::error::QueryError;
use crate::eval::Holding;
use crate::grid::Grid;
use crate::identity::Hidden;
use crate::notes::Notes;
use crate::plan::Analysis;
use crate::prepared::{Kept, Outline};
use crate::tallies::Tallies;
use crate::threads::Threads;
use crate::turns::{Spare, Turn};

/// Semantics that flags decide, fixed for one query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Semantics {
    pub lookback_ms: i64,
    pub delayed_name_removal: bool,
    pub type_and_unit_labels: bool,
    pub start_timestamps: bool,
    /// The step of subqueries that give none.
    pub subquery_step_ms: i64,
    pub samples_max: u64,
}

/// What every thread that works on a query has: it owns what it holds, so that threads which outlive the query can.
pub(crate) struct Run {
    pub ctx: QueryContext,
    pub semantics: Semantics,
    /// The outermost grid: what `@ start()`, `end()`, `step()` and `range()` refer to.
    pub top: Grid,
    pub notes: Notes,
    pub samples: Samples,
    memory: Mutex<Charge>,
}

/// A running query, as the thread that it belongs to has it.
pub(crate) struct Query<'q> {
    pub run: Arc<Run>,
    pub querier: Box<dyn Querier>,
    pub top_end_ms: i64,
    /// 0 for an instant query.
    pub top_step_ms: i64,
    pub outline: &'q Outline,
    /// What the expression keeps from one evaluation to the next, if it does.
    pub kept: Option<&'q Kept>,
    /// Results of sub-expressions that occur more than once.
    pub held: Holding,
    /// Step-invariant and common sub-expressions are computed once.
    pub optimises: bool,
    /// Threads besides the query's own, if it may use any.
    pub threads: Option<Arc<Threads>>,
    /// The turn of the query's own thread.
    pub turn: Turn,
    /// Where each expression's cost is noted, when asked for.
    pub analysis: Option<Analysis>,
    pub text: Option<&'q str>,
}

impl std::ops::Deref for Query<'_> {
    type Target = Run;
    fn deref(&self) -> &Run {
        &self.run
    }
}

/// Samples held now, at most, and read in all.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    current: AtomicU64,
    peak: AtomicU64,
    tallies: Tallies,
    /// By step: as `read`, and as `fresh`.
    per_step: Option<Vec<(AtomicU64, AtomicU64)>>,
}

impl Samples {
    pub fn new(per_step: Option<usize>) -> Samples {
        Samples { per_step: per_step.map(|n| (0..n).map(|_| Default::default()).collect()), ..Default::default() }
    }
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
    pub fn read(&self) -> u64 {
        self.tallies.sum(|own| &own.read)
    }
    pub fn fresh(&self) -> u64 {
        self.tallies.sum(|own| &own.fresh)
    }
    /// Samples that steps saw, and how many of them for the first time.
    pub fn add_read(&self, n: u64, fresh: u64) {
        let own = self.tallies.own();
        own.read.fetch_add(n, Ordering::Relaxed);
        own.fresh.fetch_add(fresh, Ordering::Relaxed);
    }
    pub fn add_decoded(&self, n: u64) {
        self.tallies.own().decoded.fetch_add(n, Ordering::Relaxed);
    }
    pub fn decoded(&self) -> u64 {
        self.tallies.sum(|own| &own.decoded)
    }
    /// What of [`Samples::add_read`] one step saw.
    pub fn add_read_at(&self, step: usize, n: u64, fresh: u64) {
        if let Some((read, first)) = self.per_step.as_ref().and_then(|p| p.get(step)) {
            read.fetch_add(n, Ordering::Relaxed);
            first.fetch_add(fresh, Ordering::Relaxed);
        }
    }
    pub fn wants_steps(&self) -> bool {
        self.per_step.is_some()
    }
    /// By step: samples that it saw, and those among them that no earlier one had.
    pub fn steps(&self) -> Vec<(u64, u64)> {
        let value = |n: &AtomicU64| n.load(Ordering::Relaxed);
        self.per_step.iter().flatten().map(|(read, fresh)| (value(read), value(fresh))).collect()
    }
}

impl<'q> Query<'q> {
    pub fn new(
        ctx: &QueryContext,
        turn: Turn,
        querier: Box<dyn Querier>,
        outline: &'q Outline,
        semantics: Semantics,
        top: Grid,
        top_end_ms: i64,
        top_step_ms: i64,
        per_step: bool,
    ) -> Result<Query<'q>, QueryError> {
        let run = Run {
            ctx: ctx.clone(),
            semantics,
            top,
            notes: Notes::default(),
            samples: Samples::new(per_step.then_some(top.n)),
            memory: Mutex::new(ctx.budget.charge(0)?),
        };
        Ok(Query {
            run: Arc::new(run),
            querier,
            top_end_ms,
            top_step_ms,
            outline,
            kept: None,
            held: Holding::default(),
            optimises: true,
            threads: None,
            turn,
            analysis: None,
            text: None,
        })
    }

    /// As [`Run::tick`], where the query's own thread may let others go first.
    pub fn tick(&self, work: u32) -> Result<(), QueryError> {
        self.turn.look(&self.run.ctx)?;
        self.run.tick(work)
    }

    /// Another thread's turn, if the query may have one now.
    pub fn spare(&self) -> Option<(&Threads, Spare)> {
        Some((self.threads.as_deref()?, self.turn.spare()?))
    }

    /// The number of the common sub-expression that `expr` is.
    pub fn common_id(&self, expr: &Expr) -> Option<usize> {
        if self.optimises { self.outline.common.id_of(expr) } else { None }
    }

    pub fn durations(&self) -> DurationContext {
        let range_ms = if self.top_step_ms == 0 { 0 } else { self.top_end_ms - self.top.start_ms };
        DurationContext { step_ms: self.top_step_ms, range_ms }
    }

    pub fn resolve_at(&self, at: At) -> i64 {
        match at {
            At::Timestamp(t) => t,
            At::Start => self.top.start_ms,
            At::End => self.top_end_ms,
        }
    }

    /// Refuses a label name that is empty or was not UTF-8: the parser leaves the replacement character in place of
    /// what is not, and accepts that character itself only as an escape.
    pub fn check_label_name(&self, name: &str, literal: Span, complaint: &str) -> Result<(), QueryError> {
        if !name.is_empty() && !name.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(());
        }
        let written = self.text.and_then(|t| t.get(literal.start as usize..literal.end as usize));
        let shown = match written {
            Some(w) if w.starts_with('"') => w.to_owned(),
            _ => quoted(name),
        };
        Err(QueryError::execution(format!("{complaint} {shown}")))
    }

    /// Reads a stream to its end. What it holds counts against the limits until [`Columns`] is dropped.
    pub fn collect<'a>(&'a self, mut input: impl SeriesStream) -> Result<Columns<'a>, QueryError> {
        let mut out = Columns { run: &self.run, columns: Vec::new(), held: 0 };
        let mut uncharged = 0u64;
        while let Some(c) = input.next()? {
            let n = c.samples();
            self.hold(n)?;
            out.held += n;
            uncharged += c.bytes();
            if uncharged > 64 << 10 {
                self.charge(std::mem::take(&mut uncharged))?;
            }
            self.tick(1)?;
            out.columns.push(c);
        }
        Ok(out)
    }
}

impl Run {
    /// Whether samples used on this grid count as the query's: those a subquery reads on its own grid do not, its
    /// results count where they are used.
    pub fn counts(&self, grid: Grid) -> bool {
        grid.start_ms == self.top.start_ms && grid.step_ms == self.top.step_ms
    }

    /// Labels a computed value loses.
    pub fn name_labels(&self) -> Hidden {
        if self.semantics.type_and_unit_labels { Hidden::NameTypeUnit } else { Hidden::Name }
    }

    /// The value of `c` is no longer its metric's: its name goes, now or when the query ends.
    pub fn drop_name(&self, c: &mut Column) {
        if self.semantics.delayed_name_removal {
            c.drop_name = true;
        } else {
            c.id.hide(self.name_labels());
        }
    }

    /// To be called for every series, or every 1,024 samples of anything: looks at deadline and cancellation now and then.
    pub fn tick(&self, work: u32) -> Result<(), QueryError> {
        if work == 0 {
            return Ok(());
        }
        let work = u64::from(work);
        let before = self.samples.tallies.own().ticks.fetch_add(work, Ordering::Relaxed);
        if (before >> 10) != (before.wrapping_add(work) >> 10) {
            self.ctx.check()?;
        }
        Ok(())
    }

    /// Refuses grids that alone would exceed the limits, before anything as long as them is allocated.
    pub fn admit(&self, grid: Grid) -> Result<(), QueryError> {
        if grid.n as u64 > self.semantics.samples_max {
            return Err(QueryError::TooManySamples);
        }
        Ok(())
    }

    /// A column of absent values, charged to the budget until the query ends.
    pub fn empty_floats(&self, n: usize) -> Vec<f64> {
        vec![ABSENT; n]
    }

    /// Counts samples as held; an error when there are too many.
    pub fn hold(&self, n: u64) -> Result<(), QueryError> {
        let now = self.samples.current.fetch_add(n, Ordering::Relaxed) + n;
        self.samples.peak.fetch_max(now, Ordering::Relaxed);
        if now > self.semantics.samples_max {
            return Err(QueryError::TooManySamples);
        }
        Ok(())
    }
    pub fn release(&self, n: u64) {
        self.samples.current.fetch_sub(n, Ordering::Relaxed);
    }
    /// What is held for a moment on top of the rest: a window of samples. Threads that do so at the same time do not
    /// add up: the peak does not depend on how many there are.
    pub fn hold_briefly(&self, n: u64) -> Result<(), QueryError> {
        let now = self.samples.current.load(Ordering::Relaxed) + n;
        // Asked first: all threads look at it for every series, and it seldom changes.
        if now > self.samples.peak.load(Ordering::Relaxed) {
            self.samples.peak.fetch_max(now, Ordering::Relaxed);
        }
        if now > self.semantics.samples_max {
            return Err(QueryError::TooManySamples);
        }
        Ok(())
    }

    /// Takes memory from the query's budget; given back when the query ends.
    pub fn charge(&self, bytes: u64) -> Result<(), QueryError> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).grow(bytes)?;
        Ok(())
    }
}

impl SeriesStream for crate::column::Stream<'_> {
    fn next(&mut self) -> Result<Option<Column>, QueryError> {
        (**self).next()
    }
}

/// Series held in memory.
pub(crate) struct Columns<'a> {
    run: &'a Run,
    pub columns: Vec<Column>,
    held: u64,
}

impl Drop for Columns<'_> {
    fn drop(&mut self) {
        self.run.release(self.held);
    }
}
