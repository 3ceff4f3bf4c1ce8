//! `/status`, `/receivers`, `/-/reload` and `/metrics`.
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use ferula_exposition::write;
use ferula_net::listen::Params;
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;

use super::{App, filters, json, passes};
use crate::time;

#[derive(Serialize)]
struct Cluster {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Arc<str>>,
    peers: Vec<Peer>,
    status: &'static str,
}
#[derive(Serialize)]
struct Peer {
    address: String,
    name: String,
}
#[derive(Serialize)]
struct Original {
    original: String,
}
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionInfo {
    branch: &'static str,
    build_date: &'static str,
    build_user: &'static str,
    go_version: &'static str,
    revision: &'static str,
    version: &'static str,
}
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    cluster: Cluster,
    config: Original,
    uptime: String,
    version_info: VersionInfo,
}

fn cluster(am: &App) -> Cluster {
    let Some(cluster) = am.cluster() else { return Cluster { name: None, peers: Vec::new(), status: "disabled" } };
    let view = cluster.view();
    let peers = view.members.into_iter().map(|m| Peer { address: m.addr.to_string(), name: m.name });
    let status = if view.is_settled { "ready" } else { "settling" };
    Cluster { name: Some(cluster.name.clone()), peers: peers.collect(), status }
}

pub async fn status(State(am): State<App>) -> Response {
    json(&Status {
        cluster: cluster(&am),
        config: Original { original: am.loaded().config.to_yaml() },
        uptime: time::format_api(am.started_at_ms),
        version_info: VersionInfo {
            branch: "ferula",
            build_date: "",
            build_user: "",
            go_version: "",
            revision: env!("CARGO_PKG_VERSION"),
            version: crate::VERSION,
        },
    })
}

pub async fn receivers(State(am): State<App>, RawQuery(query): RawQuery) -> Response {
    #[derive(Serialize)]
    struct Shown {
        labels: BTreeMap<String, String>,
        name: Arc<str>,
    }
    let params = Params::from_query(&query.unwrap_or_default());
    let filter = match filters(&params, "receiver_matchers") {
        Ok(f) => f,
        Err(response) => return *response,
    };
    let core = am.core();
    let shown: Vec<Shown> = core
        .receivers()
        .iter()
        .filter(|r| passes(&filter, |n| r.labels.get(n).map(String::as_str)))
        .map(|r| Shown { labels: r.labels.clone(), name: r.name.clone() })
        .collect();
    drop(core);
    json(&shown)
}

pub async fn reload(State(am): State<App>) -> Response {
    let result = tokio::task::spawn_blocking(move || am.reload()).await;
    match result {
        Ok(Ok(())) => StatusCode::OK.into_response(),
        Ok(Err(e)) => {
            tracing::error!(error = %e, "Loading configuration file failed");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {e}\n")).into_response()
        }
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

pub async fn metrics(State(am): State<App>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let format = write::Format::negotiate(accept);
    let families = am.registry.gather();
    let mut out = Vec::new();
    format.write(&families, &mut out);
    ([(header::CONTENT_TYPE, format.content_type())], out).into_response()
}
