//! Durations as Prometheus writes them (`1h30m`, `15s`, `250ms`) and their canonical printing.
//!
//! Source followed: the configuration and querying documentation of Prometheus 3; a day is 24 h, a week 7 d, a year 365 d.

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("empty duration string")]
    Empty,
    #[error("not a valid duration string: {}", crate::labels::quoted(.0))]
    Invalid(String),
    #[error("duration out of range")]
    OutOfRange,
}

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Milliseconds of a duration such as `1d12h` or `0`: units in falling order, each at most once, no sign, no fraction.
/// What exceeds the nanoseconds of an i64 (292 years) is out of range, as upstream.
pub fn parse_ms(s: &str) -> Result<i64, DurationError> {
    if s.is_empty() {
        return Err(DurationError::Empty);
    }
    if s == "0" {
        return Ok(0);
    }
    let invalid = || DurationError::Invalid(s.to_owned());
    let (mut rest, mut next_unit, mut total) = (s, 0usize, 0i64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, tail) = tail.split_at(letters);
        if digits == 0 {
            return Err(invalid());
        }
        let at = UNITS.iter().skip(next_unit).position(|(u, _)| *u == unit).ok_or_else(invalid)? + next_unit;
        let n: i64 = number.parse().map_err(|_| DurationError::OutOfRange)?;
        total = n
            .checked_mul(UNITS[at].1)
            .and_then(|ms| total.checked_add(ms))
            .filter(|ms| *ms <= i64::MAX / 1_000_000)
            .ok_or(DurationError::OutOfRange)?;
        next_unit = at + 1;
        rest = tail;
    }
    Ok(total)
}

/// The canonical form: `90m` prints `1h30m`, `7d` prints `1w`, but weeks and years only where they divide exactly.
pub fn format_ms(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    let mut rest = ms.unsigned_abs();
    if ms < 0 {
        out.push('-');
    }
    for (unit, size) in UNITS {
        let size = size.unsigned_abs();
        let n = rest / size;
        // Years and weeks are printed only when nothing smaller is left over, as upstream does.
        if n == 0 || (matches!(unit, "y" | "w") && !rest.is_multiple_of(size)) {
            continue;
        }
        out.push_str(&format!("{n}{unit}"));
        rest %= size;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        for (text, ms, printed) in [
            ("0", 0, "0s"),
            ("1s", 1_000, "1s"),
            ("90m", 5_400_000, "1h30m"),
            ("1w2d3h4m5s6ms", 788_645_006, "9d3h4m5s6ms"),
            ("7d", 604_800_000, "1w"),
            ("1y", 31_536_000_000, "1y"),
            ("365d", 31_536_000_000, "1y"),
            ("250ms", 250, "250ms"),
        ] {
            assert_eq!(parse_ms(text), Ok(ms), "{text}");
            assert_eq!(format_ms(ms), printed, "{text}");
        }
    }

    #[test]
    fn refuses_what_upstream_refuses() {
        for text in ["1", "1x", "s", "-1s", "1.5h", "1m1h", "1s1s", " 1s", "300y", "1h 1m"] {
            assert!(parse_ms(text).is_err(), "{text}");
        }
        assert_eq!(parse_ms("1x").unwrap_err().to_string(), "not a valid duration string: \"1x\"");
    }
}
