//! Times, durations and limits in request parameters, read as upstream reads them.
use ferula_model::labels::quoted;
use ferula_net::listen::Params;

use super::answer::ApiError;

/// The bounds used where a request gives none, in ms: what Go's `time.Time` can hold around the epoch.
pub const MIN_TIME_MS: i64 = (i64::MIN / 1000 + 62_135_596_801) * 1000;
pub const MAX_TIME_MS: i64 = (i64::MAX / 1000 - 62_135_596_801) * 1000 + 999;

/// `MIN_TIME_MS` and `MAX_TIME_MS` as clients print them; they are no RFC 3339 dates.
const MIN_TIME_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";

/// A Unix time in seconds (`1435781430.781`) or RFC 3339, in ms.
///
/// Numbers that no i64 of milliseconds holds are refused. (Upstream lets them wrap around, and answers nonsense.)
pub fn parse_time_ms(text: &str) -> Result<i64, String> {
    let refused = || format!("cannot parse {} to a valid timestamp", quoted(text));
    if let Some(seconds) = parse_float(text) {
        // Whole seconds apart from the fraction: a product in f64 would lose milliseconds of large times.
        let (whole, fraction) = (seconds.trunc(), seconds.fract());
        if !(whole * 1000.0 >= MIN_TIME_MS as f64 && whole * 1000.0 <= MAX_TIME_MS as f64) {
            return Err(refused());
        }
        return Ok(whole as i64 * 1000 + (fraction * 1000.0).round() as i64);
    }
    match text {
        MIN_TIME_TEXT => return Ok(MIN_TIME_MS),
        MAX_TIME_TEXT => return Ok(MAX_TIME_MS),
        _ => {}
    }
    let date_time = text.as_bytes().get(10).is_some_and(|b| *b == b'T');
    match text.parse::<jiff::Timestamp>() {
        Ok(t) if date_time => Ok(t.as_millisecond()),
        _ => Err(refused()),
    }
}

/// Go's ParseFloat takes what Rust's takes, except for the words: both know inf and nan in any case.
fn parse_float(text: &str) -> Option<f64> {
    let v: f64 = text.parse().ok()?;
    (!v.is_nan()).then_some(v)
}

/// A duration as `5m` or in seconds (`0.5`), in ms. May be negative or zero: the caller judges.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        let ns = seconds * 1e9;
        if !(ns < i64::MAX as f64 && ns > i64::MIN as f64) {
            return Err(format!("cannot parse {} to a valid duration. It overflows int64", quoted(text)));
        }
        return Ok((seconds * 1000.0).trunc() as i64);
    }
    ferula_model::duration::parse_ms(text).map_err(|_| format!("cannot parse {} to a valid duration", quoted(text)))
}

/// The time parameter `name`, or `default_ms` where it is absent or empty.
pub fn time_or(params: &Params, name: &str, default_ms: i64) -> Result<i64, ApiError> {
    match params.get(name) {
        "" => Ok(default_ms),
        text => parse_time_ms(text)
            .map_err(|e| ApiError::parameter(name, format_args!("invalid time value for '{name}': {e}"))),
    }
}

/// The parameter `name` as a number of results; 0 means all.
pub fn limit(params: &Params, name: &str) -> Result<usize, ApiError> {
    match params.get(name) {
        "" => Ok(0),
        text => match atoi(text) {
            Ok(n) => usize::try_from(n).map_err(|_| ApiError::parameter(name, "limit must be non-negative")),
            Err(e) => Err(ApiError::parameter(name, e)),
        },
    }
}

/// Go's `strconv.Atoi`, its error text included.
pub fn atoi(text: &str) -> Result<i64, String> {
    text.parse::<i64>().map_err(|e| {
        let why = match e.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {}: {why}", quoted(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, ms) in [
            ("0", 0),
            ("1435781430.781", 1_435_781_430_781),
            ("1.0006", 1001),
            ("-1.5", -1500),
            ("1e3", 1_000_000),
            ("2015-07-01T20:10:51.781Z", 1_435_781_451_781),
            ("2015-07-01T20:10:51+02:00", 1_435_774_251_000),
            (MIN_TIME_TEXT, MIN_TIME_MS),
            (MAX_TIME_TEXT, MAX_TIME_MS),
        ] {
            assert_eq!(parse_time_ms(text), Ok(ms), "{text}");
        }
        for text in
            ["", "foo", "30s", "9223372036854775807", "-9223372036854775808", "1e300", "Inf", "NaN", "2015-07-01"]
        {
            assert_eq!(parse_time_ms(text), Err(format!("cannot parse {text:?} to a valid timestamp")), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, ms) in [("1", 1000), ("0.0015", 1), ("5m", 300_000), ("1h30m", 5_400_000), ("-1", -1000), ("0", 0)] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        assert_eq!(parse_duration_ms("x"), Err("cannot parse \"x\" to a valid duration".into()));
        assert_eq!(parse_duration_ms("-1s"), Err("cannot parse \"-1s\" to a valid duration".into()));
        for text in ["1e30", "Inf", "NaN"] {
            let want = format!("cannot parse {text:?} to a valid duration. It overflows int64");
            assert_eq!(parse_duration_ms(text), Err(want));
        }
    }

    #[test]
    fn limits() {
        let of = |text: &str| limit(&Params::from_query(&format!("limit={text}")), "limit").map_err(|e| e.message);
        assert_eq!((of(""), of("7")), (Ok(0), Ok(7)));
        assert_eq!(of("-1"), Err("invalid parameter \"limit\": limit must be non-negative".into()));
        let want = "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax";
        assert_eq!(of("x"), Err(want.into()));
        assert!(of("99999999999999999999").unwrap_err().ends_with("value out of range"));
    }
}
