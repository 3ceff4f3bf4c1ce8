//! Why a scrape failed: what the API shows as `lastError`.

/// Expected failures of one scrape. Texts are upstream's and bounded, whatever the target sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ScrapeError {
    #[error(transparent)]
    Http(#[from] ferula_net::client::Error),
    #[error("Get {url:?}: context deadline exceeded")]
    Timeout { url: String },
    #[error("server returned HTTP status {0}")]
    Status(http::StatusCode),
    #[error(transparent)]
    ContentType(#[from] ferula_exposition::parse::ContentTypeError),
    #[error(transparent)]
    Parse(#[from] ferula_exposition::parse::ParseError),
    #[error("sample limit exceeded")]
    SampleLimit,
    #[error("histogram bucket limit exceeded")]
    BucketLimit,
    #[error("{0}")]
    LabelLimit(String),
    #[error("{0}")]
    InvalidSeries(String),
    #[error("target_limit exceeded (number of targets: {targets}, limit: {limit})")]
    TargetLimit { targets: usize, limit: u64 },
    #[error("{0}")]
    Append(#[from] ferula_storage::AppendError),
    #[error("{0}")]
    Internal(String),
}

impl ScrapeError {
    pub(crate) fn is_body_size(&self) -> bool {
        matches!(self, ScrapeError::Http(ferula_net::client::Error::BodyTooLarge))
    }
}

/// The text shown to users, at most this long.
pub(crate) const SHOWN_BYTES_MAX: usize = 500;

pub(crate) fn shown(e: &ScrapeError) -> String {
    let mut text = e.to_string();
    if text.len() > SHOWN_BYTES_MAX {
        let mut end = SHOWN_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}
