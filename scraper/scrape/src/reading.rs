//! One scrape on its way from wire to store, carried from one blocking step to the next while the body still comes.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferula_exposition::parse::{ParseError, Syntax};
use ferula_model::Charge;
use ferula_net::client::Inflow;

use crate::error::{ScrapeError, shown};
use crate::fetch::{Form, Wire};
use crate::ingest::{Batch, Counts, Pass, Piece, State};
use crate::job::Job;
use crate::manager::Context;
use crate::report::Report;
use crate::scrape_loop::{Health, Shared};
use crate::target::Target;

/// Uncompressed bytes looked at in one go: enough to be cheap, little enough to stay in a core's cache.
const WINDOW_BYTES: usize = 128 << 10;

pub(crate) struct Reading {
    job: Arc<Job>,
    target: Arc<Target>,
    t_ms: i64,
    started: Duration,
    expected_bytes: u64,
    batch: Option<Batch>,
    body: Option<Body>,
}

struct Body {
    inflow: Inflow,
    form: Form,
    /// What the batch holds, under the same budget as the bytes it came from.
    charge: Charge,
    /// Do not look again before so much waits: a long line is read once, not once per window.
    window_bytes: usize,
}

impl Reading {
    /// `expected_bytes`: how long the body was last time.
    pub(crate) fn new(
        job: Arc<Job>,
        target: Arc<Target>,
        t_ms: i64,
        started: Duration,
        expected_bytes: u64,
    ) -> Reading {
        Reading { job, target, t_ms, started, expected_bytes, batch: None, body: None }
    }

    /// Reads what came. Once the body is complete or has failed, ends the scrape and returns the body's length.
    pub(crate) fn step(
        &mut self,
        state: &mut State,
        shared: &Shared,
        context: &Context,
        wire: Result<(Wire, Form), ScrapeError>,
    ) -> Option<u64> {
        let (job, target) = (Arc::clone(&self.job), Arc::clone(&self.target));
        let pass = context.pass(&job, &target, self.t_ms);
        let mut families = shared.families();
        let mut batch = match self.batch.take() {
            Some(batch) => batch,
            None => state.begin(&mut families, context.store.as_ref(), &pass),
        };
        let read = wire.and_then(|(wire, form)| {
            let body = match &mut self.body {
                Some(body) => body,
                None => self.body.insert(Body::new(form, self.expected_bytes)?),
            };
            for chunk in &wire.chunks {
                for piece in body.pieces(chunk) {
                    body.inflow.push(piece)?;
                    if body.inflow.bytes().len() >= body.window_bytes {
                        body.read(state, &mut families, &mut batch, &pass, false)?;
                    }
                }
            }
            if wire.is_last {
                body.inflow.finish()?;
                body.read(state, &mut families, &mut batch, &pass, true)?;
            }
            Ok(wire.is_last)
        });
        let body_bytes = self.body.as_ref().map_or(0, |b| b.inflow.total_bytes());
        let result = match read {
            Ok(false) => {
                self.batch = Some(batch);
                return None;
            }
            Ok(true) => Ok(body_bytes),
            Err(e) => Err(e),
        };
        let reported_bytes = match &result {
            Err(e) if e.is_body_size() => {
                context.metrics.exceeded_body_size.inc();
                -1
            }
            _ => i64::try_from(body_bytes).unwrap_or(i64::MAX),
        };
        let mut duration = Duration::ZERO;
        let finish = |counts: Counts, error: Option<&ScrapeError>| {
            duration = context.clock.monotonic().saturating_sub(self.started);
            Report {
                is_up: error.is_none(),
                duration_seconds: duration.as_secs_f64(),
                scraped: counts.scraped,
                post_relabel: counts.post_relabel,
                added: counts.added,
                timeout_seconds: target.timeout.ms() as f64 / 1000.0,
                sample_limit: job.config.sample_limit,
                body_bytes: reported_bytes,
            }
        };
        let (error, committed) = state.end(&mut families, context.store.as_ref(), &pass, batch, result, finish);
        drop(families);
        match committed {
            Ok(stats) => context.metrics.exemplar_out_of_order.inc_by(stats.exemplars_out_of_order),
            Err(e) => tracing::error!(error = %e, target = %target.url_text, "Scrape commit failed"),
        }
        let mut status = shared.status();
        status.health = if error.is_none() { Health::Up } else { Health::Down };
        status.last_error = error.as_ref().map(shown).unwrap_or_default();
        status.last_scrape_ms = Some(self.t_ms);
        status.last_duration = duration;
        status.series = state.account.held();
        status.series_refused = state.account.refused;
        status.refused_examples.clone_from(&state.account.examples);
        if let Some(e) = &error {
            tracing::debug!(target = %target.url_text, error = %shown(e), "Scrape failed");
            job.log_failure(&target, self.t_ms, &shown(e));
        }
        Some(body_bytes)
    }

    /// The target leaves or the server stops in the middle of the body.
    pub(crate) fn abandon(&mut self, state: &mut State) {
        if let Some(batch) = self.batch.take() {
            state.abandon(batch);
        }
    }
}

impl Body {
    fn new(form: Form, expected_bytes: u64) -> Result<Body, ScrapeError> {
        // A little more than last time, for numbers grow.
        let expected = usize::try_from(expected_bytes + expected_bytes / 16).unwrap_or(usize::MAX);
        let inflow = Inflow::new(form.limits.clone(), form.is_gzip, expected.min(WINDOW_BYTES + WINDOW_BYTES / 2))?;
        let charge = form.limits.budget.charge(0).map_err(|e| ScrapeError::Http(e.into()))?;
        Ok(Body { inflow, form, charge, window_bytes: WINDOW_BYTES })
    }

    /// Of a compressed chunk little at a time, lest it be a bomb.
    fn pieces(&self, chunk: &Bytes) -> impl Iterator<Item = Bytes> + use<> {
        let (chunk, len) = (chunk.clone(), chunk.len());
        let step = if self.form.is_gzip { Inflow::PUSH_BYTES } else { len.max(1) };
        (0..len).step_by(step).map(move |from| chunk.slice(from..len.min(from + step)))
    }

    /// Reads what is whole of what waits.
    fn read(
        &mut self,
        state: &mut State,
        families: &mut crate::metadata::Families,
        batch: &mut Batch,
        pass: &Pass<'_>,
        is_last: bool,
    ) -> Result<(), ScrapeError> {
        let waiting = self.inflow.bytes();
        if waiting.is_empty() && self.inflow.total_bytes() == 0 {
            return Ok(()); // nothing at all is no error, whatever it claims to be
        }
        let syntax = self.form.syntax.clone()?;
        let end = match syntax {
            _ if is_last => waiting.len(),
            Syntax::Protobuf => waiting.len(),
            _ => memchr::memrchr(b'\n', waiting).map_or(0, |i| i + 1),
        };
        let bytes = waiting.get(..end).unwrap_or_default();
        let read = state.read(families, batch, pass, Piece { bytes, syntax, is_last })?;
        let left = waiting.len() - read;
        if syntax != Syntax::Protobuf && left > pass.limits.line_bytes_max {
            let max = pass.limits.line_bytes_max;
            return Err(ParseError {
                line: batch.lines() + 1,
                reason: format!("line exceeds the limit of {max} bytes"),
            }
            .into());
        }
        self.inflow.consume(read);
        self.window_bytes = WINDOW_BYTES.max((left * 2).min(pass.limits.line_bytes_max + WINDOW_BYTES));
        let held = batch.bytes().saturating_sub(self.charge.bytes());
        self.charge.grow(held).map_err(|e| ScrapeError::Http(e.into()))
    }
}
