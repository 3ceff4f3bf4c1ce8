//! The shell around the core's deliveries: tries until one is through, counts, and tells the core how it ended.
use std::sync::Arc;
use std::time::Duration;

use ferula_model::Clock;
use ferula_otlp::{Kind, Tracer};

pub mod data;
pub mod template;

use crate::core::{Delivery, IntegrationKind};
use crate::metrics::Metrics;
use crate::nflog::ReceiverData;
use crate::receiver::http::Clients;
use crate::receiver::{email, service, webhook};
use data::Data;
use template::TemplateSet;

/// Why an attempt failed, as the label of `alertmanager_notifications_failed_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    ClientError,
    AuthError,
    RateLimited,
    ServerError,
    Canceled,
    DeadlineExceeded,
    Other,
}
impl FailureReason {
    pub fn as_str(self) -> &'static str {
        match self {
            FailureReason::ClientError => "clientError",
            FailureReason::AuthError => "authError",
            FailureReason::RateLimited => "rateLimited",
            FailureReason::ServerError => "serverError",
            FailureReason::Canceled => "contextCanceled",
            FailureReason::DeadlineExceeded => "contextDeadlineExceeded",
            FailureReason::Other => "other",
        }
    }
    pub fn of_status(code: u16) -> FailureReason {
        match code {
            401 | 403 => FailureReason::AuthError,
            429 => FailureReason::RateLimited,
            400..=499 => FailureReason::ClientError,
            500..=599 => FailureReason::ServerError,
            _ => FailureReason::Other,
        }
    }
}

/// A failed attempt.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SendError {
    pub reason: FailureReason,
    /// Never holds a secret: addresses are left out.
    pub message: String,
    /// Whether another attempt may succeed.
    pub is_transient: bool,
    /// The receiver asked to be left alone for so long.
    pub retry_after: Option<Duration>,
}

impl SendError {
    pub fn transient(message: impl Into<String>) -> SendError {
        SendError { reason: FailureReason::Other, message: message.into(), is_transient: true, retry_after: None }
    }
    pub fn permanent(reason: FailureReason, message: impl Into<String>) -> SendError {
        SendError { reason, message: message.into(), is_transient: false, retry_after: None }
    }
}

/// What every integration needs to send.
pub struct Context {
    pub templates: TemplateSet,
    pub external_url: Arc<str>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    pub tracer: Tracer,
    pub seed: u64,
}

const BACKOFF_FIRST_MS: f64 = 500.0;
const BACKOFF_MAX_MS: f64 = 60_000.0;

/// The wait before attempt `n + 1` (n from 0): half a second, growing by half, at most a minute, give or take half.
fn backoff(n: u32, random: f64) -> Duration {
    let base = (BACKOFF_FIRST_MS * 1.5f64.powi(n.min(64) as i32)).min(BACKOFF_MAX_MS);
    Duration::from_secs_f64(base * (0.5 + random) / 1000.0)
}

/// How a delivery ended: delivered where there is no error.
#[derive(Debug)]
pub struct Tried {
    pub attempts: u32,
    pub data: ReceiverData,
    pub error: Option<SendError>,
}

/// One attempt, within the delivery's deadline; answers what the receiver said of the message.
pub async fn attempt(context: &Context, clients: &Clients, delivery: &Delivery) -> Result<ReceiverData, SendError> {
    let now = i64::try_from(context.clock.monotonic().as_millis()).unwrap_or(i64::MAX);
    let left = Duration::from_millis(u64::try_from(delivery.deadline_mono_ms.saturating_sub(now)).unwrap_or(0));
    let attempt = async {
        match &delivery.integration.kind {
            IntegrationKind::Webhook(w) => {
                webhook::send(context, clients, w, delivery).await.map(|()| ReceiverData::new())
            }
            IntegrationKind::Email(e) => email::send(context, e, delivery).await.map(|()| ReceiverData::new()),
            IntegrationKind::Service(s) => service::send(context, clients, s, delivery).await,
        }
    };
    tokio::time::timeout(left, attempt).await.unwrap_or_else(|_| {
        Err(SendError {
            reason: FailureReason::DeadlineExceeded,
            message: "no answer before the deadline".to_owned(),
            is_transient: true,
            retry_after: None,
        })
    })
}

