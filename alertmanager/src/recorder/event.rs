//! The events and how they read as JSON.
//!
//! Source followed: the published schema of Alertmanager 0.33's events in protobuf's JSON mapping, where empty fields are
//! left out and 64-bit numbers are texts, and the events that 0.33 wrote.
use std::sync::Arc;

use ferula_model::{Labels, MatchOp};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::alert::Alert;
use crate::core::Notification;
use crate::matcher::Matcher;
use crate::nflog::Reason;
use crate::silence::Silence;

/// What happened. Alerts and silences are as they were then.
pub(crate) enum Event {
    Startup,
    Shutdown,
    AlertCreated(Arc<Alert>),
    AlertGrouped(Arc<Alert>, Arc<GroupInfo>),
    AlertResolved(Arc<Alert>, Arc<GroupInfo>),
    Notification { told: Arc<Notification>, flush: Arc<FlushRecord>, integration: &'static str, index: u32 },
    SilenceCreated(Arc<Silence>),
    SilenceUpdated(Arc<Silence>),
    SilenceMuted(Arc<Silence>, Arc<Alert>),
    InhibitionMuted { rules: Vec<Arc<RuleInfo>>, alert: Arc<Alert>, sources: Vec<u64> },
}

/// A group, as events name it.
#[derive(Debug)]
pub(crate) struct GroupInfo {
    pub key: Arc<str>,
    pub labels: Labels,
    pub receiver: Arc<str>,
}

/// What a flush knew and a notification does not say.
#[derive(Debug)]
pub(crate) struct FlushRecord {
    pub group: GroupInfo,
    pub matchers: Vec<Matcher>,
    pub group_uuid: Arc<str>,
    /// Hashes of alerts that were kept quiet.
    pub muted: Vec<u64>,
    pub repeat_ms: i64,
    /// Counts the group's flushes from 1.
    pub id: u64,
}

/// An inhibition rule.
#[derive(Debug)]
pub(crate) struct RuleInfo {
    pub source: Vec<Matcher>,
    pub target: Vec<Matcher>,
    pub equal: Vec<String>,
}

impl Event {
    /// The label `event_type` of metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Startup => "alertmanager_startup_event",
            Event::Shutdown => "alertmanager_shutdown_event",
            Event::AlertCreated(_) => "alert_created",
            Event::AlertGrouped(..) => "alert_grouped",
            Event::AlertResolved(..) => "alert_resolved",
            Event::Notification { .. } => "notification",
            Event::SilenceCreated(_) => "silence_created",
            Event::SilenceUpdated(_) => "silence_updated",
            Event::SilenceMuted(..) => "silence_muted_alert",
            Event::InhibitionMuted { .. } => "inhibition_muted_alert",
        }
    }

    /// One line without its end.
    pub fn to_json(&self, t_ms: i64, instance: &str, position: i64) -> Vec<u8> {
        #[derive(Serialize)]
        struct Envelope<'e> {
            #[serde(rename = "@timestamp")]
            timestamp: Time,
            instance: &'e str,
            data: Data<'e>,
            #[serde(rename = "clusterPosition", skip_serializing_if = "is_zero")]
            position: i64,
        }
        // Writing to memory fails only where a map's key is no text, which none here is.
        serde_json::to_vec(&Envelope { timestamp: Time(t_ms), instance, data: Data(self, t_ms), position })
            .unwrap_or_default()
    }
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// The event as of a moment: one field, named after its type.
struct Data<'e>(&'e Event, i64);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Startup {
            version: &'static str,
            build_context: String,
        }
        #[derive(Serialize)]
        struct OfAlert<T> {
            alert: T,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct OfGroup<'e> {
            alert: Hashed<'e>,
            group_info: Group<'e>,
        }
        #[derive(Serialize)]
        struct OfSilence<'e> {
            silence: SilenceJson<'e>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Silenced<'e> {
            silence: SilenceJson<'e>,
            muted_alert: Muted<'e>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Inhibited<'e> {
            inhibit_rules: Vec<Rule<'e>>,
            muted_alert: Muted<'e>,
            inhibiting_fingerprints: Vec<String>,
        }
        let Data(event, t_ms) = self;
        let details = |alert| AlertJson { alert, is_resolved: Alert::is_resolved_at(alert, *t_ms), ends_at: None };
        let of_group = |alert, group| OfGroup {
            alert: Hashed::with(alert, details(alert)),
            group_info: Group { info: group, matchers: &[], uuid: "" },
        };
        let mut map = s.serialize_map(Some(1))?;
        match event {
            Event::Startup => {
                let build_context = format!(
                    "(ferula={}, platform={}/{})",
                    env!("CARGO_PKG_VERSION"),
                    std::env::consts::OS,
                    std::env::consts::ARCH
                );
                map.serialize_entry("alertmanagerStartupEvent", &Startup { version: crate::VERSION, build_context })
            }
            Event::Shutdown => map.serialize_entry("alertmanagerShutdownEvent", &serde_json::json!({})),
            Event::AlertCreated(a) => map.serialize_entry("alertCreated", &OfAlert { alert: details(a) }),
            Event::AlertGrouped(a, g) => map.serialize_entry("alertGrouped", &of_group(a, g)),
            Event::AlertResolved(a, g) => map.serialize_entry("alertResolved", &of_group(a, g)),
            Event::Notification { told, flush, integration, index } => {
                map.serialize_entry("notification", &Notified { told, flush, integration, index: *index })
            }
            Event::SilenceCreated(s) => map.serialize_entry("silenceCreated", &OfSilence { silence: SilenceJson(s) }),
            Event::SilenceUpdated(s) => map.serialize_entry("silenceUpdated", &OfSilence { silence: SilenceJson(s) }),
            Event::SilenceMuted(s, a) => map
                .serialize_entry("silenceMutedAlert", &Silenced { silence: SilenceJson(s), muted_alert: Muted::of(a) }),
            Event::InhibitionMuted { rules, alert, sources } => {
                let inhibited = Inhibited {
                    inhibit_rules: rules.iter().map(|r| Rule::of(r)).collect(),
                    muted_alert: Muted::of(alert),
                    inhibiting_fingerprints: sources.iter().map(u64::to_string).collect(),
                };
                map.serialize_entry("inhibitionMutedAlert", &inhibited)
            }
        }?;
        map.end()
    }
}

