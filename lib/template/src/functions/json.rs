//! `encoding/json` of template values, for `toJson` and custom webhook payloads.
use crate::time;
use crate::value::{Shape, Value};

const DEPTH_MAX: usize = 32;
const OUTPUT_MAX: usize = 64 << 20;

/// Appends the value as Go's `json.Marshal` writes it: HTML characters escaped, map keys sorted.
pub fn write(out: &mut String, v: &Value) -> Result<(), String> {
    value(out, v, 0)
}

fn value(out: &mut String, v: &Value, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX || out.len() > OUTPUT_MAX {
        return Err("json: value too large or nested too deeply".into());
    }
    match v {
        Value::Nil => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) | Value::Duration(i) => out.push_str(&i.to_string()),
        Value::Float(f) if !f.is_finite() => {
            return Err(format!("json: unsupported value: {}", ferula_model::number::format_g(*f)));
        }
        Value::Float(f) => number(out, *f),
        Value::Str(s) | Value::Safe(_, s) => string(out, s),
        Value::Time(t) => string(out, &time::format(t, "2006-01-02T15:04:05.999999999Z07:00")),
        Value::Function(_) => return Err("json: unsupported type: func".into()),
        Value::Object(o) if o.shape() == Shape::Struct => {
            out.push('{');
            for (i, (name, field)) in o.fields().iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                string(out, name);
                out.push(':');
                value(out, field, depth + 1)?;
            }
            out.push('}');
        }
        other => {
            if let Some(items) = other.items() {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    value(out, item, depth + 1)?;
                }
                out.push(']');
            } else {
                out.push('{');
                for (i, (k, item)) in other.entries().unwrap_or_default().iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    string(out, k);
                    out.push(':');
                    value(out, item, depth + 1)?;
                }
                out.push('}');
            }
        }
    }
    Ok(())
}

/// As JavaScript prints numbers: an exponent below 1e-6 and from 1e21.
fn number(out: &mut String, f: f64) {
    let (shortest, put) = (ferula_model::number::Shortest::of(f), &mut |s: &str| out.push_str(s));
    if f == 0.0 || (1e-6..1e21).contains(&f.abs()) { shortest.plain(put) } else { shortest.scientific(1, put) }
}

/// A JSON string with Go's escapes.
pub fn string(out: &mut String, s: &str) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}
