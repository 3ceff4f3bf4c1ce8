//! Taking a configuration over, at the start and whenever it changes: all of it or nothing.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ferula_instrument::Registry;
use ferula_otlp::Tracer;
use ferula_promql_parser::ParseOptions;
use ferula_promql_rules::{GroupConfig, Settings};

use crate::app::CurrentConfig;
use crate::config::{self, Loaded, TracingConfig};
use crate::notifier::discover::Prepared;
use crate::run::Parts;

/// Whether and when the configuration was last taken over.
pub(crate) struct ReloadStatus {
    pub successful: AtomicBool,
    pub success_ms: AtomicU64,
}

impl ReloadStatus {
    pub fn register(registry: &Registry) -> Arc<ReloadStatus> {
        let status = Arc::new(ReloadStatus { successful: AtomicBool::new(false), success_ms: AtomicU64::new(0) });
        let (a, b) = (Arc::clone(&status), Arc::clone(&status));
        registry.gauge_fn(
            "prometheus_config_last_reload_successful",
            "Whether the last configuration reload attempt was successful.",
            move || f64::from(u8::from(a.successful.load(Ordering::Relaxed))),
        );
        registry.gauge_fn(
            "prometheus_config_last_reload_success_timestamp_seconds",
            "Timestamp of the last successful configuration reload.",
            move || b.success_ms.load(Ordering::Relaxed) as f64 / 1000.0,
        );
        status
    }
    pub fn set(&self, successful: bool, now_ms: i64) {
        self.successful.store(successful, Ordering::Relaxed);
        if successful {
            self.success_ms.store(now_ms.unsigned_abs(), Ordering::Relaxed);
        }
    }
}

/// Reads all rule files; the problems of all of them are one error.
fn rule_groups(loaded: &Loaded, options: &ParseOptions) -> Result<Vec<GroupConfig>, String> {
    let (mut groups, mut problems) = (Vec::new(), Vec::new());
    for path in &loaded.rule_files {
        let name = path.display().to_string();
        match config::read(path) {
            Ok(text) => match ferula_promql_rules::file::parse_with(&name, &text, options) {
                Ok(mut more) => groups.append(&mut more),
                Err(errors) => problems.extend(errors.iter().map(ToString::to_string)),
            },
            Err(e) => problems.push(e.to_string()),
        }
    }
    if problems.is_empty() { Ok(groups) } else { Err(problems.join("; ")) }
}

/// Takes a configuration over, all of it or nothing: what can fail is prepared before anything changes.
pub(crate) async fn apply(parts: &mut Parts, loaded: Loaded) -> Result<(), String> {
    if let Some(e) = &loaded.unbuilt {
        return Err(e.to_string());
    }
    let prepared = Prepared::new(&loaded.config)?;
    let groups = rule_groups(&loaded, &parts.parse)?;
    let traces = loaded.config.tracing.as_ref().map(TracingConfig::export_options);
    traces.as_ref().map_or(Ok(()), Tracer::check).map_err(|e| e.to_string())?;
    let global = &loaded.config.global;
    let external_labels = global.external_labels();
    parts.app.query_log.set(&global.query_log_file)?;
    // The last thing that can fail, and it changes nothing when it does.
    parts.scrape.apply(loaded.scrape_configs, &external_labels).map_err(|e| e.to_string())?;
    parts.scrape.set_series_budget(global.series_budget);
    parts.alertmanagers.apply(prepared)?;
    if let Err(e) = parts.db.apply_options(&loaded.config.storage.applied_to(&parts.storage)) {
        tracing::error!(error = %e, "the late window cannot be opened");
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    parts.app.tracer.configure(traces.as_ref()).map_err(|e| e.to_string())?; // was checked above
    parts.engine.set_subquery_step_ms(global.evaluation_interval.ms());
    let settings = Settings {
        interval_ms: global.evaluation_interval.ms(),
        query_offset_ms: global.rule_query_offset.ms(),
        external_labels: external_labels.clone(),
        external_url: parts.app.options.external_url.clone(),
    };
    // A changed group waits for its evaluation to end: not on a thread that serves connections.
    let rules = Arc::clone(&parts.rules);
    let applied = tokio::task::spawn_blocking(move || rules.apply(groups, settings)).await;
    applied.map_err(|e| format!("applying rules: {e}"))?;
    let loaded_ms = parts.app.clock.now_ms();
    parts.app.config.store(Arc::new(CurrentConfig { external_labels, yaml: loaded.yaml, loaded_ms }));
    Ok(())
}

pub(crate) async fn reload(parts: &mut Parts) -> Result<(), String> {
    tracing::info!("Loading configuration file");
    let result = match config::load(&parts.source, &parts.load) {
        Ok(loaded) => apply(parts, loaded).await,
        Err(e) => Err(e.to_string()),
    };
    parts.status.set(result.is_ok(), parts.app.clock.now_ms());
    match &result {
        Ok(()) => tracing::info!("Completed loading of configuration file"),
        Err(e) => tracing::error!(error = e, "Error reloading config"),
    }
    result
}

/// Of the files as they are now; read only where somebody compares it.
pub(crate) async fn checksum(parts: &Parts) -> Result<u64, String> {
    if parts.auto_reload.is_none() {
        return Ok(0);
    }
    let source = parts.source.clone();
    let summed = tokio::task::spawn_blocking(move || config::checksum(&source)).await;
    summed.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}
