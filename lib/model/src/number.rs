//! Numbers in text as Go reads and writes them: the API, the exposition formats and templates all depend on it.

/// `strconv.FormatFloat(v, 'f', -1, 64)`: shortest digits that read back the same, never an exponent. (The
/// API's JSON has one below 1e-6 and from 1e21 on; its writer does that.)
pub fn write_f(out: &mut String, v: f64) {
    if v.is_finite() { Shortest::of(v).plain(&mut |s| out.push_str(s)) } else { out.push_str(not_finite(v)) }
}

/// Go's words for what is no number.
pub fn not_finite(v: f64) -> &'static str {
    if v.is_nan() {
        "NaN"
    } else if v > 0.0 {
        "+Inf"
    } else {
        "-Inf"
    }
}

/// The shortest decimal digits of a finite number that read back the same. Of two that are as short and as near, the even
/// one, as Go has it (Rust's own formatting takes the upper one): every number that leaves as text is made of this.
#[derive(Clone, Copy, Debug)]
pub struct Shortest {
    is_negative: bool,
    digits: [u8; 17],
    len: usize,
    exponent: i32,
}

impl Shortest {
    /// Infinities and NaN have no digits; they are taken for 0.
    pub fn of(v: f64) -> Shortest {
        let mut shortest = Shortest { is_negative: v.is_sign_negative(), digits: [b'0'; 17], len: 1, exponent: 0 };
        if v == 0.0 || !v.is_finite() {
            return shortest;
        }
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(v.abs()); // 123.45, 0.0012 or 1.5e-7
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let whole = mantissa.find('.').unwrap_or(mantissa.len()) as i32;
        let all = || mantissa.bytes().filter(|b| *b != b'.');
        let leading = all().take_while(|b| *b == b'0').count();
        shortest.len = 0;
        for (i, digit) in all().skip(leading).enumerate() {
            let Some(place) = shortest.digits.get_mut(i) else { break };
            *place = digit;
            if digit != b'0' {
                shortest.len = i + 1;
            }
        }
        shortest.exponent = exponent.parse().unwrap_or(0) + whole - 1 - leading as i32;
        shortest
    }

    /// The decimal exponent of the first digit.
    pub fn exponent(&self) -> i32 {
        self.exponent
    }

    fn digits(&self) -> &str {
        self.digits.get(..self.len).and_then(|d| std::str::from_utf8(d).ok()).unwrap_or("0")
    }

    /// Without an exponent, whatever the number of zeros.
    pub fn plain(&self, put: &mut impl FnMut(&str)) {
        if self.is_negative {
            put("-");
        }
        let digits = self.digits();
        let Ok(whole) = usize::try_from(self.exponent + 1) else {
            put("0.");
            zeros((-self.exponent - 1).unsigned_abs() as usize, put);
            return put(digits);
        };
        match digits.split_at_checked(whole) {
            Some(("", after)) => {
                put("0.");
                put(after);
            }
            Some((all, "")) => put(all),
            Some((before, after)) => {
                put(before);
                put(".");
                put(after);
            }
            None => {
                put(digits);
                zeros(whole - digits.len(), put);
            }
        }
    }

    /// `1.5e-07`: the exponent has its sign and at least so many digits.
    pub fn scientific(&self, exponent_digits: usize, put: &mut impl FnMut(&str)) {
        if self.is_negative {
            put("-");
        }
        let digits = self.digits();
        let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
        put(first);
        if !rest.is_empty() {
            put(".");
            put(rest);
        }
        put(if self.exponent < 0 { "e-" } else { "e+" });
        let mut buffer = itoa::Buffer::new();
        let exponent = buffer.format(self.exponent.unsigned_abs());
        zeros(exponent_digits.saturating_sub(exponent.len()), put);
        put(exponent);
    }

    /// With an exponent where `strconv` and `%v` have one: below 1e-4 and from 1e6 on.
    pub fn general(&self, put: &mut impl FnMut(&str)) {
        if (-4..6).contains(&self.exponent) { self.plain(put) } else { self.scientific(2, put) }
    }
}

fn zeros(mut n: usize, put: &mut impl FnMut(&str)) {
    const ZEROS: &str = "00000000000000000000000000000000";
    while n > 0 {
        let piece = ZEROS.get(..n).unwrap_or(ZEROS);
        put(piece);
        n -= piece.len();
    }
}

pub fn format_f(v: f64) -> String {
    let mut s = String::new();
    write_f(&mut s, v);
    s
}

/// `strconv.FormatFloat(v, 'g', -1, 64)`, which is also Go's `%v`: the shortest digits that read back the same, with an
/// exponent for numbers below 1e-4 and from 1e6 on.
pub fn write_g(out: &mut String, v: f64) {
    if v.is_finite() { Shortest::of(v).general(&mut |s| out.push_str(s)) } else { out.push_str(not_finite(v)) }
}

pub fn format_g(v: f64) -> String {
    let mut s = String::new();
    write_g(&mut s, v);
    s
}

