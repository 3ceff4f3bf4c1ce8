//! The tree as `/api/v1/parse_query` answers it. Written as text, keys in order, because a tree of JSON values as deep as
//! a chain of operators could not even be dropped safely.
use std::fmt::Write;

use ferula_model::Matcher;
use ferula_model::number::format_f;

use crate::ast::*;

/// A JSON object. Durations that depend on the query's step or range show as 0, as upstream.
pub fn to_json(e: &Expr) -> String {
    let mut out = String::new();
    write_json(&mut out, e);
    out
}

fn string(s: &str) -> String {
    serde_json::Value::from(s).to_string()
}

fn strings(list: &[String]) -> String {
    serde_json::Value::from(list).to_string()
}

fn matchers(list: &[Matcher]) -> String {
    let all: Vec<String> = list
        .iter()
        .map(|m| format!(r#"{{"name":{},"type":"{}","value":{}}}"#, string(&m.name), m.op.as_str(), string(&m.value)))
        .collect();
    format!("[{}]", all.join(","))
}

fn fixed(d: Option<&Duration>) -> i64 {
    match d {
        Some(Duration::Fixed(ms)) => *ms,
        _ => 0,
    }
}

fn start_or_end(at: Option<At>) -> &'static str {
    match at {
        Some(At::Start) => "\"start\"",
        Some(At::End) => "\"end\"",
        _ => "null",
    }
}

fn timestamp(at: Option<At>) -> String {
    match at {
        Some(At::Timestamp(ms)) => ms.to_string(),
        _ => "null".to_owned(),
    }
}

fn selector(out: &mut String, v: &VectorSelector, range: Option<&Duration>) {
    let _ = write!(
        out,
        r#"{{"anchored":{},"matchers":{},"name":{},"offset":{},"#,
        v.extension == Some(RangeExtension::Anchored),
        matchers(&v.matchers),
        string(&v.name),
        fixed(v.offset.as_ref()),
    );
    if range.is_some() {
        let _ = write!(out, r#""range":{},"#, fixed(range));
    }
    let _ = write!(
        out,
        r#""smoothed":{},"startOrEnd":{},"timestamp":{},"type":"{}"}}"#,
        v.extension == Some(RangeExtension::Smoothed),
        start_or_end(v.at),
        timestamp(v.at),
        if range.is_some() { "matrixSelector" } else { "vectorSelector" },
    );
}

fn matching(m: Option<&VectorMatching>) -> String {
    let Some(m) = m else { return "null".to_owned() };
    let fill = |v: Option<f64>| v.filter(|v| v.is_finite()).map_or("null".to_owned(), format_f);
    format!(
        r#"{{"card":"{}","fillValues":{{"lhs":{},"rhs":{}}},"include":{},"labels":{},"on":{}}}"#,
        m.cardinality.as_str(),
        fill(m.fill_lhs),
        fill(m.fill_rhs),
        strings(&m.include),
        strings(&m.labels),
        m.on
    )
}

enum Step<'e> {
    Expr(&'e Expr),
    Text(String),
}

/// In a loop: an expression is taken apart into text and sub-expressions, which are put on the stack backwards.
fn write_json(out: &mut String, e: &Expr) {
    let mut open = vec![Step::Expr(e)];
    while let Some(step) = open.pop() {
        match step {
            Step::Text(text) => out.push_str(&text),
            Step::Expr(e) => {
                let at = open.len();
                open_json(out, e, &mut open);
                if let Some(parts) = open.get_mut(at..) {
                    parts.reverse();
                }
            }
        }
    }
}

/// Writes a leaf and the start of everything else; puts the rest on `parts` in the order of the text.
fn open_json<'e>(out: &mut String, e: &'e Expr, parts: &mut Vec<Step<'e>>) {
    let inside = |out: &mut String, parts: &mut Vec<Step<'e>>, e: &'e Expr, rest: String| {
        out.push_str(r#"{"expr":"#);
        parts.extend([Step::Expr(e), Step::Text(rest)]);
    };
    match e {
        Expr::Number(n) => {
            let _ = write!(out, r#"{{"type":"numberLiteral","val":"{}"}}"#, format_f(n.value));
        }
        Expr::String(s) => {
            let _ = write!(out, r#"{{"type":"stringLiteral","val":{}}}"#, string(&s.value));
        }
        Expr::Vector(v) => selector(out, v, None),
        Expr::Matrix(m) => selector(out, &m.selector, Some(&m.range)),
        Expr::Subquery(s) => {
            let rest = format!(
                r#","offset":{},"range":{},"startOrEnd":{},"step":{},"timestamp":{},"type":"subquery"}}"#,
                fixed(s.offset.as_ref()),
                fixed(Some(&s.range)),
                start_or_end(s.at),
                fixed(s.step.as_ref()),
                timestamp(s.at)
            );
            inside(out, parts, &s.expr, rest);
        }
        Expr::Aggregate(a) => {
            let rest = format!(r#","grouping":{},"op":"{}","param":"#, strings(&a.grouping), a.op.as_str());
            inside(out, parts, &a.expr, rest);
            parts.push(a.param.as_ref().map_or(Step::Text("null".to_owned()), |p| Step::Expr(p)));
            parts.push(Step::Text(format!(r#","type":"aggregation","without":{}}}"#, a.without)));
        }
        Expr::Binary(b) => {
            let _ = write!(out, r#"{{"bool":{},"lhs":"#, b.return_bool);
            let middle = format!(r#","matching":{},"op":"{}","rhs":"#, matching(b.matching.as_ref()), b.op.as_str());
            parts.extend([Step::Expr(&b.lhs), Step::Text(middle), Step::Expr(&b.rhs)]);
            parts.push(Step::Text(r#","type":"binaryExpr"}"#.to_owned()));
        }
        Expr::Unary(u) => {
            let op = if u.negative { '-' } else { '+' };
            inside(out, parts, &u.expr, format!(r#","op":"{op}","type":"unaryExpr"}}"#));
        }
        Expr::Paren(p) => inside(out, parts, &p.expr, r#","type":"parenExpr"}"#.to_owned()),
        Expr::Call(c) => {
            out.push_str(r#"{"args":["#);
            for (i, arg) in c.args.iter().enumerate() {
                if i > 0 {
                    parts.push(Step::Text(",".to_owned()));
                }
                parts.push(Step::Expr(arg));
            }
            let types: Vec<String> = c.func.arg_types.iter().map(|t| string(t.as_str())).collect();
            parts.push(Step::Text(format!(
                r#"],"func":{{"argTypes":[{}],"name":"{}","returnType":"{}","variadic":{}}},"type":"call"}}"#,
                types.join(","),
                c.func.name,
                c.func.return_type.as_str(),
                c.func.variadic
            )));
        }
    }
}
