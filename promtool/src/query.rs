//! `promtool query ...` and `check healthy|ready`: what a running server says.
use serde_json::Value;

use crate::Streams;
use crate::command_line::Parsed;
use crate::server::Server;

pub(crate) fn status(parsed: &Parsed, streams: &mut Streams<'_>) -> Result<(), String> {
    let (path, what) = match parsed.command.path {
        [_, "healthy"] => ("/-/healthy", "Healthy"),
        _ => ("/-/ready", "Ready"),
    };
    let server = Server::new(parsed.flag("url"), parsed)?;
    let answer = server.get(path)?;
    if !answer.status.is_success() {
        return Err(format!("check failed: URL={}, status={}", parsed.flag("url"), answer.status.as_u16()));
    }
    // Upstream says it on standard error.
    streams.complain(format_args!("  SUCCESS:  Prometheus Server is {what}.\n"));
    Ok(())
}

pub(crate) fn run(parsed: &Parsed, streams: &mut Streams<'_>) -> Result<(), String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let asked = |e: String| format!("query error: {e}");
    let is_json = parsed.flag("format") == "json";
    match parsed.command.path {
        [_, "instant"] => {
            let at = time(parsed.flag("time"), now).map_err(|e| format!("error parsing evaluation time: {e}"))?;
            let server = Server::new(parsed.arg("server"), parsed)?;
            let parameters = [("query", parsed.arg("expr").to_owned()), ("time", seconds(at))];
            let data = server.api("/api/v1/query", &parameters, false).map_err(asked)?;
            result(&data, is_json, streams)
        }
        [_, "range"] => {
            let end = time(parsed.flag("end"), now).map_err(|e| format!("error parsing end time: {e}"))?;
            let start =
                time(parsed.flag("start"), end - 300.0).map_err(|e| format!("error parsing start time: {e}"))?;
            if start >= end {
                return Err("start time is not before end time".to_owned());
            }
            let step = match parsed.flag("step") {
                "" => 0.0,
                text => go_duration(text).map_err(|e| format!("promtool: error: {e}, try --help"))?,
            };
            // Some 250 points where nothing is said.
            let step = if step > 0.0 { step } else { ((end - start) / 250.0).floor().max(1.0) };
            let server = Server::new(parsed.arg("server"), parsed)?;
            let parameters = [
                ("query", parsed.arg("expr").to_owned()),
                ("start", seconds(start)),
                ("end", seconds(end)),
                ("step", seconds(step)),
            ];
            let data = server.api("/api/v1/query_range", &parameters, false).map_err(asked)?;
            result(&data, is_json, streams)
        }
        _ => listing(parsed, now, is_json, streams),
    }
}

/// Series and label values.
fn listing(parsed: &Parsed, now: f64, is_json: bool, streams: &mut Streams<'_>) -> Result<(), String> {
    let long = 9999.0 * 3600.0;
    let start = time(parsed.flag("start"), now - long).map_err(|e| format!("error parsing start time: {e}"))?;
    let end = time(parsed.flag("end"), now + long).map_err(|e| format!("error parsing end time: {e}"))?;
    let server = Server::new(parsed.arg("server"), parsed)?;
    let mut parameters = vec![("start", seconds(start)), ("end", seconds(end))];
    parameters.extend(parsed.flags("match").iter().map(|m| ("match[]", m.clone())));
    let is_series = parsed.command.path.last() == Some(&"series");
    let path = if is_series {
        "/api/v1/series".to_owned()
    } else {
        let name: String = form_urlencoded::byte_serialize(parsed.arg("name").as_bytes()).collect();
        format!("/api/v1/label/{name}/values")
    };
    let data = server.api(&path, &parameters, !is_series).map_err(|e| format!("query error: {e}"))?;
    if is_json {
        streams.say(&data);
        return Ok(());
    }
    for v in data.as_array().into_iter().flatten() {
        match v {
            Value::String(text) => streams.say(text),
            other => streams.say(label_set(other)),
        }
    }
    Ok(())
}

/// Unix seconds with a fraction, or RFC 3339.
fn time(text: &str, default: f64) -> Result<f64, String> {
    if text.is_empty() {
        return Ok(default);
    }
    let rfc = || text.parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond() as f64 / 1000.0);
    let number = text.parse::<f64>().ok().filter(|t| t.is_finite());
    let fail = || format!("cannot parse {} to a valid timestamp", ferula_model::labels::quoted(text));
    number.or_else(rfc).ok_or_else(fail)
}

/// A duration as Go's flags take it (`60s`, `1h30m`, `1.5h`, `0`), in seconds.
fn go_duration(text: &str) -> Result<f64, String> {
    let quoted = ferula_model::labels::quoted(text);
    let (mut rest, mut total) = (text, 0.0);
    if rest == "0" {
        return Ok(0.0);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| format!("time: invalid duration {quoted}"))?;
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        total += number
            * match unit {
                "" => return Err(format!("time: missing unit in duration {quoted}")),
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                other => {
                    let other = ferula_model::labels::quoted(other);
                    return Err(format!("time: unknown unit {other} in duration {quoted}"));
                }
            };
        rest = behind;
    }
    if text.is_empty() { Err(format!("time: invalid duration {quoted}")) } else { Ok(total) }
}

