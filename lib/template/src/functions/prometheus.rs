//! The functions of rule templates and consoles, as Prometheus 3 defines them.
//!
//! What belongs to one evaluation (its time, its queries) comes through [`Host`] and is given to
//! [`Templates::execute_with`](crate::Templates::execute_with) as overrides; templates are parsed once.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::text::{ANY, STR};
use super::{Function, Functions, Type, arg, escape, humanize, text, text_arg};
use crate::value::{List, Map, Object, Safe, Value};

/// One sample of a query a template made.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

const QUERY_RESULT: &str = "template.queryResult";
const RESULT: Type = Type::Named(QUERY_RESULT);
const SAMPLE: Type = Type::Named("*template.sample");

/// What one evaluation offers to its templates.
pub trait Host: Send + Sync {
    /// An instant query at the evaluation's time.
    fn query(&self, expr: &str) -> Result<Vec<Sample>, String>;
    /// The evaluation's time in milliseconds since 1970.
    fn now_ms(&self) -> i64;
}

/// All functions but those of the evaluation; `query` and `now` are there by name and fail when called.
pub fn functions(external_url: &str) -> Functions {
    let mut f = Functions::new();
    text::add(&mut f);
    let url: Arc<str> = Arc::from(external_url);
    let path: Arc<str> = Arc::from(url_path(external_url));
    f.add("externalURL", Function::new(&[], move |_| Ok(Value::Str(url.clone()))))
        .add("pathPrefix", Function::new(&[], move |_| Ok(Value::Str(path.clone()))))
        .add("query", Function::new(STR, |_| Err("no query engine here".into())))
        .add("now", Function::new(&[], |_| Err("no evaluation time here".into())))
        .add("first", Function::new(&[RESULT], |a| first(arg(a, 0))))
        .add("label", Function::new(&[Type::Str, SAMPLE], |a| label(text_arg(a, 0), arg(a, 1))))
        .add("value", Function::new(&[SAMPLE], |a| with_sample(arg(a, 0), |s| Value::Float(s.value))))
        .add("strvalue", Function::new(&[SAMPLE], |a| label("__value__", arg(a, 0))))
        .add("sortByLabel", Function::new(&[Type::Str, RESULT], |a| sort_by_label(text_arg(a, 0), arg(a, 1))))
        .add(
            "args",
            Function::variadic(ANY, |a| {
                Ok(Value::map(a.iter().enumerate().map(|(i, v)| (format!("arg{i}"), v.clone()))))
            }),
        )
        .add("title", Function::new(STR, |a| Ok(text::title(text_arg(a, 0), false).into())))
        .add("graphLink", Function::new(STR, |a| Ok(graph_link(text_arg(a, 0)).into())))
        .add("tableLink", Function::new(STR, |a| Ok(table_link(text_arg(a, 0)).into())))
        .add("urlQueryEscape", Function::new(STR, |a| Ok(escape::url_query(text_arg(a, 0)).into())))
        .add("stripPort", Function::new(STR, |a| Ok(strip_port(text_arg(a, 0)).into())))
        .add("stripDomain", Function::new(STR, |a| Ok(strip_domain(text_arg(a, 0)).into())))
        .add(
            "parseDuration",
            Function::new(STR, |a| {
                let ms = ferula_model::duration::parse_ms(text_arg(a, 0)).map_err(|e| e.to_string())?;
                Ok(Value::Float(ms as f64 / 1000.0))
            }),
        );
    numbers(&mut f);
    f
}

/// What consoles have besides: `tmpl`, which runs a template by a name it computes.
pub fn console() -> Functions {
    let mut f = Functions::new();
    f.add(
        "tmpl",
        Function::with_env(&[Type::Str, Type::Any], |env, a| {
            let out = env.execute(text_arg(a, 0), arg(a, 1)).map_err(|e| e.to_string())?;
            Ok(Value::Safe(Safe::Html, out.into()))
        }),
    );
    f
}

fn numbers(f: &mut Functions) {
    f.add("humanize", Function::new(ANY, |a| Ok(humanize::humanize(humanize::to_float(arg(a, 0))?).into())))
        .add("humanize1024", Function::new(ANY, |a| Ok(humanize::humanize1024(humanize::to_float(arg(a, 0))?).into())))
        .add(
            "humanizePercentage",
            Function::new(ANY, |a| Ok(humanize::humanize_percentage(humanize::to_float(arg(a, 0))?).into())),
        )
        .add(
            "humanizeTimestamp",
            Function::new(ANY, |a| humanize::humanize_timestamp(humanize::to_float(arg(a, 0))?).map(Value::from)),
        )
        .add(
            "toTime",
            Function::new(ANY, |a| {
                let ns = humanize::nanoseconds(humanize::to_float(arg(a, 0))?)?;
                crate::time::from_nanos(ns).map(Value::from).ok_or_else(|| "time out of range".to_owned())
            }),
        )
        .add(
            "toDuration",
            Function::new(ANY, |a| humanize::nanoseconds(humanize::to_float(arg(a, 0))?).map(Value::Duration)),
        );
}

