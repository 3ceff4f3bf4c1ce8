//! The HTTP client of every role: scraping, discovery, notifications, remote write.
//!
//! ```text
//!  Client::new(&ClientConfig) -- send(Request) --> redirects (<= 10) --> Response -- uncompressed(limits) --> Body
//!       |                                                                     `- chunk() ... --> Inflow
//!       |  keep-alive pool per host                 credentials stay with host, scheme and port
//!       +- TLS built at the first https request, again when its files changed
//!       +- connect: straight, through a proxy, or to a Unix socket; oauth2: a token at hand, or a new one
//! ```
//!
//! Deadlines are the caller's: dropping the future closes the connection. An idle connection costs about 24 KiB, most of
//! it the kernel's and hyper's buffers.
mod auth;
pub mod body;
pub mod config;
mod connect;
pub mod error;
mod inflow;
pub mod jwt;
mod oauth2;
mod proxy;
pub mod sigv4;
pub(crate) mod tls;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, LOCATION,
    PROXY_AUTHORIZATION,
};
use http::{HeaderValue, Method, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::Url;

pub use body::{Body, BodyLimits};
pub use config::ClientConfig;
pub use error::Error;
pub use inflow::Inflow;

use connect::Connector;
use oauth2::TokenSource;
use proxy::Proxies;

/// Redirects followed before giving up, as Go's client.
const REDIRECTS_MAX: usize = 10;
/// Header fields of an answer; more is an attack.
const HEADERS_MAX: usize = 100;
/// Header bytes of an answer and size of hyper's read buffer at most.
const READ_BUFFER_BYTES_MAX: usize = 256 << 10;
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const IDLE_PER_HOST_MAX: usize = 100;

type Plain = HyperClient<Connector, Full<Bytes>>;
type Tls = HyperClient<HttpsConnector<Connector>, Full<Bytes>>;

/// One configured client with its connection pool. Shared by reference; used from many tasks at once.
pub struct Client {
    config: ClientConfig,
    proxies: Arc<Proxies>,
    tokens: Option<TokenSource>,
    is_http2: bool,
    plain: Plain,
    tls: Mutex<Option<(tls::Fingerprint, Tls)>>,
}

/// What to send. The body is kept, so that a redirect can repeat it.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The socket to speak to instead of the URL's host and port, which then only name it.
    pub unix_socket: Option<PathBuf>,
}

impl Request {
    pub fn get(url: Url) -> Request {
        Request { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new(), unix_socket: None }
    }
    pub fn post(url: Url, content_type: &'static str, body: impl Into<Bytes>) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
        Request { method: Method::POST, url, headers, body: body.into(), unix_socket: None }
    }
}

/// Status and headers; the body is still in the socket.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    incoming: Incoming,
}

impl Response {
    pub fn content_type(&self) -> &str {
        self.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("")
    }
    pub fn is_gzip(&self) -> bool {
        self.headers.get(CONTENT_ENCODING).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"gzip"))
    }
    /// Status, headers and the body as a stream, for who reads it piece by piece.
    pub fn into_parts(self) -> (StatusCode, HeaderMap, Incoming) {
        (self.status, self.headers, self.incoming)
    }
    /// The next bytes of the body as sent, `None` at its end. For bodies read as they come: see [`Inflow`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        use http_body_util::BodyExt;
        while let Some(frame) = self.incoming.frame().await {
            let frame = frame.map_err(|e| Error::Body(error::innermost(&e)))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
    /// The whole body, gunzipped here and now if it came so. For small bodies; others are read by [`Response::chunk`].
    pub async fn uncompressed(self, limits: &BodyLimits) -> Result<Body, Error> {
        let gzip = self.is_gzip();
        let body = Body::collect(self.incoming, limits).await?;
        if gzip { body.gunzip(limits) } else { Ok(body) }
    }
}

