//! Numbers in text as Go reads and writes them: the API, the exposition formats and templates all depend on it.
use std::fmt::Write;

/// `strconv.FormatFloat(v, 'f', -1, 64)`: shortest digits that read back the same, never an exponent. What the API
/// prints for sample values.
pub fn write_f(out: &mut String, v: f64) {
    if v.is_nan() {
        out.push_str("NaN");
    } else if v.is_infinite() {
        out.push_str(if v > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        let _ = write!(out, "{v}"); // a String never fails
    }
}

pub fn format_f(v: f64) -> String {
    let mut s = String::new();
    write_f(&mut s, v);
    s
}

/// `strconv.FormatFloat(v, 'g', -1, 64)`, which is also `%v`: shortest digits, an exponent below 1e-4 and from
/// 1e6, as Go decides it: the shortest form switches at six integer digits, only JSON waits until 1e21.
pub fn write_g(out: &mut String, v: f64) {
    if v == 0.0 || !v.is_finite() {
        return write_f(out, v);
    }
    let sci = format!("{v:e}"); // shortest digits, as d.ddde-7
    let (mantissa, exponent) = sci.split_once('e').unwrap_or((&sci, "0"));
    let exp: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exp) {
        let _ = write!(out, "{v}");
    } else {
        let sign = if exp < 0 { '-' } else { '+' };
        let _ = write!(out, "{mantissa}e{sign}{:02}", exp.abs());
    }
}

pub fn format_g(v: f64) -> String {
    let mut s = String::new();
    write_g(&mut s, v);
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_go() {
        for (v, f, g) in [
            (0.0, "0", "0"),
            (-0.0, "-0", "-0"),
            (1.5, "1.5", "1.5"),
            (1e6, "1000000", "1e+06"),
            (123456789.0, "123456789", "1.23456789e+08"),
            (1e21, "1000000000000000000000", "1e+21"),
            (1.5e-7, "0.00000015", "1.5e-07"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NAN, "NaN", "NaN"),
        ] {
            assert_eq!((format_f(v).as_str(), format_g(v).as_str()), (f, g));
        }
    }
}
