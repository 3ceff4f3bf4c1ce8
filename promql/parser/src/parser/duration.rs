//! Durations in brackets and after `offset`: numbers, durations, and expressions over them, `step()` and `range()`.
//!
//! The same Pratt scheme as for expressions, again without recursion.
use std::sync::Arc;

use super::{Parser, Result};
use crate::ast::*;
use crate::token::{Bound, Kind, Token};

const EXPECTED: &str = "number, duration, step(), or range()";
/// Bounds chains of operators as well as nesting, so that the tree may be walked recursively.
const TOKENS_MAX: usize = 128;
/// Longest duration: the nanoseconds of an i64, in seconds.
const SECONDS_MAX: f64 = 9_223_372_036.854_776;

enum Frame {
    Paren,
    /// `min_of(` or `max_of(`, with the first argument once it is read.
    Extreme {
        op: DurationOp,
        start: Token,
        first: Option<DurationExpr>,
    },
    Unary {
        op: Token,
    },
    Binary {
        lhs: DurationExpr,
        op: DurationOp,
        at: Token,
    },
}

fn binary_op(kind: Kind) -> Option<(DurationOp, u8)> {
    Some(match kind {
        Kind::Operator(BinaryOp::Add) => (DurationOp::Add, 4),
        Kind::Operator(BinaryOp::Sub) => (DurationOp::Sub, 4),
        Kind::Operator(BinaryOp::Mul) => (DurationOp::Mul, 5),
        Kind::Operator(BinaryOp::Div) => (DurationOp::Div, 5),
        Kind::Operator(BinaryOp::Mod) => (DurationOp::Mod, 5),
        Kind::Operator(BinaryOp::Pow) => (DurationOp::Pow, 6),
        _ => return None,
    })
}

fn power(op: DurationOp) -> u8 {
    match op {
        DurationOp::Add | DurationOp::Sub => 4,
        DurationOp::Pow => 6,
        _ => 5,
    }
}

/// Plain numbers become milliseconds, everything else stays an expression.
fn to_duration(e: DurationExpr) -> Duration {
    match e.kind {
        DurationKind::Number(n) if !e.wrapped => {
            let nanoseconds = (n.value * 1e9).round();
            Duration::Fixed((nanoseconds / 1e6) as i64)
        }
        _ => Duration::Expr(Arc::new(e)),
    }
}