/// `strconv.FormatFloat(v, 'e', -1, 64)`.
pub fn format_e(v: f64) -> String {
    let mut s = String::new();
    if v.is_finite() {
        Shortest::of(v).scientific(2, &mut |part| s.push_str(part))
    } else {
        s.push_str(not_finite(v))
    }
    s
}

/// Why a text is no number, in Go's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    #[error("invalid syntax")]
    Syntax,
    #[error("value out of range")]
    Range,
}

/// `strconv.ParseFloat(s, 64)`: decimal and hexadecimal (`0x1.8p3`) floats, `inf`, `infinity`, `nan` in any case, an
/// optional sign, underscores between digits of a hexadecimal or decimal literal.
pub fn parse_go_float(s: &str) -> Result<f64, NumberError> {
    // The common case first: what Rust reads and Go reads alike.
    let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'+' | b'-' | b'e' | b'E');
    if s.bytes().all(plain) {
        return finite(s.parse().map_err(|_| NumberError::Syntax)?);
    }
    let (sign, unsigned) = match s.as_bytes().first() {
        Some(b'-') => (-1.0, s.get(1..).unwrap_or("")),
        Some(b'+') => (1.0, s.get(1..).unwrap_or("")),
        _ => (1.0, s),
    };
    let lower = unsigned.to_ascii_lowercase();
    match lower.as_str() {
        "inf" | "infinity" => return Ok(sign * f64::INFINITY),
        "nan" if s.len() == 3 => return Ok(f64::from_bits(0x7ff8_0000_0000_0001)), // Go's NaN
        _ => {}
    }
    if !underscores_ok(&lower) {
        return Err(NumberError::Syntax);
    }
    let digits = lower.replace('_', "");
    match digits.strip_prefix("0x") {
        Some(hex) => Ok(sign * parse_hex_float(hex)?),
        None if digits.bytes().all(plain) && !digits.starts_with(['+', '-']) => {
            finite(sign * digits.parse::<f64>().map_err(|_| NumberError::Syntax)?)
        }
        None => Err(NumberError::Syntax),
    }
}

fn finite(v: f64) -> Result<f64, NumberError> {
    if v.is_finite() { Ok(v) } else { Err(NumberError::Range) }
}

/// Underscores stand only between digits, or between a base prefix and a digit.
fn underscores_ok(s: &str) -> bool {
    let bytes = s.as_bytes();
    let prefixed = bytes.len() >= 2 && bytes[0] == b'0' && matches!(bytes[1], b'x' | b'o' | b'b');
    let is_hex = prefixed && bytes[1] == b'x';
    let mut last = if prefixed { b'0' } else { b'^' };
    for &b in &bytes[if prefixed { 2 } else { 0 }..] {
        let kind = match b {
            b'0'..=b'9' => b'0',
            b'a'..=b'f' if is_hex => b'0',
            b'_' => b'_',
            _ => b'!',
        };
        if (kind == b'_' && last != b'0') || (last == b'_' && kind != b'0') {
            return false;
        }
        last = kind;
    }
    last != b'_'
}

/// `1.8p3` after the `0x`: Go demands the exponent. Rounded to even at 53 bits.
fn parse_hex_float(s: &str) -> Result<f64, NumberError> {
    let (mantissa_text, exponent_text) = s.split_once('p').ok_or(NumberError::Syntax)?;
    let unsigned = exponent_text.strip_prefix(['+', '-']).unwrap_or(exponent_text);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NumberError::Syntax);
    }
    // Beyond this every float is zero or infinite, whatever the mantissa of a text that fits in memory.
    let mut exponent: i64 = exponent_text.parse::<i64>().unwrap_or(i64::from(i32::MAX)).clamp(-1 << 40, 1 << 40);
    if exponent_text.starts_with('-') && exponent > 0 {
        exponent = -exponent;
    }
    let (mut mantissa, mut sticky, mut digits, mut after_dot) = (0u64, false, 0usize, false);
    for c in mantissa_text.chars() {
        if c == '.' && !after_dot {
            after_dot = true;
            continue;
        }
        let digit = c.to_digit(16).ok_or(NumberError::Syntax)?;
        digits += 1;
        if mantissa >> 59 == 0 {
            mantissa = mantissa << 4 | u64::from(digit);
            exponent -= if after_dot { 4 } else { 0 };
        } else {
            sticky |= digit != 0;
            exponent += if after_dot { 0 } else { 4 };
        }
    }
    if digits == 0 {
        return Err(NumberError::Syntax);
    }
    finite(scale(mantissa, sticky, exponent))
}

/// `mantissa * 2^exponent`, rounded once, to even; `sticky` says that bits below were lost.
fn scale(mantissa: u64, sticky: bool, exponent: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    let top = 63 - i64::from(mantissa.leading_zeros()); // value is in [2^(top+exponent), twice that)
    let keep = (top + exponent + 1074 + 1).clamp(0, 53); // bits a float of that size has
    let drop = top + 1 - keep;
    let (mut kept, exponent) = if drop <= 0 {
        (mantissa, exponent)
    } else if drop > 63 {
        (0, exponent + drop)
    } else {
        let lost = mantissa & ((1 << drop) - 1);
        let half = 1u64 << (drop - 1);
        let kept = mantissa >> drop;
        let up = lost > half || (lost == half && (sticky || kept & 1 == 1));
        (kept + u64::from(up), exponent + drop)
    };
    // `kept` is exact in a float, so two exact-or-final multiplications by powers of two suffice.
    let mut exponent = exponent;
    while kept & 1 == 0 && kept != 0 {
        kept >>= 1;
        exponent += 1;
    }
    let half = exponent.clamp(-1000, 1000);
    (kept as f64) * 2f64.powi(half as i32) * 2f64.powi((exponent - half).clamp(-1100, 1100) as i32)
}

