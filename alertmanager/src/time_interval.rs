//! Time intervals that mute routes or make them active: times of day, weekdays, days of the month, months, years.
//!
//! Source followed: the configuration documentation of Alertmanager 0.33. Ranges of times exclude their end, all others
//! include it. A field that is absent holds always; the ranges of one field are alternatives; all fields must hold.
use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Inclusive bounds; days of the month may be negative, counted from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub begin: i32,
    pub end: i32,
}

/// Minutes since midnight, the end excluded; 24:00 is 1440.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    pub start_minute: i32,
    pub end_minute: i32,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeInterval {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<TimeRange>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weekdays: Vec<Weekdays>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub days_of_month: Vec<DaysOfMonth>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub months: Vec<Months>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub years: Vec<Years>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// Sunday is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weekdays(pub Range);
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DaysOfMonth(pub Range);
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Months(pub Range);
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Years(pub Range);

/// A zone by its IANA name, `UTC` or `Local`.
#[derive(Clone, Debug)]
pub struct Location {
    name: String,
    zone: TimeZone,
}

impl TimeInterval {
    /// Whether the instant lies inside.
    pub fn contains(&self, t_ms: i64) -> bool {
        let Ok(instant) = Timestamp::from_millisecond(t_ms) else { return false };
        let zone = self.location.as_ref().map_or(TimeZone::UTC, |l| l.zone.clone());
        self.contains_zoned(&instant.to_zoned(zone))
    }

    fn contains_zoned(&self, t: &Zoned) -> bool {
        let minute = i32::from(t.hour()) * 60 + i32::from(t.minute());
        let any =
            |empty: bool, mut ranges: &mut dyn Iterator<Item = bool>| empty || Iterator::any(&mut ranges, |hit| hit);
        let within = |r: Range, n: i32| (r.begin..=r.end).contains(&n);
        let last = i32::from(t.days_in_month());
        any(self.times.is_empty(), &mut self.times.iter().map(|r| (r.start_minute..r.end_minute).contains(&minute)))
            && any(
                self.days_of_month.is_empty(),
                &mut self.days_of_month.iter().map(|d| d.holds(i32::from(t.day()), last)),
            )
            && any(self.months.is_empty(), &mut self.months.iter().map(|m| within(m.0, i32::from(t.month()))))
            && any(
                self.weekdays.is_empty(),
                &mut self.weekdays.iter().map(|w| within(w.0, i32::from(t.weekday().to_sunday_zero_offset()))),
            )
            && any(self.years.is_empty(), &mut self.years.iter().map(|y| within(y.0, i32::from(t.year()))))
    }
}

impl DaysOfMonth {
    /// `last` is the last day of the month asked about.
    fn holds(self, day: i32, last: i32) -> bool {
        let from_end = |n: i32| if n < 0 { last + n + 1 } else { n };
        let (begin, end) = (from_end(self.0.begin), from_end(self.0.end));
        // A month too short to hold the first day does not hold the range.
        begin <= last && (begin.max(1)..=end.min(last)).contains(&day)
    }
}

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

fn named(names: &[&str], text: &str) -> Option<i32> {
    let text = text.to_lowercase();
    names.iter().position(|n| *n == text).and_then(|i| i32::try_from(i).ok())
}

/// `a` or `a:b`, both ends read by `one`.
fn range(text: &str, one: impl Fn(&str) -> Result<i32, String>) -> Result<Range, String> {
    match text.split_once(':') {
        None => one(text).map(|n| Range { begin: n, end: n }),
        Some((a, b)) => Ok(Range { begin: one(a)?, end: one(b)? }),
    }
}

fn number(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| format!("{text} is not a valid number"))
}

impl Weekdays {
    fn parse(text: &str) -> Result<Self, String> {
        let r = range(text, |t| named(&WEEKDAYS, t).ok_or_else(|| format!("{t} is not a valid weekday")))?;
        if r.begin > r.end {
            return Err("start day cannot be before end day".to_owned());
        }
        Ok(Weekdays(r))
    }
}

impl DaysOfMonth {
    fn parse(text: &str) -> Result<Self, String> {
        let r = range(text, number)?;
        for n in [r.begin, r.end] {
            if n == 0 || !(-31..=31).contains(&n) {
                return Err(format!("{n} is not a valid day of the month: out of range"));
            }
        }
        if r.begin < 0 && r.end > 0 {
            return Err("end day must be negative if start day is negative".to_owned());
        }
        // In the longest month both ends must be in order; otherwise no month would ever match.
        let from_end = |n: i32| if n < 0 { 31 + n + 1 } else { n };
        if from_end(r.begin) > from_end(r.end) {
            return Err(format!("end day {} is always before start day {}", r.end, r.begin));
        }
        Ok(DaysOfMonth(r))
    }
}

impl Months {
    fn parse(text: &str) -> Result<Self, String> {
        let r = range(text, |t| {
            let n = named(&MONTHS, t).map(|n| n + 1).or_else(|| t.parse().ok());
            n.filter(|n| (1..=12).contains(n)).ok_or_else(|| format!("{t} is not a valid month"))
        })?;
        if r.begin > r.end {
            return Err("end month cannot be before start month".to_owned());
        }
        Ok(Months(r))
    }
}

impl Years {
    fn parse(text: &str) -> Result<Self, String> {
        let r = range(text, |t| t.parse().map_err(|_| format!("{t} is not a valid year")))?;
        if r.begin > r.end {
            return Err("end year cannot be before start year".to_owned());
        }
        Ok(Years(r))
    }
}