impl Parser<'_> {
    pub(super) fn positive_duration(&mut self, place: &str) -> Result<Duration> {
        let e = self.duration_expr(place, EXPECTED, false)?;
        self.positive(e)
    }

    pub(super) fn positive_duration_or_bracket(&mut self) -> Result<Duration> {
        let e = self.duration_expr("subquery selector", "number, duration, step(), range(), or \"]\"", false)?;
        self.positive(e)
    }

    fn positive(&self, e: DurationExpr) -> Result<Duration> {
        match &e.kind {
            DurationKind::Number(n) if n.value <= 0.0 => {
                Err(self.error_after_lookahead(n.span, "duration must be greater than 0"))
            }
            _ => Ok(to_duration(e)),
        }
    }

    /// After `offset`: a signed number or call, or an expression in parentheses. `offset 1 + 2` adds 2 to the samples.
    pub(super) fn offset_duration(&mut self) -> Result<Duration> {
        Ok(to_duration(self.duration_expr("offset", EXPECTED, true)?))
    }

    /// With `single`, stops before a binary operator that stands outside parentheses.
    fn duration_expr(&mut self, place: &str, expected: &str, single: bool) -> Result<DurationExpr> {
        let mut open: Vec<Frame> = Vec::new();
        let start = self.at;
        loop {
            let mut e = self.duration_operand(&mut open, start, place, expected)?;
            loop {
                let enclosed = open.iter().any(|f| matches!(f, Frame::Paren | Frame::Extreme { .. }));
                let op = binary_op(self.peek()).filter(|_| enclosed || !single);
                if let Some((op, binds)) = op {
                    e = self.reduce_durations(&mut open, e, binds, op == DurationOp::Pow)?;
                    self.experimental_duration(&e)?;
                    let at = self.next();
                    open.push(Frame::Binary { lhs: e, op, at });
                    break;
                }
                e = self.reduce_durations(&mut open, e, 0, false)?;
                match (open.pop(), self.peek()) {
                    (None, _) => return Ok(e),
                    (Some(Frame::Paren), Kind::RightParen) => {
                        self.next();
                        self.experimental_duration(&e)?;
                        e.wrapped = true;
                    }
                    (Some(Frame::Extreme { op, start, first: None }), Kind::Comma) => {
                        self.next();
                        open.push(Frame::Extreme { op, start, first: Some(e) });
                        break;
                    }
                    (Some(Frame::Extreme { op, start, first: Some(first) }), Kind::RightParen) => {
                        let span = start.span.to(self.next().span);
                        let kind = DurationKind::Binary(op, Box::new(first), Box::new(e));
                        e = DurationExpr { kind, wrapped: false, span };
                    }
                    _ => return Err(self.unexpected(place, expected)),
                }
            }
        }
    }

    fn experimental_duration(&self, e: &DurationExpr) -> Result<()> {
        if self.options.duration_expressions {
            return Ok(());
        }
        Err(self.error(e.span, "experimental duration expression is not enabled"))
    }

    fn duration_operand(
        &mut self,
        open: &mut Vec<Frame>,
        start: usize,
        place: &str,
        expected: &str,
    ) -> Result<DurationExpr> {
        loop {
            let token = self.token();
            if self.at - start > TOKENS_MAX {
                return Err(self.error(token.span, format!("duration expression has more than {TOKENS_MAX} tokens")));
            }
            let extreme = match self.peek() {
                Kind::MinOf => Some(DurationOp::MinOf),
                Kind::MaxOf => Some(DurationOp::MaxOf),
                Kind::Identifier if self.word(token.span).eq_ignore_ascii_case("min_of") => Some(DurationOp::MinOf),
                Kind::Identifier if self.word(token.span).eq_ignore_ascii_case("max_of") => Some(DurationOp::MaxOf),
                _ => None,
            };
            let frame = match token.kind {
                Kind::Number | Kind::Duration => {
                    self.next();
                    let number = self.number_literal(token)?;
                    if number.value.abs() > SECONDS_MAX {
                        return Err(self.error(token.span, "duration out of range"));
                    }
                    return Ok(DurationExpr { kind: DurationKind::Number(number), wrapped: false, span: token.span });
                }
                Kind::Bound(bound @ (Bound::Step | Bound::Range)) => {
                    self.next();
                    self.take_if(Kind::LeftParen).ok_or_else(|| self.unexpected(place, expected))?;
                    let close = self.take_if(Kind::RightParen).ok_or_else(|| self.unexpected(place, expected))?;
                    let kind = if bound == Bound::Step { DurationKind::Step } else { DurationKind::Range };
                    return Ok(DurationExpr { kind, wrapped: false, span: token.span.to(close.span) });
                }
                Kind::LeftParen => Frame::Paren,
                Kind::Operator(BinaryOp::Add | BinaryOp::Sub) => Frame::Unary { op: token },
                _ => match extreme {
                    Some(op) if self.peek_second() == Kind::LeftParen => {
                        self.next();
                        Frame::Extreme { op, start: token, first: None }
                    }
                    _ => return Err(self.unexpected(place, expected)),
                },
            };
            self.next();
            open.push(frame);
        }
    }

    fn reduce_durations(
        &mut self,
        open: &mut Vec<Frame>,
        mut e: DurationExpr,
        next: u8,
        right_associative: bool,
    ) -> Result<DurationExpr> {
        loop {
            let binds = match open.last() {
                Some(Frame::Unary { .. }) => 5,
                Some(Frame::Binary { op, .. }) => power(*op),
                _ => return Ok(e),
            };
            if binds < next || (binds == next && right_associative) {
                return Ok(e);
            }
            e = match open.pop() {
                Some(Frame::Unary { op }) => signed(op, e),
                Some(Frame::Binary { lhs, op, at }) => self.binary_duration(lhs, op, at, e)?,
                _ => e,
            };
        }
    }

    fn binary_duration(&self, lhs: DurationExpr, op: DurationOp, at: Token, rhs: DurationExpr) -> Result<DurationExpr> {
        if matches!(&rhs.kind, DurationKind::Number(n) if n.value == 0.0) {
            match op {
                DurationOp::Div => return Err(self.error_after_lookahead(at.span, "division by zero")),
                DurationOp::Mod => return Err(self.error_after_lookahead(at.span, "modulo by zero")),
                _ => {}
            }
        }
        let span = lhs.span.to(rhs.span);
        let kind = DurationKind::Binary(op, Box::new(lhs), Box::new(rhs));
        Ok(DurationExpr { kind, wrapped: false, span })
    }
}

fn signed(op: Token, e: DurationExpr) -> DurationExpr {
    let negative = op.kind == Kind::Operator(BinaryOp::Sub);
    let span = op.span.to(e.span);
    match e.kind {
        DurationKind::Number(mut n) if !e.wrapped => {
            n.value = if negative { -n.value } else { n.value };
            n.span = span;
            DurationExpr { kind: DurationKind::Number(n), wrapped: false, span }
        }
        _ if negative => DurationExpr { kind: DurationKind::Negative(Box::new(e)), wrapped: false, span },
        _ => e,
    }
}
