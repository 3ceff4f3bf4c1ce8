//! What a notification says: one view for JSON payloads, the same as data of templates.
use std::collections::BTreeMap;
use std::sync::Arc;

use ferula_model::Labels;
use ferula_template::{Object, Shape, Value};
use serde::{Serialize, Serializer};

use crate::core::{Notification, NotifiedAlert};
use crate::time;

/// Labels as a JSON object, or as the `KV` of templates.
#[derive(Clone, Debug, Default)]
pub struct Kv(pub Labels);

impl Serialize for Kv {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter())
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertData {
    pub status: &'static str,
    pub labels: Kv,
    pub annotations: Kv,
    /// Milliseconds; None is Go's zero time.
    #[serde(serialize_with = "time::serialize")]
    starts_at: Option<i64>,
    #[serde(serialize_with = "time::serialize")]
    ends_at: Option<i64>,
    #[serde(rename = "generatorURL")]
    pub generator_url: Arc<str>,
    fingerprint: Fingerprint,
}

/// Sixteen hexadecimal digits; in a preview any text.
#[derive(Clone, Debug)]
enum Fingerprint {
    Of(u64),
    Text(Arc<str>),
}
impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fingerprint::Of(n) => write!(f, "{n:016x}"),
            Fingerprint::Text(text) => f.write_str(text),
        }
    }
}
impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Field order is the order of upstream's payload.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    pub receiver: Arc<str>,
    /// `firing` or `resolved`; a preview may have anything.
    pub status: Arc<str>,
    pub alerts: Vec<AlertData>,
    #[serde(rename = "notification_reason")]
    pub notification_reason: &'static str,
    pub group_labels: Kv,
    pub common_labels: Kv,
    pub common_annotations: Kv,
    #[serde(rename = "externalURL")]
    pub external_url: Arc<str>,
    /// Rendered route labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub route_labels: BTreeMap<String, String>,
}

fn alert(a: &NotifiedAlert) -> AlertData {
    AlertData {
        status: if a.is_resolved { "resolved" } else { "firing" },
        labels: Kv(a.alert.labels.clone()),
        annotations: Kv(a.alert.annotations.clone()),
        starts_at: Some(a.alert.starts_at_ms),
        ends_at: a.is_resolved.then_some(a.alert.ends_at_ms),
        generator_url: a.alert.generator_url.clone(),
        fingerprint: Fingerprint::Of(a.alert.fingerprint),
    }
}

/// The pairs that all sets have.
fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Kv {
    let Some(first) = sets.next() else { return Kv::default() };
    let mut pairs: Vec<(&str, &str)> = first.iter().collect();
    for set in sets {
        // Both are sorted by name: one walk over the set for all pairs.
        let mut of_set = set.iter().peekable();
        pairs.retain(|(n, v)| {
            while of_set.peek().is_some_and(|(name, _)| name < n) {
                of_set.next();
            }
            of_set.peek() == Some(&(*n, *v))
        });
        if pairs.is_empty() {
            break;
        }
    }
    Kv(Labels::from_sorted(pairs))
}

impl Data {
    /// With at most `alerts_max` alerts (0: all); also says how many were left out.
    pub fn new(n: &Notification, external_url: &Arc<str>, alerts_max: u64) -> (Data, usize) {
        let kept = if alerts_max == 0 {
            n.alerts.len()
        } else {
            usize::try_from(alerts_max).unwrap_or(usize::MAX).min(n.alerts.len())
        };
        let alerts = n.alerts.get(..kept).unwrap_or(&n.alerts);
        let data = Data {
            receiver: n.receiver.clone(),
            status: if alerts.iter().any(|a| !a.is_resolved) { "firing".into() } else { "resolved".into() },
            notification_reason: n.reason.as_str(),
            group_labels: Kv(n.group_labels.clone()),
            common_labels: common(alerts.iter().map(|a| &a.alert.labels)),
            common_annotations: common(alerts.iter().map(|a| &a.alert.annotations)),
            external_url: external_url.clone(),
            route_labels: BTreeMap::new(),
            alerts: alerts.iter().map(alert).collect(),
        };
        (data, n.alerts.len() - kept)
    }

