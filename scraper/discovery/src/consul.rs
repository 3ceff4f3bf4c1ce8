//! `consul_sd_configs`: the catalogue's services, followed by blocking queries.
//!
//! One task follows the list of services, one more each service; an answer is published when it comes, and at most one
//! per refresh interval is asked of each.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ferula_net::client::Request;
use http::HeaderValue;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::api::{Api, nullable, read};
use crate::discovery_struct_parts::unset;
use crate::error::Error;
use crate::group::{Meta, TargetGroup, join, surrounded};
use crate::manager::Publisher;
use crate::metrics::Metrics;

ferula_net::http_config_struct! {
    /// One entry of `consul_sd_configs`.
    pub struct ConsulSd {
        pub server: String = "localhost:8500".to_owned(),
        #[serde(skip_serializing_if = "unset")]
        pub path_prefix: String = String::new(),
        #[serde(skip_serializing_if = "unset")]
        pub token: ferula_yaml::Secret = ferula_yaml::Secret::default(),
        #[serde(skip_serializing_if = "unset")]
        pub datacenter: String = String::new(),
        #[serde(skip_serializing_if = "unset")]
        pub namespace: String = String::new(),
        #[serde(skip_serializing_if = "unset")]
        pub partition: String = String::new(),
        pub tag_separator: String = ",".to_owned(),
        pub scheme: String = "http".to_owned(),
        #[serde(skip_serializing_if = "unset")]
        pub username: String = String::new(),
        #[serde(skip_serializing_if = "unset")]
        pub password: ferula_yaml::Secret = ferula_yaml::Secret::default(),
        pub allow_stale: bool = true,
        pub refresh_interval: ferula_yaml::Duration = ferula_yaml::Duration::from_secs(30),
        /// The services to find; all of them if there are none.
        #[serde(skip_serializing_if = "unset")]
        pub services: Vec<String> = Vec::new(),
        /// Tags that a service must have all of.
        #[serde(skip_serializing_if = "unset")]
        pub tags: Vec<String> = Vec::new(),
        #[serde(skip_serializing_if = "unset")]
        pub node_meta: BTreeMap<String, String> = BTreeMap::new(),
        /// An expression for the catalogue.
        #[serde(skip_serializing_if = "unset")]
        pub filter: String = String::new(),
        /// An expression for the instances of a service.
        #[serde(skip_serializing_if = "unset")]
        pub health_filter: String = String::new(),
        @http_config
    }
}

impl ConsulSd {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.server.trim().is_empty() {
            return Err(Error::Config("consul SD configuration requires a server address".into()));
        }
        let legacy = !self.username.is_empty() || !self.password.is_empty();
        if legacy && self.basic_auth.is_some() {
            let why = "at most one of consul SD configuration username and password and basic auth can be configured";
            return Err(Error::Config(why.into()));
        }
        if !self.token.is_empty() && (self.authorization.is_some() || self.oauth2.is_some()) {
            let why = "at most one of consul SD token, authorization, or oauth2 can be configured";
            return Err(Error::Config(why.into()));
        }
        self.http_config().validate().map_err(Error::Config)
    }
}

/// How long the server may hold back an answer until something changes.
const WAIT: Duration = Duration::from_secs(120);
/// Until the next try after a failure.
const RETRY: Duration = Duration::from_secs(15);

