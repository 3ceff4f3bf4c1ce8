//! All groups of a server: loading, reloading, and the threads that evaluate them.
//!
//! Every group has a thread of its own, named after it; none of them is shared with queries, so no flood of queries
//! delays a rule. Permits bound how many groups evaluate at the same time.
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use ferula_instrument::Registry;
use ferula_storage::CancelFlag;

use crate::file::{self, FileError, GroupConfig};
use crate::group::{Environment, Group, Settings, Shared};
use crate::metrics::Metrics;
use crate::schedule;
use crate::signal::{Permits, Stop, Woken};
use crate::snapshot::GroupSnapshot;
use crate::text;

/// Why rule files were refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct LoadError(pub Vec<FileError>);

/// Upstream's `rules.Manager`.
pub struct RuleManager {
    env: Arc<Environment>,
    metrics: Metrics,
    permits: Arc<Permits>,
    /// Set when the server stops: running queries give up.
    cancel: CancelFlag,
    running: Mutex<Running>,
    /// What the API reads; replaced as a whole.
    published: Mutex<Vec<Arc<Shared>>>,
}

#[derive(Default)]
struct Running {
    groups: Vec<Thread>,
    /// Groups that are gone and wait to mark their series stale.
    retiring: Vec<(Arc<Stop>, JoinHandle<Group>)>,
    loaded_once: bool,
    stopped: bool,
}

struct Thread {
    config: Arc<GroupConfig>,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    stop: Arc<Stop>,
    thread: JoinHandle<Group>,
}

impl RuleManager {
    /// `permits`: groups that may evaluate at the same time. `cancel` is the flag of the environment's queries.
    pub fn new(env: Environment, permits: usize, cancel: CancelFlag, registry: &Registry) -> RuleManager {
        RuleManager {
            env: Arc::new(env),
            metrics: Metrics::new(registry),
            permits: Arc::new(Permits::new(permits.max(1))),
            cancel,
            running: Mutex::default(),
            published: Mutex::default(),
        }
    }

    /// Reads rule files (paths, globs resolved) and makes them what runs. Groups that did not change go on untouched;
    /// changed ones keep the state of their unchanged rules; series of what is gone become stale two intervals later.
    /// On an error nothing changes.
    pub fn load(&self, files: &[std::path::PathBuf], settings: Settings) -> Result<(), LoadError> {
        let (mut groups, mut errors) = (Vec::new(), Vec::new());
        for path in files {
            let name = path.display().to_string();
            let parsed = match std::fs::read(path) {
                Ok(bytes) => match String::from_utf8(bytes) {
                    Ok(text) => file::parse_with(&name, &text, &self.env.parse_options),
                    Err(_) => Err(vec![FileError { file: name, message: "not UTF-8".into() }]),
                },
                Err(e) => Err(vec![FileError { file: name, message: e.to_string() }]),
            };
            match parsed {
                Ok(mut g) => groups.append(&mut g),
                Err(mut e) => errors.append(&mut e),
            }
        }
        if !errors.is_empty() {
            return Err(LoadError(errors));
        }
        self.apply(groups, settings);
        Ok(())
    }

