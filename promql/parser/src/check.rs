//! Types and the other rules the grammar cannot say. Runs only on a tree without syntax errors, in upstream's order,
//! because only the first error is reported.
use std::collections::HashSet;

use ferula_model::labels::{METRIC_NAME, quoted};

use crate::ast::*;
use crate::error::ParseError;
use crate::lexer::is_space;

/// The first violation in `e`, in a loop: what is still to be checked stands on a stack, the next thing on top.
pub fn check(text: &str, e: &Expr) -> Result<(), ParseError> {
    let mut check = Check { text, open: vec![Step::Enter(e)] };
    while let Some(step) = check.open.pop() {
        check.step(step)?;
    }
    Ok(())
}

/// What the rules change: matching is only there between vectors, and `info()`'s selector may match everything.
pub fn normalise(e: &mut Expr) {
    let mut open = vec![e];
    while let Some(e) = open.pop() {
        match e {
            Expr::Binary(b) => {
                if [&b.lhs, &b.rhs].iter().any(|side| side.value_type() != ValueType::Vector) {
                    b.matching = None;
                }
                open.push(&mut b.rhs);
                open.push(&mut b.lhs);
            }
            Expr::Call(c) => {
                if let ("info", Some(Expr::Vector(v))) = (c.func.name, c.args.get_mut(1)) {
                    v.may_match_everything = true;
                }
                open.extend(&mut c.args);
            }
            Expr::Aggregate(a) => {
                open.extend(a.param.as_deref_mut());
                open.push(&mut a.expr);
            }
            Expr::Paren(p) => open.push(&mut p.expr),
            Expr::Unary(u) => open.push(&mut u.expr),
            Expr::Subquery(s) => open.push(&mut s.expr),
            _ => {}
        }
    }
}

