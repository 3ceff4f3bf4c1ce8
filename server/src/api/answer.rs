//! What a handler returns: data with warnings, or an error of Prometheus's table; and how that becomes a response.
use std::fmt;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ferula_storage::{Annotations, Interrupted, StorageError};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::json::Json;

/// Warnings and infos shown per answer; the rest is counted.
const ANNOTATIONS_MAX: usize = 10;
const NO_DATA: &str = "null";

/// `errorType` of an answer, and with it the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    BadData,
    Execution,
    Canceled,
    Timeout,
    Internal,
    Unavailable,
    NotFound,
}

impl ErrorKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::BadData => "bad_data",
            ErrorKind::Execution => "execution",
            ErrorKind::Canceled => "canceled",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Internal => "internal",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::NotFound => "not_found",
        }
    }
    /// "unavailable" is a 500, odd as it is: clients know it so.
    pub fn status(self) -> StatusCode {
        match self {
            ErrorKind::BadData => StatusCode::BAD_REQUEST,
            ErrorKind::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            ErrorKind::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal | ErrorKind::Unavailable => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
        }
    }
}

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub kind: ErrorKind,
    pub message: String,
}

impl ApiError {
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> ApiError {
        ApiError { kind, message: message.to_string() }
    }
    pub fn bad_data(message: impl fmt::Display) -> ApiError {
        ApiError::new(ErrorKind::BadData, message)
    }
    pub fn internal(message: impl fmt::Display) -> ApiError {
        ApiError::new(ErrorKind::Internal, message)
    }
    pub fn execution(message: impl fmt::Display) -> ApiError {
        ApiError::new(ErrorKind::Execution, message)
    }
    /// `invalid parameter "name": reason`
    pub fn parameter(name: &str, reason: impl fmt::Display) -> ApiError {
        ApiError::bad_data(format_args!("invalid parameter {}: {reason}", ferula_model::labels::quoted(name)))
    }
}

impl From<Interrupted> for ApiError {
    fn from(e: Interrupted) -> ApiError {
        match e {
            Interrupted::Cancelled => ApiError::new(ErrorKind::Canceled, "query was canceled in query execution"),
            Interrupted::TimedOut => ApiError::new(ErrorKind::Timeout, "query timed out in query execution"),
        }
    }
}

/// Errors of label and series lookups. (Query errors have their own conversion.)
impl From<StorageError> for ApiError {
    fn from(e: StorageError) -> ApiError {
        match e {
            StorageError::Interrupted(i) => i.into(),
            StorageError::NotReady(m) => ApiError::new(ErrorKind::Unavailable, m),
            other => ApiError::execution(other),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut j = Json::new();
        j.raw("{\"status\":\"error\",\"errorType\":").string(self.kind.as_str());
        j.raw(",\"error\":").string(&self.message).raw("}");
        json_response(self.kind.status(), Body::from(j.into_bytes()))
    }
}

fn json_response(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

enum Data {
    Whole(Vec<u8>),
    /// Pieces of the `data` value, made as the client takes them.
    Pieces(Box<dyn Iterator<Item = Vec<u8>> + Send>),
    None,
}

/// A successful answer.
pub struct Answer {
    data: Data,
    warnings: Vec<String>,
    infos: Vec<String>,
}

pub type ApiResult = Result<Answer, ApiError>;

impl Answer {
    /// `data` is JSON already.
    pub fn json(data: Vec<u8>) -> Answer {
        Answer { data: Data::Whole(data), warnings: Vec::new(), infos: Vec::new() }
    }
    /// `data` through serde.
    pub fn of<T: Serialize>(data: &T) -> ApiResult {
        serde_json::to_vec(data).map(Answer::json).map_err(ApiError::internal)
    }
    pub fn strings<S: AsRef<str>>(list: impl IntoIterator<Item = S>) -> Answer {
        let mut j = Json::new();
        let mut first = true;
        j.raw("[");
        for s in list {
            j.separate(&mut first).string(s.as_ref());
        }
        j.raw("]");
        Answer::json(j.into_bytes())
    }
    /// `data` in pieces, so that a large result is never held as text.
    pub fn pieces(pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Answer {
        Answer { data: Data::Pieces(Box::new(pieces)), warnings: Vec::new(), infos: Vec::new() }
    }
    /// Success without a word: 204.
    pub fn none() -> Answer {
        Answer { data: Data::None, warnings: Vec::new(), infos: Vec::new() }
    }
    pub fn with(mut self, annotations: &Annotations) -> Answer {
        self.warnings.extend(capped(annotations.warnings.iter(), "warning"));
        self.infos.extend(capped(annotations.infos.iter(), "info"));
        self
    }
    pub fn warn(mut self, text: impl Into<String>) -> Answer {
        let text = text.into();
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
        self
    }

    fn tail(&self) -> Vec<u8> {
        let mut j = Json::new();
        for (key, list) in [(",\"warnings\":[", &self.warnings), (",\"infos\":[", &self.infos)] {
            if list.is_empty() {
                continue;
            }
            let mut first = true;
            j.raw(key);
            for text in list {
                j.separate(&mut first).string(text);
            }
            j.raw("]");
        }
        j.raw("}");
        j.into_bytes()
    }
}

fn capped<'a>(all: impl ExactSizeIterator<Item = &'a String>, what: &str) -> Vec<String> {
    let more = all.len().saturating_sub(ANNOTATIONS_MAX);
    let mut shown: Vec<String> = all.take(ANNOTATIONS_MAX).cloned().collect();
    if more > 0 {
        shown.push(format!("{more} more {what} annotations omitted"));
    }
    shown
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        const HEAD: &[u8] = b"{\"status\":\"success\",\"data\":";
        let tail = self.tail();
        match self.data {
            Data::None => StatusCode::NO_CONTENT.into_response(),
            Data::Whole(data) => {
                let data = if data.is_empty() { NO_DATA.as_bytes() } else { &data };
                let mut all = Vec::with_capacity(HEAD.len() + data.len() + tail.len());
                all.extend_from_slice(HEAD);
                all.extend_from_slice(data);
                all.extend_from_slice(&tail);
                json_response(StatusCode::OK, Body::from(all))
            }
            Data::Pieces(pieces) => {
                let all = std::iter::once(HEAD.to_vec()).chain(pieces).chain(std::iter::once(tail));
                let stream =
                    futures::stream::iter(all.map(|piece| Ok::<_, std::convert::Infallible>(Bytes::from(piece))));
                json_response(StatusCode::OK, Body::from_stream(stream))
            }
        }
    }
}
