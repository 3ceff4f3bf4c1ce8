//! Floats as Go's `%e`, `%f` and `%g` print them.
use ferula_model::number::{format_f, format_g};

/// `strconv.FormatFloat` of a number that is finite and not negative; no precision means 6 for `e` and `f`, and the
/// shortest form for `g`.
pub(crate) fn format_float(f: f64, verb: char, precision: Option<usize>) -> String {
    let text = match (verb, precision) {
        ('e' | 'E', p) => go_exponent(&format!("{f:.*e}", p.unwrap_or(6).min(1100))),
        ('f' | 'F', p) => format!("{f:.*}", p.unwrap_or(6).min(1100)),
        (_, None) => format_g(f),
        (_, Some(p)) => general(f, p.clamp(1, 1100)),
    };
    if matches!(verb, 'E' | 'G') { text.to_uppercase() } else { text }
}

/// `%.<p>g`: at most `p` digits, trailing zeros dropped.
fn general(f: f64, p: usize) -> String {
    let sci = format!("{f:.*e}", p - 1);
    let (mantissa, exponent) = sci.split_once('e').unwrap_or((&sci, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim =
        |s: &str| if s.contains('.') { s.trim_end_matches('0').trim_end_matches('.').to_owned() } else { s.to_owned() };
    if exponent < -4 || exponent >= i32::try_from(p).unwrap_or(i32::MAX) {
        return go_exponent(&format!("{}e{exponent}", trim(mantissa)));
    }
    let decimals = i32::try_from(p).unwrap_or(0) - 1 - exponent;
    trim(&format!("{f:.*}", usize::try_from(decimals).unwrap_or(0)))
}

/// Rust's `1e6` as Go's `1e+06`.
fn go_exponent(s: &str) -> String {
    let Some((mantissa, exponent)) = s.split_once('e') else { return s.to_owned() };
    let n: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if n < 0 { '-' } else { '+' }, n.abs())
}

/// `fmt.Sprintf("%.4g", v)`, which the humanising functions share.
pub(crate) fn four_digits(v: f64) -> String {
    if !v.is_finite() {
        return format_f(v);
    }
    let sign = if v.is_sign_negative() { "-" } else { "" };
    format!("{sign}{}", format_float(v.abs(), 'g', Some(4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_significant_digits() {
        for (v, text) in [
            (1234.567, "1235"),
            (0.00001234, "1.234e-05"),
            (12345.0, "1.234e+04"),
            (99.999, "100"),
            (0.5, "0.5"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(four_digits(v), text);
        }
    }
}