pub(crate) fn open(config: &ConsulSd) -> Result<Api, Error> {
    let mut http = config.http_config();
    if !config.username.is_empty() || !config.password.is_empty() {
        http.basic_auth = Some(ferula_net::client::config::BasicAuth {
            username: config.username.clone(),
            password: config.password.clone(),
            ..Default::default()
        });
    }
    let prefix = config.path_prefix.trim_matches('/');
    let slash = if prefix.is_empty() { "" } else { "/" };
    Api::new(&http, &format!("{}://{}{slash}{prefix}", config.scheme, config.server))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Entry {
    node: Node,
    service: Service,
    #[serde(deserialize_with = "nullable")]
    checks: Vec<Check>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Node {
    node: String,
    address: String,
    #[serde(deserialize_with = "nullable")]
    tagged_addresses: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    meta: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    #[serde(deserialize_with = "nullable")]
    tags: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    meta: BTreeMap<String, String>,
    port: i64,
    address: String,
    namespace: String,
    partition: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Check {
    #[serde(rename = "CheckID")]
    check_id: String,
    status: String,
}

/// The worst of all checks; maintenance is worst.
fn health(checks: &[Check]) -> &'static str {
    let rank = |c: &Check| {
        if c.check_id == "_node_maintenance" || c.check_id.starts_with("_service_maintenance:") {
            return Some(3);
        }
        Some(match c.status.as_str() {
            "passing" => 0,
            "warning" => 1,
            "critical" => 2,
            "maintenance" => 3,
            _ => return None,
        })
    };
    let ranks: Option<Vec<usize>> = checks.iter().map(rank).collect();
    match ranks {
        None => "",
        Some(ranks) => ["passing", "warning", "critical", "maintenance"]
            .get(ranks.into_iter().max().unwrap_or(0))
            .copied()
            .unwrap_or(""),
    }
}

/// What the tasks of one configuration share.
struct Followed {
    config: ConsulSd,
    api: Api,
    datacenter: String,
    metrics: Metrics,
}

/// What a task has to say.
enum Told {
    Services(Vec<String>),
    Group(String, TargetGroup),
    Failed(String),
}

/// Publishes whenever Consul has something new; never returns.
pub(crate) async fn run(config: ConsulSd, api: Api, publish: Publisher) {
    let mut followed =
        Followed { datacenter: config.datacenter.clone(), config, api, metrics: publish.metrics().clone() };
    while followed.datacenter.is_empty() {
        match followed.own_datacenter().await {
            Ok(datacenter) => followed.datacenter = datacenter,
            Err(e) => {
                publish.failed(e.to_string());
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    let followed = Arc::new(followed);
    // Dropping the set ends all tasks with this future.
    let (mut tasks, mut services) = (JoinSet::new(), BTreeMap::<String, AbortHandle>::new());
    let (tell, mut told) = mpsc::channel(64);
    let named = &followed.config.services;
    if named.is_empty() || !followed.config.tags.is_empty() {
        tasks.spawn(Arc::clone(&followed).follow_catalogue(tell.clone()));
    } else {
        let _ = tell.send(Told::Services(named.clone())).await; // the receiver is here
    }
    let mut groups: BTreeMap<String, TargetGroup> = BTreeMap::new();
    // The first set is whole, unless some service cannot be read: then the others need not wait for it.
    let mut has_failed = false;
    while let Some(first) = told.recv().await {
        let (mut news, mut failure) = (false, None);
        let mut next = Some(first);
        while let Some(one) = next {
            match one {
                Told::Failed(e) => failure = Some(e),
                Told::Group(name, group) => {
                    if services.contains_key(&name) {
                        groups.insert(name, group);
                        news = true;
                    }
                }
                Told::Services(list) => {
                    services.retain(|name, task| {
                        let stays = list.contains(name);
                        if !stays {
                            task.abort();
                            groups.remove(name);
                        }
                        stays
                    });
                    for name in list {
                        services.entry(name).or_insert_with_key(|name| {
                            tasks.spawn(Arc::clone(&followed).follow_service(name.clone(), tell.clone()))
                        });
                    }
                    news = true;
                }
            }
            next = told.try_recv().ok();
        }
        while tasks.try_join_next().is_some() {}
        has_failed |= failure.is_some();
        if news && (has_failed || groups.len() == services.len()) {
            publish.groups(groups.values().cloned(), failure);
        } else if let Some(e) = failure {
            publish.refresh_failed("consul");
            publish.failed(e);
        }
    }
}

impl Followed {
    async fn own_datacenter(&self) -> Result<String, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Own {
            config: OwnConfig,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct OwnConfig {
            datacenter: String,
        }
        let own: Own = self.api.json(self.request("/v1/agent/self", &[])).await?;
        Ok(own.config.datacenter)
    }

    fn request(&self, path: &str, query: &[(&str, &str)]) -> Request {
        let mut request = self.api.get(path, query);
        if let Ok(mut token) = HeaderValue::from_str(self.config.token.expose())
            && !self.config.token.is_empty()
        {
            token.set_sensitive(true);
            request.headers.insert("x-consul-token", token);
        }
        request
    }

    /// One blocking query: the answer, and the index to ask for changes after.
    async fn blocking<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        more: &[(&str, &str)],
        index: u64,
        call: (&str, &str),
    ) -> Result<(T, u64), Error> {
        let c = &self.config;
        let (index_text, wait) = (index.to_string(), format!("{}ms", WAIT.as_millis()));
        let mut query = vec![("dc", self.datacenter.as_str()), ("wait", wait.as_str())];
        if index > 0 {
            query.push(("index", &index_text));
        }
        if c.allow_stale {
            query.push(("stale", ""));
        }
        for (name, value) in [("ns", &c.namespace), ("partition", &c.partition)] {
            if !value.is_empty() {
                query.push((name, value));
            }
        }
        let metas: Vec<String> = c.node_meta.iter().map(|(k, v)| format!("{k}:{v}")).collect();
        query.extend(metas.iter().map(|m| ("node-meta", m.as_str())));
        query.extend_from_slice(more);
        let started = std::time::Instant::now();
        // The server may add a sixteenth of the wait, so that not all clients come back at once.
        let limit = WAIT + WAIT / 16 + RETRY;
        let asked = tokio::time::timeout(limit, self.api.send(self.request(path, &query))).await;
        self.metrics.consul_duration.with(&[call.0, call.1]).observe_duration(started.elapsed());
        let (headers, body) = asked.unwrap_or_else(|_| Err(Error::Refresh(format!("{path}: no answer in time"))))?;
        let next = headers.get("x-consul-index").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let next = next.unwrap_or(0);
        // An index that goes back means that the server was restored: begin anew.
        let next = if next < index { 0 } else { next };
        Ok((read(path, &body)?, next))
    }

    async fn failed(&self, e: &Error, tell: &mpsc::Sender<Told>) {
        self.metrics.consul_failures.inc();
        let _ = tell.send(Told::Failed(e.to_string())).await; // fails only when nobody is left to tell
        tokio::time::sleep(RETRY).await;
    }

    async fn follow_catalogue(self: Arc<Self>, tell: mpsc::Sender<Told>) {
        let (mut index, interval) = (0, self.config.refresh_interval.std());
        loop {
            let asked = tokio::time::Instant::now();
            let filter = [("filter", self.config.filter.as_str())];
            let more: &[(&str, &str)] = if self.config.filter.is_empty() { &[] } else { &filter };
            let call = ("catalog", "services");
            let answer =
                self.blocking::<BTreeMap<String, Option<Vec<String>>>>("/v1/catalog/services", more, index, call);
            match answer.await {
                Err(e) => {
                    index = 0;
                    self.failed(&e, &tell).await;
                }
                Ok((_, next)) if next == index && index > 0 => {}
                Ok((services, next)) => {
                    index = next;
                    let wanted = services.into_iter().filter(|(name, tags)| self.wants(name, tags.as_deref()));
                    if tell.send(Told::Services(wanted.map(|(name, _)| name).collect())).await.is_err() {
                        return;
                    }
                }
            }
            tokio::time::sleep_until(asked + interval).await;
        }
    }

    fn wants(&self, name: &str, tags: Option<&[String]>) -> bool {
        let c = &self.config;
        let tags = tags.unwrap_or_default();
        (c.services.is_empty() || c.services.iter().any(|s| s == name)) && c.tags.iter().all(|t| tags.contains(t))
    }

    async fn follow_service(self: Arc<Self>, name: String, tell: mpsc::Sender<Told>) {
        let (mut index, interval) = (0, self.config.refresh_interval.std());
        let path = format!("/v1/health/service/{name}");
        let mut more: Vec<(&str, &str)> = self.config.tags.iter().map(|t| ("tag", t.as_str())).collect();
        if !self.config.health_filter.is_empty() {
            more.push(("filter", &self.config.health_filter));
        }
        loop {
            let asked = tokio::time::Instant::now();
            match self.blocking::<Vec<Entry>>(&path, &more, index, ("health", "service")).await {
                Err(e) => {
                    index = 0;
                    self.failed(&e, &tell).await;
                }
                Ok((_, next)) if next == index && index > 0 => {}
                Ok((entries, next)) => {
                    index = next;
                    if tell.send(Told::Group(name.clone(), self.group(&name, &entries))).await.is_err() {
                        return;
                    }
                }
            }
            tokio::time::sleep_until(asked + interval).await;
        }
    }

    fn group(&self, name: &str, entries: &[Entry]) -> TargetGroup {
        let mut labels = Meta::new(PREFIX);
        labels.set("service", name).set("dc", &self.datacenter);
        let targets = entries.iter().map(|e| {
            let host = if e.service.address.is_empty() { &e.node.address } else { &e.service.address };
            let mut t = Meta::at(PREFIX, &join(host, e.service.port));
            t.set("address", &e.node.address).set("node", &e.node.node).set("health", health(&e.checks));
            t.set("namespace", &e.service.namespace).set("partition", &e.service.partition);
            t.set("service_address", &e.service.address).set("service_port", e.service.port.to_string());
            t.set("service_id", &e.service.id);
            // Surrounded even without tags, so that a regular expression may rely on it.
            let separator = &self.config.tag_separator;
            let tags =
                if e.service.tags.is_empty() { separator.repeat(2) } else { surrounded(&e.service.tags, separator) };
            t.set("tags", tags);
            t.map("metadata_", &e.node.meta).map("service_metadata_", &e.service.meta);
            t.map("tagged_address_", &e.node.tagged_addresses);
            t.labels()
        });
        TargetGroup { source: name.to_owned(), labels: labels.labels(), targets: targets.collect() }
    }
}

const PREFIX: &str = "__meta_consul_";
