//! The HTTP and TLS client sections, in the form the rest of the stack shares.
use ferula_yaml::Secret;
use serde::{Deserialize, Serialize};

pub use shim::HttpConfig;

/// How to talk TLS to a mail server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ca: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub key: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ca_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_name: String,
    pub insecure_skip_verify: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub min_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub max_version: String,
}

mod shim {
    use super::*;
    #[derive(Clone, Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct HttpConfig {
        #[serde(skip_serializing)]
        pub basic_auth: Option<serde_json::Value>,
        #[serde(skip_serializing)]
        pub authorization: Option<serde_json::Value>,
        #[serde(skip_serializing)]
        pub oauth2: Option<serde_json::Value>,
        #[serde(skip_serializing)]
        pub bearer_token: Secret,
        #[serde(skip_serializing)]
        pub bearer_token_file: String,
        #[serde(skip_serializing)]
        pub tls_config: TlsConfig,
        pub follow_redirects: bool,
        pub enable_http2: bool,
        #[serde(skip_serializing)]
        pub proxy_url: String,
        #[serde(skip_serializing)]
        pub no_proxy: String,
        #[serde(skip_serializing)]
        pub proxy_from_environment: bool,
        #[serde(skip_serializing)]
        pub proxy_connect_header: serde_json::Value,
        #[serde(skip_serializing)]
        pub http_headers: serde_json::Value,
    }
    impl Default for HttpConfig {
        fn default() -> Self {
            HttpConfig {
                basic_auth: None,
                authorization: None,
                oauth2: None,
                bearer_token: Secret::default(),
                bearer_token_file: String::new(),
                tls_config: TlsConfig::default(),
                follow_redirects: true,
                enable_http2: true,
                proxy_url: String::new(),
                no_proxy: String::new(),
                proxy_from_environment: false,
                proxy_connect_header: serde_json::Value::Null,
                http_headers: serde_json::Value::Null,
            }
        }
    }
}
