//! Speaking to a Prometheus server, one request after the other.
use ferula_net::client::{BodyLimits, Client, ClientConfig, Request};
use serde_json::Value;
use url::Url;

use crate::command_line::Parsed;

/// A server's base URL and how to speak to it.
pub(crate) struct Server {
    base: Url,
    client: Client,
    runtime: tokio::runtime::Runtime,
    headers: http::HeaderMap,
}

/// Status and body of an answer.
pub(crate) struct Answer {
    pub status: http::StatusCode,
    pub body: Vec<u8>,
}

impl Server {
    /// `base` without a scheme means http.
    pub fn new(base: &str, parsed: &Parsed) -> Result<Server, String> {
        let with_scheme = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
        let base =
            Url::parse(&with_scheme).map_err(|e| format!("parse {}: {e}", ferula_model::labels::quoted(base)))?;
        let file = parsed.flag("http.config.file");
        let config: ClientConfig = if file.is_empty() {
            ClientConfig::default()
        } else {
            let text = std::fs::read_to_string(file).map_err(|e| format!("open {file}: {e}"))?;
            ferula_yaml::from_str(file, &text).map_err(|e| e.to_string())?
        };
        let mut headers = http::HeaderMap::new();
        for (name, value) in parsed.pairs("header") {
            let name = http::HeaderName::try_from(&name).map_err(|e| format!("header {name}: {e}"))?;
            let value = http::HeaderValue::try_from(&value).map_err(|e| format!("header {name}: {e}"))?;
            headers.insert(name, value);
        }
        // All of a command's requests are one after the other: one thread does.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let client = runtime.block_on(async { Client::new(&config) }).map_err(|e| e.to_string())?;
        Ok(Server { base, client, runtime, headers })
    }

    /// `path` may have a query behind it.
    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_query(query);
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    pub fn send(&self, mut request: Request) -> Result<Answer, String> {
        for (name, value) in &self.headers {
            request.headers.insert(name.clone(), value.clone());
        }
        self.runtime.block_on(async {
            let response = self.client.send(request).await.map_err(|e| e.to_string())?;
            let status = response.status;
            let body = response.uncompressed(&BodyLimits::unlimited()).await.map_err(|e| e.to_string())?;
            Ok(Answer { status, body: body.bytes.clone() })
        })
    }

    pub fn get(&self, path: &str) -> Result<Answer, String> {
        self.send(Request::get(self.url(path)))
    }

    /// Posts to the base URL itself.
    pub fn post(
        &self,
        content_type: &'static str,
        body: Vec<u8>,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Answer, String> {
        let mut request = Request::post(self.base.clone(), content_type, body);
        for (name, value) in headers {
            request.headers.insert(*name, http::HeaderValue::from_static(value));
        }
        self.send(request)
    }

    /// Calls an endpoint of the API; answers `data`. Posts the parameters, or appends them where the endpoint only
    /// takes GET.
    pub fn api(&self, path: &str, parameters: &[(&str, String)], is_get: bool) -> Result<Value, String> {
        let form: String = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let mut url = self.url(path);
        let answer = if is_get {
            url.set_query(Some(&form));
            self.send(Request::get(url))?
        } else {
            self.send(Request::post(url, "application/x-www-form-urlencoded", form))?
        };
        let parsed: Value = match serde_json::from_slice(&answer.body) {
            Ok(parsed) => parsed,
            Err(_) if answer.status.is_success() => return Err("bad_response: the answer is not JSON".to_owned()),
            Err(_) => {
                let (kind, code) =
                    (if answer.status.is_server_error() { "server_error" } else { "client_error" }, answer.status);
                return Err(format!("{kind}: {kind} error: {}", code.as_u16()).replacen("_error error", " error", 1));
            }
        };
        match parsed.get("status").and_then(Value::as_str) {
            Some("success") => Ok(parsed.get("data").cloned().unwrap_or(Value::Null)),
            _ => {
                let text = |name: &str| parsed.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
                Err(format!("{}: {}", text("errorType"), text("error")))
            }
        }
    }
}