impl Client {
    /// Checks the configuration. Opens nothing yet. With `proxy_from_environment` the environment is read here.
    pub fn new(config: &ClientConfig) -> Result<Client, Error> {
        Client::speaking(config, false)
    }

    /// One that speaks HTTP/2 and nothing else, without TLS too: what gRPC needs.
    pub fn http2(config: &ClientConfig) -> Result<Client, Error> {
        Client::speaking(config, true)
    }

    fn speaking(config: &ClientConfig, is_http2: bool) -> Result<Client, Error> {
        config.validate().map_err(Error::Config)?;
        let proxies = Arc::new(Proxies::new(&config.into(), |name| std::env::var(name).ok())?);
        let tokens = config.oauth2.as_ref().map(TokenSource::new).transpose()?;
        let plain = pool(is_http2).build(Connector::new(connector(), Arc::clone(&proxies), &config.tls_config));
        Ok(Client { config: config.clone(), proxies, tokens, is_http2, plain, tls: Mutex::new(None) })
    }

    /// Sends, follows redirects, returns the first other answer, whatever its status.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        let origin = request.url.origin();
        let mut request = request;
        let mut hops = 0;
        loop {
            let url = request.url.clone();
            let method = method_name(&request.method);
            let response = self.send_once(&request, request.url.origin() == origin).await?;
            let Some(location) = self.redirect(&response) else { return Ok(response) };
            let failed = |reason: String| Error::Redirect { method, url: shown(&url), reason };
            hops += 1;
            if hops > REDIRECTS_MAX {
                return Err(failed(format!("stopped after {REDIRECTS_MAX} redirects")));
            }
            let next = url.join(&location).map_err(|e| failed(format!("invalid redirect target: {e}")))?;
            if !matches!(next.scheme(), "http" | "https") {
                return Err(failed(format!("unsupported protocol scheme {:?}", next.scheme())));
            }
            let repeat = matches!(response.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            if !repeat && request.method != Method::GET && request.method != Method::HEAD {
                request.method = Method::GET;
                request.body = Bytes::new();
                request.headers.remove(CONTENT_TYPE);
                request.headers.remove(CONTENT_ENCODING);
                request.headers.remove(CONTENT_LENGTH);
            }
            if next.origin() != origin {
                request.headers.remove(AUTHORIZATION);
                request.headers.remove(COOKIE);
                request.unix_socket = None;
            }
            request.url = next;
        }
    }

