//! Numbers for people: `humanize`, `humanize1024`, `humanizeDuration`, `humanizePercentage`, `humanizeTimestamp`.
use crate::float::four_digits;
use crate::time;
use crate::value::Value;

/// What the humanising functions accept: numbers, numbers as text, durations.
pub fn to_float(v: &Value) -> Result<f64, String> {
    match v {
        Value::Float(f) => Ok(*f),
        Value::Int(i) => Ok(*i as f64),
        Value::Duration(d) => Ok(*d as f64 / 1e9),
        Value::Str(s) => parse_float(s),
        Value::Nil => Err("can't convert <nil> to float".into()),
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

/// `strconv.ParseFloat`.
fn parse_float(s: &str) -> Result<f64, String> {
    let invalid = || format!("strconv.ParseFloat: parsing {}: invalid syntax", ferula_model::labels::quoted(s));
    let body = s.trim_start_matches(['+', '-']);
    let word = body.to_ascii_lowercase();
    if s.len() - body.len() > 1
        || !(body.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            || matches!(word.as_str(), "inf" | "infinity" | "nan"))
    {
        return Err(invalid());
    }
    s.parse().map_err(|_| invalid())
}

pub fn humanize(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return four_digits(v);
    }
    let (mut v, mut prefix) = (v, "");
    if v.abs() >= 1.0 {
        for p in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
            if v.abs() < 1000.0 {
                break;
            }
            (v, prefix) = (v / 1000.0, p);
        }
    } else {
        for p in ["m", "u", "n", "p", "f", "a", "z", "y"] {
            if v.abs() >= 1.0 {
                break;
            }
            (v, prefix) = (v * 1000.0, p);
        }
    }
    format!("{}{prefix}", four_digits(v))
}

pub fn humanize1024(v: f64) -> String {
    if v.abs() <= 1.0 || !v.is_finite() {
        return four_digits(v);
    }
    let (mut v, mut prefix) = (v, "");
    for p in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
        if v.abs() < 1024.0 {
            break;
        }
        (v, prefix) = (v / 1024.0, p);
    }
    format!("{}{prefix}", four_digits(v))
}

/// `seconds` as `1d 2h 3m 4s`, or `1.234s`, or `12.34ms`.
pub fn humanize_duration(seconds: f64) -> String {
    let v = seconds;
    if !v.is_finite() {
        return four_digits(v);
    }
    if v == 0.0 {
        return format!("{}s", four_digits(v));
    }
    if v.abs() < 1.0 {
        let (mut v, mut prefix) = (v, "");
        for p in ["m", "u", "n", "p", "f", "a", "z", "y"] {
            if v.abs() >= 1.0 {
                break;
            }
            (v, prefix) = (v * 1000.0, p);
        }
        return format!("{}{prefix}s", four_digits(v));
    }
    let (sign, v) = if v < 0.0 { ("-", -v) } else { ("", v) };
    let all = v as i64;
    let (d, h, m, s) = (all / 86_400, all / 3_600 % 24, all / 60 % 60, all % 60);
    if d != 0 {
        format!("{sign}{d}d {h}h {m}m {s}s")
    } else if h != 0 {
        format!("{sign}{h}h {m}m {s}s")
    } else if m != 0 {
        format!("{sign}{m}m {s}s")
    } else {
        format!("{sign}{}s", four_digits(v))
    }
}

/// A ratio as per cent.
pub fn humanize_percentage(v: f64) -> String {
    format!("{}%", four_digits(v * 100.0))
}

/// Nanoseconds since 1970 of seconds since 1970.
pub fn nanoseconds(v: f64) -> Result<i64, String> {
    let ns = v * 1e9;
    if !(i64::MIN as f64..i64::MAX as f64).contains(&ns) {
        let shown = crate::format::sprint(&Value::Float(v));
        return Err(format!("{shown} cannot be represented as a nanoseconds timestamp since it overflows int64"));
    }
    Ok(ns as i64)
}

/// Seconds since 1970 as Go prints a time in UTC.
pub fn humanize_timestamp(v: f64) -> Result<String, String> {
    if !v.is_finite() {
        return Ok(four_digits(v));
    }
    let ns = nanoseconds(v)?;
    Ok(time::from_nanos(ns).map(|t| time::to_text(&t)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn humanizes_as_upstream() {
        for (v, h, h1024, d) in [
            (0.0, "0", "0", "0s"),
            (1.0, "1", "1", "1s"),
            (1_234_567.0, "1.235M", "1.177Mi", "14d 6h 56m 7s"),
            (0.1234, "123.4m", "0.1234", "123.4ms"),
            (1e-6, "1u", "1e-06", "1us"),
            (59.9999, "60", "60", "60s"),
            (61.0, "61", "61", "1m 1s"),
            (3600.0, "3.6k", "3.516ki", "1h 0m 0s"),
            (-90.0, "-90", "-90", "-1m 30s"),
            (f64::INFINITY, "+Inf", "+Inf", "+Inf"),
        ] {
            assert_eq!((humanize(v).as_str(), humanize1024(v).as_str(), humanize_duration(v).as_str()), (h, h1024, d));
        }
        assert_eq!(humanize_percentage(0.1234567), "12.35%");
        assert_eq!(humanize_timestamp(1435065584.128).unwrap(), "2015-06-23 13:19:44.128 +0000 UTC");
    }
}
