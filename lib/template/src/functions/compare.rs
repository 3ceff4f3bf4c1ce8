//! `eq`, `lt` and their kin: values of one basic kind only, else Go's complaints.
use crate::value::Value;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Float,
    Text,
}

fn kind(v: &Value) -> Option<Kind> {
    Some(match v {
        Value::Bool(_) => Kind::Bool,
        Value::Int(_) | Value::Duration(_) => Kind::Int,
        Value::Float(_) => Kind::Float,
        Value::Str(_) | Value::Safe(..) => Kind::Text,
        _ => return None,
    })
}

fn incompatible(a: &Value, b: &Value) -> String {
    format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name())
}
const INVALID: &str = "invalid type for comparison";

pub(crate) fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Nil, Value::Nil) => return Ok(true),
        (Value::Nil, _) | (_, Value::Nil) => return Ok(false),
        (Value::Time(a), Value::Time(b)) => return Ok(a.timestamp() == b.timestamp()),
        _ => {}
    }
    match (kind(a), kind(b)) {
        (Some(ka), Some(kb)) if ka == kb => Ok(match (a, b) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            _ => a.as_str() == b.as_str(),
        }),
        (None, None) => Err(format!("non-comparable type {a}: {}", a.type_name())),
        _ => Err(incompatible(a, b)),
    }
}

/// Whether the first equals any of the others.
pub(crate) fn equal_any(args: &[Value]) -> Result<bool, String> {
    let (first, others) = match args.split_first() {
        Some((first, others)) if !others.is_empty() => (first, others),
        _ => return Err("missing argument for comparison".into()),
    };
    for other in others {
        if equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) fn less(a: &Value, b: &Value) -> Result<bool, String> {
    match (kind(a), kind(b)) {
        (None, _) | (_, None) => Err(INVALID.into()),
        (Some(ka), Some(kb)) if ka != kb => Err(incompatible(a, b)),
        _ => match (a, b) {
            (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => Ok(a < b),
            (Value::Float(a), Value::Float(b)) => Ok(a < b),
            (Value::Bool(_), _) => Err(INVALID.into()),
            _ => Ok(a.as_str() < b.as_str()),
        },
    }
}

pub(crate) fn less_or_equal(a: &Value, b: &Value) -> Result<bool, String> {
    Ok(less(a, b)? || equal(a, b)?)
}
