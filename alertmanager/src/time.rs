//! Instants as the API and the payloads print and read them.
use jiff::Timestamp;

/// Go's zero time, which stands for "no end" in payloads.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

fn instant(t_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(t_ms).unwrap_or(if t_ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// RFC 3339 with as many digits as needed: payloads.
pub fn format(t_ms: i64) -> String {
    instant(t_ms).to_string()
}

/// [`format`] into a serializer, without a text in between; None is [`ZERO`].
pub fn serialize<S: serde::Serializer>(t_ms: &Option<i64>, s: S) -> Result<S::Ok, S::Error> {
    match t_ms {
        Some(t_ms) => s.collect_str(&instant(*t_ms)),
        None => s.serialize_str(ZERO),
    }
}

/// RFC 3339 with three digits: the API.
pub fn format_api(t_ms: i64) -> String {
    instant(t_ms).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Milliseconds of an RFC 3339 instant; `Ok(None)` for Go's zero time and the empty text.
pub fn parse(text: &str) -> Result<Option<i64>, String> {
    if text.is_empty() || text.starts_with("0001-01-01T00:00:00") {
        return Ok(None);
    }
    let t: Timestamp = text.parse().map_err(|e| format!("parsing time {text:?}: {e}"))?;
    Ok(Some(t.as_millisecond()))
}

/// For templates.
pub fn zoned(t_ms: i64) -> jiff::Zoned {
    instant(t_ms).to_zoned(jiff::tz::TimeZone::UTC)
}
/// Go's zero time, for templates.
pub fn zoned_zero() -> jiff::Zoned {
    jiff::civil::date(1, 1, 1).to_zoned(jiff::tz::TimeZone::UTC).unwrap_or_else(|_| zoned(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_parses() {
        assert_eq!(
            (format(1_500), format_api(1_500)),
            ("1970-01-01T00:00:01.5Z".into(), "1970-01-01T00:00:01.500Z".into())
        );
        assert_eq!(format(2_000), "1970-01-01T00:00:02Z");
        for (text, want) in
            [("1970-01-01T01:00:01.123456789+01:00", Some(1_123)), ("0001-01-01T00:00:00.000Z", None), ("", None)]
        {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
        assert!(parse("x").is_err());
        assert_eq!(format(i64::MAX).len(), 30);
    }
}
