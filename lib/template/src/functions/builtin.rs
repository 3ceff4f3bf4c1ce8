//! The functions every Go template has.
use super::{Function, Type, arg, compare, escape, text_arg};
use crate::format;
use crate::value::Value;

const ANY: &[Type] = &[Type::Any];
const ANY2: &[Type] = &[Type::Any, Type::Any];
const FORMAT: &[Type] = &[Type::Str, Type::Any];

/// Names of the builtins. `and` and `or` are evaluated by the executor, which needs not all of their arguments.
const NAMES: [&str; 19] = [
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print", "printf", "println",
    "html", "js", "urlquery", "call",
];

pub(crate) fn is_builtin(name: &str) -> bool {
    NAMES.contains(&name)
}

pub(crate) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "not" => Function::new(ANY, |a| Ok(Value::Bool(!arg(a, 0).is_true()))),
        "eq" => Function::variadic(ANY2, |a| compare::equal_any(a).map(Value::Bool)),
        "ne" => Function::new(ANY2, |a| compare::equal(arg(a, 0), arg(a, 1)).map(|e| Value::Bool(!e))),
        "lt" => Function::new(ANY2, |a| compare::less(arg(a, 0), arg(a, 1)).map(Value::Bool)),
        "le" => Function::new(ANY2, |a| compare::less_or_equal(arg(a, 0), arg(a, 1)).map(Value::Bool)),
        "gt" => Function::new(ANY2, |a| compare::less_or_equal(arg(a, 0), arg(a, 1)).map(|le| Value::Bool(!le))),
        "ge" => Function::new(ANY2, |a| compare::less(arg(a, 0), arg(a, 1)).map(|lt| Value::Bool(!lt))),
        "len" => Function::new(ANY, |a| length(arg(a, 0))),
        "index" => Function::variadic(ANY2, |a| index(arg(a, 0), a.get(1..).unwrap_or(&[]))),
        "slice" => Function::variadic(ANY2, |a| slice(arg(a, 0), a.get(1..).unwrap_or(&[]))),
        "print" => Function::variadic(ANY, |a| Ok(format::sprint_all(a).into())),
        "println" => Function::variadic(ANY, |a| Ok(format::sprintln(a).into())),
        "printf" => printf(),
        "html" => Function::variadic(ANY, |a| Ok(escape::html(&escape::joined(a)).into())),
        "js" => Function::variadic(ANY, |a| Ok(escape::js(&escape::joined(a)).into())),
        "urlquery" => Function::variadic(ANY, |a| Ok(escape::url_query(&escape::joined(a)).into())),
        "call" => call(),
        _ => return None,
    })
}

fn printf() -> Function {
    let mut f = Function::with_env(FORMAT, |env, a| {
        let limit = env.bytes_left();
        Ok(format::sprintf(text_arg(a, 0), a.get(1..).unwrap_or(&[]), limit).into())
    });
    f.variadic = true;
    f
}

fn call() -> Function {
    let mut f = Function::with_env(ANY2, |env, a| match arg(a, 0) {
        Value::Function(f) => {
            let args = a.get(1..).unwrap_or(&[]);
            let least = f.params.len() - usize::from(f.variadic);
            if args.len() < least || (!f.variadic && args.len() > least) {
                return Err(format!("wrong number of args: got {} want {least}", args.len()));
            }
            f.clone().call(env, args)
        }
        Value::Nil => Err("call of nil".into()),
        other => Err(format!("non-function of type {}", other.type_name())),
    });
    f.variadic = true;
    f
}

fn length(v: &Value) -> Result<Value, String> {
    match v.len() {
        Some(n) => Ok(Value::Int(i64::try_from(n).unwrap_or(i64::MAX))),
        None if v.is_nil() => Err("len of nil pointer".into()),
        None => Err(format!("len of type {}", v.type_name())),
    }
}

fn position(i: &Value, len: usize, at_most: usize) -> Result<usize, String> {
    match i {
        Value::Int(n) => {
            usize::try_from(*n).ok().filter(|n| *n < at_most).ok_or_else(|| format!("index out of range: {n}"))
        }
        Value::Nil => Err("cannot index slice/array with nil".into()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
    .inspect(|n| debug_assert!(*n <= len))
}

fn index(item: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut item = item.clone();
    if item.is_nil() {
        return Err("index of untyped nil".into());
    }
    for key in keys {
        let next = if let Some(items) = item.items() {
            items[position(key, items.len(), items.len())?].clone()
        } else if let Some(text) = item.as_str() {
            Value::Int(i64::from(text.as_bytes()[position(key, text.len(), text.len())?]))
        } else if crate::is_map(&item) {
            let Value::Str(name) = key else {
                return Err(match key {
                    Value::Nil => "value is nil; should be of type string".into(),
                    other => format!("value has type {}; should be string", other.type_name()),
                });
            };
            match &item {
                Value::Map(m) => m.entries.get(name).cloned().unwrap_or_else(|| m.zero.clone()),
                Value::Object(o) => o.field(name).unwrap_or_else(|| o.zero()),
                _ => Value::Nil,
            }
        } else if item.is_nil() {
            return Err("index of nil pointer".into());
        } else {
            return Err(format!("can't index item of type {}", item.type_name()));
        };
        item = next;
    }
    Ok(item)
}

fn slice(item: &Value, keys: &[Value]) -> Result<Value, String> {
    if item.is_nil() {
        return Err("slice of untyped nil".into());
    }
    if keys.len() > 3 {
        return Err(format!("too many slice indexes: {}", keys.len()));
    }
    let text = item.as_str();
    if text.is_some() && keys.len() == 3 {
        return Err("cannot 3-index slice a string".into());
    }
    let items = item.items();
    let len = match (&text, &items) {
        (Some(s), _) => s.len(),
        (_, Some(i)) => i.len(),
        _ => return Err(format!("can't slice item of type {}", item.type_name())),
    };
    let at = |i: usize, default: usize| keys.get(i).map_or(Ok(default), |k| position(k, len, len + 1));
    let (from, to) = (at(0, 0)?, at(1, len)?);
    at(2, len)?;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    if let Some(s) = text {
        // Go slices bytes; a cut inside a character leaves replacement characters here.
        return Ok(String::from_utf8_lossy(&s.as_bytes()[from..to]).into_owned().into());
    }
    let type_name = match item {
        Value::List(l) => l.type_name,
        _ => "[]interface {}",
    };
    let items = items.map(|i| i[from..to].to_vec()).unwrap_or_default();
    Ok(Value::List(std::sync::Arc::new(crate::value::List { items, type_name })))
}