impl Location {
    fn parse(name: String) -> Result<Self, String> {
        let zone = match name.as_str() {
            "" | "UTC" => TimeZone::UTC,
            "Local" => TimeZone::system(),
            other => TimeZone::get(other).map_err(|_| format!("unknown time zone {other}"))?,
        };
        Ok(Location { name, zone })
    }
}

fn minutes(text: &str) -> Result<i32, String> {
    let invalid = || format!("couldn't parse timestamp {text}, invalid format");
    let b = text.as_bytes();
    if b.len() != 5 || b.get(2) != Some(&b':') {
        return Err(invalid());
    }
    let two = |at: usize| -> Result<i32, String> {
        let t = text.get(at..at + 2).filter(|t| t.bytes().all(|b| b.is_ascii_digit())).ok_or_else(invalid)?;
        t.parse().map_err(|_| invalid())
    };
    let (h, m) = (two(0)?, two(3)?);
    if m > 59 || h > 24 || (h == 24 && m > 0) {
        return Err(invalid());
    }
    Ok(h * 60 + m)
}

impl<'de> Deserialize<'de> for TimeRange {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Raw {
            start_time: String,
            end_time: String,
        }
        let raw = Raw::deserialize(d)?;
        if raw.start_time.is_empty() || raw.end_time.is_empty() {
            return Err(D::Error::custom("both start and end times must be provided"));
        }
        let start_minute = minutes(&raw.start_time).map_err(D::Error::custom)?;
        let end_minute = minutes(&raw.end_time).map_err(D::Error::custom)?;
        if start_minute >= end_minute {
            return Err(D::Error::custom("start time cannot be equal or greater than end time"));
        }
        Ok(TimeRange { start_minute, end_minute })
    }
}
impl Serialize for TimeRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let clock = |m: i32| format!("{:02}:{:02}", m / 60, m % 60);
        let mut map = s.serialize_map(Some(2))?;
        map.serialize_entry("start_time", &clock(self.start_minute))?;
        map.serialize_entry("end_time", &clock(self.end_minute))?;
        map.end()
    }
}

/// Reading and printing of the range types as text.
macro_rules! textual {
    ($($t:ident: $print:expr;)*) => {$(
        impl<'de> Deserialize<'de> for $t {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                $t::parse(&String::deserialize(d)?).map_err(D::Error::custom)
            }
        }
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let print: fn(i32) -> String = $print;
                f.write_str(&print(self.0.begin))?;
                if self.0.begin != self.0.end {
                    write!(f, ":{}", print(self.0.end))?;
                }
                Ok(())
            }
        }
        impl Serialize for $t {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
    )*};
}
textual! {
    Weekdays: |n| usize::try_from(n).ok().and_then(|i| WEEKDAYS.get(i)).unwrap_or(&"").to_string();
    DaysOfMonth: |n| n.to_string();
    Months: |n| n.to_string();
    Years: |n| n.to_string();
}

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Location::parse(String::deserialize(d)?).map_err(D::Error::custom)
    }
}
impl Serialize for Location {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(yaml: &str) -> TimeInterval {
        ferula_yaml::from_str("test", yaml).unwrap()
    }
    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn contains_by_field_and_zone() {
        let office = "times: [{start_time: '09:00', end_time: '17:00'}]\nweekdays: ['monday:friday']";
        let last3 = "days_of_month: ['-3:-1']";
        for (yaml, t, want) in [
            (office, "2026-11-20T09:00:00Z", true), // a Friday
            (office, "2026-11-20T17:00:00Z", false),
            (office, "2026-11-21T10:00:00Z", false),
            (&format!("{office}\nlocation: America/New_York"), "2026-11-20T09:00:00Z", false),
            (&format!("{office}\nlocation: America/New_York"), "2026-11-20T14:30:00Z", true),
            (last3, "2024-02-27T00:00:00Z", true),
            (last3, "2024-02-26T23:59:00Z", false),
            ("days_of_month: ['31']", "2026-11-30T00:00:00Z", false),
            ("days_of_month: ['1:-1']", "2026-11-30T00:00:00Z", true),
            ("months: [january, '3:5', December]", "2026-04-01T00:00:00Z", true),
            ("months: [january, '3:5', December]", "2026-06-01T00:00:00Z", false),
            ("years: ['2020:2026']", "2026-06-01T00:00:00Z", true),
            ("times: [{start_time: '23:59', end_time: '24:00'}]", "2026-06-01T23:59:59Z", true),
            ("{}", "2026-06-01T00:00:00Z", true),
        ] {
            assert_eq!(interval(yaml).contains(at(t)), want, "{yaml} at {t}");
        }
    }

    #[test]
    fn refuses_with_upstreams_reasons() {
        for (yaml, reason) in [
            ("times: [{start_time: '9:00', end_time: '17:00'}]", "couldn't parse timestamp 9:00, invalid format"),
            (
                "times: [{start_time: '09:00', end_time: '09:00'}]",
                "start time cannot be equal or greater than end time",
            ),
            ("times: [{start_time: '09:00'}]", "both start and end times must be provided"),
            ("weekdays: [freitag]", "freitag is not a valid weekday"),
            ("weekdays: ['friday:monday']", "start day cannot be before end day"),
            ("days_of_month: ['0']", "0 is not a valid day of the month: out of range"),
            ("days_of_month: ['-5:5']", "end day must be negative if start day is negative"),
            ("months: ['13']", "13 is not a valid month"),
            ("location: Mars/Base", "unknown time zone Mars/Base"),
        ] {
            let e = ferula_yaml::from_str::<TimeInterval>("t", yaml).unwrap_err();
            assert!(e.to_string().contains(reason), "{yaml}: {e}");
        }
    }
}
