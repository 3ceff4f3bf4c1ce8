//! What a watch keeps: the objects by key, packed, and a version that grows with every change.
use std::collections::HashMap;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use kube::core::DynamicResourceScope;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::packed::{Packed, pack, prune, unpack};

/// Which objects of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Empty means all.
    pub namespace: String,
    pub label_selector: String,
    pub field_selector: String,
}

/// What happened to a store since it began, for metrics.
#[derive(Debug, Default)]
pub struct WatchEvents {
    pub applied: AtomicU64,
    pub deleted: AtomicU64,
    pub failures: AtomicU64,
}

/// Objects of one resource in one scope, by `namespace/name` (or `name`).
pub struct Store<K> {
    objects: Mutex<HashMap<String, Packed>>,
    kind: PhantomData<fn() -> K>,
    /// 0 until the first complete list.
    version: watch::Sender<u64>,
    last_error: Mutex<Option<String>>,
    pub events: WatchEvents,
    task: Mutex<Option<AbortHandle>>,
}

impl<K> Drop for Store<K> {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// Objects per page of a list: a page is held as text and as objects while it is read, so smaller ones peak lower.
const PAGE: u32 = 250;

/// The key of an object, as references to it are written.
pub fn key_of(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

impl<K> Store<K>
where
    K: Resource<DynamicType = (), Scope = DynamicResourceScope>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug
        + Send
        + Sync
        + 'static,
{
    pub(crate) fn follow(client: Client, scope: Scope) -> Arc<Store<K>> {
        let store = Arc::new(Store {
            objects: Mutex::default(),
            kind: PhantomData,
            version: watch::Sender::new(0),
            last_error: Mutex::default(),
            events: WatchEvents::default(),
            task: Mutex::default(),
        });
        let weak = Arc::downgrade(&store);
        let task = tokio::spawn(async move {
            let gvk: Api<K> = scoped(client, &scope.namespace);
            let mut config = watcher::Config::default().page_size(PAGE);
            config.label_selector = Some(scope.label_selector).filter(|s| !s.is_empty());
            config.field_selector = Some(scope.field_selector).filter(|s| !s.is_empty());
            let mut events = Box::pin(watcher(gvk, config).default_backoff());
            let mut listing = HashMap::new();
            while let Some(event) = events.next().await {
                let Some(store) = weak.upgrade() else { return };
                store.take(event, &mut listing);
            }
        });
        *store.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        store
    }

    fn take(&self, event: Result<Event<K>, watcher::Error>, listing: &mut HashMap<String, Packed>) {
        let key = |k: &K| key_of(k.meta().namespace.as_deref().unwrap_or(""), k.meta().name.as_deref().unwrap_or(""));
        match event {
            Ok(Event::Init) => listing.clear(),
            Ok(Event::InitApply(k)) => {
                let (key, Some(packed)) = (key(&k), keep(k)) else { return };
                // A list that comes again brings mostly what is known: it costs no second copy.
                let known = self.objects().get(&key).filter(|known| **known == packed).cloned();
                listing.insert(key, known.unwrap_or(packed));
            }
            Ok(Event::InitDone) => {
                *self.objects() = std::mem::take(listing);
                self.changed();
            }
            Ok(Event::Apply(k)) => {
                self.events.applied.fetch_add(1, Ordering::Relaxed);
                let (key, Some(packed)) = (key(&k), keep(k)) else { return };
                self.objects().insert(key, packed);
                self.changed();
            }
            Ok(Event::Delete(k)) => {
                self.events.deleted.fetch_add(1, Ordering::Relaxed);
                self.objects().remove(&key(&k));
                self.changed();
            }
            Err(e) => {
                self.events.failures.fetch_add(1, Ordering::Relaxed);
                let text = e.to_string();
                tracing::warn!(resource = %K::plural(&()), error = %text, "Watching Kubernetes failed; what is known stays");
                *self.error() = Some(text);
            }
        }
    }

    fn changed(&self) {
        *self.error() = None;
        self.version.send_modify(|v| *v += 1);
    }
}

fn keep<K: Resource + Serialize>(mut object: K) -> Option<Packed> {
    prune(object.meta_mut());
    pack(&object)
}

impl<K: DeserializeOwned> Store<K> {
    /// All objects now, in the order of their keys; each is unpacked as it is asked for.
    pub fn all(&self) -> impl Iterator<Item = K> + use<K> {
        let mut all: Vec<(String, Packed)> = self.objects().iter().map(|(k, v)| (k.clone(), Arc::clone(v))).collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all.into_iter().filter_map(|(_, packed)| unpack(&packed))
    }
    pub fn get(&self, namespace: &str, name: &str) -> Option<K> {
        let packed = self.objects().get(&key_of(namespace, name)).cloned()?;
        unpack(&packed)
    }
}

impl<K> Store<K> {
    fn objects(&self) -> MutexGuard<'_, HashMap<String, Packed>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn error(&self) -> MutexGuard<'_, Option<String>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Grows with every change; 0 until the first complete list.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
    /// Why the watch does not move, if it does not.
    pub fn last_error(&self) -> Option<String> {
        self.error().clone()
    }
}

fn scoped<K: Resource<DynamicType = (), Scope = DynamicResourceScope>>(client: Client, namespace: &str) -> Api<K> {
    // The slim types leave the scope open; the path alone decides.
    if namespace.is_empty() { Api::all(client) } else { Api::namespaced_with(client, namespace, &()) }
}
