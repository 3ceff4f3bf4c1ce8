//! Label and annotation templates of alerts: parsed once, run per alert.
use std::sync::Arc;

use ferula_model::{LabelView, Labels};
use ferula_template::functions::prometheus::{self, Host};
use ferula_template::{Functions, MissingKey, Object, Shape, Templates, Value};

/// The variables every alert template begins with, as upstream writes them; error columns count them.
const VARIABLES: &str =
    "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// One label or annotation of an alert.
#[derive(Clone, Debug)]
pub(crate) enum AlertText {
    /// Nothing to expand.
    Plain(String),
    Template {
        name: String,
        set: Box<Templates>,
    },
    /// Does not parse, with the text that upstream gives instead of a result.
    Broken(String),
}

impl AlertText {
    /// Parses `text` as a template of the alert `alert`.
    pub fn new(alert: &str, text: &str, functions: &Templates) -> AlertText {
        if !text.contains("{{") {
            return AlertText::Plain(text.to_owned());
        }
        let name = format!("__alert_{alert}");
        let mut set = functions.clone();
        match set.parse(&name, &format!("{VARIABLES}{text}")) {
            Ok(()) => AlertText::Template { name, set: Box::new(set) },
            Err(e) => AlertText::Broken(format!("error parsing template {name}: {e}")),
        }
    }

    /// Whether `text` parses; the error is what rule files are refused with.
    pub fn check(alert: &str, text: &str) -> Result<(), ferula_template::Error> {
        if !text.contains("{{") {
            return Ok(());
        }
        thread_local! {
            static EMPTY: Templates = functions("");
        }
        EMPTY.with(|t| t.clone().parse(&format!("__alert_{alert}"), &format!("{VARIABLES}{text}")))
    }

    /// The expanded text, or `<error expanding template: ...>` with the reason, which is also answered for the log.
    pub fn expand(&self, data: &Value, host: &Functions) -> (String, Option<String>) {
        let failed = |why: String| (format!("<error expanding template: {why}>"), Some(why));
        match self {
            AlertText::Plain(text) => (text.clone(), None),
            AlertText::Broken(why) => failed(why.clone()),
            AlertText::Template { name, set } => match set.execute_with(name, data, host) {
                Ok(text) => (text, None),
                Err(e) => failed(format!("error executing template {name}: {e}")),
            },
        }
    }
}

/// An empty set with Prometheus's functions: what the texts of one manager share.
pub(crate) fn functions(external_url: &str) -> Templates {
    Templates::new(prometheus::functions(external_url)).missing_key(MissingKey::Zero)
}

/// The functions of one evaluation.
pub(crate) fn evaluation(host: Arc<dyn Host>) -> Functions {
    prometheus::evaluation(host)
}

/// What templates see of one alert.
pub(crate) fn data(labels: Labels, external_labels: &Value, external_url: &Value, value: Value) -> Value {
    Value::object(Data {
        labels: label_map(labels),
        external_labels: external_labels.clone(),
        external_url: external_url.clone(),
        value,
    })
}

/// A label set as the `map[string]string` of templates; nothing is copied.
pub(crate) fn label_map(labels: Labels) -> Value {
    Value::object(LabelMap(labels))
}

struct Data {
    labels: Value,
    external_labels: Value,
    external_url: Value,
    value: Value,
}

impl Object for Data {
    fn type_name(&self) -> &str {
        "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }"
    }
    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "Labels" => Some(self.labels.clone()),
            "ExternalLabels" => Some(self.external_labels.clone()),
            "ExternalURL" => Some(self.external_url.clone()),
            "Value" => Some(self.value.clone()),
            _ => None,
        }
    }
    fn fields(&self) -> Vec<(&'static str, Value)> {
        ["Labels", "ExternalLabels", "ExternalURL", "Value"]
            .into_iter()
            .filter_map(|n| Some((n, self.field(n)?)))
            .collect()
    }
}

struct LabelMap(Labels);

impl Object for LabelMap {
    fn type_name(&self) -> &str {
        "map[string]string"
    }
    fn shape(&self) -> Shape {
        Shape::Map
    }
    fn field(&self, name: &str) -> Option<Value> {
        self.0.get(name).map(Value::str)
    }
    fn entries(&self) -> Vec<(Arc<str>, Value)> {
        let mut out = Vec::with_capacity(self.0.len());
        self.0.each(&mut |n, v| out.push((Arc::from(n), Value::str(v))));
        out
    }
    fn zero(&self) -> Value {
        Value::str("")
    }
}
