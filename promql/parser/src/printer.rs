//! The canonical text of a tree: what `Display` gives and what parses back to the same tree.
use std::fmt::{self, Write};

use ferula_model::duration::format_ms;
use ferula_model::labels::{METRIC_NAME, is_legacy_label_name, quoted};
use ferula_model::number::{format_f, write_g};
use ferula_model::{MatchOp, Matcher};

use crate::ast::*;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_expr(f, self)
    }
}

/// Recursive to the depth cap; chains of operators are written in a loop.
pub(crate) fn write_expr(f: &mut dyn Write, e: &Expr) -> fmt::Result {
    match e {
        Expr::Number(n) => f.write_str(&number(n)),
        Expr::String(s) => f.write_str(&s.quoted()),
        Expr::Vector(v) => {
            write_selector(f, v)?;
            write_at(f, v.at)?;
            write_extension(f, v.extension)?;
            write_offset(f, v.offset.as_ref())
        }
        Expr::Matrix(m) => {
            write_selector(f, &m.selector)?;
            write!(f, "[{}]", m.range)?;
            write_extension(f, m.selector.extension)?;
            write_at(f, m.selector.at)?;
            write_offset(f, m.selector.offset.as_ref())
        }
        Expr::Subquery(s) => {
            write_expr(f, &s.expr)?;
            write_subquery_suffix(f, s)
        }
        Expr::Aggregate(a) => {
            write_aggregate_head(f, a)?;
            f.write_str("(")?;
            if let Some(param) = &a.param {
                write_expr(f, param)?;
                f.write_str(", ")?;
            }
            write_expr(f, &a.expr)?;
            f.write_str(")")
        }
        Expr::Binary(b) => {
            let (first, chain) = b.spine();
            write_expr(f, first)?;
            for b in chain {
                f.write_str(" ")?;
                write_operator(f, b)?;
                f.write_str(" ")?;
                write_expr(f, &b.rhs)?;
            }
            Ok(())
        }
        Expr::Unary(u) => {
            f.write_str(if u.negative { "-" } else { "+" })?;
            write_expr(f, &u.expr)
        }
        Expr::Paren(p) => {
            f.write_str("(")?;
            write_expr(f, &p.expr)?;
            f.write_str(")")
        }
        Expr::Call(c) => {
            write!(f, "{}(", c.func.name)?;
            for (i, arg) in c.args.iter().enumerate() {
                if i > 0 {
                    f.write_str(", ")?;
                }
                write_expr(f, arg)?;
            }
            f.write_str(")")
        }
    }
}

fn number(n: &NumberLiteral) -> String {
    if n.is_duration {
        let ms = format_ms((n.value.abs() * 1000.0).round() as i64);
        return if n.value < 0.0 { format!("-{ms}") } else { ms };
    }
    format_f(n.value)
}

/// The name and the matchers, sorted by their text.
fn write_selector(f: &mut dyn Write, v: &VectorSelector) -> fmt::Result {
    f.write_str(&v.name)?;
    let is_name =
        |m: &&Matcher| m.name == METRIC_NAME && m.op == MatchOp::Equal && m.value == v.name && !m.value.is_empty();
    let mut matchers: Vec<String> = v.matchers.iter().filter(|m| !is_name(m)).map(|m| m.to_string()).collect();
    if matchers.is_empty() {
        return Ok(());
    }
    matchers.sort_unstable();
    write!(f, "{{{}}}", matchers.join(","))
}

fn write_at(f: &mut dyn Write, at: Option<At>) -> fmt::Result {
    match at {
        None => Ok(()),
        Some(At::Timestamp(ms)) => write!(f, " @ {:.3}", ms as f64 / 1000.0),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
    }
}

fn write_extension(f: &mut dyn Write, extension: Option<RangeExtension>) -> fmt::Result {
    match extension {
        None => Ok(()),
        Some(RangeExtension::Anchored) => f.write_str(" anchored"),
        Some(RangeExtension::Smoothed) => f.write_str(" smoothed"),
    }
}

fn write_offset(f: &mut dyn Write, offset: Option<&Duration>) -> fmt::Result {
    offset.map_or(Ok(()), |offset| write!(f, " offset {offset}"))
}

pub(crate) fn write_subquery_suffix(f: &mut dyn Write, s: &SubqueryExpr) -> fmt::Result {
    write!(f, "[{}:", s.range)?;
    if let Some(step) = &s.step {
        write!(f, "{step}")?;
    }
    f.write_str("]")?;
    write_at(f, s.at)?;
    write_offset(f, s.offset.as_ref())
}

fn write_labels(f: &mut dyn Write, labels: &[String]) -> fmt::Result {
    f.write_str("(")?;
    for (i, label) in labels.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        if is_legacy_label_name(label) {
            f.write_str(label)?;
        } else {
            f.write_str(&quoted(label))?;
        }
    }
    f.write_str(")")
}

/// `sum by (job) `, without the arguments.
pub(crate) fn write_aggregate_head(f: &mut dyn Write, a: &AggregateExpr) -> fmt::Result {
    f.write_str(a.op.as_str())?;
    if !a.without && a.grouping.is_empty() {
        return Ok(());
    }
    f.write_str(if a.without { " without " } else { " by " })?;
    write_labels(f, &a.grouping)?;
    f.write_str(" ")
}

/// `/ on (job) group_left (team)`, without the operands.
pub(crate) fn write_operator(f: &mut dyn Write, b: &BinaryExpr) -> fmt::Result {
    f.write_str(b.op.as_str())?;
    if b.return_bool {
        f.write_str(" bool")?;
    }
    let Some(m) = &b.matching else { return Ok(()) };
    let group = match m.cardinality {
        Cardinality::ManyToOne => " group_left ",
        Cardinality::OneToMany => " group_right ",
        _ => "",
    };
    if !m.labels.is_empty() || m.on || !group.is_empty() {
        f.write_str(if m.on { " on " } else { " ignoring " })?;
        write_labels(f, &m.labels)?;
    }
    if !group.is_empty() {
        f.write_str(group)?;
        write_labels(f, &m.include)?;
    }
    let fill = |f: &mut dyn Write, name: &str, value: f64| {
        let mut text = String::new();
        write_g(&mut text, value);
        write!(f, " {name} ({text})")
    };
    match (m.fill_lhs, m.fill_rhs) {
        (Some(l), Some(r)) if l.to_bits() == r.to_bits() => fill(f, "fill", l),
        (l, r) => {
            l.map_or(Ok(()), |l| fill(f, "fill_left", l))?;
            r.map_or(Ok(()), |r| fill(f, "fill_right", r))
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Duration::Fixed(ms) => f.write_str(&format_ms(*ms)),
            Duration::Expr(e) => write!(f, "{e}"),
        }
    }
}

impl fmt::Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wrapped {
            f.write_str("(")?;
        }
        match &self.kind {
            DurationKind::Number(n) => f.write_str(&number(n))?,
            DurationKind::Step => f.write_str("step()")?,
            DurationKind::Range => f.write_str("range()")?,
            DurationKind::Negative(e) => write!(f, "-{e}")?,
            DurationKind::Binary(op @ (DurationOp::MinOf | DurationOp::MaxOf), l, r) => {
                write!(f, "{}({l}, {r})", op.as_str())?;
            }
            DurationKind::Binary(op, l, r) => write!(f, "{l} {} {r}", op.as_str())?,
        }
        if self.wrapped {
            f.write_str(")")?;
        }
        Ok(())
    }
}
