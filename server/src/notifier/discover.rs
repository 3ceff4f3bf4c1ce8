//! From discovered target groups to the URLs of Alertmanagers.
use std::collections::BTreeMap;
use std::sync::Arc;

use ferula_model::{LabelsBuilder, relabel};
use ferula_net::client::Client;
use ferula_scraper_discovery::{Discovery, SdConfigs, TargetGroup};
use url::Url;

use super::{HttpTransport, Notifier, Relabel, Target, Transport};
use crate::config::{AlertmanagerConfig, Config};

const ALERTS_PATH: &str = "__alerts_path__";

/// Gives a transport of its own for a URL, where the Alertmanager runs in this very process.
pub type LocalTransports = Arc<dyn Fn(&Url) -> Option<Arc<dyn Transport>> + Send + Sync>;

/// One entry of `alertmanagers`, ready to be put to use.
struct Entry {
    job: String,
    sd: SdConfigs,
    scheme: String,
    alerts_path: String,
    timeout: std::time::Duration,
    client: Arc<Client>,
    relabel: Vec<relabel::Config>,
    alert_relabel: Option<Relabel>,
}

/// Everything of `alerting`, checked; nothing is changed yet.
pub(crate) struct Prepared {
    entries: Vec<Entry>,
    external_labels: ferula_model::Labels,
    alert_relabel: Option<Relabel>,
}

fn rules(configs: Vec<relabel::Config>) -> Option<Relabel> {
    (!configs.is_empty()).then(|| Arc::new(move |b: &mut LabelsBuilder| relabel::process(&configs, b)) as Relabel)
}

impl Prepared {
    pub(crate) fn new(config: &Config) -> Result<Prepared, String> {
        let alerting = &config.alerting;
        let mut entries = Vec::new();
        for (i, am) in alerting.alertmanagers.iter().flatten().enumerate() {
            entries.push(entry(i, am)?);
        }
        let alert_relabel = rules(crate::config::relabel_rules(&alerting.alert_relabel_configs)?);
        Ok(Prepared { entries, external_labels: config.global.external_labels(), alert_relabel })
    }
}

fn entry(i: usize, am: &AlertmanagerConfig) -> Result<Entry, String> {
    Ok(Entry {
        job: format!("config-{i}"),
        sd: am.discovery(),
        scheme: am.scheme.clone(),
        alerts_path: format!("{}/api/v2/alerts", prefix(&am.path_prefix)),
        timeout: am.timeout.std(),
        client: Arc::new(Client::new(&am.http_config()).map_err(|e| e.to_string())?),
        relabel: crate::config::relabel_rules(&am.relabel_configs)?,
        alert_relabel: rules(crate::config::relabel_rules(&am.alert_relabel_configs)?),
    })
}

/// "" or `/prefix`.
fn prefix(path: &str) -> String {
    match path.trim_matches('/') {
        "" => String::new(),
        inner => format!("/{inner}"),
    }
}

/// Follows the Alertmanagers of the configuration and tells the notifier about every change.
pub(crate) struct Discovered {
    discovery: Discovery,
    notifier: Arc<Notifier>,
    local: Option<LocalTransports>,
    runtime: tokio::runtime::Handle,
    following: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Discovered {
    fn drop(&mut self) {
        if let Some(task) = self.following.take() {
            task.abort();
        }
    }
}

impl Discovered {
    pub(crate) fn new(
        discovery: Discovery,
        notifier: Arc<Notifier>,
        local: Option<LocalTransports>,
        runtime: tokio::runtime::Handle,
    ) -> Discovered {
        Discovered { discovery, notifier, local, runtime, following: None }
    }

    pub(crate) fn apply(&mut self, prepared: Prepared) -> Result<(), String> {
        let jobs: BTreeMap<String, SdConfigs> =
            prepared.entries.iter().map(|e| (e.job.clone(), e.sd.clone())).collect();
        self.discovery.apply(&jobs).map_err(|e| e.to_string())?;
        self.notifier.configure(prepared.external_labels, prepared.alert_relabel);
        if let Some(task) = self.following.take() {
            task.abort();
        }
        let mut sources: Vec<_> = prepared
            .entries
            .into_iter()
            .filter_map(|e| self.discovery.subscribe(&e.job).map(|groups| (e, groups)))
            .collect();
        let (notifier, local) = (Arc::clone(&self.notifier), self.local.clone());
        self.following = Some(self.runtime.spawn(async move {
            loop {
                let (mut targets, mut dropped) = (Vec::new(), Vec::new());
                for (entry, groups) in &mut sources {
                    let found = groups.borrow_and_update().clone();
                    for group in found.iter().flat_map(|g| g.iter()) {
                        targets.extend(group_targets(entry, group, local.as_ref(), &mut dropped));
                    }
                }
                notifier.set_targets(targets);
                notifier.set_dropped(dropped);
                let changes = sources.iter_mut().map(|(_, groups)| Box::pin(groups.changed()));
                if changes.len() == 0 {
                    return;
                }
                if futures::future::select_all(changes).await.0.is_err() {
                    return; // discovery is gone
                }
            }
        }));
        Ok(())
    }
}

/// Those that relabelling lets pass; the addresses of the others, as they were before, go to `dropped`.
fn group_targets(
    entry: &Entry,
    group: &TargetGroup,
    local: Option<&LocalTransports>,
    dropped: &mut Vec<String>,
) -> Vec<Target> {
    group
        .targets
        .iter()
        .filter_map(|labels| {
            let mut b = LabelsBuilder::from_view(labels);
            for (name, value) in &group.labels {
                if b.get(name).is_none() {
                    b.set(name, value);
                }
            }
            b.set("__scheme__", &entry.scheme);
            b.set(ALERTS_PATH, &entry.alerts_path);
            let address = |b: &LabelsBuilder| {
                let of = |name| b.get(name).unwrap_or("");
                format!("{}://{}{}", of("__scheme__"), of("__address__"), of(ALERTS_PATH))
            };
            let before = address(&b);
            if !relabel::process(&entry.relabel, &mut b) {
                dropped.push(before);
                return None;
            }
            let text = address(&b);
            let url = match Url::parse(&text) {
                Ok(url) => url,
                Err(e) => {
                    tracing::warn!(url = text, error = %e, "not an Alertmanager address");
                    return None;
                }
            };
            let transport = local.and_then(|l| l(&url)).unwrap_or_else(|| {
                Arc::new(HttpTransport::new(url, Arc::clone(&entry.client), entry.timeout)) as Arc<dyn Transport>
            });
            Some(Target { transport, relabel: entry.alert_relabel.clone() })
        })
        .collect()
}
