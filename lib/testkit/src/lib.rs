#![doc = include_str!("../README.md")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test double that cannot go on fails the test

mod hostile;
mod http;
mod peer;
mod recorder;
mod server;
mod skip;
mod smtp;
mod tls;
mod trace;
mod webhook;

pub use hostile::{Behaviour, Hostile};
pub use http::{HttpAnswer, HttpRequest, http_get, http_post};
pub use peer::{Launch, Peer, Running, free_port};
pub use skip::{corpus, skipped};
pub use smtp::{Mail, SmtpOptions, SmtpSink};
pub use tls::{Authority, Identity};
pub use trace::{attribute, gunzip, spans};
pub use webhook::WebhookSink;
