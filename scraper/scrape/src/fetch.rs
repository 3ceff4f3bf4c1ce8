//! The asynchronous half of a scrape: one GET within the target's timeout, its body as it comes.
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use ferula_exposition::parse::{Syntax, negotiate};
use ferula_model::{Budget, Charge};
use ferula_net::client::{BodyLimits, Request, Response};
use http::StatusCode;
use tokio::time::Instant;

use crate::error::ScrapeError;
use crate::job::Job;
use crate::target::Target;

/// A body on its way: status and headers were good.
pub(crate) struct Incoming {
    response: Response,
    url: String,
    form: Form,
    deadline: Instant,
    /// The deadline moves by the time this side took, but not for ever.
    last_deadline: Instant,
}

/// What a body's bytes mean.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub is_gzip: bool,
    /// Or why it cannot be read, which matters only if it is not empty.
    pub syntax: Result<Syntax, ScrapeError>,
    pub limits: BodyLimits,
}

/// Some bytes as they came over the wire, and what they hold of the budget.
pub(crate) struct Wire {
    pub chunks: Vec<Bytes>,
    /// Nothing comes after these.
    pub is_last: bool,
    _charge: Charge,
}

/// As much as is gathered before it is looked at: most bodies are complete by then, and read in one step. A step over
/// so much holds up the other targets of its thread for a millisecond or two.
const WIRE_BYTES: usize = 512 << 10;
/// The same, compressed.
const GZIP_WIRE_BYTES: usize = 64 << 10;

/// What one scrape may hold of what all may, so that a target without end leaves room for the others: two million samples and
/// more, or a line of the longest kind.
fn share(limit_bytes: u64) -> u64 {
    (limit_bytes / 4).max(64 << 20).min(limit_bytes / 8 * 7)
}

/// Asks `target`. Dropping the future closes the connection.
pub(crate) async fn fetch(job: &Job, target: &Target, budget: &Budget) -> Result<Incoming, ScrapeError> {
    let mut request = Request::get(target.url.clone());
    request.headers = job.headers_for(target);
    request.unix_socket.clone_from(&target.unix_socket);
    let budget = budget.child("one scrape", share(budget.limit_bytes()));
    let limits = BodyLimits { bytes_max: job.config.body_size_limit.0, budget };
    let (url, timeout) = (target.url_text.clone(), target.timeout.std());
    let mut deadline = Instant::now() + timeout;
    let last_deadline = deadline + timeout;
    let response = within(&mut deadline, last_deadline, &url, async { Ok(job.client.send(request).await?) }).await?;
    if response.status != StatusCode::OK {
        return Err(ScrapeError::Status(response.status));
    }
    let syntax = match negotiate(response.content_type(), job.fallback) {
        Ok(n) => {
            if let Some(warning) = n.warning {
                tracing::debug!(target = %url, "{warning}");
            }
            Ok(n.syntax)
        }
        Err(e) => Err(e.into()),
    };
    let is_gzip = response.is_gzip();
    Ok(Incoming { response, url, form: Form { is_gzip, syntax, limits }, deadline, last_deadline })
}

impl Incoming {
    /// The next bytes: all of a small body, a good piece of a large one.
    pub(crate) async fn gather(&mut self) -> Result<Wire, ScrapeError> {
        let mut wire =
            Wire { chunks: Vec::new(), is_last: false, _charge: self.form.limits.budget.charge(0).map_err(spent)? };
        let mut bytes = 0;
        let enough = if self.form.is_gzip { GZIP_WIRE_BYTES } else { WIRE_BYTES };
        while bytes < enough {
            let next = async { Ok(self.response.chunk().await?) };
            let chunk = within(&mut self.deadline, self.last_deadline, &self.url, next).await?;
            let Some(chunk) = chunk else {
                wire.is_last = true;
                break;
            };
            bytes += chunk.len();
            wire._charge.grow(chunk.len() as u64).map_err(spent)?;
            wire.chunks.push(chunk);
        }
        Ok(wire)
    }

    pub(crate) fn form(&self) -> Form {
        self.form.clone()
    }

    /// The target is not to blame for the time it took to read what it sent.
    pub(crate) fn extend_deadline(&mut self, by: Duration) {
        self.deadline = (self.deadline + by).min(self.last_deadline);
    }
}

fn spent(e: ferula_model::BudgetExceeded) -> ScrapeError {
    ScrapeError::Http(e.into())
}

/// A deadline noticed later than this passed while the thread was busy with another target's body, or stood still.
const LATE: Duration = Duration::from_millis(10);

/// `doing`, until `deadline`. That moves if it was this side that was late, but not past `last`.
async fn within<T>(
    deadline: &mut Instant,
    last: Instant,
    url: &str,
    doing: impl Future<Output = Result<T, ScrapeError>>,
) -> Result<T, ScrapeError> {
    let mut doing = std::pin::pin!(doing);
    loop {
        if let Ok(result) = tokio::time::timeout_at(*deadline, doing.as_mut()).await {
            return result;
        }
        let late = deadline.elapsed();
        if late < LATE || *deadline >= last {
            return Err(ScrapeError::Timeout { url: url.to_owned() });
        }
        *deadline = (*deadline + 2 * late).min(last);
    }
}
