//! `promtool promql ...`: queries as text.
use ferula_model::{MatchOp, Matcher};
use ferula_promql_parser::{Expr, VectorSelector, parse_expr_with};

use crate::command_line::Parsed;
use crate::{Streams, parse_options};

pub(crate) fn run(parsed: &Parsed, streams: &mut Streams<'_>) -> Result<(), String> {
    let text = parsed.arg("query");
    let mut expr = parse_expr_with(text, &parse_options(parsed)).map_err(|e| e.to_string())?;
    let name = parsed.arg("name");
    match parsed.command.path {
        ["promql", "format"] => {
            streams.say(ferula_promql_parser::pretty(&expr));
            return Ok(());
        }
        [.., "set"] => {
            let op = match parsed.flag("type") {
                "=" => MatchOp::Equal,
                "!=" => MatchOp::NotEqual,
                "=~" => MatchOp::RegexMatch,
                _ => MatchOp::RegexNoMatch,
            };
            let matcher = Matcher::new(op, name, parsed.arg("value")).map_err(|e| e.to_string())?;
            each_selector(&mut expr, &mut |v| {
                match v.matchers.iter_mut().find(|m| m.name == name) {
                    Some(m) => *m = matcher.clone(),
                    // In front of what the metric's name adds.
                    None => v.matchers.insert(0, matcher.clone()),
                }
            });
        }
        _ => each_selector(&mut expr, &mut |v| v.matchers.retain(|m| m.name != name)),
    }
    streams.say(expr);
    Ok(())
}

fn each_selector(expr: &mut Expr, change: &mut dyn FnMut(&mut VectorSelector)) {
    let mut open = vec![expr];
    while let Some(e) = open.pop() {
        match e {
            Expr::Vector(v) => change(v),
            Expr::Matrix(m) => change(&mut m.selector),
            Expr::Subquery(s) => open.push(&mut s.expr),
            Expr::Paren(p) => open.push(&mut p.expr),
            Expr::Unary(u) => open.push(&mut u.expr),
            Expr::Binary(b) => open.extend([&mut *b.lhs, &mut *b.rhs]),
            Expr::Call(c) => open.extend(c.args.iter_mut()),
            Expr::Aggregate(a) => {
                open.push(&mut a.expr);
                open.extend(a.param.as_deref_mut());
            }
            Expr::Number(_) | Expr::String(_) => {}
        }
    }
}
