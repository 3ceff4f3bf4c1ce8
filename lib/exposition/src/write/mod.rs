//! Writing: text 0.0.4, text 1.0.0 and OpenMetrics 1.0.
//!
//! Byte for byte what upstream's Go library writes (prometheus/common v0.70 `expfmt`), so that a diff of two pages shows
//! differences of content only.
mod escape;
mod format;
mod number;
mod openmetrics;
mod text;

pub use escape::{Escaping, escape_name};
pub use format::{Exposition, Format};
pub use number::{write_float, write_openmetrics_float};

use ferula_model::labels::{is_legacy_label_name, is_legacy_metric_name};

use crate::family::{Family, Text};

/// Text format 0.0.4, names escaped with underscores where they are not of the old alphabet.
pub fn text(families: &[Family], out: &mut Vec<u8>) {
    text::write(families, Escaping::Underscores, out);
}

/// OpenMetrics 1.0, names escaped with underscores, closed by `# EOF`.
pub fn openmetrics(families: &[Family], out: &mut Vec<u8>) {
    openmetrics::write(families, Escaping::Underscores, out);
}

/// What both text writers share: an output and the way names are escaped.
struct Page<'a> {
    out: &'a mut Vec<u8>,
    escaping: Escaping,
}

impl Page<'_> {
    fn raw(&mut self, s: &str) {
        self.out.extend_from_slice(s.as_bytes());
    }

    /// Whether an old-style name is written as it is; only the dots scheme touches those.
    fn keeps_legacy(&self) -> bool {
        self.escaping != Escaping::Dots
    }

    /// A metric name on a `#` line: quoted when it needs to be.
    fn name(&mut self, name: &str) {
        if self.keeps_legacy() && is_legacy_metric_name(name) {
            return self.raw(name);
        }
        let name = escape_name(name, self.escaping);
        if is_legacy_metric_name(&name) {
            self.raw(&name);
        } else {
            self.quoted(&name);
        }
    }

    fn quoted(&mut self, s: &str) {
        self.out.push(b'"');
        escape::write_escaped(self.out, s, true);
        self.out.push(b'"');
    }

    /// `name_suffix{a="1",le="0.5"}`, or `{"näme",a="1"}` when the name needs quotes. `extra` is `le` or `quantile`
    /// with its number already written.
    fn series(&mut self, name: &str, suffix: &str, labels: &[(Text, Text)], extra: Option<(&str, &[u8])>) {
        let mut separator = b'{';
        if self.keeps_legacy() && is_legacy_metric_name(name) {
            self.raw(name);
            self.raw(suffix); // our own, always of the old alphabet
        } else {
            let whole = [name, suffix].concat();
            let whole = escape_name(&whole, self.escaping);
            if is_legacy_metric_name(&whole) {
                self.raw(&whole);
            } else {
                self.out.push(b'{');
                self.quoted(&whole);
                separator = b',';
            }
        }
        for (n, v) in labels {
            self.out.push(separator);
            self.label_name(n);
            self.raw("=");
            self.quoted(v);
            separator = b',';
        }
        if let Some((n, v)) = extra {
            self.out.push(separator);
            self.raw(n);
            self.raw("=\"");
            self.out.extend_from_slice(v);
            self.out.push(b'"');
            separator = b',';
        }
        if separator == b',' {
            self.out.push(b'}');
        }
    }

    fn label_name(&mut self, name: &str) {
        if self.keeps_legacy() && is_legacy_label_name(name) {
            return self.raw(name);
        }
        let name = escape_name(name, self.escaping);
        if is_legacy_label_name(&name) {
            self.raw(&name);
        } else {
            self.quoted(&name);
        }
    }
}
