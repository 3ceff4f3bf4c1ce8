//! `http_sd_configs`: groups from a JSON answer, asked for on an interval.
use std::time::Duration;

use http::header::{ACCEPT, HeaderName, HeaderValue, USER_AGENT};
use url::Url;

use ferula_model::Budget;
use ferula_net::client::{BodyLimits, Client, Request};

use crate::config::HttpSd;
use crate::error::Error;
use crate::group::{TargetGroup, WrittenGroup, groups_of};
use crate::metrics::Metrics;
use crate::refresh::Refresh;

const META_URL: &str = "__meta_url";
/// An answer is parsed as a whole.
pub(crate) const ANSWER_BYTES_MAX: u64 = 64 << 20;

impl Refresh for HttpSd {
    const NAME: &'static str = "http";
    type Session = Client;

    fn check(&self) -> Result<(), Error> {
        self.validate()
    }
    fn interval(&self) -> Duration {
        self.refresh_interval.std()
    }
    /// A server that hangs must not freeze the job for longer than its interval.
    fn timeout(&self) -> Duration {
        self.interval().min(Duration::from_secs(30))
    }
    fn open(&self) -> Result<Client, Error> {
        Ok(Client::new(&self.http_config())?)
    }
    fn failed(metrics: &Metrics) {
        metrics.http_failures.inc();
    }
    async fn refresh(&self, client: &mut Client, _: &Metrics) -> Result<Vec<TargetGroup>, Error> {
        let url = Url::parse(&self.url).map_err(|e| Error::Refresh(e.to_string()))?;
        let mut request = Request::get(url);
        request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        request.headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_TEXT));
        let seconds = ferula_model::number::format_g(self.refresh_interval.ms() as f64 / 1000.0);
        if let Ok(value) = HeaderValue::from_str(&seconds) {
            request.headers.insert(HeaderName::from_static("x-prometheus-refresh-interval-seconds"), value);
        }
        let response = client.send(request).await?;
        if response.status != http::StatusCode::OK {
            return Err(Error::Refresh(format!("server returned HTTP status {}", response.status)));
        }
        let content_type = response.content_type().to_owned();
        if !is_json(&content_type) {
            let shown: String = content_type.chars().take(100).collect();
            return Err(Error::Refresh(format!("unsupported content type {shown:?}")));
        }
        let limits = BodyLimits { bytes_max: ANSWER_BYTES_MAX, budget: Budget::unlimited() };
        let body = response.uncompressed(&limits).await?;
        parse(&self.url, &body.bytes).map_err(Error::Refresh)
    }
}

pub(crate) const USER_AGENT_TEXT: &str = concat!("Prometheus/3.5.0 Ferula/", env!("CARGO_PKG_VERSION"));

/// The groups of one answer.
pub fn parse(url: &str, body: &[u8]) -> Result<Vec<TargetGroup>, String> {
    let list: Vec<Option<WrittenGroup>> = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    groups_of(list, url, (META_URL, url))
}

fn is_json(content_type: &str) -> bool {
    let (media, charset) = content_type.split_once(';').unwrap_or((content_type, ""));
    let charset = charset.trim_start().to_ascii_lowercase();
    media.eq_ignore_ascii_case("application/json")
        && matches!(charset.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\"")
}