/// The functions of one evaluation, to be laid over [`functions`].
pub fn evaluation(host: Arc<dyn Host>) -> Functions {
    let mut f = Functions::new();
    let now = host.clone();
    f.add("now", Function::new(&[], move |_| Ok(Value::Float(now.now_ms() as f64 / 1000.0)))).add(
        "query",
        Function::new(STR, move |a| {
            let samples = host.query(text_arg(a, 0))?;
            let items = samples.into_iter().map(|s| Value::Object(Arc::new(SampleObject(s)))).collect();
            Ok(Value::List(Arc::new(List { items, type_name: QUERY_RESULT })))
        }),
    );
    f
}

/// The path of a URL without its trailing slash as given, for links within the server.
fn url_path(url: &str) -> &str {
    let after = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = after.find('/').map_or("", |at| &after[at..]);
    path.split(['?', '#']).next().unwrap_or("")
}

struct SampleObject(Sample);

impl Object for SampleObject {
    fn type_name(&self) -> &str {
        "*template.sample"
    }
    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "Labels" => Some(Value::Map(Arc::new(Map {
                entries: self.0.labels.iter().map(|(n, v)| (Arc::from(n.as_str()), Value::str(v))).collect(),
                type_name: "map[string]string",
                zero: Value::str(""),
            }))),
            "Value" => Some(Value::Float(self.0.value)),
            _ => None,
        }
    }
    fn fields(&self) -> Vec<(&'static str, Value)> {
        ["Labels", "Value"].into_iter().filter_map(|n| Some((n, self.field(n)?))).collect()
    }
}

/// Reads a sample back from the value a template passed around.
fn with_sample<T>(v: &Value, f: impl FnOnce(&Sample) -> T) -> Result<T, String> {
    let Value::Object(o) = v else {
        return Err(format!("wrong type for value; expected *template.sample; got {}", v.type_name()));
    };
    let labels: BTreeMap<Arc<str>, Value> = match o.field("Labels") {
        Some(Value::Map(m)) => m.entries.clone(),
        _ => BTreeMap::new(),
    };
    let value = match o.field("Value") {
        Some(Value::Float(f)) => f,
        _ => return Err(format!("wrong type for value; expected *template.sample; got {}", v.type_name())),
    };
    let labels = labels.into_iter().map(|(n, v)| (n.to_string(), v.as_str().unwrap_or("").to_owned())).collect();
    Ok(f(&Sample { labels, value }))
}

fn label(name: &str, v: &Value) -> Result<Value, String> {
    with_sample(v, |s| s.labels.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v).into())
}

fn first(v: &Value) -> Result<Value, String> {
    let items = v.items().unwrap_or_default();
    items.first().cloned().ok_or_else(|| "first() called on vector with no elements".to_owned())
}

fn sort_by_label(name: &str, v: &Value) -> Result<Value, String> {
    let items = v.items().unwrap_or_default();
    let mut keyed = Vec::with_capacity(items.len());
    for item in items.iter() {
        keyed.push((label(name, item)?.to_string(), item.clone()));
    }
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    let items = keyed.into_iter().map(|(_, v)| v).collect();
    Ok(Value::List(Arc::new(List { items, type_name: QUERY_RESULT })))
}

/// The page that draws an expression, relative to the external URL.
pub fn graph_link(expr: &str) -> String {
    format!("/graph?g0.expr={}&g0.tab=0", escape::url_query(expr))
}

/// The page that shows an expression as a table, relative to the external URL; what `generatorURL` ends in.
pub fn table_link(expr: &str) -> String {
    format!("/graph?g0.expr={}&g0.tab=1", escape::url_query(expr))
}

/// `net.SplitHostPort`, where it succeeds.
fn split_host_port(s: &str) -> Option<(&str, &str)> {
    let (host, port) = s.rsplit_once(':')?;
    if let Some(inner) = host.strip_prefix('[') {
        return Some((inner.strip_suffix(']')?, port)).filter(|(h, _)| !h.contains(['[', ']']));
    }
    (!host.contains([':', '[', ']']) && !port.contains(['[', ']'])).then_some((host, port))
}

fn strip_port(s: &str) -> String {
    split_host_port(s).map_or(s, |(host, _)| host).to_owned()
}

fn strip_domain(s: &str) -> String {
    let (host, port) = split_host_port(s).unwrap_or((s, ""));
    if host.parse::<IpAddr>().is_ok() {
        return s.to_owned();
    }
    let host = host.split('.').next().unwrap_or("");
    if port.is_empty() { host.to_owned() } else { format!("{host}:{port}") }
}