    fn redirect(&self, response: &Response) -> Option<String> {
        let followed = matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308);
        if !self.config.follow_redirects || !followed {
            return None;
        }
        Some(response.headers.get(LOCATION)?.to_str().ok()?.to_owned())
    }

    async fn send_once(&self, request: &Request, with_credentials: bool) -> Result<Response, Error> {
        let mut url = request.url.clone();
        let method = method_name(&request.method);
        let mut headers = request.headers.clone();
        if with_credentials {
            auth::add_headers(&self.config, &mut headers)?;
            if let Some(tokens) = &self.tokens {
                let token = tokens.authorization().await;
                let failed = |e: Error| Error::Transport { method, url: shown(&url), reason: e.to_string() };
                headers.insert(AUTHORIZATION, token.map_err(failed)?);
            }
            url_credentials(&mut url, &mut headers);
        }
        let _ = url.set_username(""); // only fails where there is no host to begin with
        let _ = url.set_password(None);
        url.set_fragment(None);
        let invalid = |e: http::Error| Error::Url(format!("invalid URL {:?}: {e}", shown(&url)));
        let mut built = http::Request::builder()
            .method(request.method.clone())
            .uri(url.as_str())
            .body(Full::new(request.body.clone()))
            .map_err(invalid)?;
        if let Some(path) = &request.unix_socket {
            if let Some(host) = built.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()) {
                headers.insert(HOST, host);
            }
            let path_and_query = built.uri().path_and_query().map_or("/", |p| p.as_str());
            let authority = connect::unix_authority(path);
            let uri = Uri::builder().scheme(url.scheme()).authority(authority).path_and_query(path_and_query);
            *built.uri_mut() = uri.build().map_err(invalid)?;
        } else if url.scheme() == "http"
            && let Some(value) = self.proxies.of(built.uri()).and_then(|p| p.authorization())
        {
            // A plain request is read by the proxy itself; for https the tunnel has carried it.
            headers.insert(PROXY_AUTHORIZATION, value);
        }
        *built.headers_mut() = headers;
        let sent = if url.scheme() == "https" {
            self.tls_client()?.request(built).await
        } else {
            self.plain.request(built).await
        };
        let response = sent.map_err(|e| Error::Transport { method, url: shown(&url), reason: reason(&e, &url) })?;
        let (parts, incoming) = response.into_parts();
        Ok(Response { status: parts.status, headers: parts.headers, incoming })
    }

    /// The pool for https, built anew when a certificate file changed.
    fn tls_client(&self) -> Result<Tls, Error> {
        let now = tls::fingerprint(&self.config.tls_config);
        let mut held = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, client)) = held.as_ref()
            && *then == now
        {
            return Ok(client.clone());
        }
        let config = tls::client_config(&self.config.tls_config)?;
        let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
        let name = &self.config.tls_config.server_name;
        let builder = if name.is_empty() {
            builder
        } else {
            let name = rustls_pki_types::ServerName::try_from(name.clone())
                .map_err(|_| Error::Config(format!("tls_config: invalid server_name {name:?}")))?;
            builder.with_server_name_resolver(FixedServerNameResolver::new(name))
        };
        let dial = Connector::new(connector(), Arc::clone(&self.proxies), &self.config.tls_config);
        let connector = if self.is_http2 {
            builder.enable_http2().wrap_connector(dial)
        } else if self.config.enable_http2 {
            builder.enable_http1().enable_http2().wrap_connector(dial)
        } else {
            builder.enable_http1().wrap_connector(dial)
        };
        let client = pool(self.is_http2).build(connector);
        *held = Some((now, client.clone()));
        Ok(client)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

fn connector() -> HttpConnector {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    http.set_keepalive(Some(Duration::from_secs(30)));
    http
}

fn pool(is_http2: bool) -> hyper_util::client::legacy::Builder {
    let mut builder = HyperClient::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http2_only(is_http2)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .http1_max_headers(HEADERS_MAX)
        .http1_max_buf_size(READ_BUFFER_BYTES_MAX)
        .http2_max_header_list_size(READ_BUFFER_BYTES_MAX as u32);
    builder
}

/// `http://user:pass@host/` means basic authentication, unless something else is configured.
fn url_credentials(url: &mut Url, headers: &mut HeaderMap) {
    use base64::Engine;
    if url.username().is_empty() && url.password().is_none() || headers.contains_key(AUTHORIZATION) {
        return;
    }
    let decode = |s: &str| percent_encoding::percent_decode_str(s).decode_utf8_lossy().into_owned();
    let pair = format!("{}:{}", decode(url.username()), decode(url.password().unwrap_or("")));
    let value = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    if let Ok(mut value) = http::HeaderValue::from_str(&value) {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
}

/// The form errors begin with.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "Get",
        Method::POST => "Post",
        Method::PUT => "Put",
        _ => "Request",
    }
}

/// A URL without its password.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        let _ = url.set_password(Some("xxxxx")); // only fails without a host
    }
    url.to_string()
}

/// `dial tcp 127.0.0.1:9: connect: connection refused`, as users search for it.
fn reason(e: &hyper_util::client::legacy::Error, url: &Url) -> String {
    let text = error::innermost(e);
    let lower = text.to_lowercase();
    if e.is_connect() && lower.contains("connection refused") && !lower.contains("dial tcp") {
        let host = url.host_str().unwrap_or("");
        return format!("dial tcp {host}:{}: connect: connection refused", url.port_or_known_default().unwrap_or(0));
    }
    text
}

#[cfg(test)]
mod tests;
