//! The HTTP API `/api/v1` and the routes beside it.
pub mod answer;
pub mod json;
pub mod time;
