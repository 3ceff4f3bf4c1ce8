//! Entries as bytes. Silences and log entries as upstream's state files hold them; alerts in a message of our own.
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use ferula_model::Labels;
use ferula_proto::Message;
use ferula_proto::alertmanager as pb;

use crate::alert::{Alert, fingerprint};
use crate::core::GroupTimer;
use crate::matcher::{MatchOp, Matcher};
use crate::nflog::{LogEntry, LogKey};
use crate::silence::Silence;

fn timestamp(t_ms: i64) -> Option<pb::Timestamp> {
    let nanos = i32::try_from(t_ms.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    Some(pb::Timestamp { seconds: t_ms.div_euclid(1000), nanos })
}
fn millis(t: &Option<pb::Timestamp>) -> i64 {
    t.as_ref().map_or(0, |t| t.seconds.saturating_mul(1000).saturating_add(i64::from(t.nanos) / 1_000_000))
}

/// Each message with its length before it.
pub fn delimit(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(messages.iter().map(|m| m.len() + 5).sum());
    for m in messages {
        write_length(m.len() as u64, &mut out);
        out.extend_from_slice(m);
    }
    out
}

fn write_length(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// The messages of a file; None once for a tail that holds no whole message.
pub fn delimited(bytes: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let whole = length(rest).and_then(|(n, used)| Some((rest.get(used..used.checked_add(n)?)?, used + n)));
        match whole {
            Some((message, used)) => {
                rest = rest.get(used..).unwrap_or(&[]);
                Some(Some(message))
            }
            None => {
                rest = &[];
                Some(None)
            }
        }
    })
}

fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut n = 0u64;
    for (i, b) in bytes.iter().take(10).enumerate() {
        n |= u64::from(b & 0x7f).checked_shl(7 * i as u32)?;
        if b & 0x80 == 0 {
            return Some((usize::try_from(n).ok()?, i + 1));
        }
    }
    None
}

fn matchers(set: &[Matcher]) -> Vec<pb::Matcher> {
    set.iter()
        .map(|m| {
            let kind = match m.op {
                MatchOp::Equal => pb::matcher::Type::Equal,
                MatchOp::RegexMatch => pb::matcher::Type::Regexp,
                MatchOp::NotEqual => pb::matcher::Type::NotEqual,
                MatchOp::RegexNoMatch => pb::matcher::Type::NotRegexp,
            };
            pb::Matcher { r#type: kind.into(), name: m.name.clone(), pattern: m.value.clone() }
        })
        .collect()
}

fn read_matchers(set: &[pb::Matcher]) -> Option<Vec<Matcher>> {
    set.iter()
        .map(|m| {
            let op = match pb::matcher::Type::try_from(m.r#type).ok()? {
                pb::matcher::Type::Equal => MatchOp::Equal,
                pb::matcher::Type::Regexp => MatchOp::RegexMatch,
                pb::matcher::Type::NotEqual => MatchOp::NotEqual,
                pb::matcher::Type::NotRegexp => MatchOp::RegexNoMatch,
            };
            Matcher::new(op, &m.name, &m.pattern).ok()
        })
        .collect()
}

pub fn silence(s: &Silence, retention_ms: i64) -> Vec<u8> {
    // The first set stands where versions before matcher sets look for it.
    let sets = s.matcher_sets.iter().map(|set| pb::MatcherSet { matchers: matchers(set) }).collect();
    pb::MeshSilence {
        silence: Some(pb::Silence {
            id: s.id.to_string(),
            matchers: s.matcher_sets.first().map(|set| matchers(set)).unwrap_or_default(),
            starts_at: timestamp(s.starts_at_ms),
            ends_at: timestamp(s.ends_at_ms),
            updated_at: timestamp(s.updated_at_ms),
            comments: Vec::new(),
            created_by: s.created_by.clone(),
            comment: s.comment.clone(),
            matcher_sets: sets,
            annotations: s.annotations.clone().into_iter().collect(),
        }),
        expires_at: timestamp(s.ends_at_ms.saturating_add(retention_ms)),
    }
    .encode_to_vec()
}

/// Whether the message is whole; a silence that is and cannot be read has a matcher that does not compile.
pub fn is_silence(message: &[u8]) -> bool {
    pb::MeshSilence::decode(message).is_ok_and(|m| m.silence.is_some())
}

pub fn read_silence(message: &[u8]) -> Option<Silence> {
    let s = pb::MeshSilence::decode(message).ok()?.silence?;
    let matcher_sets = match s.matcher_sets.is_empty() {
        true => vec![read_matchers(&s.matchers)?],
        false => s.matcher_sets.iter().map(|set| read_matchers(&set.matchers)).collect::<Option<_>>()?,
    };
    if s.id.is_empty() || matcher_sets.iter().any(Vec::is_empty) {
        return None;
    }
    // Very old files kept author and text in a list of comments.
    let (author, text) = s.comments.first().map(|c| (c.author.clone(), c.comment.clone())).unwrap_or_default();
    Some(Silence {
        id: s.id.as_str().into(),
        matcher_sets,
        starts_at_ms: millis(&s.starts_at),
        ends_at_ms: millis(&s.ends_at),
        updated_at_ms: millis(&s.updated_at),
        created_by: if s.created_by.is_empty() { author } else { s.created_by },
        comment: if s.comment.is_empty() { text } else { s.comment },
        annotations: s.annotations.into_iter().collect::<BTreeMap<_, _>>(),
    })
}

pub fn log_entry(key: &LogKey, e: &LogEntry) -> Vec<u8> {
    pb::MeshEntry {
        entry: Some(pb::Entry {
            group_key: key.group_key.as_bytes().to_vec(),
            receiver: Some(pb::Receiver {
                group_name: key.receiver.to_string(),
                integration: key.integration.to_string(),
                idx: key.index,
            }),
            group_hash: Vec::new(),
            resolved: false,
            timestamp: timestamp(e.timestamp_ms),
            firing_alerts: e.firing.clone(),
            resolved_alerts: e.resolved.clone(),
            receiver_data: e.data.iter().map(|(k, v)| (k.clone(), text_value(v))).collect(),
        }),
        expires_at: timestamp(e.expires_at_ms),
    }
    .encode_to_vec()
}

fn text_value(text: &str) -> pb::ReceiverDataValue {
    pb::ReceiverDataValue { value: Some(pb::receiver_data_value::Value::StrVal(text.to_owned())) }
}

/// Texts only: no receiver of ours keeps numbers.
fn read_text(value: pb::ReceiverDataValue) -> Option<String> {
    match value.value? {
        pb::receiver_data_value::Value::StrVal(text) => Some(text),
        _ => None,
    }
}

pub fn read_log_entry(message: &[u8]) -> Option<(LogKey, LogEntry)> {
    let mesh = pb::MeshEntry::decode(message).ok()?;
    let e = mesh.entry?;
    let receiver = e.receiver?;
    let sorted = |mut v: Vec<u64>| {
        v.sort_unstable();
        v
    };
    let key = LogKey {
        group_key: String::from_utf8(e.group_key).ok()?.into(),
        receiver: receiver.group_name.into(),
        integration: Cow::Owned(receiver.integration),
        index: receiver.idx,
    };
    let entry = LogEntry {
        timestamp_ms: millis(&e.timestamp),
        expires_at_ms: millis(&mesh.expires_at),
        firing: sorted(e.firing_alerts),
        resolved: sorted(e.resolved_alerts),
        data: e.receiver_data.into_iter().filter_map(|(k, v)| Some((k, read_text(v)?))).collect(),
    };
    Some((key, entry))
}

/// Strings with their lengths: labels, annotations, URL; then the times. Only ours, so no schema file.
pub fn alert(a: &Alert) -> Vec<u8> {
    let mut out = Vec::with_capacity(alert_size(a));
    write_alert(a, &mut out);
    out
}

/// Alerts as [`delimit`] puts them, without a copy of each.
pub fn delimited_alerts<'a>(alerts: impl Iterator<Item = &'a Alert>, out: &mut Vec<u8>) {
    for a in alerts {
        let size = alert_size(a);
        out.reserve(size + 5);
        write_length(size as u64, out);
        write_alert(a, out);
    }
}