enum Step<'e> {
    Enter(&'e Expr),
    /// The operands of this one are checked.
    Binary(&'e BinaryExpr),
    Unary(&'e UnaryExpr),
    Subquery(&'e SubqueryExpr),
    /// The inside of the expression is checked; its type must be this, in this place.
    Expect(&'e Expr, ValueType, Place),
    /// The selector of `info()`.
    Info(&'e VectorSelector),
}

#[derive(Clone, Copy)]
enum Place {
    Aggregation,
    Parameter,
    Function(&'static str),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Aggregation => f.write_str("aggregation expression"),
            Place::Parameter => f.write_str("aggregation parameter"),
            Place::Function(name) => write!(f, "call to function \"{name}\""),
        }
    }
}

struct Check<'e> {
    text: &'e str,
    open: Vec<Step<'e>>,
}

impl<'e> Check<'e> {
    fn fail(&self, span: Span, message: impl Into<String>) -> Result<(), ParseError> {
        Err(ParseError::new(self.text, span, message))
    }

    fn step(&mut self, step: Step<'e>) -> Result<(), ParseError> {
        match step {
            Step::Enter(e) => self.enter(e),
            Step::Binary(b) => self.binary(b),
            Step::Info(v) => self.selector(v, true),
            Step::Unary(u) => match u.expr.value_type() {
                ValueType::Scalar | ValueType::Vector => Ok(()),
                got => self.fail(
                    u.span,
                    format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got \"{}\"",
                        got.documented()
                    ),
                ),
            },
            Step::Subquery(s) => match s.expr.value_type() {
                ValueType::Vector => Ok(()),
                got => {
                    let message = format!("subquery is only allowed on instant vector, got {} instead", got.as_str());
                    self.fail(s.span, message)
                }
            },
            Step::Expect(e, want, place) => {
                let got = e.value_type();
                if got == want {
                    return Ok(());
                }
                let (want, got) = (want.documented(), got.documented());
                self.fail(e.span(), format!("expected type {want} in {place}, got {got}"))
            }
        }
    }

    /// Checks what comes before the insides and plans the rest.
    fn enter(&mut self, e: &'e Expr) -> Result<(), ParseError> {
        match e {
            Expr::Number(_) | Expr::String(_) => {}
            Expr::Vector(v) => return self.selector(v, false),
            Expr::Matrix(m) => return self.selector(&m.selector, false),
            Expr::Paren(p) => self.open.push(Step::Enter(&p.expr)),
            Expr::Unary(u) => self.open.extend([Step::Unary(u), Step::Enter(&u.expr)]),
            Expr::Subquery(s) => self.open.extend([Step::Subquery(s), Step::Enter(&s.expr)]),
            Expr::Binary(b) => self.open.extend([Step::Binary(b), Step::Enter(&b.rhs), Step::Enter(&b.lhs)]),
            Expr::Aggregate(a) => {
                let want = if a.op == AggregateOp::CountValues { ValueType::String } else { ValueType::Scalar };
                if let Some(param) = &a.param {
                    self.expect(param, want, Place::Parameter);
                }
                self.expect(&a.expr, ValueType::Vector, Place::Aggregation);
            }
            Expr::Call(c) => return self.call(c),
        }
        Ok(())
    }

    fn expect(&mut self, e: &'e Expr, want: ValueType, place: Place) {
        self.open.extend([Step::Expect(e, want, place), Step::Enter(e)]);
    }

    fn call(&mut self, c: &'e Call) -> Result<(), ParseError> {
        let (func, got) = (c.func, c.args.len());
        let count =
            |bound: &str, want| format!("expected {bound}{want} argument(s) in call to \"{}\", got {got}", func.name);
        let (min, max) = (func.args_min(), func.args_max());
        if func.variadic == 0 && got != min {
            return self.fail(c.span, count("", min));
        }
        if got < min {
            return self.fail(c.span, count("at least ", min));
        }
        if let Some(max) = max.filter(|max| got > *max) {
            return self.fail(c.span, count("at most ", max));
        }
        let place = Place::Function(func.name);
        if let ("info", Some(selector)) = (func.name, c.args.get(1)) {
            self.info_selector(c, selector, place)?;
        }
        let last = func.arg_types.last();
        for (i, arg) in c.args.iter().enumerate().rev() {
            match (arg, func.arg_types.get(i).or(last)) {
                (Expr::Vector(v), _) if func.name == "info" && i == 1 => self.open.push(Step::Info(v)),
                (_, Some(want)) => self.expect(arg, *want, place),
                _ => {}
            }
        }
        Ok(())
    }

    /// The second argument of `info()` is a selector without a name, and may match everything.
    fn info_selector(&self, c: &Call, selector: &Expr, place: Place) -> Result<(), ParseError> {
        let got = selector.value_type();
        if got != ValueType::Vector {
            return self.fail(c.span, format!("expected type instant vector in {place}, got {}", got.documented()));
        }
        match selector {
            Expr::Vector(v) if v.name.is_empty() => Ok(()),
            Expr::Vector(v) => self.fail(v.span, "expected label selectors only, got vector selector instead"),
            other => self.fail(other.span(), "expected label selectors only"),
        }
    }

    fn selector(&self, v: &VectorSelector, may_match_everything: bool) -> Result<(), ParseError> {
        if !v.name.is_empty() {
            let others = v.matchers.len().saturating_sub(1);
            if let Some(m) = v.matchers.iter().take(others).find(|m| m.name == METRIC_NAME) {
                let (name, other) = (quoted(&v.name), quoted(&m.value));
                return self.fail(v.span, format!("metric name must not be set twice: {name} or {other}"));
            }
            return Ok(());
        }
        if may_match_everything || v.matchers.iter().any(|m| !m.matches_empty()) {
            return Ok(());
        }
        self.fail(v.span, "vector selector must contain at least one non-empty matcher")
    }

    /// The operator's place: what stands between the operands, without the spaces.
    fn operator_span(&self, b: &BinaryExpr) -> Span {
        let (start, end) = (b.lhs.span().end as usize, b.rhs.span().start as usize);
        let between = self.text.get(start..end).unwrap_or("");
        let skipped = between.len() - between.trim_start_matches(is_space).len();
        Span::new(start + skipped, start + between.trim_end_matches(is_space).len())
    }

    fn binary(&self, b: &BinaryExpr) -> Result<(), ParseError> {
        use ValueType::{Scalar, Vector};
        let (lhs, rhs) = (b.lhs.value_type(), b.rhs.value_type());
        if b.return_bool && !b.op.is_comparison() {
            return self.fail(self.operator_span(b), "bool modifier can only be used on comparison operators");
        }
        if b.op.is_comparison() && !b.return_bool && (lhs, rhs) == (Scalar, Scalar) {
            return self.fail(self.operator_span(b), "comparisons between scalars must use BOOL modifier");
        }
        if let Some(m) = b.matching.as_ref().filter(|m| m.on && !m.include.is_empty()) {
            let include: HashSet<&String> = m.include.iter().collect();
            if let Some(twice) = m.labels.iter().find(|l| include.contains(l)) {
                let message = format!("label {} must not occur in ON and GROUP clause at once", quoted(twice));
                return self.fail(self.operator_span(b), message);
            }
        }
        for (side, got) in [(&b.lhs, lhs), (&b.rhs, rhs)] {
            if !matches!(got, Scalar | Vector) {
                let message = "binary expression must contain only scalar and instant vector types";
                return self.fail(side.span(), message);
            }
        }
        let fills = b.matching.as_ref().is_some_and(|m| m.fill_lhs.is_some() || m.fill_rhs.is_some());
        let grouped = b.matching.as_ref().is_some_and(|m| m.cardinality != Cardinality::ManyToMany);
        if (lhs, rhs) != (Vector, Vector) {
            if b.matching.as_ref().is_some_and(|m| !m.labels.is_empty()) {
                return self.fail(b.span, "vector matching only allowed between instant vectors");
            }
            if fills {
                return self.fail(b.span, "filling in missing series only allowed between instant vectors");
            }
            if b.op.is_set() {
                let message = format!("set operator \"{}\" not allowed in binary scalar expression", b.op.as_str());
                return self.fail(b.span, message);
            }
        } else if b.op.is_set() && grouped {
            return self.fail(b.span, format!("no grouping allowed for \"{}\" operation", b.op.as_str()));
        } else if b.op.is_set() && fills {
            return self.fail(b.span, "filling in missing series not allowed for set operators");
        }
        Ok(())
    }
}
