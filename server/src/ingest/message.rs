//! Which remote-write message a request holds, by its headers.
use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderValue, header};

/// The two messages of remote write, under the names of the `proto=` parameter and of the flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    V1,
    V2,
}

impl Message {
    pub const ALL: [Message; 2] = [Message::V1, Message::V2];

    pub fn as_str(self) -> &'static str {
        match self {
            Message::V1 => "prometheus.WriteRequest",
            Message::V2 => "io.prometheus.write.v2.Request",
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Message {
    type Err = String;
    fn from_str(name: &str) -> Result<Message, String> {
        Message::ALL.into_iter().find(|m| m.as_str() == name).ok_or_else(|| {
            let all = names(&Message::ALL);
            format!("unknown type for remote write protobuf message {name}, supported: {all}")
        })
    }
}

fn names(messages: &[Message]) -> String {
    messages.iter().map(|m| m.as_str()).collect::<Vec<_>>().join(", ")
}

/// The message the headers announce; or why they rule the request out, always a 415. A request without a content type
/// is of version 1: old senders give none.
pub(super) fn announced(headers: &HeaderMap, accepted: &[Message]) -> Result<Message, String> {
    let of = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or("").trim();
    let content_type = of(header::CONTENT_TYPE);
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or("");
    if !media.is_empty() && !media.eq_ignore_ascii_case("application/x-protobuf") {
        return Err(format!(
            "expected application/x-protobuf as the first (media) part, got {content_type} content-type"
        ));
    }
    let mut message = Message::V1;
    for part in parts {
        let Some((name, value)) = part.split_once('=') else {
            return Err(format!(
                "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got {part} \
                 in {content_type} content-type"
            ));
        };
        if name == "proto" {
            message = value.parse().map_err(|why| format!("got {content_type} content type; {why}"))?;
            break;
        }
    }
    if !accepted.contains(&message) {
        return Err(format!(
            "{message} protobuf message is not accepted by this server; only accepts {}",
            names(accepted)
        ));
    }
    let encoding = of(header::CONTENT_ENCODING);
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("snappy") {
        return Err(format!(
            "{encoding} encoding (compression) is not accepted by this server; only snappy is acceptable"
        ));
    }
    Ok(message)
}
