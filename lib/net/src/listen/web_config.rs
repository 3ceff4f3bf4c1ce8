//! `--web.config.file`: TLS and authentication of a listener, in the format of Prometheus's exporter-toolkit.
//!
//! The file is looked at again for every connection and every request, so that certificates and passwords change without a
//! restart. A file that became wrong changes nothing but a line in the log: what was read last goes on.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::passwords::Passwords;
use super::tls::{self, TlsServerConfig};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WebConfigError(pub String);

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    tls_server_config: TlsServerConfig,
    http_server_config: HttpServerConfig,
    basic_auth_users: BTreeMap<String, ferula_yaml::Secret>,
    rate_limit: Option<RateLimit>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpServerConfig {
    http2: bool,
    headers: BTreeMap<String, String>,
}

impl Default for HttpServerConfig {
    fn default() -> Self {
        HttpServerConfig { http2: true, headers: BTreeMap::new() }
    }
}

/// One request more per interval, and so many at once after a pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RateLimit {
    burst: u32,
    interval: ferula_yaml::Duration,
}

/// Headers that may be set on every answer.
const HEADERS: [&str; 5] = [
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "x-xss-protection",
    "content-security-policy",
];

/// The file as it was read last.
struct Read {
    marks: Vec<Mark>,
    tls: Option<Arc<rustls::ServerConfig>>,
    headers: HeaderMap,
    /// Hashes by user.
    users: Arc<BTreeMap<String, String>>,
    rate_limit: Option<RateLimit>,
}

/// A file, and what tells whether it changed.
pub(crate) type Mark = (PathBuf, Option<(SystemTime, u64)>);

pub(crate) fn mark(path: &Path) -> Mark {
    let seen = std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok();
    (path.to_owned(), seen)
}

/// A listener's TLS and authentication.
pub struct WebConfig {
    path: PathBuf,
    read: Mutex<Arc<Read>>,
    passwords: Passwords,
    /// Tokens at hand, and when they were counted.
    rate: Mutex<(f64, Instant)>,
}

impl std::fmt::Debug for WebConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebConfig").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Welcome,
    /// No credentials, or wrong ones.
    Unauthorized,
    TooMany,
}

impl WebConfig {
    /// Reads the file and everything it names, or says what is wrong.
    pub fn load(path: impl Into<PathBuf>) -> Result<Arc<WebConfig>, WebConfigError> {
        let path = path.into();
        let read = read(&path)?;
        let burst = read.rate_limit.map_or(0.0, |r| f64::from(r.burst));
        Ok(Arc::new(WebConfig {
            path,
            read: Mutex::new(Arc::new(read)),
            passwords: Passwords::default(),
            rate: Mutex::new((burst, Instant::now())),
        }))
    }

    /// Whether connections begin with TLS. Decided once: what a port speaks does not change.
    pub fn is_tls(&self) -> bool {
        self.held().tls.is_some()
    }

    fn held(&self) -> Arc<Read> {
        Arc::clone(&self.read.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn fresh(&self) -> Arc<Read> {
        let held = self.held();
        if held.marks.iter().all(|m| mark(&m.0) == *m) {
            return held;
        }
        match read(&self.path) {
            Ok(new) if new.tls.is_some() == held.tls.is_some() => {
                let new = Arc::new(new);
                *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
                new
            }
            Ok(_) => {
                tracing::error!(path = %self.path.display(), "TLS cannot be turned on or off without a restart");
                held
            }
            Err(e) => {
                tracing::error!(path = %self.path.display(), error = %e, "The web configuration cannot be read again");
                held
            }
        }
    }

    pub(super) fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.fresh().tls.clone()
    }

    pub(super) fn headers(&self) -> HeaderMap {
        self.held().headers.clone()
    }

    /// Whether a request with these headers is let in.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> Admission {
        let read = self.fresh();
        if let Some(limit) = read.rate_limit
            && !self.take_token(limit)
        {
            return Admission::TooMany;
        }
        if read.users.is_empty() || self.passwords.accepts(&read.users, headers).await {
            Admission::Welcome
        } else {
            Admission::Unauthorized
        }
    }

    fn take_token(&self, limit: RateLimit) -> bool {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let interval = limit.interval.std().max(Duration::from_nanos(1)).as_secs_f64();
        let now = Instant::now();
        let gained = now.saturating_duration_since(rate.1).as_secs_f64() / interval;
        *rate = ((rate.0 + gained).min(f64::from(limit.burst.max(1))), now);
        let has = rate.0 >= 1.0;
        if has {
            rate.0 -= 1.0;
        }
        has
    }
}

fn read(path: &Path) -> Result<Read, WebConfigError> {
    let name = path.display().to_string();
    let mut marks = vec![mark(path)];
    let text = std::fs::read_to_string(path).map_err(|e| WebConfigError(format!("open {name}: {e}")))?;
    let mut written: Written =
        ferula_yaml::from_str(&name, &text).map_err(|e| WebConfigError(format!("failed to parse {name}: {e}")))?;
    let problem = |e: String| WebConfigError(format!("{name}: {e}"));
    written.tls_server_config.set_directory(path.parent().unwrap_or(Path::new("")));
    marks.extend(written.tls_server_config.files().map(|f| mark(Path::new(f))));
    let tls = tls::server_config(&written.tls_server_config, written.http_server_config.http2).map_err(problem)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &written.http_server_config.headers {
        let lower = name.to_ascii_lowercase();
        if !HEADERS.contains(&lower.as_str()) {
            return Err(problem(format!("HTTP header {name:?} can not be configured")));
        }
        match (HeaderName::from_str(&lower), HeaderValue::from_str(value)) {
            (Ok(key), Ok(value)) if !value.is_empty() => drop(headers.insert(key, value)),
            (Ok(_), Ok(_)) => {}
            _ => return Err(problem(format!("HTTP header {name:?} has an invalid value"))),
        }
    }
    let mut users = BTreeMap::new();
    for (user, hash) in written.basic_auth_users {
        if bcrypt::HashParts::from_str(hash.expose()).is_err() {
            return Err(problem(format!("basic_auth_users: the hash of {user:?} is not a bcrypt hash")));
        }
        users.insert(user, hash.expose().to_owned());
    }
    Ok(Read { marks, tls, headers, users: Arc::new(users), rate_limit: written.rate_limit })
}
