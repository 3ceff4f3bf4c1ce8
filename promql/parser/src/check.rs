//! Types and the other rules the grammar cannot say. Runs only on a tree without syntax errors, in upstream's order,
//! because only the first error is reported.
use ferula_model::labels::{METRIC_NAME, quoted};

use crate::ast::*;
use crate::error::ParseError;
use crate::lexer::is_space;

/// The first violation in `e`. Recursive to the depth cap; chains of operators are walked in a loop.
pub fn check(text: &str, e: &Expr) -> Result<(), ParseError> {
    Check { text }.expr(e)
}

/// What the rules change: matching is only there between vectors, and `info()`'s selector may match everything.
pub fn normalise(e: &mut Expr) {
    let mut e = e;
    loop {
        match e {
            Expr::Binary(b) => {
                if [&b.lhs, &b.rhs].iter().any(|side| side.value_type() != ValueType::Vector) {
                    b.matching = None;
                }
                normalise(&mut b.rhs);
                e = &mut b.lhs;
            }
            Expr::Call(c) => {
                if let ("info", Some(Expr::Vector(v))) = (c.func.name, c.args.get_mut(1)) {
                    v.may_match_everything = true;
                }
                c.args.iter_mut().for_each(normalise);
                return;
            }
            Expr::Aggregate(a) => {
                if let Some(param) = &mut a.param {
                    normalise(param);
                }
                e = &mut a.expr;
            }
            Expr::Paren(p) => e = &mut p.expr,
            Expr::Unary(u) => e = &mut u.expr,
            Expr::Subquery(s) => e = &mut s.expr,
            _ => return,
        }
    }
}

struct Check<'a> {
    text: &'a str,
}

impl Check<'_> {
    fn fail(&self, span: Span, message: impl Into<String>) -> Result<(), ParseError> {
        Err(ParseError::new(self.text, span, message))
    }

    fn expr(&self, e: &Expr) -> Result<(), ParseError> {
        match e {
            Expr::Number(_) | Expr::String(_) => Ok(()),
            Expr::Vector(v) => self.selector(v, false),
            Expr::Matrix(m) => self.selector(&m.selector, false),
            Expr::Paren(p) => self.expr(&p.expr),
            Expr::Unary(u) => {
                self.expr(&u.expr)?;
                match u.expr.value_type() {
                    ValueType::Scalar | ValueType::Vector => Ok(()),
                    got => self.fail(
                        u.span,
                        format!(
                            "unary expression only allowed on expressions of type scalar or instant vector, got \"{}\"",
                            got.documented()
                        ),
                    ),
                }
            }
            Expr::Subquery(s) => {
                self.expr(&s.expr)?;
                match s.expr.value_type() {
                    ValueType::Vector => Ok(()),
                    got => self.fail(
                        s.span,
                        format!("subquery is only allowed on instant vector, got {} instead", got.as_str()),
                    ),
                }
            }
            Expr::Aggregate(a) => self.aggregate(a),
            Expr::Call(c) => self.call(c),
            Expr::Binary(b) => {
                let (first, chain) = b.spine();
                self.expr(first)?;
                chain.into_iter().try_for_each(|b| {
                    self.expr(&b.rhs)?;
                    self.binary(b)
                })
            }
        }
    }

    fn expect(&self, e: &Expr, want: ValueType, place: &str) -> Result<(), ParseError> {
        self.expr(e)?;
        let got = e.value_type();
        if got == want {
            return Ok(());
        }
        let (want, got) = (want.documented(), got.documented());
        self.fail(e.span(), format!("expected type {want} in {place}, got {got}"))
    }

    fn aggregate(&self, a: &AggregateExpr) -> Result<(), ParseError> {
        self.expect(&a.expr, ValueType::Vector, "aggregation expression")?;
        let want = if a.op == AggregateOp::CountValues { ValueType::String } else { ValueType::Scalar };
        a.param.as_ref().map_or(Ok(()), |p| self.expect(p, want, "aggregation parameter"))
    }

    fn call(&self, c: &Call) -> Result<(), ParseError> {
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
        let place = format!("call to function \"{}\"", func.name);
        if let ("info", Some(selector)) = (func.name, c.args.get(1)) {
            self.info_selector(c, selector, &place)?;
        }
        let last = func.arg_types.last();
        for (i, arg) in c.args.iter().enumerate() {
            let Some(want) = func.arg_types.get(i).or(last) else { continue };
            if let (Expr::Vector(v), "info", 1) = (arg, func.name, i) {
                self.selector(v, true)?;
            } else {
                self.expect(arg, *want, &place)?;
            }
        }
        Ok(())
    }

    /// The second argument of `info()` is a selector without a name, and may match everything.
    fn info_selector(&self, c: &Call, selector: &Expr, place: &str) -> Result<(), ParseError> {
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
        if let Some(m) = &b.matching
            && let Some(twice) = m.labels.iter().find(|l| m.on && m.include.contains(l))
        {
            let message = format!("label {} must not occur in ON and GROUP clause at once", quoted(twice));
            return self.fail(self.operator_span(b), message);
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
