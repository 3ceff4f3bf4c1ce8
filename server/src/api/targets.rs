//! Scrape targets and the metadata of what they expose.
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use ferula_model::{LabelView, Labels, Matcher, Metadata};
use ferula_net::listen::Params;
use ferula_scraper_scrape::{PoolSnapshot, TargetSnapshot};
use url::{Host, Url};

use super::answer::{Answer, ApiError};
use super::json::Json;
use super::{Form, HandlerResult, time};
use crate::app::App;
use crate::notifier::rfc3339;

/// How Go prints a time that never was.
pub(super) const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) fn time_text(t_ms: Option<i64>) -> String {
    t_ms.map_or_else(|| NEVER.to_owned(), rfc3339)
}

pub(super) async fn scrape_pools(State(app): State<Arc<App>>) -> HandlerResult {
    let components = app.components()?;
    let mut j = Json::new();
    let mut first = true;
    j.raw("{\"scrapePools\":[");
    for pool in components.scrape.targets() {
        j.separate(&mut first).string(&pool.name);
    }
    j.raw("]}");
    Ok(Answer::json(j.into_bytes()))
}

pub(super) async fn targets(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    let components = app.components()?;
    let state = params.get("state").to_lowercase();
    let wants = |what: &str| matches!(state.as_str(), "" | "any") || state == what;
    let only = params.get("scrapePool");
    let pools: Vec<PoolSnapshot> =
        components.scrape.targets().into_iter().filter(|p| only.is_empty() || p.name == only).collect();
    let outside = Outside::of(&app);
    let mut j = Json::new();
    let mut first = true;
    j.raw("{\"activeTargets\":[");
    if wants("active") {
        for target in pools.iter().flat_map(|p| &p.active) {
            active(j.separate(&mut first), target, &outside);
        }
    }
    let mut first = true;
    j.raw("],\"droppedTargets\":[");
    if wants("dropped") {
        for (pool, labels) in pools.iter().flat_map(|p| p.dropped.iter().map(move |l| (p, l))) {
            j.separate(&mut first).raw("{\"discoveredLabels\":").labels(labels);
            j.raw(",\"scrapePool\":").string(&pool.name).raw("}");
        }
    }
    let mut first = true;
    j.raw("],\"droppedTargetCounts\":");
    if wants("dropped") {
        j.raw("{");
        for pool in &pools {
            j.separate(&mut first).string(&pool.name).raw(":").integer(pool.dropped_count);
        }
        j.raw("}}");
    } else {
        j.raw("null}");
    }
    Ok(Answer::json(j.into_bytes()))
}

fn active(j: &mut Json, t: &TargetSnapshot, outside: &Outside) {
    j.raw("{\"discoveredLabels\":").labels(&t.discovered_labels).raw(",\"labels\":").labels(&t.labels);
    j.raw(",\"scrapePool\":").string(&t.scrape_pool).raw(",\"scrapeUrl\":").string(&t.scrape_url);
    j.raw(",\"globalUrl\":").string(&outside.url(&t.scrape_url)).raw(",\"lastError\":").string(&t.last_error);
    j.raw(",\"lastScrape\":").string(&time_text(t.last_scrape_ms));
    j.raw(",\"lastScrapeDuration\":").raw(&t.last_scrape_duration.as_secs_f64().to_string());
    j.raw(",\"health\":").string(t.health.as_str());
    j.raw(",\"scrapeInterval\":").string(&t.scrape_interval.to_string());
    j.raw(",\"scrapeTimeout\":").string(&t.scrape_timeout.to_string()).raw("}");
}

/// How this machine is reached from elsewhere.
struct Outside {
    external: Option<Url>,
    own_ports: Vec<u16>,
}

impl Outside {
    fn of(app: &App) -> Outside {
        let own_ports = app.own_ports.get().cloned().unwrap_or_default();
        Outside { external: Url::parse(&app.options.external_url).ok(), own_ports }
    }

