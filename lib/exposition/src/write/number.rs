//! Numbers as Go's `expfmt` prints them: shortest digits, an exponent below 1e-4 and from 1e6.

/// Text 0.0.4 and 1.0.0: `1.23e+08`, `NaN`, `+Inf`; both zeros are `0`.
pub fn write_float(out: &mut Vec<u8>, v: f64) {
    if v == 0.0 {
        out.push(b'0');
    } else if v.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if v.is_infinite() {
        out.extend_from_slice(if v > 0.0 { b"+Inf" } else { b"-Inf" });
    } else {
        write_finite(out, v);
    }
}

/// OpenMetrics: the same, but an integer without exponent gets `.0`.
pub fn write_openmetrics_float(out: &mut Vec<u8>, v: f64) {
    let start = out.len();
    write_float(out, v);
    let written = out.get(start..).unwrap_or_default();
    if v.is_finite() && !written.iter().any(|b| matches!(b, b'.' | b'e')) {
        out.extend_from_slice(b".0");
    }
}

fn write_finite(out: &mut Vec<u8>, v: f64) {
    if v < 0.0 {
        out.push(b'-');
    }
    let v = v.abs();
    if v < 1e15 && v.trunc() == v {
        // Most values of an exporter: below 2^53 the decimal digits are the shortest ones.
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(v as u64).as_bytes();
        if digits.len() <= 6 {
            out.extend_from_slice(digits);
        } else {
            let significant = digits.len() - digits.iter().rev().take_while(|d| **d == b'0').count();
            scientific(out, digits.get(..significant).unwrap_or(digits), digits.len() as i32 - 1);
        }
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let (digits, exponent) = decompose(buffer.format_finite(v));
    let digits = digits.as_slice();
    if (-4..6).contains(&exponent) {
        positional(out, digits, exponent);
    } else {
        scientific(out, digits, exponent);
    }
}

/// Splits `123.45e6`, `0.0012` or `1e-7` into significant digits and the decimal exponent of the first of them.
fn decompose(shortest: &str) -> (Vec<u8>, i32) {
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let leading = all.iter().take_while(|d| **d == b'0').count();
    let trailing = all.iter().rev().take_while(|d| **d == b'0').count();
    let digits = all.get(leading..all.len().saturating_sub(trailing)).unwrap_or_default().to_vec();
    (digits, exponent + whole.len() as i32 - 1 - leading as i32)
}

fn scientific(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    if let Some((first, rest)) = digits.split_first() {
        out.push(*first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
    }
    out.push(b'e');
    out.push(if exponent < 0 { b'-' } else { b'+' });
    let size = exponent.unsigned_abs();
    if size < 10 {
        out.push(b'0');
    }
    out.extend_from_slice(itoa::Buffer::new().format(size).as_bytes());
}

fn positional(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.extend_from_slice(digits);
        return;
    }
    let whole = exponent as usize + 1;
    for i in 0..whole.max(digits.len()) {
        if i == whole {
            out.push(b'.');
        }
        out.push(digits.get(i).copied().unwrap_or(b'0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn both(v: f64) -> (String, String) {
        let (mut t, mut o) = (Vec::new(), Vec::new());
        write_float(&mut t, v);
        write_openmetrics_float(&mut o, v);
        (String::from_utf8(t).unwrap(), String::from_utf8(o).unwrap())
    }

    #[test]
    fn prints_as_expfmt() {
        for (v, text, openmetrics) in [
            (0.0, "0", "0.0"),
            (-0.0, "0", "0.0"),
            (1.0, "1", "1.0"),
            (-1.0, "-1", "-1.0"),
            (f64::NAN, "NaN", "NaN"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NEG_INFINITY, "-Inf", "-Inf"),
            (100_000.0, "100000", "100000.0"),
            (1e6, "1e+06", "1e+06"),
            (123_456_789.0, "1.23456789e+08", "1.23456789e+08"),
            (1.784e9, "1.784e+09", "1.784e+09"),
            (1e100, "1e+100", "1e+100"),
            (1.5e-7, "1.5e-07", "1.5e-07"),
            (0.0001, "0.0001", "0.0001"),
            (0.00001, "1e-05", "1e-05"),
            (123456.75, "123456.75", "123456.75"),
            (1234567.75, "1.23456775e+06", "1.23456775e+06"),
            (0.005, "0.005", "0.005"),
            (9007199254740993.0, "9.007199254740992e+15", "9.007199254740992e+15"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308", "2.2250738585072014e-308"),
            (5e-324, "5e-324", "5e-324"),
            (f64::MAX, "1.7976931348623157e+308", "1.7976931348623157e+308"),
        ] {
            assert_eq!(both(v), (text.to_owned(), openmetrics.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_models_formatter(bits in any::<u64>(), small in -1e7f64..1e7, int in any::<i32>()) {
            for v in [f64::from_bits(bits), small, small.round(), f64::from(int), f64::from(int) / 1000.0] {
                if v != 0.0 && !v.is_nan() {
                    prop_assert_eq!(both(v).0, ferula_model::number::format_g(v));
                }
            }
        }
    }
}
