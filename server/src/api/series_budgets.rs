//! Series budgets: how they stand, and which targets bring more than fits. Not known upstream.
use std::sync::Arc;

use axum::extract::State;
use ferula_scraper_scrape::{PoolSnapshot, SeriesBudget};

use super::HandlerResult;
use super::answer::Answer;
use super::json::Json;
use crate::app::App;

/// Offenders listed per job, those with the most refusals first.
const OFFENDERS_MAX: usize = 20;

/// `GET /api/v1/status/series_budgets`
///
/// ```text
///  {"server": {"limit": 0, "series": 7, "refusedTotal": 0},          limit 0 is none
///   "jobs": [{"job": "a", "limit": ..., "series": ..., "refusedTotal": ..., "targetLimit": ...,
///             "offenders": [{"labels": {...}, "scrapeUrl": "...", "series": ..., "refused": ..., "examples": ["..."]}]}]}
/// ```
pub(super) async fn series_budgets(State(app): State<Arc<App>>) -> HandlerResult {
    let components = app.components()?;
    let mut j = Json::new();
    j.raw("{\"server\":{");
    budget(&mut j, &components.scrape.series_budget());
    j.raw("},\"jobs\":[");
    let mut first = true;
    for pool in components.scrape.targets() {
        job(j.separate(&mut first), &pool);
    }
    j.raw("]}");
    Ok(Answer::json(j.into_bytes()))
}

fn budget(j: &mut Json, b: &SeriesBudget) {
    j.raw("\"limit\":").integer(b.max).raw(",\"series\":").integer(b.held);
    j.raw(",\"refusedTotal\":").integer(b.refused_total);
}

fn job(j: &mut Json, pool: &PoolSnapshot) {
    j.raw("{\"job\":").string(&pool.name).raw(",");
    budget(j, &pool.series);
    j.raw(",\"targetLimit\":").integer(pool.target_series_max).raw(",\"offenders\":[");
    let mut offenders: Vec<_> = pool.active.iter().filter(|t| t.series_refused > 0).collect();
    offenders.sort_by_key(|t| std::cmp::Reverse(t.series_refused));
    let mut first = true;
    for t in offenders.into_iter().take(OFFENDERS_MAX) {
        j.separate(&mut first).raw("{\"labels\":").labels(&t.labels);
        j.raw(",\"scrapeUrl\":").string(&t.scrape_url).raw(",\"series\":").integer(t.series);
        j.raw(",\"refused\":").integer(t.series_refused).raw(",\"examples\":[");
        let mut first = true;
        for example in &t.refused_examples {
            j.separate(&mut first).string(example);
        }
        j.raw("]}");
    }
    j.raw("]}");
}
