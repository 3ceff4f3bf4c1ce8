//! Expected alerts against those that came, as one list with the differences in colour: `promtool test rules --diff`.
//!
//! Source followed: what promtool 3.5 prints. Alerts are compared place by place; what is only expected is red, what only
//! came is green, what changed is yellow.
use std::collections::BTreeSet;
use std::fmt::Write;

use ferula_model::Labels;

use super::compare::GotAlert;

const RED: &str = "\x1b[0;31m";
const GREEN: &str = "\x1b[0;32m";
const YELLOW: &str = "\x1b[0;33m";
const PLAIN: &str = "\x1b[0m";

/// Where the list begins, and by how much each level is further right.
const MARGIN: usize = 12;
const STEP: usize = 4;

/// The list from its bracket to its bracket.
pub(super) fn shown(expected: &[GotAlert], got: &[GotAlert]) -> String {
    // Where one side has none, it is taken for one alert without labels and annotations.
    let nothing = [GotAlert { labels: Labels::empty(), annotations: Labels::empty() }];
    let or_nothing = |alerts: &'_ [GotAlert]| if alerts.is_empty() { nothing.to_vec() } else { alerts.to_vec() };
    let (expected, got) = (or_nothing(expected), or_nothing(got));
    let count = expected.len().max(got.len());
    let mut out = "[\n".to_owned();
    for i in 0..count {
        match (expected.get(i), got.get(i)) {
            (Some(e), Some(g)) => both(&mut out, e, g),
            (Some(e), None) => one(&mut out, e, RED),
            (None, Some(g)) => one(&mut out, g, GREEN),
            (None, None) => {}
        }
        out.push_str(if i + 1 < count { ",\n" } else { "\n" });
    }
    let _ = write!(out, "{:MARGIN$}]", "");
    out
}

fn line(out: &mut String, level: usize, text: &str) {
    let _ = writeln!(out, "{:width$}{text}", "", width = MARGIN + STEP * level);
}

/// An alert that is on one side only, every line in the colour of its side; without the last line's end.
fn one(out: &mut String, alert: &GotAlert, colour: &str) {
    let mut put = |level: usize, text: &str| line(out, level, &format!("{colour}{text}{PLAIN}"));
    put(1, "{");
    for (name, labels, end) in [("Annotations", &alert.annotations, ","), ("Labels", &alert.labels, "")] {
        if labels.is_empty() {
            put(2, &format!("\"{name}\": {{}}{end}"));
            continue;
        }
        put(2, &format!("\"{name}\": {{"));
        for (i, (n, v)) in labels.iter().enumerate() {
            let comma = if i + 1 < labels.len() { "," } else { "" };
            put(3, &format!("{}: {}{comma}", quoted(n), quoted(v)));
        }
        put(2, &format!("}}{end}"));
    }
    put(1, "}");
    out.pop();
}

/// Two alerts in the same place; without the last line's end.
fn both(out: &mut String, expected: &GotAlert, got: &GotAlert) {
    line(out, 1, "{");
    for (name, e, g, end) in
        [("Annotations", &expected.annotations, &got.annotations, ","), ("Labels", &expected.labels, &got.labels, "")]
    {
        let names: BTreeSet<&str> = e.iter().chain(g.iter()).map(|(n, _)| n).collect();
        if names.is_empty() {
            line(out, 2, &format!("\"{name}\": {{}}{end}"));
            continue;
        }
        line(out, 2, &format!("\"{name}\": {{"));
        for (i, n) in names.iter().enumerate() {
            let key = quoted(n);
            let text = match (e.get(n), g.get(n)) {
                (Some(a), Some(b)) if a == b => format!("{key}: {}", quoted(a)),
                (Some(a), Some(b)) => format!("{key}: {YELLOW}{} => {}{PLAIN}", quoted(a), quoted(b)),
                (Some(a), None) => format!("{RED}{key}: {}{PLAIN}", quoted(a)),
                (None, b) => format!("{GREEN}{key}: {}{PLAIN}", quoted(b.unwrap_or(""))),
            };
            line(out, 3, &format!("{text}{}", if i + 1 < names.len() { "," } else { "" }));
        }
        line(out, 2, &format!("}}{end}"));
    }
    line(out, 1, "}");
    out.pop();
}

fn quoted(text: &str) -> String {
    ferula_model::labels::quoted(text)
}
