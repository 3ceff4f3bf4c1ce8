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

fn write_json(out: &mut String, e: &Expr) {
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
            out.push_str(r#"{"expr":"#);
            write_json(out, &s.expr);
            let _ = write!(
                out,
                r#","offset":{},"range":{},"startOrEnd":{},"step":{},"timestamp":{},"type":"subquery"}}"#,
                fixed(s.offset.as_ref()),
                fixed(Some(&s.range)),
                start_or_end(s.at),
                fixed(s.step.as_ref()),
                timestamp(s.at)
            );
        }
        Expr::Aggregate(a) => {
            out.push_str(r#"{"expr":"#);
            write_json(out, &a.expr);
            let _ = write!(out, r#","grouping":{},"op":"{}","param":"#, strings(&a.grouping), a.op.as_str());
            match &a.param {
                Some(param) => write_json(out, param),
                None => out.push_str("null"),
            }
            let _ = write!(out, r#","type":"aggregation","without":{}}}"#, a.without);
        }
        Expr::Binary(b) => {
            let (first, chain) = b.spine();
            for b in chain.iter().rev() {
                let _ = write!(out, r#"{{"bool":{},"lhs":"#, b.return_bool);
            }
            write_json(out, first);
            for b in chain {
                let _ = write!(out, r#","matching":{},"op":"{}","rhs":"#, matching(b.matching.as_ref()), b.op.as_str());
                write_json(out, &b.rhs);
                out.push_str(r#","type":"binaryExpr"}"#);
            }
        }
        Expr::Unary(u) => {
            out.push_str(r#"{"expr":"#);
            write_json(out, &u.expr);
            let _ = write!(out, r#","op":"{}","type":"unaryExpr"}}"#, if u.negative { '-' } else { '+' });
        }
        Expr::Paren(p) => {
            out.push_str(r#"{"expr":"#);
            write_json(out, &p.expr);
            out.push_str(r#","type":"parenExpr"}"#);
        }
        Expr::Call(c) => {
            out.push_str(r#"{"args":["#);
            for (i, arg) in c.args.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(out, arg);
            }
            let types: Vec<String> = c.func.arg_types.iter().map(|t| string(t.as_str())).collect();
            let _ = write!(
                out,
                r#"],"func":{{"argTypes":[{}],"name":"{}","returnType":"{}","variadic":{}}},"type":"call"}}"#,
                types.join(","),
                c.func.name,
                c.func.return_type.as_str(),
                c.func.variadic
            );
        }
    }
}
