//! JSON over HTTP, as most mechanisms speak it.
use ferula_model::Budget;
use ferula_net::client::{BodyLimits, Client, ClientConfig, Request};
use http::header::{ACCEPT, HeaderMap, HeaderValue, USER_AGENT};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use url::Url;

use crate::error::Error;
use crate::http::{ANSWER_BYTES_MAX, USER_AGENT_TEXT};

/// A client and the address that its paths are below.
pub(crate) struct Api {
    pub client: Client,
    base: Url,
    unix_socket: Option<std::path::PathBuf>,
}

/// Null where a value is expected reads as its default: Go writes that.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(d).map(Option::unwrap_or_default)
}

/// The URL of a configuration, with upstream's words for what is wrong with it.
pub(crate) fn parse_url(text: &str) -> Result<Url, Error> {
    Url::parse(text).map_err(|e| {
        Error::Config(match e {
            url::ParseError::RelativeUrlWithoutBase => "URL scheme must be 'http' or 'https'".into(),
            url::ParseError::EmptyHost => "host is missing in URL".into(),
            e => format!("invalid URL: {e}"),
        })
    })
}

impl Api {
    pub(crate) fn new(http: &ClientConfig, base: &str) -> Result<Api, Error> {
        let base = Url::parse(base).map_err(|e| Error::Config(format!("invalid URL {base:?}: {e}")))?;
        Ok(Api { client: Client::new(http)?, base, unix_socket: None })
    }

    /// A server that listens on a Unix socket.
    pub(crate) fn unix(http: &ClientConfig, path: &str) -> Result<Api, Error> {
        let mut api = Api::new(http, "http://localhost")?;
        api.unix_socket = Some(path.into());
        Ok(api)
    }

    /// The URL of a path below the base, whose own path comes first.
    pub(crate) fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    pub(crate) fn get(&self, path: &str, query: &[(&str, &str)]) -> Request {
        Request::get(self.url(path, query))
    }

    /// The headers and the body of a good answer.
    pub(crate) async fn send(&self, mut request: Request) -> Result<(HeaderMap, Vec<u8>), Error> {
        request.headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_TEXT));
        request.unix_socket.clone_from(&self.unix_socket);
        let path = request.url.path().to_owned();
        let response = self.client.send(request).await?;
        let (status, headers) = (response.status, response.headers.clone());
        let limits = BodyLimits { bytes_max: ANSWER_BYTES_MAX, budget: Budget::unlimited() };
        let body = response.uncompressed(&limits).await?.bytes;
        if !status.is_success() {
            let said: String = String::from_utf8_lossy(&body).trim().chars().take(200).collect();
            let colon = if said.is_empty() { "" } else { ": " };
            return Err(Error::Refresh(format!("{path}: server returned HTTP status {status}{colon}{said}")));
        }
        Ok((headers, body))
    }

    pub(crate) async fn json<T: DeserializeOwned>(&self, mut request: Request) -> Result<T, Error> {
        request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let path = request.url.path().to_owned();
        let (_, body) = self.send(request).await?;
        read(&path, &body)
    }
}

/// A JSON answer, or what is wrong with it.
pub(crate) fn read<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|e| Error::Refresh(format!("{path}: {e}")))
}

/// The text at a path of fields; nothing where there is none.
pub(crate) fn text_at<'v>(value: &'v serde_json::Value, path: &[&str]) -> &'v str {
    let mut value = Some(value);
    for name in path {
        value = value.and_then(|v| v.get(name));
    }
    value.and_then(serde_json::Value::as_str).unwrap_or("")
}

/// The list in a field; nothing where there is none.
pub(crate) fn list_at<'v>(value: &'v serde_json::Value, path: &[&str]) -> &'v [serde_json::Value] {
    let mut value = Some(value);
    for name in path {
        value = value.and_then(|v| v.get(name));
    }
    value.and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A scalar as text; nothing for null, lists and maps.
pub(crate) fn scalar_text(value: Option<&serde_json::Value>) -> String {
    match value {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(v @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => v.to_string(),
        _ => String::new(),
    }
}

/// A form being filled in.
#[derive(Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    pub(crate) fn append_pair(&mut self, name: &str, value: &str) -> &mut Form {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }
    pub(crate) fn finish(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }
}
