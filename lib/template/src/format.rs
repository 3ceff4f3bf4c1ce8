//! Go's `fmt`: `%v` printing of values, `Sprint`, `Sprintf` with Go's verbs, flags and complaints.
use ferula_model::labels::quoted;

use crate::Value;
use crate::float::format_float;
use crate::time::{duration_text, to_text};
use crate::value::Shape;

/// Widths and precisions beyond this are refused, as Go does.
const WIDTH_MAX: usize = 1_000_000;
/// Values nest (lists in lists); printing stops at this depth.
const DEPTH_MAX: usize = 32;
/// Printing stops once it has written so much: shared lists can unfold to any size.
const OUTPUT_MAX: usize = 64 << 20;

#[derive(Clone, Copy, Debug)]
struct Flags {
    /// Bytes of output after which lists and maps are cut short.
    limit: usize,
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

impl Flags {
    const fn plain(limit: usize) -> Flags {
        Flags {
            limit,
            minus: false,
            plus: false,
            sharp: false,
            space: false,
            zero: false,
            width: None,
            precision: None,
        }
    }
}

/// `fmt.Sprint` of one value: what an action prints and `%v` gives.
pub fn sprint(value: &Value) -> String {
    let mut out = String::new();
    print(&mut out, value, 'v', &Flags::plain(OUTPUT_MAX), 0);
    out
}

/// `fmt.Sprint`: a space between operands neither of which is a string.
pub fn sprint_all(values: &[Value]) -> String {
    let mut out = String::new();
    for (i, v) in values.iter().enumerate() {
        let text = |v: &Value| v.as_str().is_some();
        if i > 0 && !text(v) && !text(&values[i - 1]) {
            out.push(' ');
        }
        print(&mut out, v, 'v', &Flags::plain(OUTPUT_MAX), 0);
    }
    out
}

/// `fmt.Sprintln`.
pub fn sprintln(values: &[Value]) -> String {
    let mut out = String::new();
    for (i, v) in values.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        print(&mut out, v, 'v', &Flags::plain(OUTPUT_MAX), 0);
    }
    out.push('\n');
    out
}

/// `fmt.Sprintf`. Stops early, with what it has, once the output passes `limit` bytes.
pub fn sprintf(format: &str, args: &[Value], limit: usize) -> String {
    let mut out = String::new();
    let mut state = Arguments { args, at: 0, reordered: false, good: true };
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if out.len() > limit {
            return out;
        }
        let mut flags = Flags::plain(limit);
        rest = state.flags(&mut flags, rest, &mut out);
        let Some(verb) = rest.chars().next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        rest = &rest[verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
        } else if !state.good {
            out.push_str(&format!("%!{verb}(BADINDEX)"));
        } else if let Some(value) = args.get(state.at) {
            state.at += 1;
            print(&mut out, value, verb, &flags, 0);
        } else {
            out.push_str(&format!("%!{verb}(MISSING)"));
        }
    }
    out.push_str(rest);
    if !state.reordered && state.at < args.len() {
        out.push_str("%!(EXTRA ");
        for (i, v) in args[state.at..].iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            typed(&mut out, v);
        }
        out.push(')');
    }
    out
}

/// `type=value`, as complaints show an operand.
fn typed(out: &mut String, v: &Value) {
    if v.is_nil() {
        out.push_str("<nil>");
        return;
    }
    out.push_str(v.type_name());
    out.push('=');
    print(out, v, 'v', &Flags::plain(OUTPUT_MAX), 1);
}

struct Arguments<'a> {
    args: &'a [Value],
    at: usize,
    reordered: bool,
    good: bool,
}

