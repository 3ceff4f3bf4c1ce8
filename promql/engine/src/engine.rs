//! The engine: limits and semantics, and the two ways to ask.
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use ferula_model::Labels;
use ferula_promql_parser::{Expr, ValueType};
use ferula_storage::{QueryContext, QueryStats, Queryable};
use hashbrown::HashSet;

use crate::column::{Column, Point, is_present};
use crate::error::QueryError;
use crate::eval::merge::{Duplicates, merge};
use crate::eval::range::RangeVector;
use crate::eval::{Common, Output, defines_order, eval};
use crate::grid::Grid;
use crate::plan::{Analysis, PlanNode, plan};
use crate::prepared::{Kept, Outline, Prepared};
use crate::query::{Query, Semantics};
use crate::threads::Threads;
use crate::turns::{Turn, Turns};
use crate::value::{Evaluation, Sample, SampleStats, SampleValue, SeriesPoints, Value};

/// Prometheus's flags that concern the engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// `--query.max-samples`
    pub samples_max: u64,
    /// `--query.timeout`; used when the context brings no deadline.
    pub timeout: Duration,
    /// `--query.lookback-delta`
    pub lookback_ms: i64,
    /// The step of subqueries that give none: the global evaluation interval.
    pub subquery_step_ms: i64,
    /// `--enable-feature=promql-delayed-name-removal`
    pub delayed_name_removal: bool,
    /// `--enable-feature=type-and-unit-labels`
    pub type_and_unit_labels: bool,
    /// Use start timestamps of samples in rates.
    pub start_timestamps: bool,
    /// Threads that one query alone may use besides its own. Of several queries at a time, as many compute as there are of
    /// these and one more; the others wait for their turn. Answers do not depend on it.
    pub spare_threads: usize,
    /// Compute step-invariant and common sub-expressions once. Answers do not depend on it.
    pub optimises: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            samples_max: 50_000_000,
            timeout: Duration::from_secs(120),
            lookback_ms: 300_000,
            subquery_step_ms: 60_000,
            delayed_name_removal: false,
            type_and_unit_labels: false,
            start_timestamps: false,
            spare_threads: std::thread::available_parallelism().map_or(0, |n| n.get() - 1),
            optimises: true,
        }
    }
}

/// What one query may choose.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueryOptions<'t> {
    /// The query's text: annotations then say line and column.
    pub text: Option<&'t str>,
    /// Overrides the engine's lookback.
    pub lookback_ms: Option<i64>,
    /// Count samples per step.
    pub per_step_stats: bool,
    /// Measure every expression: [`Evaluation::plan`].
    pub analyze: bool,
    /// Instant vectors need not be sorted by labels.
    pub any_order: bool,
    /// Computes at once however many queries there are: rules.
    pub never_waits: bool,
}

/// Evaluates expressions. Shared by all queries; holds no lock while one runs.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    subquery_step_ms: AtomicI64,
    /// None where a query may use no thread but its own.
    threads: Option<Arc<Threads>>,
    turns: Arc<Turns>,
}

impl Engine {
    pub fn new(options: EngineOptions) -> Engine {
        let subquery_step_ms = AtomicI64::new(options.subquery_step_ms);
        let threads = (options.spare_threads > 0).then(|| Arc::new(Threads::new(options.spare_threads)));
        let turns = Arc::new(Turns::new(1 + options.spare_threads));
        Engine { options, subquery_step_ms, threads, turns }
    }

    /// The step of subqueries that give none, from now on: it follows the configuration's evaluation interval.
    pub fn set_subquery_step_ms(&self, step_ms: i64) {
        self.subquery_step_ms.store(step_ms, Ordering::Relaxed);
    }

    /// Queries that wait for their turn to compute; as many at a time have one as there are threads, rules not counted.
    pub fn waiting(&self) -> usize {
        self.turns.waiting()
    }

    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Evaluates `expr` at one time.
    pub fn instant(
        &self,
        ctx: &QueryContext,
        queryable: &dyn Queryable,
        expr: &Expr,
        t_ms: i64,
        options: &QueryOptions<'_>,
    ) -> Result<Evaluation, QueryError> {
        let ctx = &self.bounded(ctx);
        let outline = &Outline::of(expr);
        deep_enough(outline.height, || self.instant_here(ctx, queryable, (expr, outline, None), t_ms, options))
    }

    /// As [`Engine::instant`], for an expression that is evaluated again and again.
    pub fn instant_again(
        &self,
        ctx: &QueryContext,
        queryable: &dyn Queryable,
        prepared: &Prepared,
        t_ms: i64,
        options: &QueryOptions<'_>,
    ) -> Result<Evaluation, QueryError> {
        let ctx = &self.bounded(ctx);
        let (expr, outline, kept) = (prepared.expr(), &prepared.outline, prepared.kept());
        let kept = kept.as_deref();
        deep_enough(outline.height, || self.instant_here(ctx, queryable, (expr, outline, kept), t_ms, options))
    }