/// An instant with none or three digits of a second.
#[derive(Clone, Copy)]
struct Time(i64);
impl Serialize for Time {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 % 1_000 {
            0 => s.serialize_str(&crate::time::format(self.0)),
            _ => s.serialize_str(&crate::time::format_api(self.0)),
        }
    }
}

/// Labels in their order.
struct Pairs<'e>(&'e Labels);
impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        label_set(self.0.iter(), s)
    }
}

fn label_set<'e, S: Serializer>(pairs: impl Iterator<Item = (&'e str, &'e str)>, s: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Pair<'p> {
        key: &'p str,
        #[serde(skip_serializing_if = "str::is_empty")]
        value: &'p str,
    }
    let pairs: Vec<Pair<'e>> = pairs.map(|(key, value)| Pair { key, value }).collect();
    let mut map = s.serialize_map(None)?;
    if !pairs.is_empty() {
        map.serialize_entry("labels", &pairs)?;
    }
    map.end()
}

#[derive(Clone, Copy)]
struct AlertJson<'e> {
    alert: &'e Alert,
    is_resolved: bool,
    /// Instead of the alert's own.
    ends_at: Option<&'static str>,
}
impl Serialize for AlertJson<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let a = self.alert;
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("fingerprint", &a.fingerprint.to_string())?;
        if !a.name().is_empty() {
            map.serialize_entry("name", a.name())?;
        }
        map.serialize_entry("labels", &Pairs(&a.labels))?;
        map.serialize_entry("annotations", &Pairs(&a.annotations))?;
        map.serialize_entry("startsAt", &Time(a.starts_at_ms))?;
        match self.ends_at {
            Some(text) => map.serialize_entry("endsAt", text)?,
            None => map.serialize_entry("endsAt", &Time(a.ends_at_ms))?,
        }
        if self.is_resolved {
            map.serialize_entry("resolved", &true)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Hashed<'e> {
    hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<AlertJson<'e>>,
}
impl<'e> Hashed<'e> {
    fn with(alert: &'e Alert, details: AlertJson<'e>) -> Hashed<'e> {
        Hashed { hash: alert.hash().to_string(), details: Some(details) }
    }
    fn alone(hash: u64) -> Hashed<'e> {
        Hashed { hash: hash.to_string(), details: None }
    }
}

#[derive(Serialize)]
struct Muted<'e> {
    labels: Pairs<'e>,
    fingerprint: String,
}
impl<'e> Muted<'e> {
    fn of(alert: &'e Alert) -> Muted<'e> {
        Muted { labels: Pairs(&alert.labels), fingerprint: alert.fingerprint.to_string() }
    }
}

struct Group<'e> {
    info: &'e GroupInfo,
    matchers: &'e [Matcher],
    uuid: &'e str,
}
impl Serialize for Group<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let id = <sha2::Sha256 as sha2::Digest>::digest(self.info.key.as_bytes());
        let id: String = id.iter().map(|b| format!("{b:02x}")).collect();
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("groupKey", &*self.info.key)?;
        map.serialize_entry("groupLabels", &Pairs(&self.info.labels))?;
        map.serialize_entry("groupId", &id)?;
        map.serialize_entry("receiverName", &*self.info.receiver)?;
        if !self.matchers.is_empty() {
            map.serialize_entry("matchers", &Matchers(self.matchers))?;
        }
        if !self.uuid.is_empty() {
            map.serialize_entry("groupUuid", self.uuid)?;
        }
        map.end()
    }
}