impl Arguments<'_> {
    /// Reads flags, width, precision and argument indexes; answers what follows them.
    fn flags<'f>(&mut self, flags: &mut Flags, mut rest: &'f str, out: &mut String) -> &'f str {
        self.good = true;
        while let Some(c) = rest.chars().next() {
            match c {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                '0' => flags.zero = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        rest = self.index(rest);
        if let Some(tail) = rest.strip_prefix('*') {
            rest = tail;
            match self.star() {
                Some(w) => {
                    flags.minus |= w < 0;
                    flags.width = usize::try_from(w.unsigned_abs()).ok();
                }
                None => out.push_str("%!(BADWIDTH)"),
            }
        } else {
            (flags.width, rest) = digits(rest);
        }
        if let Some(tail) = rest.strip_prefix('.') {
            rest = self.index(tail);
            if let Some(tail) = rest.strip_prefix('*') {
                rest = tail;
                match self.star().and_then(|p| usize::try_from(p).ok()) {
                    Some(p) => flags.precision = Some(p),
                    None => out.push_str("%!(BADPREC)"),
                }
            } else {
                (flags.precision, rest) = digits(rest);
                flags.precision = flags.precision.or(Some(0));
            }
        }
        if flags.minus {
            flags.zero = false;
        }
        self.index(rest)
    }
    /// `[n]`: the next operand by number.
    fn index<'f>(&mut self, rest: &'f str) -> &'f str {
        let Some(tail) = rest.strip_prefix('[') else { return rest };
        self.reordered = true;
        let Some((number, tail)) = tail.split_once(']') else {
            self.good = false;
            return tail;
        };
        match number.parse::<usize>() {
            Ok(n) if n >= 1 && n <= self.args.len() => self.at = n - 1,
            _ => self.good = false,
        }
        tail
    }
    fn star(&mut self) -> Option<i64> {
        let v = self.args.get(self.at);
        self.at += usize::from(v.is_some());
        match v {
            Some(Value::Int(i)) if i.unsigned_abs() <= WIDTH_MAX as u64 => Some(*i),
            _ => None,
        }
    }
}

fn digits(s: &str) -> (Option<usize>, &str) {
    let len = s.bytes().take_while(u8::is_ascii_digit).count();
    let n = s[..len].parse::<usize>().ok().map(|n| n.min(WIDTH_MAX));
    (n, &s[len..])
}

fn print(out: &mut String, value: &Value, verb: char, flags: &Flags, depth: usize) {
    if depth > DEPTH_MAX {
        out.push_str("...");
        return;
    }
    if verb == 'T' {
        return pad(out, value.type_name(), flags);
    }
    match value {
        Value::Nil if verb == 'v' => pad(out, "<nil>", flags),
        Value::Nil => out.push_str(&format!("%!{verb}(<nil>)")),
        Value::Bool(b) if matches!(verb, 'v' | 't') => pad(out, if *b { "true" } else { "false" }, flags),
        Value::Int(i) => integer(out, *i, verb, flags, value),
        Value::Float(f) => float(out, *f, verb, flags, value),
        Value::Str(s) | Value::Safe(_, s) => string(out, s, verb, flags, value),
        Value::Duration(d) if matches!(verb, 'v' | 's' | 'q' | 'x' | 'X') => {
            string(out, &duration_text(*d), verb, flags, value);
        }
        Value::Duration(d) => integer(out, *d, verb, flags, value),
        Value::Time(t) => string(out, &to_text(t), verb, flags, value),
        Value::Function(_) | Value::Bool(_) => bad(out, value, verb),
        Value::List(_) | Value::Map(_) | Value::Object(_) => composite(out, value, verb, flags, depth),
    }
}