    /// How `expr` would be evaluated.
    pub fn explain(&self, expr: &Expr) -> Vec<PlanNode> {
        plan(expr, &if self.options.optimises { Outline::of(expr).common } else { Common::default() }, None)
    }

    /// A context without a deadline gets the engine's timeout.
    fn bounded(&self, ctx: &QueryContext) -> QueryContext {
        let mut ctx = ctx.clone();
        if ctx.deadline.is_none() {
            ctx.deadline = Instant::now().checked_add(self.options.timeout);
        }
        ctx
    }

    fn instant_here(
        &self,
        ctx: &QueryContext,
        queryable: &dyn Queryable,
        (expr, outline, kept): (&Expr, &Outline, Option<&Kept>),
        t_ms: i64,
        options: &QueryOptions<'_>,
    ) -> Result<Evaluation, QueryError> {
        let mut q = self.query(ctx, queryable, (expr, outline), Grid::instant(t_ms), t_ms, 0, options)?;
        q.kept = kept;
        let value = if expr.value_type() == ValueType::Matrix {
            Value::Matrix(range_vector(&q, expr, t_ms)?)
        } else {
            match eval(&q, expr, q.top)? {
                Output::Scalar(v) => Value::Scalar { t_ms, value: v.first().copied().unwrap_or(f64::NAN) },
                Output::String(value) => Value::String { t_ms, value },
                Output::Series(s) => {
                    let mut held = q.collect(s)?;
                    let columns = cleaned(&q, std::mem::take(&mut held.columns))?;
                    let mut samples: Vec<Sample> = columns.into_iter().filter_map(|c| sample(c, t_ms)).collect();
                    if !options.any_order && !defines_order(expr) {
                        samples.sort_by_cached_key(|s| sort_key(&s.labels));
                    }
                    Value::Vector(samples)
                }
            }
        };
        Ok(finish(&q, expr, value, options))
    }

    /// Evaluates `expr` from `start_ms` to `end_ms`, both inclusive, every `step_ms`. Gives a matrix, sorted by labels.
    pub fn range(
        &self,
        ctx: &QueryContext,
        queryable: &dyn Queryable,
        expr: &Expr,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        options: &QueryOptions<'_>,
    ) -> Result<Evaluation, QueryError> {
        if !matches!(expr.value_type(), ValueType::Scalar | ValueType::Vector) {
            return Err(QueryError::execution(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                expr.value_type().documented()
            )));
        }
        let ctx = &self.bounded(ctx);
        let outline = &Outline::of(expr);
        let run = || self.range_here(ctx, queryable, (expr, outline), start_ms, end_ms, step_ms, options);
        deep_enough(outline.height, run)
    }

    fn range_here(
        &self,
        ctx: &QueryContext,
        queryable: &dyn Queryable,
        (expr, outline): (&Expr, &Outline),
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        options: &QueryOptions<'_>,
    ) -> Result<Evaluation, QueryError> {
        let grid = Grid::range(start_ms, end_ms, step_ms);
        let q = self.query(ctx, queryable, (expr, outline), grid, end_ms, step_ms, options)?;
        let mut series = match eval(&q, expr, grid)? {
            Output::Scalar(v) => {
                let floats = grid.times().zip(v).collect();
                vec![SeriesPoints { labels: Labels::empty(), floats, histograms: Vec::new() }]
            }
            Output::String(_) => return Err(QueryError::execution("a range query cannot give a string")),
            Output::Series(s) => {
                let mut held = q.collect(s)?;
                let columns = cleaned(&q, std::mem::take(&mut held.columns))?;
                columns.into_iter().map(|c| points(c, grid)).collect()
            }
        };
        series.sort_by_cached_key(|s| sort_key(&s.labels));
        Ok(finish(&q, expr, Value::Matrix(series), options))
    }

    fn query<'q>(
        &self,
        ctx: &'q QueryContext,
        queryable: &dyn Queryable,
        (expr, outline): (&Expr, &'q Outline),
        top: Grid,
        top_end_ms: i64,
        top_step_ms: i64,
        options: &QueryOptions<'q>,
    ) -> Result<Query<'q>, QueryError> {
        ctx.check()?;
        let o = &self.options;
        let semantics = Semantics {
            lookback_ms: options.lookback_ms.filter(|l| *l > 0).unwrap_or(o.lookback_ms),
            delayed_name_removal: o.delayed_name_removal,
            type_and_unit_labels: o.type_and_unit_labels,
            start_timestamps: o.start_timestamps,
            subquery_step_ms: self.subquery_step_ms.load(Ordering::Relaxed).max(1),
            samples_max: o.samples_max,
        };
        if top.n as u64 > semantics.samples_max {
            return Err(QueryError::TooManySamples);
        }
        let turn = Turn::take(&self.turns, options.never_waits, ctx)?;
        // One querier for the whole query: all selectors see the same state of the store.
        let times = crate::eval::extent(expr, top.start_ms, top_end_ms, top_step_ms, &semantics)?;
        let querier = queryable.querier(times.0, times.1)?;
        let mut q =
            Query::new(ctx, turn, querier, outline, semantics, top, top_end_ms, top_step_ms, options.per_step_stats)?;
        q.text = options.text;
        q.optimises = o.optimises;
        q.analysis = options.analyze.then(Analysis::default);
        q.threads = self.threads.clone();
        Ok(q)
    }
}