/// Exactly the bytes of [`alert`].
pub fn alert_size(a: &Alert) -> usize {
    let pairs = |labels: &Labels| labels.iter().map(|(n, v)| 8 + n.len() + v.len()).sum::<usize>();
    4 * 8 + 4 + a.generator_url.len() + pairs(&a.labels) + 4 + pairs(&a.annotations) + 4
}

fn write_alert(a: &Alert, out: &mut Vec<u8>) {
    for t in [a.starts_at_ms, a.ends_at_ms, a.updated_at_ms, i64::from(a.timeout)] {
        out.extend_from_slice(&t.to_le_bytes());
    }
    let mut text = |s: &str| {
        out.extend_from_slice(&(s.len() as u32).to_le_bytes());
        out.extend_from_slice(s.as_bytes());
    };
    text(&a.generator_url);
    for labels in [&a.labels, &a.annotations] {
        for (n, v) in labels.iter() {
            text(n);
            text(v);
        }
        text("");
    }
}

pub fn read_alert(message: &[u8]) -> Option<Alert> {
    let mut rest = message;
    let mut number = || -> Option<i64> {
        let (n, tail) = rest.split_first_chunk::<8>()?;
        rest = tail;
        Some(i64::from_le_bytes(*n))
    };
    let (starts_at_ms, ends_at_ms, updated_at_ms, timeout) = (number()?, number()?, number()?, number()? != 0);
    let mut text = || -> Option<&str> {
        let (n, tail) = rest.split_first_chunk::<4>()?;
        let n = u32::from_le_bytes(*n) as usize;
        let s = std::str::from_utf8(tail.get(..n)?).ok()?;
        rest = tail.get(n..)?;
        Some(s)
    };
    let generator_url: Arc<str> = text()?.into();
    let mut labels = || -> Option<Labels> {
        let mut pairs = Vec::new();
        loop {
            match text()? {
                "" => return Some(Labels::from_pairs(pairs)),
                name => pairs.push((name, text()?)),
            }
        }
    };
    let (labels, annotations) = (labels()?, labels()?);
    if labels.is_empty() {
        return None;
    }
    let fingerprint = fingerprint(&labels);
    Some(Alert { labels, annotations, generator_url, starts_at_ms, ends_at_ms, updated_at_ms, timeout, fingerprint })
}

/// The time, two flags, the key.
pub fn group(g: &GroupTimer) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + g.key.len());
    out.extend_from_slice(&g.next_flush_ms.to_le_bytes());
    out.push(u8::from(g.has_flushed) | u8::from(g.is_pending) << 1);
    out.extend_from_slice(g.key.as_bytes());
    out
}

pub fn read_group(message: &[u8]) -> Option<GroupTimer> {
    let (time, rest) = message.split_first_chunk::<8>()?;
    let (flags, key) = rest.split_first()?;
    let key = std::str::from_utf8(key).ok().filter(|k| !k.is_empty())?;
    Some(GroupTimer {
        key: key.into(),
        next_flush_ms: i64::from_le_bytes(*time),
        has_flushed: flags & 1 != 0,
        is_pending: flags & 2 != 0,
    })
}