    /// For templates.
    pub fn value(&self) -> Value {
        Value::object(Root(self.clone()))
    }
}

struct Root(Data);
impl Root {
    fn get(&self, name: &str) -> Option<Value> {
        let d = &self.0;
        Some(match name {
            "Receiver" => Value::str(&d.receiver),
            "Status" => Value::str(&d.status),
            "Alerts" => Value::object(Alerts(d.alerts.clone())),
            "NotificationReason" => Value::str(d.notification_reason),
            "GroupLabels" => kv(&d.group_labels),
            "CommonLabels" => kv(&d.common_labels),
            "CommonAnnotations" => kv(&d.common_annotations),
            "ExternalURL" => Value::str(&d.external_url),
            "RouteLabels" => kv(&Kv(Labels::from_pairs(&d.route_labels))),
            _ => return None,
        })
    }
}
impl Object for Root {
    fn type_name(&self) -> &str {
        "*template.Data"
    }
    fn field(&self, name: &str) -> Option<Value> {
        self.get(name)
    }
    fn fields(&self) -> Vec<(&'static str, Value)> {
        [
            ("receiver", "Receiver"),
            ("status", "Status"),
            ("alerts", "Alerts"),
            ("notification_reason", "NotificationReason"),
            ("groupLabels", "GroupLabels"),
            ("commonLabels", "CommonLabels"),
            ("commonAnnotations", "CommonAnnotations"),
            ("externalURL", "ExternalURL"),
        ]
        .into_iter()
        .filter_map(|(json, field)| Some((json, self.get(field)?)))
        .collect()
    }
}

struct Alerts(Vec<AlertData>);
impl Object for Alerts {
    fn type_name(&self) -> &str {
        "template.Alerts"
    }
    fn shape(&self) -> Shape {
        Shape::List
    }
    fn items(&self) -> Vec<Value> {
        self.0.iter().map(|a| Value::object(One(a.clone()))).collect()
    }
    fn method(&self, name: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        let status = match name {
            "Firing" => "firing",
            "Resolved" => "resolved",
            _ => return None,
        };
        let some = self.0.iter().filter(|a| a.status == status).cloned().collect();
        Some(Ok(Value::object(Alerts(some))))
    }
}

struct One(AlertData);
impl Object for One {
    fn type_name(&self) -> &str {
        "template.Alert"
    }
    fn field(&self, name: &str) -> Option<Value> {
        let a = &self.0;
        Some(match name {
            "Status" => Value::str(a.status),
            "Labels" => kv(&a.labels),
            "Annotations" => kv(&a.annotations),
            "StartsAt" => time::zoned(a.starts_at.unwrap_or(0)).into(),
            "EndsAt" => a.ends_at.map_or_else(time::zoned_zero, time::zoned).into(),
            "GeneratorURL" => Value::str(&a.generator_url),
            "Fingerprint" => Value::str(a.fingerprint.to_string()),
            _ => return None,
        })
    }
    fn fields(&self) -> Vec<(&'static str, Value)> {
        let names = [
            ("status", "Status"),
            ("labels", "Labels"),
            ("annotations", "Annotations"),
            ("startsAt", "StartsAt"),
            ("endsAt", "EndsAt"),
            ("generatorURL", "GeneratorURL"),
            ("fingerprint", "Fingerprint"),
        ];
        names.into_iter().filter_map(|(json, field)| Some((json, self.field(field)?))).collect()
    }
}

fn kv(labels: &Kv) -> Value {
    Value::object(Pairs(labels.0.clone()))
}

