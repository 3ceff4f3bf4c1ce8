//! Durations of selectors: plain ones and expressions over the query's step and range.
//!
//! Numbers in a duration expression are seconds in f64; the result is cut to whole milliseconds. Source followed: the
//! querying documentation of Prometheus 3.14.
use crate::ast::{Duration, DurationExpr, DurationKind, DurationOp, Span};

/// What `step()` and `range()` stand for: of a range query its step and `end - start`, of an instant query zero. All in
/// milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationContext {
    pub step_ms: i64,
    pub range_ms: i64,
}

/// Why an expression has no value; upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DurationError {
    pub message: &'static str,
    pub span: Span,
}

/// What a duration is used for decides its lower bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationUse {
    /// A range or a subquery's step: greater than zero.
    Positive,
    Offset,
}

impl Duration {
    /// Milliseconds where the duration does not depend on the query's step or range.
    pub fn fixed(&self) -> Option<i64> {
        match self {
            Duration::Fixed(ms) => Some(*ms),
            Duration::Expr(e) if e.is_constant() => self.resolve(DurationUse::Offset, DurationContext::default()).ok(),
            Duration::Expr(_) => None,
        }
    }

    /// Milliseconds in the given query.
    pub fn resolve(&self, used_as: DurationUse, context: DurationContext) -> Result<i64, DurationError> {
        let e = match self {
            Duration::Fixed(ms) => return Ok(*ms),
            Duration::Expr(e) => e,
        };
        let fail = |message| DurationError { message, span: e.span };
        let seconds = e.seconds(context)?;
        if used_as == DurationUse::Positive && seconds <= 0.0 {
            return Err(fail("duration must be greater than 0"));
        }
        // The bound is upstream's: the nanoseconds of an i64.
        if !seconds.is_finite() || seconds.abs() * 1e3 > (i64::MAX / 1_000_000) as f64 {
            return Err(fail("duration is out of range"));
        }
        Ok((seconds * 1000.0) as i64)
    }
}

impl DurationExpr {
    /// Depends neither on `step()` nor on `range()`.
    pub fn is_constant(&self) -> bool {
        match &self.kind {
            DurationKind::Number(_) => true,
            DurationKind::Step | DurationKind::Range => false,
            DurationKind::Negative(e) => e.is_constant(),
            DurationKind::Binary(_, l, r) => l.is_constant() && r.is_constant(),
        }
    }

    /// The value in seconds. Recursive to the parser's depth cap.
    pub fn seconds(&self, context: DurationContext) -> Result<f64, DurationError> {
        Ok(match &self.kind {
            DurationKind::Number(n) => n.value,
            DurationKind::Step => context.step_ms as f64 / 1000.0,
            DurationKind::Range => context.range_ms as f64 / 1000.0,
            DurationKind::Negative(e) => -e.seconds(context)?,
            DurationKind::Binary(op, l, r) => {
                let (l, r) = (l.seconds(context)?, r.seconds(context)?);
                let fail = |message| DurationError { message, span: self.span };
                match op {
                    DurationOp::Add => l + r,
                    DurationOp::Sub => l - r,
                    DurationOp::Mul => l * r,
                    DurationOp::Div if r == 0.0 => return Err(fail("division by zero")),
                    DurationOp::Div => l / r,
                    DurationOp::Mod if r == 0.0 => return Err(fail("modulo by zero")),
                    DurationOp::Mod => l % r,
                    DurationOp::Pow => l.powf(r),
                    // Go's math.Min and math.Max, which a NaN wins.
                    DurationOp::MinOf | DurationOp::MaxOf if l.is_nan() || r.is_nan() => f64::NAN,
                    DurationOp::MinOf => l.min(r),
                    DurationOp::MaxOf => l.max(r),
                }
            }
        })
    }
}
