//! The functions of notification templates, as Alertmanager 0.34 defines them.
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferula_model::Clock;
use jiff::tz::TimeZone;

use super::text::{ANY, STR, STR2};
use super::{Function, Functions, Type, arg, escape, json, text, text_arg};
use crate::time;
use crate::value::{List, Safe, Value};

/// All functions. `now` and `since` ask the clock.
pub fn functions(clock: Arc<dyn Clock>) -> Functions {
    let mut f = Functions::new();
    text::add(&mut f);
    f.add("title", Function::new(STR, |a| Ok(text::title(text_arg(a, 0), true).into())))
        .add("trimSpace", Function::new(STR, |a| Ok(text_arg(a, 0).trim().into())))
        .add(
            "join",
            Function::new(&[Type::Str, Type::Strings], |a| {
                let items = arg(a, 1).items().unwrap_or_default();
                let parts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                Ok(parts.join(text_arg(a, 0)).into())
            }),
        )
        .add("safeUrl", Function::new(STR, |a| Ok(Value::Safe(Safe::Url, text_arg(a, 0).into()))))
        .add("urlUnescape", Function::new(STR, |a| escape::url_unescape(text_arg(a, 0)).map(Value::from)))
        .add("stringSlice", Function::variadic(STR, |a| Ok(Value::strings(a.iter().filter_map(Value::as_str)))))
        .add(
            "toJson",
            Function::new(ANY, |a| {
                let mut out = String::new();
                json::write(&mut out, arg(a, 0))?;
                Ok(out.into())
            }),
        )
        .add("base64encode", Function::new(STR, |a| Ok(STANDARD.encode(text_arg(a, 0)).into())))
        .add(
            "base64decode",
            Function::new(STR, |a| {
                let bytes = STANDARD.decode(text_arg(a, 0)).map_err(illegal_base64)?;
                Ok(String::from_utf8_lossy(&bytes).into_owned().into())
            }),
        );
    times(&mut f, clock);
    collections(&mut f);
    f
}

fn times(f: &mut Functions, clock: Arc<dyn Clock>) {
    let since = clock.clone();
    f.add("now", Function::new(&[], move |_| Ok(time::from_ms(clock.now_ms()).map(Value::from).unwrap_or_default())))
        .add(
            "since",
            Function::new(&[Type::Time], move |a| {
                let Value::Time(t) = arg(a, 0) else { return Ok(Value::Nil) };
                let elapsed = i128::from(since.now_ms()) * 1_000_000 - t.timestamp().as_nanosecond();
                Ok(Value::Duration(i64::try_from(elapsed).unwrap_or(i64::MAX)))
            }),
        )
        .add(
            "date",
            Function::new(&[Type::Str, Type::Time], |a| {
                let Value::Time(t) = arg(a, 1) else { return Ok(Value::Nil) };
                Ok(time::format(t, text_arg(a, 0)).into())
            }),
        )
        .add(
            "tz",
            Function::new(&[Type::Str, Type::Time], |a| {
                let Value::Time(t) = arg(a, 1) else { return Ok(Value::Nil) };
                let name = text_arg(a, 0);
                let zone = match name {
                    "" | "UTC" => TimeZone::UTC,
                    "Local" => TimeZone::system(),
                    _ => TimeZone::get(name).map_err(|_| format!("unknown time zone {name}"))?,
                };
                Ok(t.with_time_zone(zone).into())
            }),
        )
        .add(
            "toDate",
            Function::new(STR2, |a| {
                Ok(to_date(text_arg(a, 0), text_arg(a, 1)).map(Value::from).unwrap_or_else(|_| zero_time()))
            }),
        )
        .add("mustToDate", Function::new(STR2, |a| to_date(text_arg(a, 0), text_arg(a, 1)).map(Value::from)));
}

fn collections(f: &mut Functions) {
    f.add("list", Function::variadic(ANY, |a| Ok(Value::list(a.to_vec()))))
        .add(
            "append",
            Function::variadic(&[Type::Any, Type::Any], |a| {
                let mut items = match arg(a, 0) {
                    Value::Nil => Vec::new(),
                    v => v.items().ok_or_else(|| format!("cannot append to type {}", v.type_name()))?.into_owned(),
                };
                items.extend_from_slice(a.get(1..).unwrap_or(&[]));
                let type_name = match arg(a, 0) {
                    Value::List(l) => l.type_name,
                    _ => "[]interface {}",
                };
                Ok(Value::List(Arc::new(List { items, type_name })))
            }),
        )
        .add(
            "dict",
            Function::variadic(ANY, |a| {
                if a.len() % 2 != 0 {
                    return Err("dict requires an even number of arguments".into());
                }
                let mut entries = Vec::with_capacity(a.len() / 2);
                for pair in a.chunks_exact(2) {
                    let (k, v) = (arg(pair, 0), arg(pair, 1));
                    let key = k.as_str().ok_or("dict keys must be strings")?;
                    entries.push((key.to_owned(), v.clone()));
                }
                Ok(Value::map(entries))
            }),
        );
}

fn illegal_base64(e: base64::DecodeError) -> String {
    match e {
        base64::DecodeError::InvalidByte(at, _) => format!("illegal base64 data at input byte {at}"),
        _ => "illegal base64 data".into(),
    }
}

fn zero_time() -> Value {
    time::from_ms(-62_135_596_800_000).map(Value::from).unwrap_or_default()
}

/// Reads `text` by a Go layout made of the common numeric elements.
fn to_date(layout: &str, text: &str) -> Result<jiff::Zoned, String> {
    let failed = || {
        let quoted = ferula_model::labels::quoted;
        format!("parsing time {} as {}: cannot parse", quoted(text), quoted(layout))
    };
    let mut format = layout.to_owned();
    for (go, strptime) in [
        ("2006", "%Y"),
        ("January", "%B"),
        ("Jan", "%b"),
        ("Monday", "%A"),
        ("Mon", "%a"),
        ("-07:00", "%:z"),
        ("-0700", "%z"),
        ("Z07:00", "%:z"),
        ("01", "%m"),
        ("02", "%d"),
        ("15", "%H"),
        ("03", "%I"),
        ("04", "%M"),
        ("05", "%S"),
        ("PM", "%p"),
    ] {
        format = format.replace(go, strptime);
    }
    // "Z" is how RFC 3339 writes +00:00.
    let plain = match text.strip_suffix('Z') {
        Some(t) if layout.ends_with("Z07:00") => format!("{t}+00:00"),
        _ => text.to_owned(),
    };
    let parsed = jiff::fmt::strtime::parse(&format, &plain).map_err(|_| failed())?;
    if let Ok(zoned) = parsed.to_zoned() {
        return Ok(zoned);
    }
    let civil =
        parsed.to_datetime().or_else(|_| parsed.to_date().map(|d| d.to_datetime(jiff::civil::Time::midnight())));
    civil.and_then(|c| c.to_zoned(TimeZone::UTC)).map_err(|_| failed())
}
