//! `dns_sd_configs`: targets from SRV, A, AAAA, MX and NS records.
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use serde::{Deserialize, Serialize};

use crate::discovery_struct_parts::unset;
use crate::error::Error;
use crate::group::{Meta, TargetGroup, join};
use crate::manager::Publisher;

/// One entry of `dns_sd_configs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsSd {
    pub names: Vec<String>,
    pub refresh_interval: ferula_yaml::Duration,
    #[serde(rename = "type")]
    pub record_type: String,
    #[serde(skip_serializing_if = "unset")]
    pub port: u16,
    /// Whom to ask instead of the servers of `/etc/resolv.conf`; for tests.
    #[serde(skip)]
    pub server: Option<SocketAddr>,
}

impl Default for DnsSd {
    fn default() -> Self {
        DnsSd {
            names: Vec::new(),
            refresh_interval: ferula_yaml::Duration::from_secs(30),
            record_type: "SRV".to_owned(),
            port: 0,
            server: None,
        }
    }
}

/// Answers to several names at a time; a slow one does not hold up the others for long.
const TIMEOUT: Duration = Duration::from_secs(30);

impl DnsSd {
    fn record_type(&self) -> Option<RecordType> {
        Some(match self.record_type.to_ascii_uppercase().as_str() {
            "SRV" => RecordType::SRV,
            "A" => RecordType::A,
            "AAAA" => RecordType::AAAA,
            "MX" => RecordType::MX,
            "NS" => RecordType::NS,
            _ => return None,
        })
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.names.is_empty() {
            return Err(Error::Config("DNS-SD config must contain at least one SRV record name".into()));
        }
        match self.record_type() {
            None => Err(Error::Config(format!("invalid DNS-SD records type {}", self.record_type.to_uppercase()))),
            Some(RecordType::SRV) => Ok(()),
            Some(_) if self.port == 0 => {
                Err(Error::Config("a port is required in DNS-SD configs for all record types except SRV".into()))
            }
            Some(_) => Ok(()),
        }
    }

    /// `/etc/resolv.conf` is read again every time, and nothing is cached: the interval says how fresh answers are.
    fn resolver(&self) -> Result<TokioResolver, String> {
        let mut builder = match self.server {
            None => TokioResolver::builder_tokio().map_err(|e| format!("could not load resolv.conf: {e}"))?,
            Some(at) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut c| {
                    c.port = at.port();
                    c
                });
                let server = NameServerConfig::new(at.ip(), true, connections.to_vec());
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        builder.options_mut().cache_size = 0;
        builder.build().map_err(|e| e.to_string())
    }
}

/// Publishes now and after every interval; never returns. A name that fails keeps the targets it had.
pub(crate) async fn run(config: DnsSd, publish: Publisher) {
    let Some(record_type) = config.record_type() else { return };
    let mut ticks = tokio::time::interval(config.refresh_interval.std().max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut known: Vec<Option<TargetGroup>> = vec![None; config.names.len()];
    loop {
        ticks.tick().await;
        let started = publish.monotonic();
        let mut error = None;
        match config.resolver() {
            Err(e) => error = Some(e),
            Ok(resolver) => {
                let lookups = config.names.iter().map(|name| lookup(&resolver, &config, name, record_type));
                let answers = futures::future::join_all(lookups).await;
                for (held, answer) in known.iter_mut().zip(answers) {
                    publish.metrics().dns_lookups.inc();
                    match answer {
                        Ok(group) => *held = Some(group),
                        Err(e) => {
                            publish.metrics().dns_failures.inc();
                            error = Some(e);
                        }
                    }
                }
            }
        }
        publish.refreshed("dns", publish.monotonic().saturating_sub(started));
        let groups: Vec<TargetGroup> = known.iter().flatten().cloned().collect();
        match error {
            Some(e) if groups.is_empty() => {
                publish.refresh_failed("dns");
                publish.failed(e);
            }
            error => publish.groups(groups, error),
        }
    }
}

async fn lookup(
    resolver: &TokioResolver,
    config: &DnsSd,
    name: &str,
    record_type: RecordType,
) -> Result<TargetGroup, String> {
    let asked = tokio::time::timeout(TIMEOUT, resolver.lookup(name, record_type)).await;
    let mut targets = Vec::new();
    match asked {
        Err(_) => return Err(format!("could not resolve {name:?}: no answer in time")),
        // The name exists without such records, or not at all: an answer too.
        Ok(Err(e)) if e.is_no_records_found() || e.is_nx_domain() => {}
        Ok(Err(e)) => return Err(format!("could not resolve {name:?}: {e}")),
        Ok(Ok(answer)) => {
            for record in answer.answers() {
                targets.extend(target(config, name, &record.data));
            }
        }
    }
    Ok(TargetGroup { source: name.to_owned(), labels: Meta::new("").labels(), targets })
}

/// `None` for records that are no targets, such as aliases on the way.
fn target(config: &DnsSd, name: &str, data: &RData) -> Option<ferula_model::Labels> {
    let port = i64::from(config.port);
    let (host, port, label) = match data {
        RData::SRV(srv) => (srv.target.to_utf8(), i64::from(srv.port), "srv_record_target"),
        RData::A(a) => (a.0.to_string(), port, ""),
        RData::AAAA(a) => (a.0.to_string(), port, ""),
        RData::MX(mx) => (mx.exchange.to_utf8(), port, "mx_record_target"),
        RData::NS(ns) => (ns.0.to_utf8(), port, "ns_record_target"),
        _ => return None,
    };
    let mut t = Meta::at("__meta_dns_", &join(host.trim_end_matches('.'), port));
    t.set("name", name);
    if !label.is_empty() {
        t.set(label, &host);
    }
    if label == "srv_record_target" {
        t.set("srv_record_port", port.to_string());
    }
    Some(t.labels())
}