fn composite(out: &mut String, value: &Value, verb: char, flags: &Flags, depth: usize) {
    if let Value::Object(o) = value {
        if let Some(text) = o.text() {
            return string(out, &text, verb, flags, value);
        }
        if o.shape() == Shape::Struct {
            out.push('{');
            for (i, (name, field)) in o.fields().iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                if flags.plus {
                    out.push_str(&format!("{name}:"));
                }
                print(out, field, verb, flags, depth + 1);
            }
            return out.push('}');
        }
    }
    if flags.sharp && verb == 'v' {
        out.push_str(value.type_name());
    }
    let (open, close) = if flags.sharp && verb == 'v' { ('{', '}') } else { ('[', ']') };
    let between = if flags.sharp && verb == 'v' { ", " } else { " " };
    if let Some(items) = value.items() {
        out.push(open);
        for (i, v) in items.iter().enumerate() {
            if out.len() > flags.limit {
                break;
            }
            if i > 0 {
                out.push_str(between);
            }
            print(out, v, verb, flags, depth + 1);
        }
        out.push(close);
    } else if let Some(entries) = value.entries() {
        if !(flags.sharp && verb == 'v') {
            out.push_str("map");
        }
        out.push(open);
        for (i, (k, v)) in entries.into_iter().enumerate() {
            if out.len() > flags.limit {
                break;
            }
            if i > 0 {
                out.push_str(between);
            }
            print(out, &Value::Str(k), verb, flags, depth + 1);
            out.push(':');
            print(out, &v, verb, flags, depth + 1);
        }
        out.push(close);
    }
}

fn bad(out: &mut String, value: &Value, verb: char) {
    out.push_str(&format!("%!{verb}("));
    typed(out, value);
    out.push(')');
}

fn pad(out: &mut String, text: &str, flags: &Flags) {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    let fill = if flags.zero { '0' } else { ' ' };
    if flags.minus {
        out.push_str(text);
        out.extend(std::iter::repeat_n(' ', missing));
    } else {
        out.extend(std::iter::repeat_n(fill, missing));
        out.push_str(text);
    }
}

/// Pads a number: zeros go between sign and digits.
fn pad_number(out: &mut String, text: &str, flags: &Flags) {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    match text.strip_prefix(['-', '+', ' ']) {
        Some(digits) if flags.zero && missing > 0 => {
            out.push_str(&text[..1]);
            out.extend(std::iter::repeat_n('0', missing));
            out.push_str(digits);
        }
        _ => pad(out, text, flags),
    }
}

fn string(out: &mut String, s: &str, verb: char, flags: &Flags, value: &Value) {
    let cut = match flags.precision {
        Some(p) => s.char_indices().nth(p).map_or(s, |(at, _)| &s[..at]),
        None => s,
    };
    match verb {
        'v' if flags.sharp => pad(out, &quoted(cut), flags),
        'v' | 's' => pad(out, cut, flags),
        'q' if flags.sharp && !cut.contains(['`', '\n', '\r']) => pad(out, &format!("`{cut}`"), flags),
        'q' => pad(out, &quoted(cut), flags),
        'x' | 'X' => {
            let mut hex = String::new();
            for (i, b) in s.bytes().take(flags.precision.unwrap_or(usize::MAX)).enumerate() {
                if i > 0 && flags.space {
                    hex.push(' ');
                }
                hex.push_str(&if verb == 'x' { format!("{b:02x}") } else { format!("{b:02X}") });
            }
            pad(out, &hex, flags);
        }
        _ => bad(out, value, verb),
    }
}

fn integer(out: &mut String, i: i64, verb: char, flags: &Flags, value: &Value) {
    let n = i.unsigned_abs();
    let char_of = || u32::try_from(i).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    let (prefix, digits) = match verb {
        'v' | 'd' => ("", n.to_string()),
        'b' => (if flags.sharp { "0b" } else { "" }, format!("{n:b}")),
        'o' => (if flags.sharp { "0" } else { "" }, format!("{n:o}")),
        'O' => ("0o", format!("{n:o}")),
        'x' => (if flags.sharp { "0x" } else { "" }, format!("{n:x}")),
        'X' => (if flags.sharp { "0X" } else { "" }, format!("{n:X}")),
        'c' => return pad(out, &char_of().to_string(), flags),
        'q' => return pad(out, &format!("'{}'", char_of().escape_default()), flags),
        'U' => return pad(out, &format!("U+{n:04X}"), flags),
        _ => return bad(out, value, verb),
    };
    let digits = match flags.precision {
        Some(0) if n == 0 => String::new(),
        Some(p) => format!("{}{digits}", "0".repeat(p.saturating_sub(digits.len()))),
        None => digits,
    };
    let text = format!("{}{prefix}{digits}", sign(i < 0, flags));
    // A precision turns zero padding off.
    pad_number(out, &text, &Flags { zero: flags.zero && flags.precision.is_none(), ..*flags });
}

