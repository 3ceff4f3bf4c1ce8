//! Request bodies with a byte limit and a deadline, both enforced while reading.
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use ferula_model::{Budget, BudgetExceeded, Charge};
use http_body_util::BodyExt;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("http: request body too large")]
    TooLarge,
    #[error("timed out reading the request body")]
    TimedOut,
    #[error("reading the request body: {0}")]
    Broken(String),
    #[error(transparent)]
    Budget(#[from] BudgetExceeded),
}

impl BodyError {
    pub fn status(&self) -> http::StatusCode {
        match self {
            BodyError::TooLarge => http::StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::TimedOut => http::StatusCode::REQUEST_TIMEOUT,
            BodyError::Broken(_) => http::StatusCode::BAD_REQUEST,
            BodyError::Budget(_) => http::StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The whole body, if it has at most `bytes_max` bytes and arrives within `timeout`. A declared length above the limit
/// is refused before anything is read.
pub async fn read(body: Body, bytes_max: usize, timeout: Duration) -> Result<Bytes, BodyError> {
    Ok(read_charged(body, bytes_max, timeout, &Budget::unlimited()).await?.0)
}

/// As [`read`], with what it holds taken from `budget` until the charge is dropped.
pub async fn read_charged(
    mut body: Body,
    bytes_max: usize,
    timeout: Duration,
    budget: &Budget,
) -> Result<(Bytes, Charge), BodyError> {
    use hyper::body::Body as _;
    let declared = body.size_hint().lower();
    if declared > bytes_max as u64 {
        return Err(BodyError::TooLarge);
    }
    let all = async {
        let mut charge = budget.charge(0)?;
        let mut first: Option<Bytes> = None;
        let mut joined = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|e| BodyError::Broken(e.to_string()))?.into_data() else { continue };
            let have = first.as_ref().map_or(joined.len(), Bytes::len);
            if data.len() > bytes_max - have {
                return Err(BodyError::TooLarge);
            }
            charge.grow(data.len() as u64)?;
            if have == 0 {
                first = Some(data); // most bodies are one frame and need no copy
                continue;
            }
            if let Some(f) = first.take() {
                joined.reserve(usize::try_from(declared).unwrap_or(0).max(f.len() + data.len()));
                joined.extend_from_slice(&f);
            }
            joined.extend_from_slice(&data);
        }
        Ok((first.unwrap_or_else(|| joined.freeze()), charge))
    };
    tokio::time::timeout(timeout, all).await.unwrap_or(Err(BodyError::TimedOut))
}
