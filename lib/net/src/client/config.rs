//! Prometheus's `http_config`: how to reach and convince an HTTP server. Read strictly, checked with upstream's words.
use std::collections::BTreeMap;

use ferula_yaml::Secret;
use serde::{Deserialize, Serialize};

fn is_default<T: Default + PartialEq>(v: &T) -> bool {
    *v == T::default()
}

/// All of `http_config`. Relative paths are the caller's to join ([`ClientConfig::set_directory`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
    #[serde(skip_serializing_if = "is_default")]
    pub bearer_token: Secret,
    #[serde(skip_serializing_if = "is_default")]
    pub bearer_token_file: String,
    #[serde(skip_serializing_if = "is_default")]
    pub tls_config: TlsConfig,
    pub follow_redirects: bool,
    pub enable_http2: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_url: Secret,
    #[serde(skip_serializing_if = "is_default")]
    pub no_proxy: String,
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_from_environment: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
    #[serde(skip_serializing_if = "is_default")]
    pub http_headers: BTreeMap<String, HeaderValues>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            bearer_token: Secret::default(),
            bearer_token_file: String::new(),
            tls_config: TlsConfig::default(),
            follow_redirects: true,
            enable_http2: true,
            proxy_url: Secret::default(),
            no_proxy: String::new(),
            proxy_from_environment: false,
            proxy_connect_header: BTreeMap::new(),
            http_headers: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BasicAuth {
    #[serde(skip_serializing_if = "is_default")]
    pub username: String,
    #[serde(skip_serializing_if = "is_default")]
    pub username_file: String,
    #[serde(skip_serializing_if = "is_default")]
    pub password: Secret,
    #[serde(skip_serializing_if = "is_default")]
    pub password_file: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authorization {
    /// Empty means `Bearer`.
    #[serde(rename = "type", skip_serializing_if = "is_default")]
    pub scheme: String,
    #[serde(skip_serializing_if = "is_default")]
    pub credentials: Secret,
    #[serde(skip_serializing_if = "is_default")]
    pub credentials_file: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OAuth2 {
    pub client_id: String,
    #[serde(skip_serializing_if = "is_default")]
    pub client_secret: Secret,
    #[serde(skip_serializing_if = "is_default")]
    pub client_secret_file: String,
    #[serde(skip_serializing_if = "is_default")]
    pub client_certificate_key_id: String,
    #[serde(skip_serializing_if = "is_default")]
    pub client_certificate_key: Secret,
    #[serde(skip_serializing_if = "is_default")]
    pub client_certificate_key_file: String,
    #[serde(skip_serializing_if = "is_default")]
    pub grant_type: String,
    #[serde(skip_serializing_if = "is_default")]
    pub signature_algorithm: String,
    #[serde(skip_serializing_if = "is_default")]
    pub iss: String,
    #[serde(skip_serializing_if = "is_default")]
    pub audience: String,
    #[serde(skip_serializing_if = "is_default")]
    pub claims: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    pub scopes: Vec<String>,
    pub token_url: String,
    #[serde(skip_serializing_if = "is_default")]
    pub endpoint_params: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    pub tls_config: TlsConfig,
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_url: Secret,
    #[serde(skip_serializing_if = "is_default")]
    pub no_proxy: String,
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_from_environment: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    #[serde(skip_serializing_if = "is_default")]
    pub ca: String,
    #[serde(skip_serializing_if = "is_default")]
    pub cert: String,
    #[serde(skip_serializing_if = "is_default")]
    pub key: Secret,
    #[serde(skip_serializing_if = "is_default")]
    pub ca_file: String,
    #[serde(skip_serializing_if = "is_default")]
    pub cert_file: String,
    #[serde(skip_serializing_if = "is_default")]
    pub key_file: String,
    #[serde(skip_serializing_if = "is_default")]
    pub server_name: String,
    pub insecure_skip_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_version: Option<TlsVersion>,
}

/// What a configuration may name. Versions before 1.2 are never spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    #[serde(rename = "TLS10")]
    Tls10,
    #[serde(rename = "TLS11")]
    Tls11,
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderValues {
    #[serde(skip_serializing_if = "is_default")]
    pub values: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub secrets: Vec<Secret>,
    #[serde(skip_serializing_if = "is_default")]
    pub files: Vec<String>,
}

/// Headers a configuration may not set, in canonical form.
const RESERVED_HEADERS: [&str; 18] = [
    "Authorization",
    "Host",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "User-Agent",
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Www-Authenticate",
    "Accept-Encoding",
    "X-Prometheus-Remote-Write-Version",
    "X-Prometheus-Remote-Read-Version",
    "X-Prometheus-Scrape-Timeout-Seconds",
    "X-Amz-Date",
    "X-Amz-Security-Token",
    "X-Amz-Content-Sha256",
];

/// `user-Agent` becomes `User-Agent`.
fn canonical_header(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|c| {
            let out = if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            upper = c == '-';
            out
        })
        .collect()
}

fn at_most_one(what: &[bool], text: &str) -> Result<(), String> {
    if what.iter().filter(|set| **set).count() > 1 { Err(text.to_owned()) } else { Ok(()) }
}

impl ClientConfig {
    /// What upstream refuses, in its words.
    pub fn validate(&self) -> Result<(), String> {
        let (token, token_file) = (!self.bearer_token.is_empty(), !self.bearer_token_file.is_empty());
        at_most_one(&[token, token_file], "at most one of bearer_token & bearer_token_file must be configured")?;
        at_most_one(
            &[self.basic_auth.is_some(), self.oauth2.is_some(), token || token_file],
            "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
        )?;
        if let Some(b) = &self.basic_auth {
            at_most_one(
                &[!b.username.is_empty(), !b.username_file.is_empty()],
                "at most one of basic_auth username & username_file must be configured",
            )?;
            at_most_one(
                &[!b.password.is_empty(), !b.password_file.is_empty()],
                "at most one of basic_auth password & password_file must be configured",
            )?;
        }
        if let Some(a) = &self.authorization {
            if token || token_file {
                return Err("authorization is not compatible with bearer_token & bearer_token_file".into());
            }
            at_most_one(
                &[!a.credentials.is_empty(), !a.credentials_file.is_empty()],
                "at most one of authorization credentials & credentials_file must be configured",
            )?;
            if a.scheme.trim().eq_ignore_ascii_case("basic") {
                return Err("authorization type cannot be set to \"basic\", use \"basic_auth\" instead".into());
            }
            at_most_one(
                &[self.basic_auth.is_some(), self.oauth2.is_some(), true],
                "at most one of basic_auth, oauth2 & authorization must be configured",
            )?;
        }
        if let Some(o) = &self.oauth2 {
            o.validate()?;
        }
        self.tls_config.validate()?;
        validate_proxy(
            &self.proxy_url,
            &self.no_proxy,
            self.proxy_from_environment,
            !self.proxy_connect_header.is_empty(),
        )?;
        for name in self.http_headers.keys() {
            if RESERVED_HEADERS.contains(&canonical_header(name).as_str()) {
                return Err(format!("setting header {:?} is not allowed", canonical_header(name)));
            }
        }
        Ok(())
    }

    /// Joins relative file names to the configuration file's directory.
    pub fn set_directory(&mut self, dir: &std::path::Path) {
        let join = |path: &mut String| join(dir, path);
        if let Some(b) = &mut self.basic_auth {
            join(&mut b.username_file);
            join(&mut b.password_file);
        }
        if let Some(a) = &mut self.authorization {
            join(&mut a.credentials_file);
        }
        if let Some(o) = &mut self.oauth2 {
            join(&mut o.client_secret_file);
            join(&mut o.client_certificate_key_file);
            o.tls_config.set_directory(dir);
        }
        join(&mut self.bearer_token_file);
        self.tls_config.set_directory(dir);
        for header in self.http_headers.values_mut() {
            header.files.iter_mut().for_each(join);
        }
    }
}

fn join(dir: &std::path::Path, path: &mut String) {
    if !path.is_empty() && !std::path::Path::new(path.as_str()).is_absolute() {
        *path = dir.join(path.as_str()).to_string_lossy().into_owned();
    }
}

impl OAuth2 {
    fn validate(&self) -> Result<(), String> {
        if self.client_id.is_empty() {
            return Err("oauth2 client_id must be configured".into());
        }
        if self.token_url.is_empty() {
            return Err("oauth2 token_url must be configured".into());
        }
        at_most_one(
            &[!self.client_secret.is_empty(), !self.client_secret_file.is_empty()],
            "at most one of oauth2 client_secret & client_secret_file must be configured using grant-type=client_credentials",
        )?;
        at_most_one(
            &[!self.client_certificate_key.is_empty(), !self.client_certificate_key_file.is_empty()],
            "at most one of oauth2 client_certificate_key & client_certificate_key_file must be configured using grant-type=urn:ietf:params:oauth:grant-type:jwt-bearer",
        )?;
        self.tls_config.validate()?;
        let headers = !self.proxy_connect_header.is_empty();
        validate_proxy(&self.proxy_url, &self.no_proxy, self.proxy_from_environment, headers)
    }
}

impl TlsConfig {
    pub(crate) fn set_directory(&mut self, dir: &std::path::Path) {
        join(dir, &mut self.ca_file);
        join(dir, &mut self.cert_file);
        join(dir, &mut self.key_file);
    }
    /// The files it names.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        [&self.ca_file, &self.cert_file, &self.key_file].into_iter().map(String::as_str).filter(|f| !f.is_empty())
    }

    pub fn validate(&self) -> Result<(), String> {
        let (ca, cert, key) = (!self.ca.is_empty(), !self.cert.is_empty(), !self.key.is_empty());
        let (ca_file, cert_file, key_file) =
            (!self.ca_file.is_empty(), !self.cert_file.is_empty(), !self.key_file.is_empty());
        at_most_one(&[ca, ca_file], "at most one of ca, ca_file & ca_ref must be configured")?;
        at_most_one(&[cert, cert_file], "at most one of cert, cert_file & cert_ref must be configured")?;
        at_most_one(&[key, key_file], "at most one of key and key_file must be configured")?;
        if (cert || cert_file) && !(key || key_file) {
            return Err(
                "exactly one of key or key_file must be configured when a client certificate is configured".into()
            );
        }
        if (key || key_file) && !(cert || cert_file) {
            return Err("exactly one of cert or cert_file must be configured when a client key is configured".into());
        }
        match (self.min_version, self.max_version) {
            (Some(min), Some(max)) if max < min => Err(
                "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified"
                    .into(),
            ),
            _ => Ok(()),
        }
    }
}

