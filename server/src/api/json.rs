//! The API's JSON, written by hand: numbers as strings, times as float seconds, one growing buffer.
//!
//! Everything hot (query results) goes through here; everything small is serialised by serde.
use ferula_model::number::{Shortest, not_finite};
use ferula_model::{Exemplar, LabelView};

/// A JSON text in the making. Commas are the caller's business, through [`Json::separate`].
#[derive(Debug, Default)]
pub struct Json {
    out: Vec<u8>,
}

impl Json {
    pub fn new() -> Json {
        Json::default()
    }
    pub fn with_capacity(bytes: usize) -> Json {
        Json { out: Vec::with_capacity(bytes) }
    }
    pub fn len(&self) -> usize {
        self.out.len()
    }
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }
    /// What was written since the last call; the memory is handed over. `more`: bytes that will be written next.
    pub fn take(&mut self, more: usize) -> Vec<u8> {
        std::mem::replace(&mut self.out, Vec::with_capacity(more))
    }

    /// Text that already is JSON: braces, keys, numbers.
    pub fn raw(&mut self, text: &str) -> &mut Json {
        self.out.extend_from_slice(text.as_bytes());
        self
    }
    pub fn raw_bytes(&mut self, text: &[u8]) -> &mut Json {
        self.out.extend_from_slice(text);
        self
    }
    /// A comma before every element but the first.
    pub fn separate(&mut self, first: &mut bool) -> &mut Json {
        if !std::mem::replace(first, false) {
            self.out.push(b',');
        }
        self
    }
    pub fn integer(&mut self, n: impl itoa::Integer) -> &mut Json {
        self.out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
        self
    }

    /// A quoted string.
    pub fn string(&mut self, text: &str) -> &mut Json {
        self.out.push(b'"');
        let bytes = text.as_bytes();
        let mut written = 0;
        for (i, b) in bytes.iter().enumerate() {
            let escape: &[u8] = match b {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                0..=0x1f => {
                    self.out.extend_from_slice(bytes.get(written..i).unwrap_or_default());
                    let hex = |n: u8| if n < 10 { b'0' + n } else { b'a' + n - 10 };
                    self.out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(b >> 4), hex(b & 15)]);
                    written = i + 1;
                    continue;
                }
                _ => continue,
            };
            self.out.extend_from_slice(bytes.get(written..i).unwrap_or_default());
            self.out.extend_from_slice(escape);
            written = i + 1;
        }
        self.out.extend_from_slice(bytes.get(written..).unwrap_or_default());
        self.out.push(b'"');
        self
    }

    /// `{"name":"value",...}` in name order.
    pub fn labels<L: LabelView + ?Sized>(&mut self, labels: &L) -> &mut Json {
        self.out.push(b'{');
        let mut first = true;
        labels.each(&mut |name, value| {
            self.separate(&mut first).string(name).raw(":").string(value);
        });
        self.raw("}")
    }

    /// Milliseconds as seconds, with three decimals where it is not whole.
    pub fn time(&mut self, t_ms: i64) -> &mut Json {
        if t_ms < 0 {
            self.out.push(b'-');
        }
        let (s, ms) = (t_ms.unsigned_abs() / 1000, t_ms.unsigned_abs() % 1000);
        self.integer(s);
        if ms != 0 {
            let digit = |n: u64| b'0' + (n % 10) as u8;
            self.out.extend_from_slice(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms)]);
        }
        self
    }

    /// A sample value as the quoted text Prometheus prints: shortest digits, an exponent below 1e-6 and from 1e21.
    pub fn value(&mut self, v: f64) -> &mut Json {
        self.out.push(b'"');
        self.float(v);
        self.raw("\"")
    }

    fn float(&mut self, v: f64) {
        let magnitude = v.abs();
        if magnitude < 9e15 && v.trunc() == v && !(v == 0.0 && v.is_sign_negative()) {
            self.integer(v as i64);
        } else if (1e-5..1e16).contains(&magnitude) {
            // There zmij's own text is Go's but for the fraction of what is whole.
            let mut buffer = zmij::Buffer::new();
            let text = buffer.format_finite(v);
            self.raw(text.strip_suffix(".0").unwrap_or(text));
        } else if v.is_finite() {
            let (shortest, put) = (Shortest::of(v), &mut |s: &str| self.out.extend_from_slice(s.as_bytes()));
            if v == 0.0 || (1e-6..1e21).contains(&magnitude) {
                shortest.plain(put);
            } else {
                shortest.scientific(2, put);
            }
        } else {
            self.raw(not_finite(v));
        }
    }

    /// `[time,"value"]`
    pub fn sample(&mut self, t_ms: i64, v: f64) -> &mut Json {
        self.raw("[").time(t_ms).raw(",").value(v).raw("]")
    }

    /// `{"labels":{},"value":"1","timestamp":1.5}`
    pub fn exemplar(&mut self, e: &Exemplar) -> &mut Json {
        self.raw("{\"labels\":").labels(&e.labels).raw(",\"value\":").value(e.value);
        self.raw(",\"timestamp\":").time(e.t_ms.unwrap_or(0)).raw("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferula_model::Labels;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Json) -> &mut Json) -> String {
        let mut j = Json::new();
        write(&mut j);
        String::from_utf8(j.into_bytes()).unwrap()
    }

    #[test]
    fn values_print_as_go_prints_them() {
        for (v, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (0.00403572, "0.00403572"),
            (1.7951997209438605e9, "1795199720.9438605"),
            (1e15, "1000000000000000"),
            (1e20, "100000000000000000000"),
            (1.2345678901234567e20, "123456789012345670000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (1e-6, "0.000001"),
            (9.9e-7, "9.9e-07"),
            // Two are as short and as near: the even one.
            (568_777_881_111_376.0 + 0.25, "568777881111376.2"),
            (5e-324, "5e-324"),
            (-5e-324, "-5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(written(|j| j.value(v)), format!("\"{text}\""));
        }
    }

    #[test]
    fn times_are_float_seconds() {
        for (ms, text) in [
            (0, "0"),
            (1500, "1.500"),
            (1_795_199_720_333, "1795199720.333"),
            (1050, "1.050"),
            (1001, "1.001"),
            (-1, "-0.001"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            assert_eq!(written(|j| j.time(ms)), text);
        }
    }

    #[test]
    fn labels_are_an_object() {
        let l = Labels::from_pairs([("__name__", "up"), ("a\"b", "c\\\n\u{1}é")]);
        assert_eq!(written(|j| j.labels(&l)), r#"{"__name__":"up","a\"b":"c\\\n\u0001é"}"#);
    }

    proptest! {
        #[test]
        fn strings_and_values_read_back(s in ".*", v in any::<f64>()) {
            let text = written(|j| j.string(&s));
            prop_assert_eq!(serde_json::from_str::<String>(&text).unwrap(), s);
            let text = written(|j| j.value(v));
            let back: f64 = text.trim_matches('"').parse().unwrap();
            prop_assert!(back.to_bits() == v.to_bits() || (back.is_nan() && v.is_nan()), "{} {}", text, v);
        }

        #[test]
        fn the_short_ways_print_the_same_as_the_long_one(m in 0.1f64..10.0, exponent in -8i32..23) {
            let v = m * 10f64.powi(exponent);
            for v in [v, -v, v.trunc()] {
                let magnitude = v.abs();
                let mut want = String::new();
                if v == 0.0 || (1e-6..1e21).contains(&magnitude) {
                    Shortest::of(v).plain(&mut |s| want.push_str(s));
                } else {
                    want = ferula_model::number::format_e(v);
                }
                prop_assert_eq!(written(|j| j.value(v)), format!("\"{want}\""));
            }
        }
    }
}