fn sign(negative: bool, flags: &Flags) -> &'static str {
    match (negative, flags.plus, flags.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    }
}

fn float(out: &mut String, f: f64, verb: char, flags: &Flags, value: &Value) {
    if !matches!(verb, 'v' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G') {
        return bad(out, value, verb);
    }
    if !f.is_finite() {
        let text = match (f.is_nan(), f > 0.0) {
            (true, _) if flags.plus => "+NaN",
            (true, _) => "NaN",
            (_, true) => "+Inf",
            (_, false) => "-Inf",
        };
        return pad(out, text, &Flags { zero: false, ..*flags });
    }
    let text = format_float(f.abs(), verb, flags.precision);
    pad_number(out, &format!("{}{text}", sign(f.is_sign_negative(), flags)), flags);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_as_go() {
        let i = Value::Int;
        let f = Value::Float;
        for (format, args, text) in [
            ("%d|%5d|%-5d|%05d|%+d", vec![i(42), i(42), i(42), i(-42), i(42)], "42|   42|42   |-0042|+42"),
            (
                "%x %X %#x %o %b %c %q %U",
                vec![i(255), i(255), i(255), i(8), i(5), i(65), i(65), i(65)],
                "ff FF 0xff 10 101 A 'A' U+0041",
            ),
            (
                "%s|%10s|%-10s|%.2s|%q|%x",
                vec!["hi".into(), "hi".into(), "hi".into(), "hello".into(), "a\"b".into(), "hi".into()],
                "hi|        hi|hi        |he|\"a\\\"b\"|6869",
            ),
            (
                "%f %.2f %e %g %.3g %8.3f %v",
                vec![f(1.5), f(2.0 / 3.0), f(1e6), f(1e6), f(1234.5), f(9.8765), f(1e21)],
                "1.500000 0.67 1.000000e+06 1e+06 1.23e+03    9.877 1e+21",
            ),
            ("%d", vec!["hi".into()], "%!d(string=hi)"),
            ("%s", vec![i(1)], "%!s(int=1)"),
            ("%d", vec![], "%!d(MISSING)"),
            ("x", vec![i(1), "a".into()], "x%!(EXTRA int=1, string=a)"),
            ("%", vec![], "%!(NOVERB)"),
            ("%[2]d %[1]d", vec![i(1), i(2)], "2 1"),
            ("%*d", vec![i(5), i(1)], "    1"),
            ("%v %s %t", vec![Value::Nil, Value::Nil, true.into()], "<nil> %!s(<nil>) true"),
            ("%v %s", vec![Value::strings(["a", "b"]), Value::strings(["a", "b"])], "[a b] [a b]"),
            ("%v", vec![Value::string_map([("b", "2"), ("a", "1")])], "map[a:1 b:2]"),
            ("%T %T", vec![f(1.0), "".into()], "float64 string"),
            ("%5.1f%%", vec![f(99.95)], "100.0%"),
            ("%5t|%+v", vec![true.into(), f(2.0)], " true|+2"),
        ] {
            assert_eq!(sprintf(format, &args, 1 << 20), text, "{format}");
        }
    }

    #[test]
    fn sprint_puts_spaces_between_non_strings() {
        assert_eq!(sprint_all(&[Value::Int(1), Value::Int(2), "a".into(), Value::Int(3)]), "1 2a3");
        assert_eq!(sprintln(&["a".into(), Value::Int(3)]), "a 3\n");
        assert_eq!(sprint(&Value::Float(1e6)), "1e+06");
    }
}