struct Matchers<'e>(&'e [Matcher]);
impl Serialize for Matchers<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct One<'m> {
            r#type: &'static str,
            name: &'m str,
            #[serde(skip_serializing_if = "str::is_empty")]
            pattern: &'m str,
            rendered: &'m Matcher,
        }
        let mut list = s.serialize_seq(Some(self.0.len()))?;
        for m in self.0 {
            let r#type = match m.op {
                MatchOp::Equal => "TYPE_EQUAL",
                MatchOp::RegexMatch => "TYPE_REGEXP",
                MatchOp::NotEqual => "TYPE_NOT_EQUAL",
                MatchOp::RegexNoMatch => "TYPE_NOT_REGEXP",
            };
            list.serialize_element(&One { r#type, name: &m.name, pattern: &m.value, rendered: m })?;
        }
        list.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule<'e> {
    source_matchers: Matchers<'e>,
    target_matchers: Matchers<'e>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    equal_labels: &'e [String],
}
impl<'e> Rule<'e> {
    fn of(r: &'e RuleInfo) -> Rule<'e> {
        Rule { source_matchers: Matchers(&r.source), target_matchers: Matchers(&r.target), equal_labels: &r.equal }
    }
}

struct SilenceJson<'e>(&'e Silence);
impl Serialize for SilenceJson<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Set<'e> {
            matchers: Matchers<'e>,
        }
        struct Annotations<'e>(&'e std::collections::BTreeMap<String, String>);
        impl Serialize for Annotations<'_> {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                label_set(self.0.iter().map(|(k, v)| (k.as_str(), v.as_str())), s)
            }
        }
        let silence = self.0;
        let sets: Vec<Set<'_>> = silence.matcher_sets.iter().map(|m| Set { matchers: Matchers(m) }).collect();
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("id", &*silence.id)?;
        if let Some(first) = sets.first() {
            map.serialize_entry("matchers", &first.matchers)?;
        }
        if !silence.annotations.is_empty() {
            map.serialize_entry("annotations", &Annotations(&silence.annotations))?;
        }
        map.serialize_entry("startsAt", &Time(silence.starts_at_ms))?;
        map.serialize_entry("endsAt", &Time(silence.ends_at_ms))?;
        map.serialize_entry("updatedAt", &Time(silence.updated_at_ms))?;
        for (name, text) in [("createdBy", &silence.created_by), ("comment", &silence.comment)] {
            if !text.is_empty() {
                map.serialize_entry(name, text)?;
            }
        }
        map.serialize_entry("matcherSets", &sets)?;
        map.end()
    }
}

struct Notified<'e> {
    told: &'e Notification,
    flush: &'e FlushRecord,
    integration: &'static str,
    index: u32,
}
impl Serialize for Notified<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Integration {
            name: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            index: Option<String>,
        }
        let alerts: Vec<Hashed<'_>> = self
            .told
            .alerts
            .iter()
            .map(|a| {
                let ends_at = (!a.is_resolved).then_some(crate::time::ZERO);
                Hashed::with(&a.alert, AlertJson { alert: &a.alert, is_resolved: a.is_resolved, ends_at })
            })
            .collect();
        let of = |is_resolved: bool| -> Vec<Hashed<'_>> {
            let some = self.told.alerts.iter().filter(|a| a.is_resolved == is_resolved);
            some.map(|a| Hashed::alone(a.alert.hash())).collect()
        };
        let muted: Vec<Hashed<'_>> = self.flush.muted.iter().map(|h| Hashed::alone(*h)).collect();
        let mut map = s.serialize_map(None)?;
        for (name, list) in
            [("alerts", alerts), ("firingAlerts", of(false)), ("resolvedAlerts", of(true)), ("mutedAlerts", muted)]
        {
            if !list.is_empty() {
                map.serialize_entry(name, &list)?;
            }
        }
        let flush = self.flush;
        let group = Group { info: &flush.group, matchers: &flush.matchers, uuid: &flush.group_uuid };
        map.serialize_entry("groupInfo", &group)?;
        let (secs, ms) = (flush.repeat_ms / 1_000, flush.repeat_ms % 1_000);
        let repeat = if ms == 0 { format!("{secs}s") } else { format!("{secs}.{ms:03}s") };
        map.serialize_entry("repeatInterval", &repeat)?;
        let reason = match self.told.reason {
            Reason::First => "NOTIFY_REASON_FIRST_NOTIFICATION",
            Reason::NewAlerts => "NOTIFY_REASON_NEW_ALERTS_IN_GROUP",
            Reason::SomeResolved => "NOTIFY_REASON_NEW_RESOLVED_ALERTS",
            Reason::AllResolved => "NOTIFY_REASON_ALL_ALERTS_RESOLVED",
            Reason::Repeat => "NOTIFY_REASON_REPEAT_INTERVAL_ELAPSED",
        };
        map.serialize_entry("reason", reason)?;
        map.serialize_entry("flushId", &flush.id.to_string())?;
        let index = (self.index > 0).then(|| self.index.to_string());
        map.serialize_entry("integration", &Integration { name: self.integration, index })?;
        map.end()
    }
}