struct Pairs(Labels);
impl Pairs {
    /// Sorted by name, `alertname` first, as upstream lists them.
    fn sorted(&self) -> Vec<(&str, &str)> {
        let mut pairs: Vec<(&str, &str)> = self.0.iter().collect();
        pairs.sort_by_key(|(n, _)| (*n != "alertname", *n));
        pairs
    }
}
impl Object for Pairs {
    fn type_name(&self) -> &str {
        "template.KV"
    }
    fn shape(&self) -> Shape {
        Shape::Map
    }
    fn field(&self, name: &str) -> Option<Value> {
        self.0.get(name).map(Value::str)
    }
    fn zero(&self) -> Value {
        Value::str("")
    }
    fn entries(&self) -> Vec<(Arc<str>, Value)> {
        self.0.iter().map(|(n, v)| (Arc::from(n), Value::str(v))).collect()
    }
    fn method(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        Some(match name {
            "SortedPairs" => Ok(Value::object(PairList(
                self.sorted().into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            ))),
            "Names" => Ok(Value::strings(self.sorted().into_iter().map(|(n, _)| n))),
            "Values" => Ok(Value::strings(self.sorted().into_iter().map(|(_, v)| v))),
            "Remove" => match args.first().and_then(Value::items) {
                None => Err("wrong number of args for Remove: want 1 list of names".to_owned()),
                Some(names) => {
                    let gone = |n: &str| names.iter().any(|v| v.as_str() == Some(n));
                    Ok(Value::object(Pairs(Labels::from_sorted(self.0.iter().filter(|(n, _)| !gone(n))))))
                }
            },
            _ => return None,
        })
    }
    fn text(&self) -> Option<String> {
        Some(joined(self.sorted().into_iter()))
    }
}

/// `a=b, c=d`: how both print.
fn joined<'p>(pairs: impl Iterator<Item = (&'p str, &'p str)>) -> String {
    pairs.map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(", ")
}

struct PairList(Vec<(String, String)>);
impl Object for PairList {
    fn type_name(&self) -> &str {
        "template.Pairs"
    }
    fn shape(&self) -> Shape {
        Shape::List
    }
    fn items(&self) -> Vec<Value> {
        self.0.iter().map(|(n, v)| Value::object(Pair(n.clone(), v.clone()))).collect()
    }
    fn method(&self, name: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        match name {
            "Names" => Some(Ok(Value::strings(self.0.iter().map(|(n, _)| n)))),
            "Values" => Some(Ok(Value::strings(self.0.iter().map(|(_, v)| v)))),
            _ => None,
        }
    }
    fn text(&self) -> Option<String> {
        Some(joined(self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))))
    }
}

struct Pair(String, String);
impl Object for Pair {
    fn type_name(&self) -> &str {
        "template.Pair"
    }
    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "Name" => Some(Value::str(&self.0)),
            "Value" => Some(Value::str(&self.1)),
            _ => None,
        }
    }
    fn fields(&self) -> Vec<(&'static str, Value)> {
        vec![("Name", Value::str(&self.0)), ("Value", Value::str(&self.1))]
    }
}

/// A payload that came as JSON, as data for templates: what is missing is empty.
pub fn of_json(v: &serde_json::Value) -> Value {
    let text = |v: &serde_json::Value, name: &str| v[name].as_str().unwrap_or("").to_owned();
    let pairs = |v: &serde_json::Value, name: &str| {
        let map = v[name].as_object().into_iter().flatten();
        Kv(Labels::from_pairs(map.map(|(k, v)| (k.as_str(), v.as_str().unwrap_or("")))))
    };
    let status = |v: &serde_json::Value| if v["status"] == "resolved" { "resolved" } else { "firing" };
    let instant = |v: &serde_json::Value, name: &str| time::parse(&text(v, name)).ok().flatten();
    let alerts = v["alerts"].as_array().into_iter().flatten().map(|a| AlertData {
        status: status(a),
        labels: pairs(a, "labels"),
        annotations: pairs(a, "annotations"),
        starts_at: instant(a, "startsAt"),
        ends_at: instant(a, "endsAt"),
        generator_url: text(a, "generatorURL").into(),
        fingerprint: Fingerprint::Text(text(a, "fingerprint").into()),
    });
    Data {
        receiver: text(v, "receiver").into(),
        status: text(v, "status").into(),
        alerts: alerts.collect(),
        notification_reason: "",
        group_labels: pairs(v, "groupLabels"),
        common_labels: pairs(v, "commonLabels"),
        common_annotations: pairs(v, "commonAnnotations"),
        external_url: text(v, "externalURL").into(),
        route_labels: BTreeMap::new(),
    }
    .value()
}
