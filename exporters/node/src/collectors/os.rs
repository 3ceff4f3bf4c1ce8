//! os-release(5).
use std::collections::HashMap;
use std::io;

use ferula_exporters_shell::CollectError;
use ferula_exposition::family::{Family, Text};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Collected;
use crate::source::{Source, failed, read};

const LABELS: [(&str, &str); 12] = [
    ("build_id", "BUILD_ID"),
    ("id", "ID"),
    ("id_like", "ID_LIKE"),
    ("image_id", "IMAGE_ID"),
    ("image_version", "IMAGE_VERSION"),
    ("name", "NAME"),
    ("pretty_name", "PRETTY_NAME"),
    ("variant", "VARIANT"),
    ("variant_id", "VARIANT_ID"),
    ("version", "VERSION"),
    ("version_codename", "VERSION_CODENAME"),
    ("version_id", "VERSION_ID"),
];

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let text = release_file(source)?;
    let fields: HashMap<&str, &str> = text.lines().filter_map(assignment).collect();
    let text = |key: &str| Text::Owned(fields.get(key).copied().unwrap_or_default().to_owned());
    let help = "A metric with a constant '1' value labeled by build_id, id, id_like, image_id, image_version, name, \
                pretty_name, variant, variant_id, version, version_codename, version_id.";
    let mut info = Family::gauge("node_os_info", help);
    info.push_with(LABELS.map(|(label, key)| (label, text(key))), 1.0);
    out.push(info);
    if let Some(number) = fields.get("VERSION_ID").and_then(|v| leading_number(v)) {
        let help = "Metric containing the major.minor part of the OS version.";
        let mut version = Family::gauge("node_os_version", help);
        version.push_with([("id", text("ID")), ("id_like", text("ID_LIKE")), ("name", text("NAME"))], number);
        out.push(version);
    }
    if let Some(end) = fields.get("SUPPORT_END").and_then(|d| d.parse::<Date>().ok())
        && let Ok(end) = end.to_zoned(TimeZone::UTC)
    {
        let help = "Metric containing the end-of-life date timestamp of the OS.";
        let seconds = end.timestamp().as_second() as f64;
        out.push(Family::gauge("node_os_support_end_timestamp_seconds", help).with(seconds));
    }
    Ok(())
}

fn release_file(source: &Source) -> Result<String, CollectError> {
    let mut last = CollectError::NoData;
    for file in ["etc/os-release", "usr/lib/os-release"] {
        let path = source.root_path(file);
        match read(&path, 1 << 20) {
            Ok(text) => return Ok(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => last = failed("open", &path, &e),
        }
    }
    Err(last)
}

/// `KEY=value`, the value possibly quoted.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.trim().split_once('=')?;
    let unquoted = ['"', '\''].into_iter().find_map(|q| value.strip_prefix(q)?.strip_suffix(q));
    Some((key, unquoted.unwrap_or(value)))
}

/// `12.5.1` -> 12.5
fn leading_number(version: &str) -> Option<f64> {
    let mut dots = 0;
    let end = version.find(|c: char| {
        dots += usize::from(c == '.');
        !(c.is_ascii_digit() || (c == '.' && dots < 2))
    });
    version.get(..end.unwrap_or(version.len()))?.trim_end_matches('.').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_quotes() {
        assert_eq!(leading_number("20.04"), Some(20.04));
        assert_eq!(leading_number("12.5.1"), Some(12.5));
        assert_eq!((leading_number("40"), leading_number("rolling")), (Some(40.0), None));
        assert_eq!(assignment("NAME=\"A b\""), Some(("NAME", "A b")));
        assert_eq!(assignment("ID=x"), Some(("ID", "x")));
    }
}