fn seconds(t: f64) -> String {
    format!("{:.3}", t)
}

/// A query's result as promtool prints it.
fn result(data: &Value, is_json: bool, streams: &mut Streams<'_>) -> Result<(), String> {
    let empty = Value::Null;
    let value = data.get("result").unwrap_or(&empty);
    if is_json {
        let mut value = value.clone();
        plain(&mut value);
        streams.say(value);
        return Ok(());
    }
    let list = || value.as_array().map_or(&[][..], Vec::as_slice);
    let lines: Vec<String> = match data.get("resultType").and_then(Value::as_str) {
        Some("scalar") => {
            let (t, v) = pair(value);
            vec![format!("scalar: {v} @[{t}]")]
        }
        Some("vector") => list()
            .iter()
            .map(|s| {
                let metric = metric(s.get("metric").unwrap_or(&empty));
                let (t, v) = match s.get("histogram") {
                    Some(h) => (number(h.get(0)), histogram(h.get(1).unwrap_or(&empty))),
                    None => pair(s.get("value").unwrap_or(&empty)),
                };
                format!("{metric} => {v} @[{t}]")
            })
            .collect(),
        Some("matrix") => {
            let mut series: Vec<String> = Vec::new();
            for s in list() {
                let mut one = format!("{} =>", metric(s.get("metric").unwrap_or(&empty)));
                for p in s.get("values").and_then(Value::as_array).into_iter().flatten() {
                    let (t, v) = pair(p);
                    one.push_str(&format!("\n{v} @[{t}]"));
                }
                for p in s.get("histograms").and_then(Value::as_array).into_iter().flatten() {
                    one.push_str(&format!("\n{} @[{}]", histogram(p.get(1).unwrap_or(&empty)), number(p.get(0))));
                }
                series.push(one);
            }
            series
        }
        other => return Err(format!("query error: a result of type {} cannot be shown", other.unwrap_or("none"))),
    };
    streams.say(lines.join("\n"));
    Ok(())
}

/// Time and value of `[time, "value"]`.
fn pair(value: &Value) -> (String, String) {
    (number(value.get(0)), without_exponent(value.get(1).and_then(Value::as_str).unwrap_or("")))
}

/// promtool prints values without exponents, whatever the server wrote.
fn without_exponent(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(v) if v.is_finite() => ferula_model::number::format_f(v),
        _ => text.to_owned(),
    }
}

/// Writes all sample values of a result without exponents.
fn plain(result: &mut Value) {
    let point = |p: &mut Value| {
        if let Some(Value::String(v)) = p.get_mut(1) {
            *v = without_exponent(v);
        }
    };
    match result.get(0) {
        Some(Value::Object(_)) => {}
        _ => return point(result),
    }
    for series in result.as_array_mut().into_iter().flatten() {
        series.get_mut("value").into_iter().for_each(point);
        series.get_mut("values").and_then(Value::as_array_mut).into_iter().flatten().for_each(point);
    }
}

fn number(value: Option<&Value>) -> String {
    value.map_or_else(String::new, |v| v.as_f64().map_or_else(String::new, ferula_model::number::format_f))
}

/// `name{a="b", c="d"}`
fn metric(labels: &Value) -> String {
    let Some(map) = labels.as_object() else { return "{}".to_owned() };
    let name = map.get("__name__").and_then(Value::as_str).unwrap_or("");
    let mut pairs: Vec<(&String, &Value)> = map.iter().filter(|(n, _)| *n != "__name__").collect();
    pairs.sort_by_key(|(n, _)| n.as_str());
    if pairs.is_empty() && !name.is_empty() {
        return name.to_owned();
    }
    format!("{name}{{{}}}", joined(&pairs))
}

fn label_set(labels: &Value) -> String {
    let mut pairs: Vec<(&String, &Value)> = labels.as_object().into_iter().flatten().collect();
    pairs.sort_by_key(|(n, _)| n.as_str());
    format!("{{{}}}", joined(&pairs))
}

fn joined(pairs: &[(&String, &Value)]) -> String {
    let one = |(n, v): &(&String, &Value)| format!("{n}={}", ferula_model::labels::quoted(v.as_str().unwrap_or("")));
    pairs.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn histogram(h: &Value) -> String {
    let part = |name: &str| {
        let text = h.get(name).and_then(Value::as_str).unwrap_or("0");
        text.parse::<f64>().map_or_else(|_| text.to_owned(), |v| format!("{v:.6}"))
    };
    let text = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or("").to_owned();
    let bucket = |b: &Value| {
        let (open, close) = match b.get(0).and_then(Value::as_u64) {
            Some(0) => ("(", "]"),
            Some(1) => ("[", ")"),
            Some(3) => ("[", "]"),
            _ => ("(", ")"),
        };
        format!("{open}{},{}{close}:{}", text(b.get(1)), text(b.get(2)), text(b.get(3)))
    };
    let buckets: Vec<String> = h.get("buckets").and_then(Value::as_array).into_iter().flatten().map(bucket).collect();
    format!("Count: {}, Sum: {}, Buckets: [{}]", part("count"), part("sum"), buckets.join(" "))
}
