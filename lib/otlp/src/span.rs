//! One piece of work, from its start to where it is dropped.
use std::sync::Arc;

use ferula_proto::trace::span::Kind as WireKind;
use ferula_proto::trace::{AnyValue, Event, KeyValue, Span as Wire, Status, any_value, status};

use crate::context::SpanContext;
use crate::tracer::Pipeline;

/// What a text may hold of a span; the rest is cut off.
const TEXT_CHARS_MAX: usize = 1_024;
/// Events one span holds; more are left out.
const EVENTS_MAX: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Internal,
    /// It answers a request.
    Server,
    /// It makes a request.
    Client,
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Int(i64),
    Bool(bool),
}
impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.chars().take(TEXT_CHARS_MAX).collect())
    }
}
impl From<usize> for Value {
    fn from(n: usize) -> Value {
        Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }
}
impl From<u16> for Value {
    fn from(n: u16) -> Value {
        Value::Int(n.into())
    }
}
impl From<bool> for Value {
    fn from(is: bool) -> Value {
        Value::Bool(is)
    }
}

/// A span; most are not recorded, and then everything here does nothing.
#[derive(Default)]
#[must_use = "a span lasts until it is dropped"]
pub struct Span {
    context: Option<SpanContext>,
    recording: Option<Box<Recording>>,
}

struct Recording {
    pipeline: Arc<Pipeline>,
    wire: Wire,
}

impl Span {
    /// One that is not recorded and belongs to nothing.
    pub fn none() -> Span {
        Span::default()
    }

    /// Not recorded; what it calls is told so.
    pub(crate) fn unsampled(context: SpanContext) -> Span {
        Span { context: Some(context), recording: None }
    }

    pub(crate) fn recorded(
        pipeline: Arc<Pipeline>,
        context: SpanContext,
        parent: Option<SpanContext>,
        name: &str,
        kind: Kind,
    ) -> Span {
        const HAS_IS_REMOTE: u32 = 0x100;
        const IS_REMOTE: u32 = 0x200;
        let remote = if parent.is_some_and(|p| p.is_remote) { IS_REMOTE } else { 0 };
        let kind = match kind {
            Kind::Internal => WireKind::Internal,
            Kind::Server => WireKind::Server,
            Kind::Client => WireKind::Client,
        };
        let wire = Wire {
            trace_id: context.trace_id.to_vec(),
            span_id: context.span_id.to_vec(),
            parent_span_id: parent.map(|p| p.span_id.to_vec()).unwrap_or_default(),
            name: name.chars().take(TEXT_CHARS_MAX).collect(),
            kind: kind.into(),
            start_time_unix_nano: pipeline.now_ns(),
            flags: 1 | HAS_IS_REMOTE | remote,
            ..Wire::default()
        };
        Span { context: Some(context), recording: Some(Box::new(Recording { pipeline, wire })) }
    }

    /// What its children and the receivers of its requests are told.
    pub fn context(&self) -> Option<SpanContext> {
        self.context
    }

    /// Whether setting something has an effect.
    pub fn is_recorded(&self) -> bool {
        self.recording.is_some()
    }

    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        if let Some(r) = &mut self.recording {
            r.wire.attributes.push(pair(key, value.into()));
        }
    }

    /// Something that happened at this moment.
    pub fn event(&mut self, name: &str, attributes: &[(&str, Value)]) {
        if let Some(r) = &mut self.recording
            && r.wire.events.len() < EVENTS_MAX
        {
            r.wire.events.push(Event {
                time_unix_nano: r.pipeline.now_ns(),
                name: name.to_owned(),
                attributes: attributes.iter().map(|(k, v)| pair(k, v.clone())).collect(),
            });
        }
    }

    /// It went wrong; `why` holds no secret.
    pub fn fail(&mut self, why: &str) {
        if let Some(r) = &mut self.recording {
            let message = why.chars().take(TEXT_CHARS_MAX).collect();
            r.wire.status = Some(Status { message, code: status::Code::Error.into() });
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(r) = self.recording.take() {
            let Recording { pipeline, mut wire } = *r;
            wire.end_time_unix_nano = pipeline.now_ns();
            pipeline.send(wire);
        }
    }
}

pub(crate) fn pair(key: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text),
        Value::Int(n) => any_value::Value::IntValue(n),
        Value::Bool(is) => any_value::Value::BoolValue(is),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}
