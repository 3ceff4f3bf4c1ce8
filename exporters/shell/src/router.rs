//! The routes every exporter has: the metrics path and a landing page.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::any;
use ferula_exposition::family::{Family, sort_and_merge};
use ferula_instrument::{CounterVec, Gauge, Registry, register_process};
use http::{HeaderMap, StatusCode};

use crate::collector::{CollectError, Collector};
use crate::page;
use crate::scrape::{Outcome, Slot, scrape};

#[derive(Clone, Debug)]
pub struct Options {
    /// Prefix of `<namespace>_scrape_collector_*`, such as `node`.
    pub namespace: &'static str,
    /// What HELP texts and errors call the program, such as `node_exporter`.
    pub program: &'static str,
    /// Heading of the landing page.
    pub title: &'static str,
    /// Shown on the landing page.
    pub version: String,
    pub metrics_path: String,
    /// Concurrent scrapes, more get 503; 0 means no limit.
    pub requests_max: usize,
    /// How long one collector may take.
    pub deadline: Duration,
    /// Leaves `process_*` and `promhttp_*` out.
    pub disable_exporter_metrics: bool,
}

/// Collectors, registry and options; becomes a router.
pub struct Exporter {
    options: Options,
    registry: Registry,
    slots: Vec<Arc<Slot>>,
    in_flight: AtomicUsize,
    requests: CounterVec,
    in_flight_gauge: Gauge,
}

impl Exporter {
    /// `registry` holds what is on the page besides the collectors' families (build info, counters of the program).
    pub fn new(options: Options, registry: Registry) -> Exporter {
        // Without exporter metrics these count in a registry that nobody asks.
        let own = if options.disable_exporter_metrics { Registry::new() } else { registry.clone() };
        let help = "Total number of scrapes by HTTP status code.";
        let requests = own.counter_vec("promhttp_metric_handler_requests_total", help, &["code"]);
        for code in ["200", "500", "503"] {
            requests.with(&[code]);
        }
        let help = "Current number of scrapes being served.";
        let in_flight_gauge = own.gauge("promhttp_metric_handler_requests_in_flight", help);
        let help = "Total number of internal errors encountered by the promhttp metric handler.";
        let errors = own.counter_vec("promhttp_metric_handler_errors_total", help, &["cause"]);
        errors.with(&["encoding"]);
        errors.with(&["gathering"]);
        register_process(&own);
        let in_flight = AtomicUsize::new(0);
        Exporter { options, registry, slots: Vec::new(), in_flight, requests, in_flight_gauge }
    }

    pub fn collector(&mut self, collector: Box<dyn Collector>) {
        self.slots.push(Slot::new(collector));
    }

    pub fn router(self) -> Router {
        let exporter = Arc::new(self);
        let path = exporter.options.metrics_path.clone();
        let mut router = Router::new().route(&path, any(metrics));
        if path != "/" {
            router = router.route("/", any(landing));
        }
        router.fallback(not_found).with_state(exporter)
    }

    /// The collectors a query asks for, or the error to answer.
    fn select(&self, query: &str) -> Result<Vec<Arc<Slot>>, String> {
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        for (key, value) in form_urlencoded::parse(query.as_bytes()).take(1000) {
            match &*key {
                "collect[]" => wanted.push(value.into_owned()),
                "exclude[]" => unwanted.push(value.into_owned()),
                _ => {}
            }
        }
        if !wanted.is_empty() && !unwanted.is_empty() {
            return Err("Combined collect and exclude queries are not allowed.".to_owned());
        }
        if let Some(name) = wanted.iter().find(|w| !self.slots.iter().any(|s| s.collector.name() == *w)) {
            let what = "Couldn't create filtered metrics handler: couldn't create collector: missing collector";
            return Err(format!("{what}: {name}"));
        }
        let keep = |s: &&Arc<Slot>| {
            let name = s.collector.name();
            (wanted.is_empty() || wanted.iter().any(|w| w == name)) && !unwanted.iter().any(|u| u == name)
        };
        Ok(self.slots.iter().filter(keep).cloned().collect())
    }

    /// One scrape as sorted families.
    async fn gather(&self, slots: Vec<Arc<Slot>>) -> Vec<Family> {
        let mut families = Vec::new();
        let outcomes = scrape(slots, self.options.deadline, &mut families).await;
        families.extend(self.report(&outcomes));
        families.extend(self.registry.gather());
        sort_and_merge(families)
    }

    fn report(&self, outcomes: &[Outcome]) -> [Family; 2] {
        let Options { namespace, program, .. } = self.options;
        let mut duration = Family::gauge(
            format!("{namespace}_scrape_collector_duration_seconds"),
            format!("{program}: Duration of a collector scrape."),
        );
        let mut success = Family::gauge(
            format!("{namespace}_scrape_collector_success"),
            format!("{program}: Whether a collector succeeded."),
        );
        for o in outcomes {
            let seconds = o.duration.as_secs_f64();
            match &o.result {
                Ok(()) => tracing::debug!(name = o.name, duration_seconds = seconds, "collector succeeded"),
                Err(CollectError::NoData) => {
                    tracing::debug!(name = o.name, duration_seconds = seconds, "collector returned no data")
                }
                Err(CollectError::Failed(err)) => {
                    tracing::error!(name = o.name, duration_seconds = seconds, err, "collector failed")
                }
            }
            duration.push_with([("collector", o.name.into())], seconds);
            success.push_with([("collector", o.name.into())], f64::from(u8::from(o.result.is_ok())));
        }
        [duration, success]
    }
}

/// Counts a request as long as it is served.
struct InFlight<'a>(&'a Exporter);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.0.in_flight_gauge.dec();
    }
}

async fn metrics(State(exporter): State<Arc<Exporter>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let before = exporter.in_flight.fetch_add(1, Ordering::AcqRel);
    exporter.in_flight_gauge.inc();
    let _in_flight = InFlight(&exporter);
    let limit = exporter.options.requests_max;
    if limit > 0 && before >= limit {
        exporter.requests.with(&["503"]).inc();
        let text = format!("Limit of concurrent requests reached ({limit}), try again later.\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    match exporter.select(query.as_deref().unwrap_or("")) {
        Ok(slots) => {
            let families = exporter.gather(slots).await;
            exporter.requests.with(&["200"]).inc();
            page::respond(&headers, &families)
        }
        Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}

async fn landing(State(exporter): State<Arc<Exporter>>) -> Html<String> {
    let Options { title, version, metrics_path, .. } = &exporter.options;
    let (version, metrics_path) = (escape_html(version), escape_html(metrics_path));
    Html(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n<body>\n\
         <h1>{title}</h1>\n<p>Version: {version}</p>\n<ul>\n<li><a href=\"{metrics_path}\">Metrics</a></li>\n</ul>\n\
         </body>\n</html>\n"
    ))
}

/// For text and attribute values that come from flags.
fn escape_html(s: &str) -> String {
    s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "404 page not found\n")
}
