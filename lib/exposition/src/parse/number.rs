//! Sample values: as Go's `ParseFloat` reads them, with a short cut for what targets really send.

/// Why a number was refused, in Go's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberError {
    Syntax,
    Range,
    /// `p`, `P` or `_`: hexadecimal and grouped numbers are not part of the formats.
    Character,
}

/// Powers of ten that an f64 holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The value of a sample or `le` text, or `None` where Go's `ParseFloat` (decimal forms only) would fail.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    parse(text).ok()
}

#[inline]
pub(crate) fn parse(text: &[u8]) -> Result<f64, NumberError> {
    // Integers below 10^18 and short decimals are exact or exactly one rounding away; all else goes the long way.
    let (mut mantissa, mut digits, mut after_point, mut seen_point) = (0u64, 0usize, 0usize, false);
    let (negative, unsigned) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    for &b in unsigned {
        match b {
            b'0'..=b'9' => {
                if digits == 18 {
                    return parse_slowly(text);
                }
                mantissa = mantissa * 10 + u64::from(b - b'0');
                digits += 1;
                after_point += usize::from(seen_point);
            }
            b'.' if !seen_point => seen_point = true,
            _ => return parse_slowly(text),
        }
    }
    if digits == 0 || (after_point > 0 && mantissa > 1 << 53) {
        return parse_slowly(text);
    }
    let magnitude = match EXACT_POWERS.get(after_point) {
        Some(p) if after_point > 0 => mantissa as f64 / p,
        _ => mantissa as f64,
    };
    Ok(if negative { -magnitude } else { magnitude })
}

#[cold]
fn parse_slowly(text: &[u8]) -> Result<f64, NumberError> {
    if text.iter().any(|b| matches!(b, b'p' | b'P' | b'_')) {
        return Err(NumberError::Character);
    }
    let (sign, unsigned) = match text.split_first() {
        Some((b'-', rest)) => (-1.0, rest),
        Some((b'+', rest)) => (1.0, rest),
        _ => (1.0, text),
    };
    if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
        return Ok(sign * f64::INFINITY);
    }
    if text.eq_ignore_ascii_case(b"nan") {
        return Ok(f64::from_bits(NORMAL_NAN));
    }
    if !unsigned.first().is_some_and(|b| b.is_ascii_digit() || *b == b'.') {
        return Err(NumberError::Syntax); // the standard library also knows "-nan"
    }
    let value: f64 = std::str::from_utf8(text).ok().and_then(|s| s.parse().ok()).ok_or(NumberError::Syntax)?;
    if value.is_infinite() { Err(NumberError::Range) } else { Ok(value) }
}

/// The NaN every exposed NaN becomes, so that none can pose as a stale marker.
const NORMAL_NAN: u64 = 0x7ff8_0000_0000_0001;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_as_go() {
        for (text, expect) in [
            ("0", Ok(0.0)),
            ("-0", Ok(-0.0)),
            ("+5", Ok(5.0)),
            ("1.", Ok(1.0)),
            (".5", Ok(0.5)),
            ("1e3", Ok(1000.0)),
            ("0.1", Ok(0.1)),
            ("9223372036854776000", Ok(9223372036854776000.0)),
            ("+Inf", Ok(f64::INFINITY)),
            ("-infinity", Ok(f64::NEG_INFINITY)),
            ("", Err(NumberError::Syntax)),
            (".", Err(NumberError::Syntax)),
            ("-", Err(NumberError::Syntax)),
            ("-nan", Err(NumberError::Syntax)),
            ("1e999", Err(NumberError::Range)),
            ("0x1", Err(NumberError::Syntax)),
            ("0x1p-3", Err(NumberError::Character)),
            ("1_000", Err(NumberError::Character)),
        ] {
            assert_eq!(parse(text.as_bytes()), expect, "{text}");
        }
        assert_eq!(parse(b"NaN").unwrap().to_bits(), NORMAL_NAN);
    }

    proptest! {
        #[test]
        fn equals_the_standard_library(v in any::<f64>(), digits in 0usize..20) {
            for text in [format!("{v}"), format!("{v:e}"), format!("{v:.digits$}")] {
                if v.is_finite() {
                    prop_assert_eq!(parse(text.as_bytes()).unwrap().to_bits(), text.parse::<f64>().unwrap().to_bits());
                }
            }
        }
        #[test]
        fn short_decimals_equal_the_standard_library(text in "-?[0-9]{1,20}(\\.[0-9]{0,20})?") {
            prop_assert_eq!(parse(text.as_bytes()).unwrap().to_bits(), text.parse::<f64>().unwrap().to_bits());
        }
    }
}
