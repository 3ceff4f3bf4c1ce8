//! Numbers as Go's `expfmt` prints them: shortest digits, an exponent below 1e-4 and from 1e6.

use ferula_model::number::{Shortest, not_finite};

/// Text 0.0.4 and 1.0.0: `1.23e+08`, `NaN`, `+Inf`; both zeros are `0`.
pub fn write_float(out: &mut Vec<u8>, v: f64) {
    if v.trunc() == v && v.abs() < 1e6 {
        // Most values of an exporter; also takes the sign off a zero.
        out.extend_from_slice(itoa::Buffer::new().format(v as i64).as_bytes());
    } else if v.is_finite() {
        Shortest::of(v).general(&mut |s| out.extend_from_slice(s.as_bytes()));
    } else {
        out.extend_from_slice(not_finite(v).as_bytes());
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
