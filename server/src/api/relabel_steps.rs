//! What each relabelling rule of a job makes of a target, and the configuration of a job: for those who write rules.
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use ferula_model::{Labels, LabelsBuilder};
use ferula_scraper_scrape::config::{RelabelConfig, ScrapeConfig};

use super::answer::{Answer, ApiError};
use super::json::Json;
use super::{Form, HandlerResult};
use crate::app::App;

fn pool(app: &App, name: &str) -> Result<ScrapeConfig, super::Failure> {
    if name.is_empty() {
        return Err(ApiError::bad_data("no scrapePool parameter provided").into());
    }
    let found = app.components()?.scrape.config(name);
    found.ok_or_else(|| ApiError::bad_data(format_args!("scrape pool {name:?} not found")).into())
}

/// `GET /targets/relabel_steps?scrapePool=<job>&labels=<JSON map>`
pub(super) async fn relabel_steps(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    let config = pool(&app, params.get("scrapePool"))?;
    let text = params.get("labels");
    if text.is_empty() {
        return Err(ApiError::bad_data("no labels parameter provided").into());
    }
    let labels: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|e| ApiError::bad_data(format_args!("error parsing labels: {e}")))?;
    let rules = config.relabel_rules().map_err(ApiError::internal)?;
    let mut b = LabelsBuilder::from_view(&Labels::from_pairs(&labels));
    let mut j = Json::new();
    let (mut first, mut keep) = (true, true);
    j.raw("{\"steps\":[");
    for (written, rule) in config.relabel_configs.iter().flatten().zip(&rules) {
        // After a rule that drops, the others have nothing to work on.
        keep = keep && rule.apply(&mut b);
        let output = if keep { b.labels() } else { Labels::empty() };
        described(j.separate(&mut first).raw("{\"rule\":"), written);
        j.raw(",\"output\":").labels(&output).raw(",\"keep\":").raw(if keep { "true" } else { "false" }).raw("}");
    }
    j.raw("]}");
    Ok(Answer::json(j.into_bytes()))
}

fn described(j: &mut Json, rule: &RelabelConfig) {
    let mut first = true;
    j.raw("{");
    if !rule.source_labels.is_empty() {
        let mut first_name = true;
        j.separate(&mut first).raw("\"sourceLabels\":[");
        for name in &rule.source_labels {
            j.separate(&mut first_name).string(name);
        }
        j.raw("]");
    }
    for (name, value) in [
        ("separator", &rule.separator),
        ("regex", &rule.regex),
        ("targetLabel", &rule.target_label),
        ("replacement", &rule.replacement),
        ("action", &rule.action),
    ] {
        if !value.is_empty() {
            j.separate(&mut first).string(name).raw(":").string(value);
        }
    }
    if rule.modulus > 0 {
        j.separate(&mut first).raw("\"modulus\":").integer(rule.modulus);
    }
    j.raw("}");
}

/// `GET /scrape_pools/config?scrapePool=<job>`: the job as it runs, secrets hidden.
pub(super) async fn pool_config(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    let config = pool(&app, params.get("scrapePool"))?;
    let yaml = ferula_yaml::to_string(&config).map_err(ApiError::internal)?;
    let mut j = Json::new();
    j.raw("{\"yaml\":").string(&yaml).raw("}");
    Ok(Answer::json(j.into_bytes()))
}
