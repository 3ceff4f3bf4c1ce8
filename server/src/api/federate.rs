//! `/federate`: the newest sample of each selected series, as an exposition another server can scrape.
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use ferula_exposition::family::{Family, Metric, Text};
use ferula_exposition::write::Format;
use ferula_instrument::{Counter, Registry};
use ferula_model::{Labels, LabelsBuilder, Matcher, is_stale_nan, labels};
use ferula_net::listen::Params;
use ferula_storage::{Column, QueryContext, Queryable, SampleBatch, SelectHints, StorageError};
use http::{HeaderMap, StatusCode, header};

use crate::app::App;

pub(crate) struct FederationMetrics {
    errors: Counter,
}

impl FederationMetrics {
    pub(crate) fn new(registry: &Registry) -> FederationMetrics {
        registry.counter(
            "prometheus_web_federation_warnings_total",
            "Total number of warnings that occurred while sending federation responses.",
        );
        FederationMetrics {
            errors: registry.counter(
                "prometheus_web_federation_errors_total",
                "Total number of errors that occurred while sending federation responses.",
            ),
        }
    }
}

pub(crate) async fn federate(State(app): State<Arc<App>>, headers: HeaderMap, params: Params) -> Response {
    let components = match app.components() {
        Ok(c) => c,
        Err(e) => return e.into_response(),
    };
    let mut sets = Vec::new();
    for text in params.all("match[]") {
        match ferula_promql_parser::parse_metric_selector(text) {
            Ok(set) => sets.push(set),
            Err(e) => return (StatusCode::BAD_REQUEST, format!("{e}\n")).into_response(),
        }
    }
    let now_ms = app.clock.now_ms();
    let lookback_ms = app.limits.lookback_ms;
    let external_labels = app.config().external_labels.clone();
    let context = app.query_context(None);
    let (storage, inner) = (Arc::clone(&components.storage), context.clone());
    let read = app.pool.run(&context, move |_| {
        newest(&inner, storage.as_ref(), &sets, now_ms - lookback_ms + 1, now_ms, &external_labels)
    });
    let families = match read.await {
        Ok(Ok(families)) => families,
        Ok(Err(e)) => {
            app.federation.errors.inc();
            return (StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")).into_response();
        }
        Err(e) => {
            app.federation.errors.inc();
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{e}\n")).into_response();
        }
    };
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let format = Format::negotiate(accept);
    let mut body = Vec::new();
    format.write(&families, &mut body);
    ([(header::CONTENT_TYPE, format.content_type())], body).into_response()
}

/// Families sorted by name. Native histograms have no text form and are left out.
fn newest(
    context: &QueryContext,
    storage: &dyn Queryable,
    sets: &[Vec<Matcher>],
    mint_ms: i64,
    maxt_ms: i64,
    external_labels: &Labels,
) -> Result<Vec<Family>, StorageError> {
    let querier = storage.querier(mint_ms, maxt_ms)?;
    let hints = SelectHints { start_ms: mint_ms, end_ms: maxt_ms, ..SelectHints::default() };
    let mut found: BTreeMap<Labels, (i64, f64)> = BTreeMap::new();
    let mut held = context.budget.charge(0)?;
    let mut batch = SampleBatch::default();
    let mut n = 0u32;
    for set in sets {
        let mut series_set = querier.select(context, true, &hints, set)?;
        while let Some(series) = series_set.next() {
            let mut series = series?;
            n += 1;
            if n.is_multiple_of(1024) {
                context.check()?;
            }
            let mut last = None;
            while series.samples.next_batch(&mut batch)? {
                last = match (&batch.values, batch.t_ms.last()) {
                    (Column::Floats(values), Some(t)) => values.last().map(|v| (*t, *v)),
                    (Column::Histograms(_), Some(_)) => None,
                    (_, None) => last,
                };
            }
            if let Some((t_ms, value)) = last.filter(|(_, v)| !is_stale_nan(*v)) {
                let labels = series.labels.to_labels();
                held.grow(3 * labels.size_bytes() as u64 + 128)?;
                found.insert(labels, (t_ms, value));
            }
        }
    }
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for (series, (t_ms, value)) in found {
        let name = series.metric_name().to_owned();
        if name.is_empty() {
            continue; // the text format has no place for it
        }
        let mut builder = LabelsBuilder::from_view(&series);
        builder.del(labels::METRIC_NAME);
        for (n, v) in external_labels {
            if builder.get(n).is_none() {
                builder.set(n, v);
            }
        }
        let pairs: Vec<(Text, Text)> =
            builder.iter().map(|(n, v)| (Text::from(n.to_owned()), Text::from(v.to_owned()))).collect();
        let mut metric = Metric::number(pairs, value);
        metric.timestamp_ms = Some(t_ms);
        let family = families.entry(name.clone()).or_insert_with(|| Family::unknown(name, ""));
        family.metrics.push(metric);
    }
    Ok(families.into_values().collect())
}
