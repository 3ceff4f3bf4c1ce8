//! `kubernetes_sd_configs`: six roles over shared watches.
mod config;
mod labels;
mod roles;
mod selector;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ferula_kube::{
    Cluster, EndpointSlice, Endpoints, Ingress, Job, Namespace, Node, Pod, ReplicaSet, Scope, Service, Store,
    WatchEvents, own_namespace,
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

pub use config::{AttachMetadata, KubernetesSd, Namespaces, Role, Selector};
use roles::Others;

use crate::error::Error;
use crate::group::TargetGroup;
use crate::manager::Publisher;

/// Changes come in bursts (a roll-out touches pods, endpoints and slices); one set answers for so much time.
const SETTLE: Duration = Duration::from_millis(200);
/// Until the next try to read what connecting needs: a kubeconfig, a token.
const RETRY: Duration = Duration::from_secs(5);

/// Publishes whenever an object changed that matters; never returns.
pub(crate) async fn run(config: KubernetesSd, clusters: Arc<Clusters>, publish: Publisher) {
    let Some(role) = Role::parse(&config.role) else { return };
    let cluster = loop {
        match clusters.connect(&config).await {
            Ok(cluster) => break cluster,
            Err(e) => publish.failed(e.to_string()),
        }
        tokio::time::sleep(RETRY).await;
    };
    let watched = loop {
        match Watched::new(&config, role, &cluster) {
            Ok(watched) => break watched,
            Err(e) => publish.failed(e.to_string()),
        }
        tokio::time::sleep(RETRY).await;
    };
    let mut versions = watched.versions();
    let mut counted = watched.events();
    loop {
        let ready = versions.iter().all(|v| *v.borrow() > 0);
        let errors = watched.errors();
        publish.metrics().count_kubernetes(role.as_str(), &mut counted, watched.events());
        if ready {
            for v in &mut versions {
                v.borrow_and_update();
            }
            publish.groups(watched.groups(role), errors);
        } else if let Some(e) = errors {
            publish.failed(e);
        }
        // Any change, or, while something fails, a look now and then.
        let changes = versions.iter_mut().map(|v| Box::pin(v.changed()));
        let any = futures::future::select_all(changes);
        let _ = tokio::time::timeout(RETRY, any).await;
        tokio::time::sleep(SETTLE).await;
    }
}

/// Clusters in use, by access: jobs that name the same one share its watches.
#[derive(Default)]
pub(crate) struct Clusters {
    open: tokio::sync::Mutex<Vec<(ferula_kube::Access, std::sync::Weak<Cluster>)>>,
}

impl Clusters {
    async fn connect(&self, config: &KubernetesSd) -> Result<Arc<Cluster>, Error> {
        let access = config.access();
        let mut open = self.open.lock().await;
        open.retain(|(_, c)| c.strong_count() > 0);
        if let Some(cluster) = open.iter().find(|(a, _)| *a == access).and_then(|(_, c)| c.upgrade()) {
            return Ok(cluster);
        }
        let cluster = Arc::new(Cluster::connect(&access).await.map_err(|e| Error::Refresh(e.to_string()))?);
        open.push((access, Arc::downgrade(&cluster)));
        Ok(cluster)
    }
}

/// The stores one configuration needs; per resource one for every namespace.
struct Watched {
    _cluster: Arc<Cluster>,
    nodes: Vec<Arc<Store<Node>>>,
    services: Vec<Arc<Store<Service>>>,
    pods: Vec<Arc<Store<Pod>>>,
    endpoints: Vec<Arc<Store<Endpoints>>>,
    slices: Vec<Arc<Store<EndpointSlice>>>,
    ingresses: Vec<Arc<Store<Ingress>>>,
    namespaces: Vec<Arc<Store<Namespace>>>,
    replica_sets: Vec<Arc<Store<ReplicaSet>>>,
    jobs: Vec<Arc<Store<Job>>>,
    attach: AttachMetadata,
}

/// Events of all stores: applied, deleted, failures.
pub(crate) type EventCounts = [u64; 3];

impl Watched {
    fn new(config: &KubernetesSd, role: Role, cluster: &Arc<Cluster>) -> Result<Watched, Error> {
        let mut namespaces = config.namespaces.names.clone();
        if config.namespaces.own_namespace {
            namespaces.push(own_namespace().map_err(|e| Error::Refresh(e.to_string()))?);
        }
        if namespaces.is_empty() {
            namespaces.push(String::new());
        }
        let scope = |role: Role, namespace: &str| {
            let selector = config.selector(role);
            Scope { namespace: namespace.to_owned(), label_selector: selector.label, field_selector: selector.field }
        };
        macro_rules! stores {
            ($wanted:expr, $role:expr) => {
                if $wanted { namespaces.iter().map(|ns| cluster.watch(scope($role, ns))).collect() } else { Vec::new() }
            };
        }
        let behind = matches!(role, Role::Endpoints | Role::EndpointSlice);
        let attach = &config.attach_metadata;
        // What stands above pods, without the pods' selectors.
        macro_rules! above {
            ($wanted:expr) => {
                if $wanted && role == Role::Pod {
                    let scopes = namespaces.iter().map(|ns| Scope { namespace: ns.clone(), ..Scope::default() });
                    scopes.map(|scope| cluster.watch(scope)).collect()
                } else {
                    Vec::new()
                }
            };
        }
        let node_scope = scope(Role::Node, "");
        let wants_nodes = role == Role::Node || attach.node && (behind || role == Role::Pod);
        Ok(Watched {
            _cluster: Arc::clone(cluster),
            nodes: if wants_nodes { vec![cluster.watch(node_scope)] } else { Vec::new() },
            services: stores!(behind || role == Role::Service, Role::Service),
            pods: stores!(behind || role == Role::Pod, Role::Pod),
            endpoints: stores!(role == Role::Endpoints, Role::Endpoints),
            slices: stores!(role == Role::EndpointSlice, Role::EndpointSlice),
            ingresses: stores!(role == Role::Ingress, Role::Ingress),
            namespaces: if attach.namespace { vec![cluster.watch(Scope::default())] } else { Vec::new() },
            replica_sets: above!(attach.deployment),
            jobs: above!(attach.job || attach.cronjob),
            attach: attach.clone(),
        })
    }

