//! What changes with the configuration file: reading it, and reading it again.
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use ferula_model::Clock;
use ferula_otlp::Tracer;
use tokio::sync::Semaphore;

use super::{Alertmanager, Error};
use crate::config::{Config, ConfigError};
use crate::metrics::Metrics;
use crate::notify::Context;
use crate::notify::template::TemplateSet;
use crate::options::Options;
use crate::receiver::http::Clients;

/// Everything that changes with the configuration file.
pub(crate) struct Loaded {
    pub config: Config,
    pub context: Context,
    pub clients: Clients,
    /// At most so many deliveries at a time to one integration: a hanging receiver holds up nobody else.
    pub(super) permits: HashMap<(Arc<str>, &'static str, u32), Arc<Permits>>,
}

/// What paces the deliveries of one integration.
pub(super) struct Permits {
    pub running: Semaphore,
    pub beginning: Semaphore,
}

/// The feature that turns the event recorder on.
pub(super) const EVENT_RECORDER: &str = "event-recorder";

const DELIVERIES_PER_INTEGRATION: usize = 64;

/// Of these so many begin at a time, each holding the others up for a moment at most: a receiver that answers at once is
/// then told over a few connections, with a few bodies in memory, however many groups come due together.
const DELIVERIES_BEGINNING: usize = 4;

pub(super) fn load(
    options: &Options,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
    tracer: &Tracer,
) -> Result<(String, Loaded), Error> {
    let file = options.config_file.display().to_string();
    let text = match &options.config_text {
        Some(text) => text.clone(),
        None => std::fs::read_to_string(&options.config_file)
            .map_err(|e| ConfigError::Unreadable { file: file.clone(), reason: e.to_string() })?,
    };
    let mut config = Config::parse(&file, &text)?;
    let directory = options.config_file.parent().unwrap_or(Path::new("."));
    config.receivers.iter_mut().for_each(|r| r.set_directory(directory));
    if let Some(events) = &mut config.event_recorder {
        // Without the feature the section has no effect, so there is nothing to refuse.
        if options.has_feature(EVENT_RECORDER) && !events.kafka_outputs.is_empty() {
            return Err(ConfigError::Kafka { file }.into());
        }
        events.set_directory(directory);
    }
    if let Some(tracing) = &mut config.tracing {
        tracing.set_directory(directory);
        Tracer::check(&tracing.options())?;
    }
    let templates = TemplateSet::load(&config.templates, directory, clock.clone())?;
    let mut permits = HashMap::new();
    for i in config.receivers.iter().flat_map(|r| crate::core::plan(r).integrations) {
        let running = Semaphore::new(DELIVERIES_PER_INTEGRATION);
        let new = Permits { running, beginning: Semaphore::new(DELIVERIES_BEGINNING) };
        permits.insert((i.receiver.clone(), i.name(), i.index), Arc::new(new));
    }
    let context = Context {
        templates,
        external_url: options.external_url.trim_end_matches('/').into(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        tracer: tracer.clone(),
        seed: if options.seed == 0 { fastrand::u64(..) } else { options.seed },
    };
    Ok((text, Loaded { config, context, clients: Clients::default(), permits }))
}

impl Alertmanager {
    /// Reads configuration and templates again. A file that is refused changes nothing.
    pub fn reload(&self) -> Result<(), Error> {
        match load(&self.options, &self.clock, &self.metrics, &self.tracer) {
            Ok((text, loaded)) => {
                self.core().apply(&loaded.config, self.now());
                self.recorder.configure(&loaded.config.event_recorder.clone().unwrap_or_default());
                self.loaded.store(Arc::new(loaded));
                self.trace();
                self.reloaded(&text, true);
                self.wake.notify_one();
                Ok(())
            }
            Err(e) => {
                self.reloaded("", false);
                Err(e)
            }
        }
    }

    /// Sends spans where the configuration says.
    pub(super) fn trace(&self) {
        let options = self.loaded().config.tracing.as_ref().map(|t| t.options());
        if let Err(error) = self.tracer.configure(options.as_ref()) {
            tracing::error!(%error, "Spans are not sent"); // it was checked when it was loaded
        }
    }

    pub(super) fn reloaded(&self, text: &str, is_ok: bool) {
        self.metrics.reload_successful.set(if is_ok { 1.0 } else { 0.0 });
        if is_ok {
            self.metrics.reload_success_time.set(self.clock.now_ms() as f64 / 1000.0);
            // Upstream shows six bytes of a digest as a number: any change of the file changes it.
            let digest = <sha2::Sha256 as sha2::Digest>::digest(text.as_bytes());
            let hash = digest.iter().take(6).rev().fold(0u64, |n, b| (n << 8) | u64::from(*b));
            self.metrics.config_hash.set(hash as f64);
        }
    }
}