/// Numbers as PromQL writes them: an integer with Go's prefixes (`0x1f`, `017` is octal) or else [`parse_go_float`].
pub fn parse_go_number(s: &str) -> Result<f64, NumberError> {
    match parse_go_int(s) {
        Some(n) => Ok(n as f64),
        None => parse_go_float(s),
    }
}

/// `strconv.ParseInt(s, 0, 64)` without a sign.
fn parse_go_int(s: &str) -> Option<i64> {
    let lower = s.to_ascii_lowercase();
    if !underscores_ok(&lower) {
        return None;
    }
    let digits = lower.replace('_', "");
    let (digits, base) = match digits.get(..2) {
        Some("0x") => (digits.get(2..)?, 16),
        Some("0o") => (digits.get(2..)?, 8),
        Some("0b") => (digits.get(2..)?, 2),
        Some(two) if two.starts_with('0') => (digits.get(1..)?, 8),
        _ => (digits.as_str(), 10),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(digits, base).ok()
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
            (0.05, "0.05", "0.05"),
            (-0.5, "-0.5", "-0.5"),
            // Two are as short and as near: the even one.
            (568_777_881_111_376.0 + 0.25, "568777881111376.2", "5.687778811113762e+14"),
            (568_777_881_111_376.0 + 0.75, "568777881111376.8", "5.687778811113768e+14"),
            (f64::MAX, &format!("17976931348623157{}", "0".repeat(292)), "1.7976931348623157e+308"),
            (5e-324, &format!("0.{}5", "0".repeat(323)), "5e-324"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NAN, "NaN", "NaN"),
        ] {
            assert_eq!((format_f(v).as_str(), format_g(v).as_str()), (f, g));
        }
        for (v, e) in [(0.0, "0e+00"), (-2.5, "-2.5e+00"), (1e100, "1e+100"), (f64::NEG_INFINITY, "-Inf")] {
            assert_eq!(format_e(v), e);
        }
    }

    #[test]
    fn shortest_digits_are_what_the_standard_library_prints_but_for_ties() {
        let mut bits = 88172645463325252u64;
        for _ in 0..200_000 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            let v = f64::from_bits(bits);
            if v.is_finite() {
                let (ours, theirs) = (format_f(v), format!("{v}"));
                assert!(ours == theirs || (ours.len() == theirs.len() && ours.parse() == Ok(v)), "{ours} {theirs}");
            }
        }
    }

    #[test]
    fn reads_as_go() {
        for (text, want) in [
            ("1.5", Ok(1.5)),
            ("-.5e3", Ok(-500.0)),
            ("5.", Ok(5.0)),
            ("+Inf", Ok(f64::INFINITY)),
            ("-infinity", Ok(f64::NEG_INFINITY)),
            ("1_000.5", Ok(1000.5)),
            ("1__0", Err(NumberError::Syntax)),
            ("_1", Err(NumberError::Syntax)),
            ("0x1p-2", Ok(0.25)),
            ("0x1.8P3", Ok(12.0)),
            ("0x_1p0", Ok(1.0)),
            ("0x1", Err(NumberError::Syntax)),
            ("0x1p-1074", Ok(5e-324)),
            ("0x1p-1075", Ok(0.0)),
            ("0x1.8p-1075", Ok(5e-324)),
            ("0x1.fffffffffffff8p1023", Err(NumberError::Range)),
            ("0x1.fffffffffffff7p1023", Ok(f64::MAX)),
            ("0x1.00000000000008p0", Ok(1.0)),
            ("0x1.000000000000081p0", Ok(1.0000000000000002)),
            ("1e999", Err(NumberError::Range)),
            ("-nan", Err(NumberError::Syntax)),
            ("", Err(NumberError::Syntax)),
            ("1e", Err(NumberError::Syntax)),
            (".", Err(NumberError::Syntax)),
            ("--1", Err(NumberError::Syntax)),
            ("1 ", Err(NumberError::Syntax)),
        ] {
            assert_eq!(parse_go_float(text), want, "{text}");
        }
        assert!(parse_go_float("NaN").unwrap().is_nan());
        for (text, want) in [
            ("017", 15.0),
            ("08", 8.0),
            ("0x1F", 31.0),
            ("1_000", 1000.0),
            ("0xffffffffffffffffp0", 18446744073709551615.0),
            ("9223372036854775808", 9223372036854775808.0),
        ] {
            assert_eq!(parse_go_number(text), Ok(want), "{text}");
        }
    }
}