    fn versions(&self) -> Vec<watch::Receiver<u64>> {
        let mut all: Vec<watch::Receiver<u64>> = Vec::new();
        all.extend(self.nodes.iter().map(|s| s.version()));
        all.extend(self.services.iter().map(|s| s.version()));
        all.extend(self.pods.iter().map(|s| s.version()));
        all.extend(self.endpoints.iter().map(|s| s.version()));
        all.extend(self.slices.iter().map(|s| s.version()));
        all.extend(self.ingresses.iter().map(|s| s.version()));
        all.extend(self.namespaces.iter().map(|s| s.version()));
        all.extend(self.replica_sets.iter().map(|s| s.version()));
        all.extend(self.jobs.iter().map(|s| s.version()));
        all
    }

    fn errors(&self) -> Option<String> {
        let mut all = self.nodes.iter().map(|s| s.last_error()).collect::<Vec<_>>();
        all.extend(self.services.iter().map(|s| s.last_error()));
        all.extend(self.pods.iter().map(|s| s.last_error()));
        all.extend(self.endpoints.iter().map(|s| s.last_error()));
        all.extend(self.slices.iter().map(|s| s.last_error()));
        all.extend(self.ingresses.iter().map(|s| s.last_error()));
        all.extend(self.namespaces.iter().map(|s| s.last_error()));
        all.extend(self.replica_sets.iter().map(|s| s.last_error()));
        all.extend(self.jobs.iter().map(|s| s.last_error()));
        all.into_iter().flatten().next()
    }

    fn events(&self) -> EventCounts {
        let mut sum = [0; 3];
        let mut add = |e: &WatchEvents| {
            sum[0] += e.applied.load(Ordering::Relaxed);
            sum[1] += e.deleted.load(Ordering::Relaxed);
            sum[2] += e.failures.load(Ordering::Relaxed);
        };
        self.nodes.iter().for_each(|s| add(&s.events));
        self.services.iter().for_each(|s| add(&s.events));
        self.pods.iter().for_each(|s| add(&s.events));
        self.endpoints.iter().for_each(|s| add(&s.events));
        self.slices.iter().for_each(|s| add(&s.events));
        self.ingresses.iter().for_each(|s| add(&s.events));
        self.namespaces.iter().for_each(|s| add(&s.events));
        self.replica_sets.iter().for_each(|s| add(&s.events));
        self.jobs.iter().for_each(|s| add(&s.events));
        sum
    }

    /// One group after the other, so that never more than one object is unpacked.
    fn groups(&self, role: Role) -> Box<dyn Iterator<Item = TargetGroup> + '_> {
        fn each<K: DeserializeOwned>(stores: &[Arc<Store<K>>]) -> impl Iterator<Item = K> {
            stores.iter().flat_map(|s| s.all())
        }
        match role {
            Role::Node => Box::new(each(&self.nodes).filter_map(|n| roles::node(&n))),
            Role::Service => Box::new(each(&self.services).map(|s| roles::service(&s, self))),
            Role::Pod => Box::new(each(&self.pods).map(|p| roles::pod(&p, self))),
            Role::Endpoints => Box::new(each(&self.endpoints).map(|e| roles::endpoints(&e, self))),
            Role::EndpointSlice => Box::new(each(&self.slices).map(|e| roles::endpoint_slice(&e, self))),
            Role::Ingress => Box::new(each(&self.ingresses).map(|i| roles::ingress(&i, self))),
        }
    }
}

impl Others for Watched {
    fn pod(&self, namespace: &str, name: &str) -> Option<Pod> {
        self.pods.iter().find_map(|s| s.get(namespace, name))
    }
    fn service(&self, namespace: &str, name: &str) -> Option<Service> {
        self.services.iter().find_map(|s| s.get(namespace, name))
    }
    fn node(&self, name: &str) -> Option<Node> {
        self.nodes.iter().find_map(|s| s.get("", name))
    }
    fn namespace(&self, name: &str) -> Option<Namespace> {
        self.namespaces.iter().find_map(|s| s.get("", name))
    }
    fn replica_set(&self, namespace: &str, name: &str) -> Option<ReplicaSet> {
        self.replica_sets.iter().find_map(|s| s.get(namespace, name))
    }
    fn job(&self, namespace: &str, name: &str) -> Option<Job> {
        self.jobs.iter().find_map(|s| s.get(namespace, name))
    }
    fn attach(&self) -> &AttachMetadata {
        &self.attach
    }
}