/// Tries until it is delivered, hopeless, or out of time.
pub async fn deliver(context: &Context, clients: &Clients, delivery: &Delivery) -> Tried {
    let integration = &delivery.integration;
    let name = integration.name();
    let m = &context.metrics;
    m.notifications.with(&[name]).inc();
    let mut stage = context.tracer.start("notify.RetryStage.Exec", Kind::Internal, delivery.trace);
    stage.set("alerting.group.name", &*integration.receiver);
    stage.set("alerting.integration.name", name);
    stage.set("alerting.alerts.count", delivery.notification.alerts.len());
    let left = || {
        let now = i64::try_from(context.clock.monotonic().as_millis()).unwrap_or(i64::MAX);
        Duration::from_millis(u64::try_from(delivery.deadline_mono_ms.saturating_sub(now)).unwrap_or(0))
    };
    let mut random = fastrand::Rng::with_seed(context.seed ^ delivery.id);
    let mut last: Option<SendError> = None;
    let mut attempts = 0u32;
    loop {
        let started = context.clock.monotonic();
        attempts += 1;
        m.requests.with(&[name]).inc();
        let mut span = context.tracer.start("notify.Integration.Notify", Kind::Client, stage.context());
        span.set("alerting.notify.integration.name", name);
        span.set("alerting.notify.attempt", attempts as usize);
        let result = ferula_otlp::with(span.context(), attempt(context, clients, delivery)).await;
        if let Err(e) = &result {
            span.set("alerting.notify.error.recoverable", e.is_transient);
            span.fail(&e.message);
        }
        drop(span);
        m.latency.with(&[name]).observe_duration(context.clock.monotonic().saturating_sub(started));
        let error = match result {
            Ok(data) => {
                tracing::debug!(receiver = &*integration.receiver, integration = name, attempts, "Notify success");
                return Tried { attempts, data, error: None };
            }
            Err(e) => e,
        };
        m.requests_failed.with(&[name]).inc();
        let wait = backoff(attempts - 1, random.f64()).max(error.retry_after.unwrap_or_default());
        if attempts == 1 && error.is_transient {
            tracing::warn!(
                receiver = &*integration.receiver,
                integration = name,
                group = &*delivery.notification.group_key,
                error = error.message,
                "Notify attempt failed, will retry later"
            );
        }
        let is_over = !error.is_transient || wait >= left();
        last = Some(match last {
            // Running out of time says less than what went wrong before.
            Some(earlier) if error.reason == FailureReason::DeadlineExceeded => earlier,
            _ => error,
        });
        if is_over {
            break;
        }
        tokio::time::sleep(wait).await;
    }
    if let Some(error) = &last {
        stage.fail(&error.message);
        m.notifications_failed.with(&[name, error.reason.as_str()]).inc();
        tracing::error!(
            receiver = &*integration.receiver,
            integration = name,
            group = &*delivery.notification.group_key,
            attempts,
            error = error.message,
            "Notify for alerts failed"
        );
    }
    Tried { attempts, data: ReceiverData::new(), error: last }
}

impl Context {
    /// The data of a delivery with its route labels rendered, and the templates bound to it.
    pub fn bind(
        &self,
        delivery: &Delivery,
        alerts_max: u64,
    ) -> (Data, usize, Result<template::Bound, ferula_template::Error>) {
        let (mut data, left_out) = Data::new(&delivery.notification, &self.external_url, alerts_max);
        let bound = self.templates.bind(&mut data, &delivery.notification.route_labels);
        (data, left_out, bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_grows_to_a_minute_and_jitters() {
        let ms = |n, r| backoff(n, r).as_millis();
        assert_eq!((ms(0, 0.5), ms(1, 0.5), ms(2, 0.5)), (500, 750, 1125));
        assert_eq!((ms(0, 0.0), ms(0, 0.999)), (250, 749));
        assert_eq!((ms(40, 0.5), ms(u32::MAX, 0.5)), (60_000, 60_000));
    }

    #[test]
    fn reasons_by_status() {
        for (code, want) in [
            (400, "clientError"),
            (401, "authError"),
            (403, "authError"),
            (429, "rateLimited"),
            (503, "serverError"),
            (302, "other"),
        ] {
            assert_eq!(FailureReason::of_status(code).as_str(), want);
        }
    }
}
