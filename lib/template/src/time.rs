//! Go's `time.Time` and `time.Duration` as templates use them: layouts, printing, methods.
use jiff::civil::Weekday;
use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};

use crate::Value;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A time in UTC, or `None` outside the years -9999 to 9999.
pub fn from_ms(ms: i64) -> Option<Zoned> {
    Some(Timestamp::from_millisecond(ms).ok()?.to_zoned(TimeZone::UTC))
}

/// A time in UTC from nanoseconds since 1970.
pub fn from_nanos(ns: i64) -> Option<Zoned> {
    Some(Timestamp::from_nanosecond(i128::from(ns)).ok()?.to_zoned(TimeZone::UTC))
}

/// `Time.String()`.
pub fn to_text(t: &Zoned) -> String {
    format(t, "2006-01-02 15:04:05.999999999 -0700 MST")
}

fn weekday(t: &Zoned) -> &'static str {
    match t.weekday() {
        Weekday::Sunday => "Sunday",
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
    }
}

fn month(t: &Zoned) -> &'static str {
    MONTHS.get(usize::from(t.month().unsigned_abs()).wrapping_sub(1)).copied().unwrap_or("")
}

fn zone_name(t: &Zoned) -> String {
    let abbreviation = t.strftime("%Z").to_string();
    match abbreviation.as_str() {
        // A zone without a name prints its offset.
        s if s.starts_with(['+', '-']) => offset(t, "", false),
        _ => abbreviation,
    }
}

fn offset(t: &Zoned, separator: &str, seconds: bool) -> String {
    let all = t.offset().seconds();
    let (sign, all) = (if all < 0 { '-' } else { '+' }, all.unsigned_abs());
    let mut out = format!("{sign}{:02}{separator}{:02}", all / 3600, all / 60 % 60);
    if seconds {
        out.push_str(&format!("{separator}{:02}", all % 60));
    }
    out
}

/// `Time.Format(layout)`: the reference time is `Mon Jan 2 15:04:05 MST 2006`.
pub fn format(t: &Zoned, layout: &str) -> String {
    let (mut out, mut rest) = (String::new(), layout);
    while let Some(c) = rest.chars().next() {
        let len = element(t, rest, &mut out, layout.len() - rest.len(), layout);
        if len == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            rest = &rest[len..];
        }
    }
    out
}

/// Writes the layout element `rest` begins with; answers its length, 0 for none.
fn element(t: &Zoned, rest: &str, out: &mut String, at: usize, layout: &str) -> usize {
    let hour12 = match t.hour() % 12 {
        0 => 12,
        h => h,
    };
    let next_is = |len: usize, test: fn(char) -> bool| rest[len..].chars().next().is_some_and(test);
    // Longest elements first, in Go's order of preference.
    let table: [(&str, &dyn Fn() -> String); 31] = [
        ("January", &|| month(t).into()),
        ("Monday", &|| weekday(t).into()),
        ("MST", &|| zone_name(t)),
        ("2006", &|| format!("{:04}", t.year())),
        ("Z07:00:00", &|| if t.offset().is_zero() { "Z".into() } else { offset(t, ":", true) }),
        ("Z070000", &|| if t.offset().is_zero() { "Z".into() } else { offset(t, "", true) }),
        ("Z07:00", &|| if t.offset().is_zero() { "Z".into() } else { offset(t, ":", false) }),
        ("Z0700", &|| if t.offset().is_zero() { "Z".into() } else { offset(t, "", false) }),
        ("Z07", &|| if t.offset().is_zero() { "Z".into() } else { offset(t, "", false)[..3].into() }),
        ("-07:00:00", &|| offset(t, ":", true)),
        ("-070000", &|| offset(t, "", true)),
        ("-07:00", &|| offset(t, ":", false)),
        ("-0700", &|| offset(t, "", false)),
        ("-07", &|| offset(t, "", false)[..3].into()),
        ("002", &|| format!("{:03}", t.day_of_year())),
        ("__2", &|| format!("{:3}", t.day_of_year())),
        ("PM", &|| if t.hour() >= 12 { "PM".into() } else { "AM".into() }),
        ("pm", &|| if t.hour() >= 12 { "pm".into() } else { "am".into() }),
        ("01", &|| format!("{:02}", t.month())),
        ("02", &|| format!("{:02}", t.day())),
        ("03", &|| format!("{hour12:02}")),
        ("04", &|| format!("{:02}", t.minute())),
        ("05", &|| format!("{:02}", t.second())),
        ("06", &|| format!("{:02}", t.year().rem_euclid(100))),
        ("15", &|| format!("{:02}", t.hour())),
        ("_2", &|| format!("{:2}", t.day())),
        ("1", &|| t.month().to_string()),
        ("2", &|| t.day().to_string()),
        ("3", &|| hour12.to_string()),
        ("4", &|| t.minute().to_string()),
        ("5", &|| t.second().to_string()),
    ];
    if rest.starts_with("_2006") {
        out.push('_');
        return 1;
    }
    for (element, write) in table {
        if rest.starts_with(element) {
            out.push_str(&write());
            return element.len();
        }
    }
    if rest.starts_with("Jan") && !next_is(3, |c| c.is_ascii_lowercase()) {
        out.push_str(&month(t)[..3]);
        return 3;
    }
    if rest.starts_with("Mon") && !next_is(3, |c| c.is_ascii_lowercase()) {
        out.push_str(&weekday(t)[..3]);
        return 3;
    }
    fraction(t, rest, out, at, layout)
}

