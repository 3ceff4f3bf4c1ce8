//! Where the API is and how to convince it.
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ferula_net::client::ClientConfig;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::de::DeserializeOwned;

use crate::Error;
use crate::store::{Scope, Store};

/// How to reach one cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Access {
    /// The service account of the pod we run in.
    InCluster,
    Kubeconfig(String),
    Server {
        url: String,
        http: Box<ClientConfig>,
    },
}

/// A connected cluster and the watches on it.
pub struct Cluster {
    client: Client,
    /// Stores by type, namespace and selectors; weak, so that a watch ends with its last user.
    stores: Mutex<HashMap<(std::any::TypeId, Scope), Weak<dyn std::any::Any + Send + Sync>>>,
}

impl Cluster {
    /// Prepares a client. Nothing is asked yet.
    pub async fn connect(access: &Access) -> Result<Cluster, Error> {
        let mut config = match access {
            Access::InCluster => Config::incluster().map_err(|e| Error(e.to_string()))?,
            Access::Kubeconfig(path) => {
                let file = Kubeconfig::read_from(path).map_err(|e| Error(e.to_string()))?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(file, &options).await.map_err(|e| Error(e.to_string()))?
            }
            Access::Server { url, http } => from_http_config(url, http)?,
        };
        let agent = http::HeaderValue::from_static("Prometheus/3.5.0");
        config.headers.push((http::header::USER_AGENT, agent));
        let client = Client::try_from(config).map_err(|e| Error(e.to_string()))?;
        Ok(Cluster { client, stores: Mutex::default() })
    }

    /// The store of one resource, shared with everyone who asks for the same.
    pub fn watch<K>(&self, scope: Scope) -> Arc<Store<K>>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::DynamicResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let key = (std::any::TypeId::of::<K>(), scope.clone());
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|_, s| s.strong_count() > 0);
        if let Some(found) = stores.get(&key).and_then(Weak::upgrade)
            && let Ok(store) = found.downcast::<Store<K>>()
        {
            return store;
        }
        let store = Store::follow(self.client.clone(), scope);
        let any: Arc<dyn std::any::Any + Send + Sync> = Arc::clone(&store) as _;
        stores.insert(key, Arc::downgrade(&any));
        store
    }
}

/// The namespace of the pod we run in.
pub fn own_namespace() -> Result<String, Error> {
    let path = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
    let text =
        std::fs::read_to_string(path).map_err(|e| Error(format!("could not determine own namespace: {path}: {e}")))?;
    Ok(text.trim().to_owned())
}

fn read(text: &str, path: &str) -> Result<Option<String>, Error> {
    if !text.is_empty() {
        return Ok(Some(text.to_owned()));
    }
    if path.is_empty() {
        return Ok(None);
    }
    let read = std::fs::read_to_string(path).map_err(|e| Error(format!("unable to read file {path}: {e}")))?;
    Ok(Some(read.trim().to_owned()))
}

fn from_http_config(url: &str, http: &ClientConfig) -> Result<Config, Error> {
    // What cannot be honoured must not be ignored.
    ferula_net::client::Client::new(http).map_err(|e| Error(e.to_string()))?;
    let uri = url.parse().map_err(|e| Error(format!("invalid api_server {url:?}: {e}")))?;
    let mut config = Config::new(uri);
    let tls = &http.tls_config;
    config.accept_invalid_certs = tls.insecure_skip_verify;
    config.tls_server_name = Some(tls.server_name.clone()).filter(|n| !n.is_empty());
    if !tls.ca_file.is_empty() {
        config.root_cert_file = Some(tls.ca_file.clone().into());
    } else if !tls.ca.is_empty() {
        return Err(Error(
            "tls_config.ca is known, but not built in yet for kubernetes_sd_configs: use ca_file".into(),
        ));
    }
    let mut auth = AuthInfo::default();
    if let Some(basic) = &http.basic_auth {
        auth.username = read(&basic.username, &basic.username_file)?;
        auth.password = read(basic.password.expose(), &basic.password_file)?.map(Into::into);
    }
    let (token, file) = match &http.authorization {
        Some(a) => (a.credentials.expose(), a.credentials_file.as_str()),
        None => (http.bearer_token.expose(), http.bearer_token_file.as_str()),
    };
    if !token.is_empty() {
        auth.token = Some(token.to_owned().into());
    } else if !file.is_empty() {
        auth.token_file = Some(file.to_owned()); // read again about every minute
    }
    if !tls.cert_file.is_empty() {
        auth.client_certificate = Some(tls.cert_file.clone());
        auth.client_key = Some(tls.key_file.clone());
    }
    config.auth_info = auth;
    Ok(config)
}
