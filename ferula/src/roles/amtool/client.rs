//! API v2, and its errors as amtool words them.
use std::path::Path;
use std::time::Duration;

use ferula_net::client::{BodyLimits, ClientConfig, Request};
use http::{HeaderValue, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use url::Url;

use super::Outcome;

/// Answers longer than this are not believed.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

pub(super) struct Client {
    base: Url,
    client: ferula_net::client::Client,
    timeout: Duration,
    authorization: Option<HeaderValue>,
}

/// One call of the API: what the message of a failure names.
pub(super) struct Call {
    /// As in the specification: `/silence/{silenceID}`
    pub path: &'static str,
    /// `getSilence`
    pub operation: &'static str,
}

impl Client {
    pub(super) fn new(url: &str, config: Option<&Path>, timeout: &str) -> Outcome<Client> {
        let text = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let mut base = Url::parse(&text).map_err(|e| format!("parse {url:?}: {e}"))?;
        let authorization = match base.username() {
            "" => None,
            user => {
                use base64::Engine;
                let pair = format!("{user}:{}", base.password().unwrap_or(""));
                let word = base64::engine::general_purpose::STANDARD.encode(pair);
                Some(HeaderValue::from_str(&format!("Basic {word}")).map_err(|e| e.to_string())?)
            }
        };
        let _ = base.set_username("").and_then(|()| base.set_password(None));
        let config = match config {
            None => ClientConfig::default(),
            Some(file) => {
                let name = file.display().to_string();
                let text = std::fs::read_to_string(file).map_err(|e| format!("{name}: {e}"))?;
                ferula_yaml::from_str(&name, &text).map_err(|e| e.to_string())?
            }
        };
        let timeout = ferula_model::duration::parse_ms(timeout)
            .map_err(|_| format!("not a valid duration string: {timeout:?}"))?;
        Ok(Client {
            base,
            client: ferula_net::client::Client::new(&config).map_err(|e| e.to_string())?,
            timeout: Duration::from_millis(timeout.max(0).unsigned_abs()),
            authorization,
        })
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Outcome<Url> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| "the URL has no path".to_owned())?
            .pop_if_empty()
            .extend(["api", "v2"])
            .extend(path.split('/').filter(|p| !p.is_empty()));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// The body of a 2xx answer.
    async fn send(&self, method: Method, url: Url, body: Vec<u8>, call: &Call) -> Outcome<Vec<u8>> {
        let verb = method.as_str();
        let word = format!("{}{}", verb.get(..1).unwrap_or(""), verb.get(1..).unwrap_or("").to_lowercase());
        let shown = url.to_string();
        let mut request = Request::get(url);
        request.method = method.clone();
        if method == Method::POST {
            request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            request.body = body.into();
        }
        request.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            request.headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let failed = |reason: String| format!("{word} {shown:?}: {reason}");
        let exchange = async {
            let response = self.client.send(request).await.map_err(|e| failed(without_url(&e)))?;
            let status = response.status;
            let limits = BodyLimits { bytes_max: ANSWER_BYTES_MAX, ..BodyLimits::unlimited() };
            let body = response.uncompressed(&limits).await.map_err(|e| failed(e.to_string()))?;
            Ok((status, body.bytes.to_vec()))
        };
        let answered: Outcome<(StatusCode, Vec<u8>)> = tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(failed("context deadline exceeded".to_owned())));
        let (status, body) = answered?;
        if status.is_success() { Ok(body) } else { Err(refusal(verb, call, status, &body)) }
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, call: &Call, path: &str, query: &[(&str, &str)]) -> Outcome<T> {
        let bytes = self.send(Method::GET, self.url(path, query)?, Vec::new(), call).await?;
        serde_json::from_slice(&bytes).map_err(|e| e.to_string())
    }

    pub(super) async fn post(&self, call: &Call, path: &str, body: &impl serde::Serialize) -> Outcome<Vec<u8>> {
        let body = serde_json::to_vec(body).map_err(|e| e.to_string())?;
        self.send(Method::POST, self.url(path, &[])?, body, call).await
    }

    pub(super) async fn delete(&self, call: &Call, path: &str) -> Outcome {
        self.send(Method::DELETE, self.url(path, &[])?, Vec::new(), call).await.map(|_| ())
    }
}

/// `[POST /silences][400] postSilencesBadRequest "reason"`, as the generated client of upstream says it.
fn refusal(verb: &str, call: &Call, status: StatusCode, body: &[u8]) -> String {
    let Call { path, operation } = call;
    let name = match status.as_u16() {
        400 => "BadRequest",
        404 => "NotFound",
        500 => "InternalServerError",
        code => {
            // Anything else is not of the specification.
            let shown = serde_json::from_slice::<serde_json::Value>(body)
                .ok()
                .and_then(|v| v["message"].as_str().map(str::to_owned));
            return format!(
                "[{verb} {path}] {operation} (status {code}): {}",
                shown.unwrap_or_else(|| "{}".to_owned())
            );
        }
    };
    let payload = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(serde_json::Value::String(reason)) => format!(" {}", serde_json::Value::String(reason)),
        _ => String::new(),
    };
    format!("[{verb} {path}][{}] {operation}{name}{payload}", status.as_u16())
}

fn without_url(e: &ferula_net::client::Error) -> String {
    match e {
        ferula_net::client::Error::Transport { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}
