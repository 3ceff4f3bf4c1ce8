//! The functions of PromQL: which implementation for which name.
mod absent;
pub(crate) mod extended;
mod histogram;
mod histogram_classic;
mod info;
mod label;
mod over_time;
mod rate;
mod simple;
mod sort;
pub(crate) mod time;

use std::sync::Arc;

use ferula_promql_parser::{Call, Expr, Span, ValueType};

use crate::column::{Column, Point, Stream, stream};
use crate::error::QueryError;
use crate::eval::lanes::{Lane, lanes};
use crate::eval::merge::{Duplicates, always_unique, one_name};
use crate::eval::range::{Plan, Points, RangeSeries, RangeVector, SeriesWindows, Source, Window};
use crate::eval::selector::Reference;
use crate::eval::{Output, eval};
use crate::grid::Grid;
use crate::query::{Query, Run};

/// Computes one step of a range function from the step's window.
pub(crate) trait Kernel {
    /// A new series begins; `points` holds all of its samples.
    fn series(&mut self, _points: &Points) {}
    fn window(&mut self, w: &Window<'_>) -> Result<Option<Point>, QueryError>;
    /// All steps at once, where the series has floats only; `out` comes filled with absent values. `false`: not done,
    /// to be asked window by window.
    fn column(&mut self, _series: &Frame<'_>, _out: &mut [f64]) -> Result<bool, QueryError> {
        Ok(false)
    }
}

pub(crate) type BoxedKernel = Box<dyn Kernel + Send>;

/// A series of floats and where its windows lie.
pub(crate) struct Frame<'f> {
    pub points: &'f Points,
    pub plan: &'f Plan,
    pub times: Reference,
    pub range_ms: i64,
}

impl<F: FnMut(&Window<'_>) -> Result<Option<Point>, QueryError>> Kernel for F {
    fn window(&mut self, w: &Window<'_>) -> Result<Option<Point>, QueryError> {
        self(w)
    }
}

/// What an implementation gets besides the query and the grid.
pub(crate) struct Args<'a> {
    pub call: &'a Call,
}

impl<'a> Args<'a> {
    pub fn expr(&self, i: usize) -> Result<&'a Expr, QueryError> {
        let missing = || QueryError::execution(format!("argument {} of {} is missing", i + 1, self.call.func.name));
        self.call.args.get(i).ok_or_else(missing)
    }
    /// What annotations about an argument point at: it without parentheses.
    pub fn span(&self, i: usize) -> Result<Span, QueryError> {
        Ok(self.expr(i)?.without_parens().span())
    }
    pub fn len(&self) -> usize {
        self.call.args.len()
    }
    pub fn scalar(&self, q: &'a Query<'a>, i: usize, grid: Grid) -> Result<Vec<f64>, QueryError> {
        eval(q, self.expr(i)?, grid)?.scalar()
    }
    pub fn string(&self, q: &'a Query<'a>, i: usize) -> Result<String, QueryError> {
        eval(q, self.expr(i)?, Grid::instant(q.top.start_ms))?.string()
    }
    pub fn vector(&self, q: &'a Query<'a>, i: usize, grid: Grid) -> Result<Stream<'a>, QueryError> {
        eval(q, self.expr(i)?, grid)?.series()
    }
}

pub(crate) fn call<'a>(q: &'a Query<'a>, call: &'a Call, grid: Grid) -> Result<Output<'a>, QueryError> {
    let args = Args { call };
    if call.func.return_type == ValueType::Scalar {
        return Ok(Output::Scalar(scalar(q, &args, grid)?));
    }
    Ok(Output::Series(match call.func.name {
        "vector" => {
            let mut once = Some(args.scalar(q, 0, grid)?);
            stream(move || {
                Ok(once.take().map(|floats| Column {
                    floats,
                    ..Column::new(crate::identity::Identity::owned(Default::default()), 0)
                }))
            })
        }
        "absent" => absent::absent(q, &args, grid)?,
        "absent_over_time" => absent::absent_over_time(q, &args, grid)?,
        "label_replace" => label::replace(q, &args, grid)?,
        "label_join" => label::join(q, &args, grid)?,
        "sort" | "sort_desc" => sort::by_value(q, &args, grid)?,
        "sort_by_label" | "sort_by_label_desc" => sort::by_label(q, &args, grid)?,
        "timestamp" | "start_timestamp" => simple::timestamp(q, &args, grid)?,
        "info" => info::info(q, &args, grid)?,
        "histogram_quantile" | "histogram_fraction" | "histogram_quantiles" => histogram_classic::eval(q, &args, grid)?,
        "histogram_avg" | "histogram_count" | "histogram_sum" | "histogram_stddev" | "histogram_stdvar" => {
            histogram::eval(q, &args, grid)?
        }
        name if call.func.arg_types.contains(&ValueType::Matrix) => range_function(q, &args, grid, name)?,
        _ => simple::eval(q, &args, grid)?,
    }))
}

