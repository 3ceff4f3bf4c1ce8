//! Which format a client gets: `Accept` in, content type out.
use super::{Escaping, openmetrics, text};
use crate::family::Family;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exposition {
    #[default]
    Text0_0_4,
    Text1_0_0,
    OpenMetrics0_0_1,
    OpenMetrics1_0_0,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format {
    pub exposition: Exposition,
    pub escaping: Escaping,
}

impl Format {
    /// The best format that an `Accept` header names (prometheus/common `expfmt.NegotiateIncludingOpenMetrics`), text
    /// 0.0.4 when it names none of ours. Protobuf is passed over. At most 32 media ranges are looked at.
    pub fn negotiate(accept: &str) -> Format {
        let mut ranges: Vec<MediaRange<'_>> = accept.split(',').take(32).filter_map(MediaRange::parse).collect();
        ranges.sort_by(|a, b| b.quality.total_cmp(&a.quality)); // stable: ties keep the client's order
        let mut escaping = Escaping::default();
        for range in &ranges {
            if let Some(e) = range.escaping {
                escaping = e;
            }
            let exposition = match (range.media_type, range.version) {
                ("application/openmetrics-text", Some("1.0.0")) => Exposition::OpenMetrics1_0_0,
                ("application/openmetrics-text", None | Some("0.0.1")) => Exposition::OpenMetrics0_0_1,
                ("text/plain", Some("1.0.0")) => Exposition::Text1_0_0,
                ("text/plain", None | Some("0.0.4")) => Exposition::Text0_0_4,
                _ => continue,
            };
            return Format { exposition, escaping };
        }
        Format { exposition: Exposition::default(), escaping }
    }

    pub fn content_type(self) -> String {
        let base = match self.exposition {
            Exposition::Text0_0_4 => "text/plain; version=0.0.4; charset=utf-8",
            Exposition::Text1_0_0 => "text/plain; version=1.0.0; charset=utf-8",
            Exposition::OpenMetrics0_0_1 => "application/openmetrics-text; version=0.0.1; charset=utf-8",
            Exposition::OpenMetrics1_0_0 => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        };
        format!("{base}; escaping={}", self.escaping.as_str())
    }

    /// Appends all families in this format.
    pub fn write(self, families: &[Family], out: &mut Vec<u8>) {
        match self.exposition {
            Exposition::Text0_0_4 | Exposition::Text1_0_0 => text::write(families, self.escaping, out),
            Exposition::OpenMetrics0_0_1 | Exposition::OpenMetrics1_0_0 => {
                openmetrics::write(families, self.escaping, out)
            }
        }
    }
}

struct MediaRange<'a> {
    media_type: &'a str,
    version: Option<&'a str>,
    escaping: Option<Escaping>,
    quality: f64,
}

impl<'a> MediaRange<'a> {
    fn parse(range: &'a str) -> Option<MediaRange<'a>> {
        let mut parts = range.split(';').map(str::trim);
        let mut out = MediaRange { media_type: parts.next()?, version: None, escaping: None, quality: 1.0 };
        for part in parts {
            let Some((key, value)) = part.split_once('=') else { continue };
            match key.trim() {
                "version" => out.version = Some(value.trim()),
                "escaping" => out.escaping = Escaping::parse(value.trim()),
                "q" => out.quality = value.trim().parse().unwrap_or(1.0),
                _ => {}
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiates_as_upstream() {
        for (accept, content_type) in [
            ("", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
            ("*/*", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1",
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            ),
            (
                "application/openmetrics-text;q=0.1, text/plain;version=1.0.0;escaping=dots",
                "text/plain; version=1.0.0; charset=utf-8; escaping=dots",
            ),
            (
                "application/openmetrics-text",
                "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=underscores",
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,text/plain;version=0.0.4;q=0.3",
                "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            ),
            ("text/plain;version=9", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
        ] {
            assert_eq!(Format::negotiate(accept).content_type(), content_type, "{accept}");
        }
    }
}