/// `.000` and `,999`: fractions of a second.
fn fraction(t: &Zoned, rest: &str, out: &mut String, at: usize, layout: &str) -> usize {
    let bytes = rest.as_bytes();
    let (Some(mark @ (b'.' | b',')), Some(digit @ (b'0' | b'9'))) = (bytes.first(), bytes.get(1)) else { return 0 };
    let digits = bytes[1..].iter().take_while(|b| *b == digit).count();
    if bytes.get(1 + digits).is_some_and(u8::is_ascii_digit) {
        return 0;
    }
    let after_seconds = layout.get(..at).is_some_and(|l| l.ends_with('5'));
    if *digit == b'9' && !after_seconds && digits < 3 {
        return 0;
    }
    let nanos = format!("{:09}", t.subsec_nanosecond());
    let mut shown: String = nanos.chars().chain(std::iter::repeat('0')).take(digits).collect();
    if *digit == b'9' {
        shown.truncate(shown.trim_end_matches('0').len());
    }
    if !shown.is_empty() {
        out.push(char::from(*mark));
        out.push_str(&shown);
    }
    1 + digits
}

/// `Duration.String()`: `1h2m3.5s`, `1.5ms`, `0s`.
pub fn duration_text(ns: i64) -> String {
    let all = ns.unsigned_abs();
    let sign = if ns < 0 { "-" } else { "" };
    let decimal = |whole: u64, fraction: u64, width: usize| {
        let mut f = format!("{fraction:0width$}");
        f.truncate(f.trim_end_matches('0').len());
        if f.is_empty() { whole.to_string() } else { format!("{whole}.{f}") }
    };
    if all == 0 {
        return "0s".into();
    }
    if all < 1_000 {
        return format!("{sign}{all}ns");
    }
    if all < 1_000_000 {
        return format!("{sign}{}µs", decimal(all / 1_000, all % 1_000, 3));
    }
    if all < 1_000_000_000 {
        return format!("{sign}{}ms", decimal(all / 1_000_000, all % 1_000_000, 6));
    }
    let (total, fraction) = (all / 1_000_000_000, all % 1_000_000_000);
    let (h, m) = (total / 3600, total / 60 % 60);
    let mut out = String::from(sign);
    if h > 0 {
        out.push_str(&format!("{h}h"));
    }
    if h > 0 || m > 0 {
        out.push_str(&format!("{m}m"));
    }
    out.push_str(&decimal(total % 60, fraction, 9));
    out.push('s');
    out
}

