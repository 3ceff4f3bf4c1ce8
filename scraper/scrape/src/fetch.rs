//! The asynchronous half of a scrape: one GET within the target's timeout.
use ferula_exposition::parse::{Syntax, negotiate};
use ferula_model::Budget;
use ferula_net::client::{Body, BodyLimits, Request};
use http::StatusCode;

use crate::error::ScrapeError;
use crate::job::Job;
use crate::target::Target;

/// A body as it came over the wire.
pub(crate) struct Fetched {
    body: Body,
    is_gzip: bool,
    syntax: Syntax,
    limits: BodyLimits,
}

/// Sizes of the target's last body, so that buffers need not grow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sizes {
    pub wire: usize,
    pub body: usize,
}

/// Fetches `target`. Dropping the future closes the connection.
pub(crate) async fn fetch(job: &Job, target: &Target, budget: &Budget, sizes: Sizes) -> Result<Fetched, ScrapeError> {
    let mut request = Request::get(target.url.clone());
    request.headers = job.headers_for(target);
    request.unix_socket.clone_from(&target.unix_socket);
    let limits = BodyLimits { bytes_max: job.config.body_size_limit.0, budget: budget.clone() };
    let get = async {
        let response = job.client.send(request).await?;
        if response.status != StatusCode::OK {
            return Err(ScrapeError::Status(response.status));
        }
        let negotiated = negotiate(response.content_type(), job.fallback);
        let is_gzip = response.is_gzip();
        let body = response.body(&limits, sizes.wire).await?;
        // A body nobody can parse is still read, as upstream does: an empty one is no error.
        let syntax = match negotiated {
            Ok(n) => {
                if let Some(warning) = n.warning {
                    tracing::debug!(target = %target.url_text, "{warning}");
                }
                n.syntax
            }
            Err(_) if body.bytes.is_empty() => Syntax::Text,
            Err(e) => return Err(e.into()),
        };
        Ok(Fetched { body, is_gzip, syntax, limits })
    };
    match tokio::time::timeout(target.timeout.std(), get).await {
        Ok(result) => result,
        Err(_) => Err(ScrapeError::Timeout { url: target.url_text.clone() }),
    }
}

impl Fetched {
    pub(crate) fn wire_bytes(&self) -> usize {
        self.body.bytes.len()
    }

    /// The body uncompressed, and what to read it as. Blocks while it inflates.
    pub(crate) fn open(self, sizes: Sizes) -> Result<(Body, Syntax), ScrapeError> {
        let body = if self.is_gzip { self.body.gunzip(&self.limits, sizes.body)? } else { self.body };
        Ok((body, self.syntax))
    }
}