fn scalar<'a>(q: &'a Query<'a>, args: &Args<'a>, grid: Grid) -> Result<Vec<f64>, QueryError> {
    let constant = |v: f64| Ok(vec![v; grid.n]);
    let durations = q.durations();
    match args.call.func.name {
        "time" => Ok(grid.times().map(|t| t as f64 / 1000.0).collect()),
        "pi" => constant(std::f64::consts::PI),
        "start" => constant(q.top.start_ms as f64 / 1000.0),
        "end" => constant(q.top_end_ms as f64 / 1000.0),
        "step" => constant(durations.step_ms as f64 / 1000.0),
        "range" => constant(durations.range_ms as f64 / 1000.0),
        "min_of" | "max_of" => {
            let (l, r) = (args.scalar(q, 0, grid)?, args.scalar(q, 1, grid)?);
            let pick = |(l, r): (f64, f64)| match args.call.func.name {
                _ if l.is_nan() || r.is_nan() => f64::NAN,
                "min_of" => l.min(r),
                _ => l.max(r),
            };
            Ok(l.into_iter().zip(r).map(pick).collect())
        }
        "scalar" => {
            let mut input = args.vector(q, 0, grid)?;
            let mut out = vec![f64::NAN; grid.n];
            let mut found = vec![0u8; grid.n];
            while let Some(c) = input.next()? {
                for ((v, out), found) in c.floats.iter().zip(&mut out).zip(&mut found) {
                    if crate::column::is_present(*v) {
                        *out = if *found == 0 { *v } else { f64::NAN };
                        *found = 1;
                    }
                }
            }
            Ok(out)
        }
        name => Err(unsupported(name)),
    }
}

pub(crate) fn unsupported(name: &str) -> QueryError {
    QueryError::Unsupported(format!("function {name}() is not supported"))
}

/// Applies a kernel to every window of every series of the range vector argument.
fn range_function<'a>(
    q: &'a Query<'a>,
    args: &Args<'a>,
    grid: Grid,
    name: &'static str,
) -> Result<Stream<'a>, QueryError> {
    let at = args.call.func.arg_types.iter().position(|t| *t == ValueType::Matrix).unwrap_or(0);
    let argument = args.expr(at)?;
    let (source, windows) = RangeVector::open(q, argument, grid)?.into_parts();
    let keeps_name = matches!(name, "last_over_time" | "first_over_time");
    let distinct = keeps_name || q.semantics.delayed_name_removal || one_name(argument);
    let built = kernel(q, args, grid, name, &windows)?;
    let mut first = Applied { q: Arc::clone(&q.run), name, keeps_name, kernel: built, windows };
    let out = match source {
        Source::Subquery { mut stream, grid: inner } => crate::column::stream(move || {
            while let Some(c) = stream.next()? {
                if let Some(series) = first.windows.take_column(c, inner)?
                    && let Some(c) = first.apply(series)?
                {
                    return Ok(Some(c));
                }
            }
            Ok(None)
        }),
        // A kernel with further arguments has them evaluated: once is enough.
        Source::Stored(set) if args.len() > 1 => lanes(q, set, grid, first, None),
        Source::Stored(set) => {
            let call = args.call;
            let shape = first.windows.fork();
            let more = move || {
                let windows = shape.fork();
                let kernel = kernel(q, &Args { call }, grid, name, &windows)?;
                Ok(Applied { q: Arc::clone(&q.run), name, keeps_name, kernel, windows })
            };
            lanes(q, set, grid, first, Some(Box::new(more)))
        }
    };
    Ok(if distinct { out } else { always_unique(q, out, Duplicates::Refuse) })
}

fn kernel<'a>(
    q: &'a Query<'a>,
    args: &Args<'a>,
    grid: Grid,
    name: &'static str,
    windows: &SeriesWindows,
) -> Result<BoxedKernel, QueryError> {
    if windows.extension.is_some() {
        return extended::kernel(&q.run, name, windows);
    }
    match rate::kernel(&q.run, name, windows) {
        Some(k) => Ok(k),
        None => over_time::kernel(q, args, grid, name, windows),
    }
}

/// A range function on one thread: a kernel and the windows it is applied to.
struct Applied {
    q: Arc<Run>,
    name: &'static str,
    keeps_name: bool,
    kernel: BoxedKernel,
    windows: SeriesWindows,
}

impl Lane for Applied {
    fn column(&mut self, series: ferula_storage::Series) -> Result<Option<Column>, QueryError> {
        match self.windows.read(series)? {
            Some(series) => self.apply(series),
            None => Ok(None),
        }
    }
}

impl Applied {
    /// The function's column of the series whose samples have been read.
    fn apply(&mut self, series: RangeSeries) -> Result<Option<Column>, QueryError> {
        let Applied { q, kernel, windows, .. } = self;
        let mut c = Column {
            id: series.id,
            drop_name: series.drop_name,
            floats: q.empty_floats(windows.times.n),
            histograms: Vec::new(),
        };
        kernel.series(&windows.points);
        let whole = windows.points.histogram_ms.is_empty() && windows.extension.is_none() && {
            let frame = Frame {
                points: &windows.points,
                plan: &windows.plan,
                times: windows.times,
                range_ms: windows.range_ms,
            };
            kernel.column(&frame, &mut c.floats)?
        };
        let counter = matches!(self.name, "rate" | "increase");
        let mut any = false;
        let (floats, histograms) = (&mut c.floats, &mut c.histograms);
        let mut put = |step: usize, p: Option<Point>| {
            any |= p.is_some();
            match p {
                Some(Point::Float(v)) => floats[step] = v,
                Some(Point::Histogram(h)) => histograms.push((step as u32, h)),
                None => {}
            }
        };
        if whole {
            windows.account()?;
            any = c.floats.iter().any(|v| crate::column::is_present(*v));
        } else if windows.extension.is_some() {
            extended::windows(q, windows, &c.id, counter, |w| {
                put(w.step, kernel.window(w)?);
                Ok(())
            })?;
        } else {
            windows.windows(&c.id, |w| {
                put(w.step, kernel.window(w)?);
                Ok(())
            })?;
        }
        if !any {
            return Ok(None);
        }
        if counter && c.floats.iter().any(|v| crate::column::is_present(*v)) {
            rate::check_counter_name(q, &c.id, windows.span);
        }
        if !self.keeps_name {
            q.drop_name(&mut c);
        }
        Ok(Some(c))
    }
}
