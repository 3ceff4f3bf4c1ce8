//! The indented text that `/format_query` and `promtool promql format` answer: what fits in a line stays in it.
use std::fmt::{self, Write};

use crate::ast::*;
use crate::printer::{write_aggregate_head, write_expr, write_operator, write_subquery_suffix};

/// Longest canonical text, in bytes, that is not split.
const LINE_MAX: usize = 100;

/// Formats a tree over several lines where it is long. Recursive to the depth cap.
pub fn pretty(e: &Expr) -> String {
    let mut out = String::new();
    let _ = write_pretty(&mut out, e, 0); // a String never fails
    out
}

/// Accepts at most a line: how the printer is asked whether a text fits without writing all of it.
struct Line {
    left: usize,
}
impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.left = self.left.checked_sub(s.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

fn fits(e: &Expr) -> bool {
    write_expr(&mut Line { left: LINE_MAX }, e).is_ok()
}

fn indent(out: &mut String, level: usize) {
    out.extend(std::iter::repeat_n("  ", level));
}

fn write_pretty(out: &mut String, e: &Expr, level: usize) -> fmt::Result {
    if fits(e) && matches!(e, Expr::Subquery(_)) {
        return write_expr(out, e); // not indented: so upstream has it, and texts are compared
    }
    if fits(e) || matches!(e, Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_)) {
        indent(out, level);
        return write_expr(out, e);
    }
    match e {
        // The operand says the indentation and is what is split.
        Expr::Subquery(s) => {
            write_pretty(out, &s.expr, level)?;
            return write_subquery_suffix(out, s);
        }
        Expr::Binary(b) => return write_chain(out, b, level),
        Expr::Unary(u) => {
            let mut inner = String::new();
            write_pretty(&mut inner, &u.expr, level)?;
            indent(out, level);
            out.push(if u.negative { '-' } else { '+' });
            out.push_str(inner.trim());
            return Ok(());
        }
        _ => {}
    }
    indent(out, level);
    match e {
        Expr::Aggregate(a) => {
            write_aggregate_head(out, a)?;
            out.push_str("(\n");
            if let Some(param) = &a.param {
                write_pretty(out, param, level + 1)?;
                out.push_str(",\n");
            }
            write_pretty(out, &a.expr, level + 1)?;
        }
        Expr::Call(c) => {
            out.push_str(c.func.name);
            out.push_str("(\n");
            for (i, arg) in c.args.iter().enumerate() {
                if i > 0 {
                    out.push_str(",\n");
                }
                write_pretty(out, arg, level + 1)?;
            }
        }
        Expr::Paren(p) => {
            out.push_str("(\n");
            write_pretty(out, &p.expr, level + 1)?;
        }
        _ => {}
    }
    out.push('\n');
    indent(out, level);
    out.push(')');
    Ok(())
}

/// Operands stand one level deeper than their operator; the left one of a chain again one deeper, and so on.
fn write_chain(out: &mut String, top: &BinaryExpr, level: usize) -> fmt::Result {
    let mut split = vec![top];
    let mut left = &*top.lhs;
    while let Expr::Binary(b) = left
        && !fits(left)
    {
        split.push(b);
        left = &b.lhs;
    }
    write_pretty(out, left, level + split.len())?;
    for (deeper, b) in split.into_iter().enumerate().rev() {
        out.push('\n');
        indent(out, level + deeper);
        write_operator(out, b)?;
        out.push('\n');
        write_pretty(out, &b.rhs, level + deeper + 1)?;
    }
    Ok(())
}