    /// A URL on localhost as others would have to write it.
    fn url(&self, scrape_url: &str) -> String {
        let (Ok(mut url), Some(external)) = (Url::parse(scrape_url), &self.external) else {
            return scrape_url.to_owned();
        };
        let is_local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip == std::net::Ipv4Addr::LOCALHOST,
            Some(Host::Ipv6(ip)) => ip == std::net::Ipv6Addr::LOCALHOST,
            None => false,
        };
        if !is_local {
            return scrape_url.to_owned();
        }
        // A setter fails only where a URL cannot have the part, and then the URL stays as it was.
        let is_self = url.port_or_known_default().is_some_and(|p| self.own_ports.contains(&p));
        let _ = url.set_host(external.host_str());
        if is_self {
            let _ = url.set_scheme(external.scheme());
            let _ = url.set_port(external.port());
        }
        url.to_string()
    }
}

fn number(params: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    match params.get(name) {
        "" => Ok(None),
        text => match time::atoi(text) {
            Ok(n) => Ok(usize::try_from(n).ok()), // negative means no limit
            Err(_) => Err(ApiError::bad_data(format_args!("{name} must be a number"))),
        },
    }
}

fn described(j: &mut Json, m: &Metadata) {
    j.raw("{\"type\":").string(m.metric_type.as_str()).raw(",\"unit\":").string(&m.unit);
    j.raw(",\"help\":").string(&m.help).raw("}");
}

pub(super) async fn metadata(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    let components = app.components()?;
    let limit = number(&params, "limit")?.unwrap_or(usize::MAX);
    let per_metric = number(&params, "limit_per_metric")?.filter(|n| *n > 0).unwrap_or(usize::MAX);
    let only = params.get("metric").to_owned();
    let scrape = Arc::clone(&components.scrape);
    let context = app.query_context(None);
    let listed = app.pool.run(&context, move |_| {
        let mut found: BTreeMap<String, Vec<Metadata>> = BTreeMap::new();
        scrape.for_each_family(&mut |_, name, metadata| {
            if !only.is_empty() && name != only {
                return;
            }
            if !found.contains_key(name) {
                found.insert(name.to_owned(), Vec::new());
            }
            if let Some(list) = found.get_mut(name)
                && list.len() < per_metric
                && !list.contains(metadata)
            {
                list.push(metadata.clone());
            }
        });
        let mut j = Json::new();
        let mut first = true;
        j.raw("{");
        for (name, list) in found.iter().take(limit) {
            let mut first_of_metric = true;
            j.separate(&mut first).string(name).raw(":[");
            for m in list {
                described(j.separate(&mut first_of_metric), m);
            }
            j.raw("]");
        }
        j.raw("}");
        j.into_bytes()
    });
    Ok(Answer::json(listed.await.map_err(ApiError::from)?))
}

pub(super) async fn targets_metadata(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    let components = app.components()?;
    let limit = number(&params, "limit")?.unwrap_or(usize::MAX);
    let matchers = match params.get("match_target") {
        "" => Vec::new(),
        text => {
            ferula_promql_parser::parse_metric_selector(text).map_err(|e| ApiError::parameter("match_target", e))?
        }
    };
    let only = params.get("metric").to_owned();
    let scrape = Arc::clone(&components.scrape);
    let context = app.query_context(None);
    let listed = app.pool.run(&context, move |_| {
        let mut j = Json::new();
        let (mut first, mut n) = (true, 0);
        j.raw("[");
        scrape.for_each_family(&mut |labels, name, m| {
            if n >= limit || !fits(labels, &matchers) || (!only.is_empty() && name != only) {
                return;
            }
            n += 1;
            j.separate(&mut first).raw("{\"target\":").labels(labels);
            if only.is_empty() {
                j.raw(",\"metric\":").string(name);
            }
            j.raw(",\"type\":").string(m.metric_type.as_str()).raw(",\"help\":").string(&m.help);
            j.raw(",\"unit\":").string(&m.unit).raw("}");
        });
        j.raw("]");
        j.into_bytes()
    });
    Ok(Answer::json(listed.await.map_err(ApiError::from)?))
}

pub(super) fn fits(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|m| m.matches(LabelView::get(labels, &m.name).unwrap_or("")))
}
