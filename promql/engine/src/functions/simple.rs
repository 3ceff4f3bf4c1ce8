//! Functions of one float at a time: mathematics, rounding, clamping, dates, timestamps.
use ferula_promql_parser::Expr;

use super::time::{Civil, days_in_month};
use super::{Args, unsupported};
use crate::column::{ABSENT, Column, Stream, is_present, map, stream};
use crate::error::QueryError;
use crate::eval::merge::{Duplicates, unique};
use crate::eval::selector::{Take, instant_of};
use crate::grid::Grid;
use crate::identity::Identity;
use crate::query::Query;

fn unary(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "acos" => f64::acos,
        "acosh" => f64::acosh,
        "asin" => f64::asin,
        "asinh" => f64::asinh,
        "atan" => f64::atan,
        "atanh" => f64::atanh,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "deg" => |v| v * 180.0 / std::f64::consts::PI,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "ln" => f64::ln,
        "log10" => f64::log10,
        "log2" => f64::log2,
        "rad" => |v| v * std::f64::consts::PI / 180.0,
        "sgn" => |v| {
            if v > 0.0 {
                1.0
            } else if v < 0.0 {
                -1.0
            } else {
                v
            }
        },
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        _ => return date(name),
    })
}

fn date(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "day_of_month" => |v| f64::from(Civil::of(v).day),
        "day_of_week" => |v| f64::from(Civil::of(v).weekday),
        "day_of_year" => |v| f64::from(Civil::of(v).day_of_year),
        "days_in_month" => |v| {
            let c = Civil::of(v);
            f64::from(days_in_month(c.year, c.month))
        },
        "hour" => |v| f64::from(Civil::of(v).hour),
        "minute" => |v| f64::from(Civil::of(v).minute),
        "month" => |v| f64::from(Civil::of(v).month),
        "year" => |v| Civil::of(v).year as f64,
        _ => return None,
    })
}

/// Go's `math.Max` and `math.Min`: NaN wins.
fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}
fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

pub(super) fn eval<'a>(q: &'a Query<'a>, args: &Args<'a>, grid: Grid) -> Result<Stream<'a>, QueryError> {
    let name = args.call.func.name;
    if args.len() == 0 {
        // A date function without argument is one of `vector(time())`.
        let f = date(name).ok_or_else(|| unsupported(name))?;
        let mut once = Some(grid.times().map(|t| f(t as f64 / 1000.0)).collect::<Vec<f64>>());
        return Ok(stream(move || {
            Ok(once.take().map(|floats| Column { floats, ..Column::new(Identity::owned(Default::default()), 0) }))
        }));
    }
    let expr = args.expr(0)?;
    let input = args.vector(q, 0, grid)?;
    let mut f: Box<dyn FnMut(usize, f64) -> f64 + 'a> = match name {
        "clamp" => {
            let (lo, hi) = (args.scalar(q, 1, grid)?, args.scalar(q, 2, grid)?);
            Box::new(move |i, v| if hi[i] < lo[i] { ABSENT } else { max(lo[i], min(hi[i], v)) })
        }
        "clamp_max" => {
            let hi = args.scalar(q, 1, grid)?;
            Box::new(move |i, v| min(hi[i], v))
        }
        "clamp_min" => {
            let lo = args.scalar(q, 1, grid)?;
            Box::new(move |i, v| max(lo[i], v))
        }
        "round" => {
            let to = if args.len() > 1 { args.scalar(q, 1, grid)? } else { vec![1.0; grid.n] };
            Box::new(move |i, v| {
                // Multiplying by the inverse keeps 0.1 and its like exact where dividing would not.
                let inverse = 1.0 / to[i];
                (v * inverse + 0.5).floor() / inverse
            })
        }
        _ => {
            let f = unary(name).ok_or_else(|| unsupported(name))?;
            Box::new(move |_, v| f(v))
        }
    };
    let out = map(input, move |c| {
        q.tick(1 + (c.floats.len() >> 6) as u32)?;
        for (i, v) in c.floats.iter_mut().enumerate().filter(|(_, v)| is_present(**v)) {
            *v = f(i, *v);
        }
        c.histograms.clear();
        q.drop_name(c);
        Ok(())
    });
    Ok(unique(q, expr, out, Duplicates::Merge))
}

/// `timestamp` and `start_timestamp`: of a bare selector the sample's own times, of anything else the step's.
pub(super) fn timestamp<'a>(q: &'a Query<'a>, args: &Args<'a>, grid: Grid) -> Result<Stream<'a>, QueryError> {
    let expr = args.expr(0)?;
    let start = args.call.func.name == "start_timestamp";
    let input = match expr.without_parens() {
        Expr::Vector(v) if v.extension.is_none() => {
            instant_of(q, v, grid, if start { Take::StartTime } else { Take::Time })?
        }
        _ if start => return Ok(stream(|| Ok(None))),
        _ => map(args.vector(q, 0, grid)?, move |c| {
            for step in 0..grid.n {
                if c.has(step) {
                    c.floats[step] = grid.at(step) as f64 / 1000.0;
                }
            }
            c.histograms.clear();
            Ok(())
        }),
    };
    let out = map(input, |c| {
        q.drop_name(c);
        Ok(())
    });
    Ok(unique(q, expr, out, Duplicates::Merge))
}