fn validate_proxy(url: &Secret, no_proxy: &str, from_environment: bool, headers: bool) -> Result<(), String> {
    let has_url = !url.is_empty();
    if headers && !from_environment && !has_url {
        return Err(
            "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured".into(),
        );
    }
    if from_environment && has_url {
        return Err("if proxy_from_environment is configured, proxy_url must not be configured".into());
    }
    if from_environment && !no_proxy.is_empty() {
        return Err("if proxy_from_environment is configured, no_proxy must not be configured".into());
    }
    if !no_proxy.is_empty() && !has_url {
        return Err("if no_proxy is configured, proxy_url must also be configured".into());
    }
    Ok(())
}

/// What [`crate::http_config_struct`] makes: a configuration with the fields of `http_config` among its own.
pub trait HttpConfigured {
    /// The fields that say how to reach the server.
    fn http_config(&self) -> ClientConfig;
    /// Joins the relative file names among them to the configuration file's directory.
    fn set_http_directory(&mut self, dir: &std::path::Path);
}

/// Declares a configuration struct whose own fields stand beside all fields of `http_config`, as YAML has it: serde's
/// `flatten` would lose strictness and places in errors. Gives `Default`, `http_config()` and `set_http_directory()`.
#[macro_export]
macro_rules! http_config_struct {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$fm:meta])* pub $field:ident : $ty:ty = $default:expr, )*
            @http_config
            $( $(#[$gm:meta])* pub $later:ident : $later_ty:ty = $later_default:expr, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $( $(#[$fm])* pub $field: $ty, )*
            #[serde(skip_serializing_if = "Option::is_none")]
            pub basic_auth: Option<$crate::client::config::BasicAuth>,
            #[serde(skip_serializing_if = "Option::is_none")]
            pub authorization: Option<$crate::client::config::Authorization>,
            #[serde(skip_serializing_if = "Option::is_none")]
            pub oauth2: Option<$crate::client::config::OAuth2>,
            #[serde(skip_serializing_if = "ferula_net::client::config::unset")]
            pub bearer_token: ferula_yaml::Secret,
            #[serde(skip_serializing_if = "ferula_net::client::config::unset")]
            pub bearer_token_file: String,
            #[serde(skip_serializing_if = "ferula_net::client::config::unset")]
            pub tls_config: $crate::client::config::TlsConfig,
            pub follow_redirects: bool,
            pub enable_http2: bool,
            #[serde(skip_serializing_if = "ferula_net::client::config::unset")]
            pub proxy_url: ferula_yaml::Secret,
            #[serde(skip_serializing_if = "ferula_net::client::config::unset")]
            pub no_proxy: String,
            #[serde(skip_serializing_if = "ferula_net::client::config::unset")]
            pub proxy_from_environment: bool,
            #[serde(skip_serializing_if = "ferula_net::client::config::unset")]
            pub proxy_connect_header: std::collections::BTreeMap<String, Vec<ferula_yaml::Secret>>,
            #[serde(skip_serializing_if = "ferula_net::client::config::unset")]
            pub http_headers: std::collections::BTreeMap<String, $crate::client::config::HeaderValues>,
            $( $(#[$gm])* pub $later: $later_ty, )*
        }

        impl Default for $name {
            fn default() -> Self {
                let http = $crate::client::config::ClientConfig::default();
                $name {
                    $( $field: $default, )*
                    basic_auth: http.basic_auth,
                    authorization: http.authorization,
                    oauth2: http.oauth2,
                    bearer_token: http.bearer_token,
                    bearer_token_file: http.bearer_token_file,
                    tls_config: http.tls_config,
                    follow_redirects: http.follow_redirects,
                    enable_http2: http.enable_http2,
                    proxy_url: http.proxy_url,
                    no_proxy: http.no_proxy,
                    proxy_from_environment: http.proxy_from_environment,
                    proxy_connect_header: http.proxy_connect_header,
                    http_headers: http.http_headers,
                    $( $later: $later_default, )*
                }
            }
        }

        impl $name {
            /// The fields that say how to reach the server.
            pub fn http_config(&self) -> $crate::client::config::ClientConfig {
                $crate::client::config::ClientConfig {
                    basic_auth: self.basic_auth.clone(),
                    authorization: self.authorization.clone(),
                    oauth2: self.oauth2.clone(),
                    bearer_token: self.bearer_token.clone(),
                    bearer_token_file: self.bearer_token_file.clone(),
                    tls_config: self.tls_config.clone(),
                    follow_redirects: self.follow_redirects,
                    enable_http2: self.enable_http2,
                    proxy_url: self.proxy_url.clone(),
                    no_proxy: self.no_proxy.clone(),
                    proxy_from_environment: self.proxy_from_environment,
                    proxy_connect_header: self.proxy_connect_header.clone(),
                    http_headers: self.http_headers.clone(),
                }
            }
            /// Joins the relative file names among them to the configuration file's directory.
            pub fn set_http_directory(&mut self, dir: &std::path::Path) {
                let mut http = self.http_config();
                http.set_directory(dir);
                self.basic_auth = http.basic_auth;
                self.authorization = http.authorization;
                self.oauth2 = http.oauth2;
                self.bearer_token_file = http.bearer_token_file;
                self.tls_config = http.tls_config;
                self.http_headers = http.http_headers;
            }
        }

        impl $crate::client::config::HttpConfigured for $name {
            fn http_config(&self) -> $crate::client::config::ClientConfig {
                $name::http_config(self)
            }
            fn set_http_directory(&mut self, dir: &std::path::Path) {
                $name::set_http_directory(self, dir);
            }
        }
    };
}

/// For `skip_serializing_if` in [`http_config_struct`].
pub fn unset<T: Default + PartialEq>(v: &T) -> bool {
    *v == T::default()
}