/// Nesting up to which an evaluation fits any caller's stack; deeper ones get a thread with a stack of their own.
const HEIGHT_HERE: usize = 16;
/// For the deepest tree the parser lets through, with room to spare. Only the pages used cost memory.
const STACK_BYTES: usize = 64 << 20;

fn deep_enough(
    height: usize,
    f: impl FnOnce() -> Result<Evaluation, QueryError> + Send,
) -> Result<Evaluation, QueryError> {
    if height <= HEIGHT_HERE {
        return f();
    }
    std::thread::scope(|s| {
        let thread = std::thread::Builder::new().name("promql-deep".to_owned()).stack_size(STACK_BYTES);
        let handle = thread
            .spawn_scoped(s, f)
            .map_err(|e| QueryError::execution(format!("cannot start a thread for a deep expression: {e}")))?;
        handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Bytes in the order of labels: names and values end with a byte below all text.
fn sort_key(labels: &Labels) -> Vec<u8> {
    let mut key = Vec::with_capacity(labels.size_bytes() + 16);
    for (n, v) in labels {
        for text in [n, v] {
            key.extend_from_slice(text.as_bytes());
            key.push(0);
        }
    }
    key
}

/// Names dropped late, and label sets unique.
fn cleaned(q: &Query<'_>, mut columns: Vec<Column>) -> Result<Vec<Column>, QueryError> {
    if !q.semantics.delayed_name_removal {
        return Ok(columns);
    }
    for c in columns.iter_mut().filter(|c| c.drop_name) {
        c.id.hide(q.name_labels());
        c.drop_name = false;
    }
    merge(columns, Duplicates::Merge)
}

fn sample(c: Column, t_ms: i64) -> Option<Sample> {
    let value = match c.point(0)? {
        Point::Float(v) => SampleValue::Float(v),
        Point::Histogram(h) => SampleValue::Histogram(h),
    };
    Some(Sample { labels: c.id.to_labels(), t_ms, value })
}

fn points(c: Column, grid: Grid) -> SeriesPoints {
    let present = c.floats.iter().enumerate().filter(|(_, v)| is_present(**v));
    SeriesPoints {
        labels: c.id.to_labels(),
        floats: present.map(|(i, v)| (grid.at(i), *v)).collect(),
        histograms: c.histograms.into_iter().map(|(i, h)| (grid.at(i as usize), h)).collect(),
    }
}

/// A range vector as the result of an instant query.
fn range_vector<'a>(q: &'a Query<'a>, expr: &'a Expr, t_ms: i64) -> Result<Vec<SeriesPoints>, QueryError> {
    let mut v = RangeVector::open(q, expr, Grid::instant(t_ms))?;
    let mut out: Vec<SeriesPoints> = Vec::new();
    let mut held = 0u64;
    let mut seen: HashSet<Labels> = HashSet::new();
    while let Some(mut series) = v.next()? {
        if series.drop_name {
            series.id.hide(q.name_labels());
        }
        let labels = series.id.to_labels();
        let mut found = None;
        v.windows(&series.id, |w| {
            let floats = w.float_ms.iter().copied().zip(w.floats.iter().copied()).collect();
            let histograms = w.histogram_ms.iter().copied().zip(w.histograms.iter().cloned()).collect();
            found = Some((floats, histograms, w.len() as u64));
            Ok(())
        })?;
        if let Some((floats, histograms, n)) = found {
            q.hold(n)?;
            held += n;
            q.charge(16 * n + 128)?;
            if !seen.insert(labels.clone()) {
                return Err(QueryError::execution(crate::eval::merge::SAME_LABELSET));
            }
            out.push(SeriesPoints { labels, floats, histograms });
        }
    }
    q.release(held);
    out.sort_by_cached_key(|s| sort_key(&s.labels));
    Ok(out)
}

fn finish(q: &Query<'_>, expr: &Expr, value: Value, options: &QueryOptions<'_>) -> Evaluation {
    let steps = if options.per_step_stats { q.samples.steps() } else { Vec::new() };
    let per_step = q.top.times().zip(steps.iter().map(|s| s.0)).collect();
    let read_per_step = q.top.times().zip(steps.iter().map(|s| s.1)).collect();
    QueryStats::add(&q.ctx.stats.samples, q.samples.decoded());
    let stats = SampleStats {
        total_queryable: q.samples.read(),
        read: q.samples.fresh(),
        peak: q.samples.peak(),
        per_step,
        read_per_step,
    };
    let none = Common::default();
    let common = if q.optimises { &q.outline.common } else { &none };
    let plan = q.analysis.as_ref().map(|a| plan(expr, common, Some(a))).unwrap_or_default();
    Evaluation { value, annotations: q.notes.finish(options.text), stats, plan, waited: q.turn.waited() }
}
