//! Where the API is and how to convince it.
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ferula_net::client::{ClientConfig, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use url::Url;

use crate::Error;
use crate::store::{Scope, Store};

const AGENT: http::HeaderValue = http::HeaderValue::from_static("Prometheus/3.5.0");

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
            Access::Server { url, http } => {
                return Ok(Cluster { client: through_http_config(url, http)?, stores: Mutex::default() });
            }
        };
        config.headers.push((http::header::USER_AGENT, AGENT));
        let client = Client::try_from(config).map_err(|e| Error(e.to_string()))?;
        Ok(Cluster { client, stores: Mutex::default() })
    }

    /// The store of one resource, shared with everyone who asks for the same.
    pub fn watch<K>(&self, scope: Scope) -> Arc<Store<K>>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::DynamicResourceScope>
            + Clone
            + DeserializeOwned
            + serde::Serialize
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

/// A client that speaks through ours: all of `http_config` counts, with its files read again and its tokens renewed.
fn through_http_config(url: &str, http: &ClientConfig) -> Result<Client, Error> {
    let base = Url::parse(url).map_err(|e| Error(format!("invalid api_server {url:?}: {e}")))?;
    if base.host_str().unwrap_or("").is_empty() {
        return Err(Error(format!("invalid api_server {url:?}: no host")));
    }
    let client = ferula_net::client::Client::new(http).map_err(|e| Error(e.to_string()))?;
    let shared = Arc::new((client, base));
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let shared = Arc::clone(&shared);
        async move {
            let (client, base) = shared.as_ref();
            let (parts, _) = request.into_parts(); // discovery only reads: there is no body
            let mut url = base.clone();
            url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), parts.uri.path()));
            url.set_query(parts.uri.query());
            let mut ours = Request::get(url);
            ours.method = parts.method;
            ours.headers = parts.headers;
            ours.headers.insert(http::header::USER_AGENT, AGENT);
            let (status, headers, body) = client.send(ours).await?.into_parts();
            let mut response = http::Response::new(body);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Ok::<_, ferula_net::client::Error>(response)
        }
    });
    Ok(Client::new(service, "default"))
}
