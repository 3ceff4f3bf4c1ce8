//! Scrape protocols and the `Accept` header they make.
use std::fmt;

use ferula_exposition::parse::Syntax;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrapeProtocol {
    PrometheusProto,
    PrometheusText004,
    PrometheusText100,
    OpenMetricsText001,
    OpenMetricsText100,
    /// Kept until the check that names it.
    Unknown(String),
}

use ScrapeProtocol::*;

pub const DEFAULT_PROTOCOLS: &[ScrapeProtocol] =
    &[OpenMetricsText100, OpenMetricsText001, PrometheusText100, PrometheusText004];
/// With native histograms on: protobuf first, for only it carries them.
pub const NATIVE_PROTOCOLS: &[ScrapeProtocol] =
    &[PrometheusProto, OpenMetricsText100, OpenMetricsText001, PrometheusText100, PrometheusText004];

impl ScrapeProtocol {
    fn parse(text: &str) -> ScrapeProtocol {
        NATIVE_PROTOCOLS.iter().find(|p| p.to_string() == text).cloned().unwrap_or_else(|| Unknown(text.to_owned()))
    }

    fn media_type(&self) -> &str {
        match self {
            PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            PrometheusText004 => "text/plain;version=0.0.4",
            PrometheusText100 => "text/plain;version=1.0.0",
            OpenMetricsText001 => "application/openmetrics-text;version=0.0.1",
            OpenMetricsText100 => "application/openmetrics-text;version=1.0.0",
            Unknown(_) => "*/*",
        }
    }

    /// What a body without a usable Content-Type is parsed as.
    pub fn syntax(&self) -> Option<Syntax> {
        match self {
            PrometheusProto => Some(Syntax::Protobuf),
            PrometheusText004 | PrometheusText100 => Some(Syntax::Text),
            OpenMetricsText001 | OpenMetricsText100 => Some(Syntax::OpenMetrics),
            Unknown(_) => None,
        }
    }
}

impl fmt::Display for ScrapeProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PrometheusProto => "PrometheusProto",
            PrometheusText004 => "PrometheusText0.0.4",
            PrometheusText100 => "PrometheusText1.0.0",
            OpenMetricsText001 => "OpenMetricsText0.0.1",
            OpenMetricsText100 => "OpenMetricsText1.0.0",
            Unknown(name) => name,
        })
    }
}
impl Serialize for ScrapeProtocol {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for ScrapeProtocol {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(|s| ScrapeProtocol::parse(&s))
    }
}

pub(super) fn unknown(name: &str) -> String {
    format!(
        "unknown scrape protocol {name}, supported: [OpenMetricsText0.0.1 OpenMetricsText1.0.0 PrometheusProto PrometheusText0.0.4 PrometheusText1.0.0]"
    )
}

pub(super) fn check(list: &[ScrapeProtocol]) -> Result<(), String> {
    for (i, p) in list.iter().enumerate() {
        if let Unknown(name) = p {
            return Err(unknown(name));
        }
        if list.iter().take(i).any(|earlier| earlier == p) {
            let names: Vec<String> = list.iter().map(ToString::to_string).collect();
            return Err(format!("duplicated protocol in scrape_protocols, got [{}]", names.join(" ")));
        }
    }
    Ok(())
}

/// The header in order of preference, ending with "anything".
pub fn accept_header(list: &[ScrapeProtocol], escaping: &str) -> String {
    let mut weight = 6;
    let mut out = String::new();
    for p in list {
        out.push_str(p.media_type());
        if matches!(p, PrometheusText100 | OpenMetricsText100) {
            out.push_str(";escaping=");
            out.push_str(escaping);
        }
        out.push_str(&format!(";q=0.{weight},"));
        weight -= 1;
    }
    out.push_str(&format!("*/*;q=0.{weight}"));
    out
}