/// Nanoseconds of what Go's `time.ParseDuration` reads (`1h30m`, `-1.5s`); `None` if it does not.
pub fn parse_go_duration(s: &str) -> Option<i64> {
    let (negative, mut rest) = match s.as_bytes().first()? {
        b'-' => (true, &s[1..]),
        b'+' => (false, &s[1..]),
        _ => (false, s),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    (total < 9.2e18).then_some(if negative { -(total as i64) } else { total as i64 })
}

fn as_duration(v: Option<&Value>) -> Result<i64, String> {
    match v {
        Some(Value::Duration(d) | Value::Int(d)) => Ok(*d),
        Some(other) => Err(format!("wrong type for value; expected time.Duration; got {}", other.type_name())),
        None => Err("wrong number of args: want 1 got 0".into()),
    }
}
fn as_time(v: Option<&Value>) -> Result<&Zoned, String> {
    match v {
        Some(Value::Time(t)) => Ok(t),
        Some(other) => Err(format!("wrong type for value; expected time.Time; got {}", other.type_name())),
        None => Err("wrong number of args: want 1 got 0".into()),
    }
}

/// The methods of `time.Time` and the number of arguments each wants.
pub(crate) fn time_method(t: &Zoned, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let nanos = |t: &Zoned| t.timestamp().as_nanosecond();
    let step = |ns: i64| t.checked_add(SignedDuration::from_nanos(ns)).map(Value::from).map_err(|e| e.to_string());
    let whole = |d: i64, up: i128| -> Result<Value, String> {
        let d = i128::from(d);
        if d <= 0 {
            return Ok(Value::from(t.clone()));
        }
        // Go counts from year 1, which is a whole number of days before 1970.
        let since_year_one = nanos(t) + 62_135_596_800_000_000_000;
        let r = since_year_one.rem_euclid(d);
        let shift = if up == 1 && r * 2 >= d { d - r } else { -r };
        step(i64::try_from(shift).unwrap_or(0))
    };
    let one = |want: usize| {
        if args.len() == want {
            None
        } else {
            Some(Err(format!("wrong number of args for {name}: want {want} got {}", args.len())))
        }
    };
    let want = match name {
        "Format" | "Add" | "Sub" | "After" | "Before" | "Equal" | "Compare" | "Truncate" | "Round" => 1,
        "AddDate" => 3,
        _ => 0,
    };
    let result = match name {
        "Format" => args.first().map_or(Ok(Value::Nil), |l| match l.as_str() {
            Some(layout) => Ok(format(t, layout).into()),
            None => Err(format!("wrong type for value; expected string; got {}", l.type_name())),
        }),
        "String" => Ok(to_text(t).into()),
        "UTC" => Ok(t.with_time_zone(TimeZone::UTC).into()),
        "Local" => Ok(t.with_time_zone(TimeZone::system()).into()),
        "Unix" => Ok(Value::Int(t.timestamp().as_second())),
        "UnixMilli" => Ok(Value::Int(t.timestamp().as_millisecond())),
        "UnixMicro" => Ok(Value::Int(t.timestamp().as_microsecond())),
        "UnixNano" => Ok(Value::Int(i64::try_from(nanos(t)).unwrap_or(0))),
        "Year" => Ok(Value::Int(i64::from(t.year()))),
        "Month" => Ok(month(t).into()),
        "Day" => Ok(Value::Int(i64::from(t.day()))),
        "Hour" => Ok(Value::Int(i64::from(t.hour()))),
        "Minute" => Ok(Value::Int(i64::from(t.minute()))),
        "Second" => Ok(Value::Int(i64::from(t.second()))),
        "Nanosecond" => Ok(Value::Int(i64::from(t.subsec_nanosecond()))),
        "Weekday" => Ok(weekday(t).into()),
        "YearDay" => Ok(Value::Int(i64::from(t.day_of_year()))),
        "IsZero" => Ok(Value::Bool(nanos(t) == -62_135_596_800_000_000_000)),
        "Add" => as_duration(args.first()).and_then(step),
        "Sub" => as_time(args.first()).map(|o| Value::Duration(i64::try_from(nanos(t) - nanos(o)).unwrap_or(i64::MAX))),
        "After" => as_time(args.first()).map(|o| Value::Bool(nanos(t) > nanos(o))),
        "Before" => as_time(args.first()).map(|o| Value::Bool(nanos(t) < nanos(o))),
        "Equal" => as_time(args.first()).map(|o| Value::Bool(nanos(t) == nanos(o))),
        "Compare" => as_time(args.first()).map(|o| Value::Int(nanos(t).cmp(&nanos(o)) as i64)),
        "Truncate" => as_duration(args.first()).and_then(|d| whole(d, 0)),
        "Round" => as_duration(args.first()).and_then(|d| whole(d, 1)),
        "AddDate" => add_date(t, args),
        _ => return None,
    };
    Some(one(want).unwrap_or(result))
}

fn add_date(t: &Zoned, args: &[Value]) -> Result<Value, String> {
    let mut n = [0i64; 3];
    for (slot, v) in n.iter_mut().zip(args) {
        match v {
            Value::Int(i) => *slot = *i,
            other => return Err(format!("wrong type for value; expected int; got {}", other.type_name())),
        }
    }
    let span =
        || -> Result<jiff::Span, jiff::Error> { jiff::Span::new().try_years(n[0])?.try_months(n[1])?.try_days(n[2]) };
    span().and_then(|s| t.checked_add(s)).map(Value::from).map_err(|e| e.to_string())
}

/// The methods of `time.Duration`.
pub(crate) fn duration_method(ns: i64, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let round = |d: i64, half: bool| {
        if d <= 0 {
            return ns;
        }
        let r = ns % d;
        let away = half && r.unsigned_abs() * 2 >= d.unsigned_abs();
        ns - r + if away { d * ns.signum() } else { 0 }
    };
    let want = usize::from(matches!(name, "Truncate" | "Round"));
    let result = match name {
        "Hours" => Ok(Value::Float(ns as f64 / 3.6e12)),
        "Minutes" => Ok(Value::Float(ns as f64 / 6e10)),
        "Seconds" => Ok(Value::Float(ns as f64 / 1e9)),
        "Milliseconds" => Ok(Value::Int(ns / 1_000_000)),
        "Microseconds" => Ok(Value::Int(ns / 1_000)),
        "Nanoseconds" => Ok(Value::Int(ns)),
        "String" => Ok(duration_text(ns).into()),
        "Abs" => Ok(Value::Duration(ns.saturating_abs())),
        "Truncate" => as_duration(args.first()).map(|d| Value::Duration(round(d, false))),
        "Round" => as_duration(args.first()).map(|d| Value::Duration(round(d, true))),
        _ => return None,
    };
    if args.len() != want {
        return Some(Err(format!("wrong number of args for {name}: want {want} got {}", args.len())));
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_layouts_as_go() {
        let t = from_ms(1_136_214_245_678).unwrap(); // 2006-01-02T15:04:05.678Z
        for (layout, text) in [
            ("2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05Z"),
            ("Mon, 02 Jan 2006 15:04:05 MST", "Mon, 02 Jan 2006 15:04:05 UTC"),
            ("Monday January _2 3:04PM 06", "Monday January  2 3:04PM 06"),
            ("15:04:05.000", "15:04:05.678"),
            ("15:04:05.999999", "15:04:05.678"),
            ("-0700 2.1.2006", "+0000 2.1.2006"),
            ("Month Janus", "Month Janus"),
        ] {
            assert_eq!(format(&t, layout), text, "{layout}");
        }
        assert_eq!(to_text(&t), "2006-01-02 15:04:05.678 +0000 UTC");
    }

    #[test]
    fn prints_durations_as_go() {
        for (ns, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (3_600_000_000_000, "1h0m0s"),
            (-90_000_000_000, "-1m30s"),
        ] {
            assert_eq!(duration_text(ns), text);
            assert_eq!(parse_go_duration(text), Some(ns));
        }
    }
}
