//! Bytes between members.
//!
//! ```text
//! datagram   label, then one packet of the membership protocol
//! stream     "FAM1", length and JSON of a hello; then frames: length, kind, payload
//! ```
//!
//! A stream either carries news one way, or is an exchange: both sides say hello, and send all they know up to an end.
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::swim::Member;
use crate::core::Intent;
use crate::nflog::LogKey;

const MAGIC: &[u8; 4] = b"FAM1";
const HELLO_BYTES_MAX: usize = 4 << 10;
/// The longest frame that is read; senders close theirs at an eighth of it, but for one large entry.
const FRAME_BYTES_MAX: usize = 8 << 20;

/// Records as the journal holds them, each with its length before it.
pub(super) const ENTRIES: u8 = 2;
pub(super) const INTENT: u8 = 3;
/// Nothing more follows.
pub(super) const END: u8 = 4;
/// A packet of the membership protocol, where TLS takes the place of datagrams.
pub(super) const PACKET: u8 = 5;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// `--cluster.label`; members of another cluster are turned away.
    pub label: String,
    pub from: Member,
    pub is_exchange: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("TLS: {0}")]
    Tls(#[source] std::io::Error),
    #[error("not a member of a Ferula cluster")]
    Magic,
    #[error("a member of another cluster: label {0:?}")]
    Label(String),
    #[error("a frame of {0} bytes")]
    TooLong(usize),
    #[error("a frame that cannot be read")]
    Malformed,
    #[error("no answer in time")]
    Timeout,
}

impl WireError {
    /// Whether the other side was there and unwilling, or unwelcome. With TLS 1.3 a refused client hears of it when it reads.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            WireError::Tls(_) | WireError::Label(_) => true,
            WireError::Io(e) => e.kind() == std::io::ErrorKind::InvalidData,
            _ => false,
        }
    }
}

pub(super) async fn write_hello(to: &mut (impl AsyncWrite + Unpin), hello: &Hello) -> Result<(), WireError> {
    let json = serde_json::to_vec(hello).map_err(|_| WireError::Malformed)?;
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&(json.len() as u32).to_le_bytes());
    out.extend_from_slice(&json);
    to.write_all(&out).await?;
    Ok(to.flush().await?)
}

pub(super) async fn read_hello(from: &mut (impl AsyncRead + Unpin), label: &str) -> Result<Hello, WireError> {
    let mut magic = [0; 4];
    from.read_exact(&mut magic).await?;
    if magic != *MAGIC {
        return Err(WireError::Magic);
    }
    let length = from.read_u32_le().await? as usize;
    if length > HELLO_BYTES_MAX {
        return Err(WireError::TooLong(length));
    }
    let mut json = vec![0; length];
    from.read_exact(&mut json).await?;
    let hello: Hello = serde_json::from_slice(&json).map_err(|_| WireError::Malformed)?;
    if hello.label != label {
        return Err(WireError::Label(hello.label.chars().take(100).collect()));
    }
    Ok(hello)
}

pub(super) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + payload.len());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.push(kind);
    out.extend_from_slice(payload);
    out
}

pub(super) async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> Result<(u8, Vec<u8>), WireError> {
    let length = from.read_u32_le().await? as usize;
    if length > FRAME_BYTES_MAX {
        return Err(WireError::TooLong(length));
    }
    let kind = from.read_u8().await?;
    // Grows with what arrives, not with what is claimed.
    let mut payload = Vec::new();
    from.take(length as u64).read_to_end(&mut payload).await?;
    if payload.len() < length { Err(WireError::Malformed) } else { Ok((kind, payload)) }
}

/// Frames of entries, none much longer than an eighth of what is read.
pub(super) fn entry_frames(records: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (mut out, mut from, mut size) = (Vec::new(), 0, 0);
    for (i, record) in records.iter().enumerate() {
        size += record.len();
        if size >= FRAME_BYTES_MAX / 8 || i + 1 == records.len() {
            out.push(frame(ENTRIES, &crate::store::delimit(records.get(from..=i).unwrap_or(&[]))));
            (from, size) = (i + 1, 0);
        }
    }
    out
}

#[derive(Serialize, Deserialize)]
struct IntentJson {
    group_key: String,
    receiver: String,
    integration: String,
    index: u32,
    holder: String,
    lease_ms: i64,
}

pub(super) fn intent(i: &Intent) -> Vec<u8> {
    let json = IntentJson {
        group_key: i.key.group_key.to_string(),
        receiver: i.key.receiver.to_string(),
        integration: i.key.integration.to_string(),
        index: i.key.index,
        holder: i.holder.to_string(),
        lease_ms: i.lease_ms,
    };
    serde_json::to_vec(&json).unwrap_or_default()
}

pub(super) fn read_intent(bytes: &[u8]) -> Option<Intent> {
    let i: IntentJson = serde_json::from_slice(bytes).ok()?;
    let key = LogKey {
        group_key: i.group_key.into(),
        receiver: i.receiver.into(),
        integration: i.integration.into(),
        index: i.index,
    };
    Some(Intent { key, holder: i.holder.into(), lease_ms: i.lease_ms })
}

/// Label and packet of a datagram.
pub(super) fn datagram(label: &str, packet: &[u8]) -> Vec<u8> {
    let label = label.as_bytes().get(..label.len().min(255)).unwrap_or(&[]);
    let mut out = Vec::with_capacity(1 + label.len() + packet.len());
    out.push(label.len() as u8);
    out.extend_from_slice(label);
    out.extend_from_slice(packet);
    out
}

/// The packet, if it carries our label.
pub(super) fn read_datagram<'b>(label: &str, bytes: &'b [u8]) -> Option<&'b [u8]> {
    let (length, rest) = bytes.split_first()?;
    let (theirs, packet) = rest.split_at_checked(usize::from(*length))?;
    let ours = label.as_bytes().get(..label.len().min(255))?;
    (theirs == ours).then_some(packet)
}

/// `host:port` of an address a member may be reached at.
pub(super) fn is_usable(addr: &SocketAddr) -> bool {
    addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_carry_their_label() {
        let bytes = datagram("eu", b"ping");
        assert_eq!(read_datagram("eu", &bytes), Some(&b"ping"[..]));
        assert_eq!(read_datagram("us", &bytes), None);
        assert_eq!(read_datagram("", b""), None);
        assert_eq!(read_datagram("", &[9, 1]), None);
    }

    #[tokio::test]
    async fn frames_are_bounded_and_whole() {
        let (kind, payload) = read_frame(&mut &frame(INTENT, b"abc")[..]).await.unwrap();
        assert_eq!((kind, &payload[..]), (INTENT, &b"abc"[..]));
        assert!(matches!(read_frame(&mut &[0xff, 0xff, 0xff, 0xff, 1][..]).await, Err(WireError::TooLong(_))));
        assert!(matches!(read_frame(&mut &[9, 0, 0, 0, 1, 2][..]).await, Err(WireError::Malformed)));
        assert!(matches!(read_hello(&mut &b"GET / HTTP/1.1"[..], "").await, Err(WireError::Magic)));
    }

    #[test]
    fn intents_go_there_and_back() {
        let key =
            LogKey { group_key: "{}:{a=\"b\"}".into(), receiver: "r".into(), integration: "email".into(), index: 2 };
        let said = Intent { key, holder: "a".into(), lease_ms: 15_000 };
        assert_eq!(read_intent(&intent(&said)), Some(said));
        assert_eq!(read_intent(b"{}"), None);
    }
}