    /// As [`load`](Self::load), of groups already read.
    pub fn apply(&self, groups: Vec<GroupConfig>, settings: Settings) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.stopped {
            return;
        }
        let restores = !std::mem::replace(&mut running.loaded_once, true);
        let settings = Arc::new(settings);
        let templates = text::functions(&settings.external_url);
        let mut old: HashMap<(String, String), Thread> =
            running.groups.drain(..).map(|g| ((g.config.file.clone(), g.config.name.clone()), g)).collect();
        let mut next = Vec::with_capacity(groups.len());
        let mut fresh = Vec::new();
        for config in groups {
            match old.remove(&(config.file.clone(), config.name.clone())) {
                Some(same) if *same.config == config && *same.settings == *settings => next.push(same),
                before => {
                    if let Some(b) = &before {
                        b.stop.stop(false);
                    }
                    fresh.push((Arc::new(config), before));
                }
            }
        }
        for (config, before) in fresh {
            let key = config.key();
            let (env, metrics) = (self.env.clone(), self.metrics.group(&key));
            let mut group = Group::new(env, settings.clone(), &templates, config.clone(), metrics, restores);
            if let Some(b) = before {
                match b.thread.join() {
                    Ok(old) => group.take_state(old),
                    Err(_) => tracing::error!(group = key, "the group's thread had panicked; its state is lost"),
                }
            }
            if let Some(started) = self.start(group, config, settings.clone()) {
                next.push(started);
            }
        }
        for (_, gone) in old {
            gone.stop.stop(true);
            self.metrics.remove(&gone.config.key());
            running.retiring.push((gone.stop, gone.thread));
        }
        running.retiring.retain(|(_, thread)| !thread.is_finished());
        next.sort_by(|a, b| (&a.config.file, &a.config.name).cmp(&(&b.config.file, &b.config.name)));
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) =
            next.iter().map(|g| g.shared.clone()).collect();
        running.groups = next;
    }

    fn start(&self, group: Group, config: Arc<GroupConfig>, settings: Arc<Settings>) -> Option<Thread> {
        let shared = group.shared();
        let stop = Arc::new(Stop::default());
        let (signal, permits) = (stop.clone(), self.permits.clone());
        // The kernel keeps 15 bytes of a thread's name.
        let name: String = format!("rule:{}", config.name).chars().filter(|c| *c != '\0').take(40).collect();
        let spawned = std::thread::Builder::new().name(name).spawn(move || run(group, &signal, &permits));
        match spawned {
            Ok(thread) => Some(Thread { config, settings, shared, stop, thread }),
            Err(error) => {
                tracing::error!(group = config.name, %error, "cannot start the group's thread; its rules do not run");
                None
            }
        }
    }

    /// All groups by file and name. Never waits for an evaluation.
    pub fn snapshot(&self) -> Vec<GroupSnapshot> {
        let shared = self.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
        shared.iter().map(|s| s.snapshot()).collect()
    }

    /// Stops all groups and waits for them. What they wrote stays as it is.
    pub fn stop(&self) {
        self.cancel.cancel();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.stopped = true;
        let groups: Vec<Thread> = running.groups.drain(..).collect();
        for g in &groups {
            g.stop.stop(false);
        }
        for (stop, thread) in running.retiring.drain(..) {
            stop.shut_down();
            let _ = thread.join();
        }
        for g in groups {
            let _ = g.thread.join();
        }
    }
}

impl Drop for RuleManager {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The life of a group's thread; gives the group back for its state.
fn run(mut group: Group, stop: &Stop, permits: &Permits) -> Group {
    let clock = group.env().clock.clone();
    let interval_ms = group.interval_ms();
    let offset_ms = schedule::offset_ms(&group.config.file, &group.config.name, interval_ms);
    let mut due_ms = schedule::first_after(clock.now_ms(), interval_ms, offset_ms);
    // Alerts wait for the second evaluation: by then scrapes and recording rules they depend on have results again.
    // A reload meanwhile does not end the wait.
    let mut evaluations_to_restore = if group.awaits_restoration() { Some(2u8) } else { None };
    loop {
        match stop.wait_until(clock.as_ref(), due_ms, interval_ms) {
            Woken::Due => {}
            Woken::Stopped => break,
            Woken::ClockSetBack => {
                due_ms = schedule::first_after(clock.now_ms(), interval_ms, offset_ms);
                continue;
            }
        }
        {
            let _permit = permits.take();
            if catch_unwind(AssertUnwindSafe(|| group.evaluate(due_ms))).is_err() {
                tracing::error!(group = group.config.name, "evaluating the group panicked");
            }
            evaluations_to_restore = match evaluations_to_restore {
                Some(1) => {
                    group.restore(clock.now_ms());
                    None
                }
                Some(n) => Some(n - 1),
                None => None,
            };
        }
        let (next_ms, missed) = schedule::next(due_ms, clock.now_ms(), interval_ms, offset_ms);
        group.metrics().missed.inc_by(missed);
        group.metrics().iterations.inc_by(missed);
        due_ms = next_ms;
    }
    if stop.retires() {
        let now_ms = clock.now_ms();
        // A renamed rule may by then go on with the same series.
        if stop.wait_to_retire(clock.as_ref(), now_ms.saturating_add(2 * interval_ms)) {
            group.retire(now_ms);
        }
    }
    group
}
