//! Escaping of names for readers that know only the old alphabet, and of help and label values.
use std::borrow::Cow;

use ferula_model::labels::is_legacy_metric_name;

/// How names outside `[a-zA-Z_:][a-zA-Z0-9_:]*` are written (prometheus/common `model.EscapingScheme`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escaping {
    /// As they are, in quotes.
    AllowUtf8,
    /// Every other character becomes `_`. The default, as upstream's.
    #[default]
    Underscores,
    /// `.` becomes `_dot_`, `_` becomes `__`, everything else `__`.
    Dots,
    /// `U__` and every other character as `_<hex>_`; `_` becomes `__`. Reversible.
    Values,
}

impl Escaping {
    /// The `escaping=` parameter of a content type.
    pub fn as_str(self) -> &'static str {
        match self {
            Escaping::AllowUtf8 => "allow-utf-8",
            Escaping::Underscores => "underscores",
            Escaping::Dots => "dots",
            Escaping::Values => "values",
        }
    }
    pub fn parse(s: &str) -> Option<Escaping> {
        [Escaping::AllowUtf8, Escaping::Underscores, Escaping::Dots, Escaping::Values]
            .into_iter()
            .find(|e| e.as_str() == s)
    }
}

/// A metric or label name under `scheme`. Borrowed when nothing changes.
pub fn escape_name(name: &str, scheme: Escaping) -> Cow<'_, str> {
    let is_legacy =
        |i: usize, c: char| c.is_ascii_alphabetic() || c == '_' || c == ':' || (c.is_ascii_digit() && i > 0);
    let untouched = match scheme {
        Escaping::AllowUtf8 => true,
        Escaping::Underscores | Escaping::Values => name.is_empty() || is_legacy_metric_name(name),
        Escaping::Dots => is_legacy_metric_name(name) && !name.contains('_'),
    };
    if untouched {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 8);
    if scheme == Escaping::Values {
        out.push_str("U__");
    }
    for (i, c) in name.char_indices() {
        match (scheme, c) {
            (Escaping::Dots | Escaping::Values, '_') => out.push_str("__"),
            (Escaping::Dots, '.') => out.push_str("_dot_"),
            (_, c) if is_legacy(i, c) => out.push(c),
            (Escaping::Dots, _) => out.push_str("__"),
            (Escaping::Values, c) => out.push_str(&format!("_{:x}_", c as u32)),
            _ => out.push('_'),
        }
    }
    Cow::Owned(out)
}

/// `\` and newline are escaped everywhere, `"` in label values and in OpenMetrics' help.
pub(super) fn write_escaped(out: &mut Vec<u8>, s: &str, quote: bool) {
    let bytes = s.as_bytes();
    let mut rest = bytes;
    while let Some(at) = memchr::memchr3(b'\\', b'\n', if quote { b'"' } else { b'\\' }, rest) {
        let (head, tail) = rest.split_at(at);
        out.extend_from_slice(head);
        let Some((special, after)) = tail.split_first() else { break };
        out.push(b'\\');
        out.push(if *special == b'\n' { b'n' } else { *special });
        rest = after;
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_names_as_upstream() {
        for (name, underscores, dots, values) in [
            ("no:escaping_required", "no:escaping_required", "no:escaping__required", "no:escaping_required"),
            (
                "mysystem.prod.west.cpu.load",
                "mysystem_prod_west_cpu_load",
                "mysystem_dot_prod_dot_west_dot_cpu_dot_load",
                "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load",
            ),
            ("http.status:sum", "http_status:sum", "http_dot_status:sum", "U__http_2e_status:sum"),
            ("label with 😱", "label_with__", "label__with____", "U__label_20_with_20__1f631_"),
            ("0zero", "_zero", "__zero", "U___30_zero"),
            ("a_b.c", "a_b_c", "a__b_dot_c", "U__a__b_2e_c"),
            ("", "", "", ""),
        ] {
            assert_eq!(escape_name(name, Escaping::Underscores), underscores);
            assert_eq!(escape_name(name, Escaping::Dots), dots);
            assert_eq!(escape_name(name, Escaping::Values), values);
            assert_eq!(escape_name(name, Escaping::AllowUtf8), name);
        }
    }

    #[test]
    fn escapes_help_and_values() {
        let esc = |s, q| {
            let mut out = Vec::new();
            write_escaped(&mut out, s, q);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(esc("a\\b\n\"ü\"", false), "a\\\\b\\n\"ü\"");
        assert_eq!(esc("a\\b\n\"ü\"", true), "a\\\\b\\n\\\"ü\\\"");
    }
}
