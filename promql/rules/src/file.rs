//! Rule files: reading, and everything upstream refuses, in upstream's words with line and column.
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ferula_model::labels::{METRIC_NAME, quoted};
use ferula_model::{Labels, LabelsBuilder};
use ferula_promql_parser::Expr;
use ferula_yaml::Duration;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::text::AlertText;

/// One thing wrong with a rule file: `file: line:column: group "g", rule 1, "name": what`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {message}")]
pub struct FileError {
    pub file: String,
    /// With the place in front where one is known.
    pub message: String,
}

/// A checked rule group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupConfig {
    pub file: String,
    pub name: String,
    /// `None` takes the global evaluation interval.
    pub interval_ms: Option<i64>,
    pub query_offset_ms: Option<i64>,
    /// Most alerts or series a rule may give; 0 is any number.
    pub limit: u64,
    pub rules: Vec<RuleConfig>,
}

/// A checked rule. Equal configurations mean equal rules: a reload keeps their state.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleConfig {
    pub name: String,
    /// The expression and its canonical text.
    pub expr: Arc<Expr>,
    pub query: String,
    /// The group's labels overlaid by the rule's; of alerts they are templates.
    pub labels: Labels,
    pub kind: RuleConfigKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RuleConfigKind {
    Recording,
    Alerting { hold_ms: i64, keep_firing_ms: i64, annotations: Vec<(String, String)> },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileYaml {
    groups: Vec<Spanned<GroupYaml>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GroupYaml {
    name: String,
    interval: Option<Duration>,
    query_offset: Option<Duration>,
    limit: i64,
    labels: BTreeMap<String, String>,
    rules: Vec<RuleYaml>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RuleYaml {
    record: Option<Spanned<String>>,
    alert: Option<Spanned<String>>,
    expr: Option<Spanned<String>>,
    r#for: Option<Duration>,
    keep_firing_for: Option<Duration>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// Reads and checks a rule file. All complaints are answered, not only the first.
pub fn parse(file: &str, text: &str) -> Result<Vec<GroupConfig>, Vec<FileError>> {
    let yaml: FileYaml = ferula_yaml::from_str("", text)
        .map_err(|e| vec![FileError { file: file.to_owned(), message: e.to_string() }])?;
    let mut check = Check { file, errors: Vec::new(), names: HashSet::new() };
    let groups: Vec<GroupConfig> = yaml.groups.into_iter().map(|g| check.group(g)).collect();
    if check.errors.is_empty() { Ok(groups) } else { Err(check.errors) }
}

struct Check<'a> {
    file: &'a str,
    errors: Vec<FileError>,
    names: HashSet<String>,
}

/// Whether Prometheus 3 takes it for a label name: any text but the empty one.
fn is_label_name(name: &str) -> bool {
    !name.is_empty()
}

fn place<T>(node: &Option<Spanned<T>>) -> String {
    let (line, column) = node.as_ref().map_or((0, 0), |n| (n.referenced.line(), n.referenced.column()));
    format!("{line}:{column}")
}

fn text(node: &Option<Spanned<String>>) -> &str {
    node.as_ref().map_or("", |n| n.value.as_str())
}

impl Check<'_> {
    fn error(&mut self, message: impl Into<String>) {
        self.errors.push(FileError { file: self.file.to_owned(), message: message.into() });
    }

    fn group(&mut self, node: Spanned<GroupYaml>) -> GroupConfig {
        let at = format!("{}:{}", node.referenced.line(), node.referenced.column());
        let g = node.value;
        if g.name.is_empty() {
            self.error(format!("{at}: Groupname must not be empty"));
        }
        if !self.names.insert(g.name.clone()) {
            self.error(format!("{at}: groupname: {} is repeated in the same file", quoted(&g.name)));
        }
        for name in g.labels.keys() {
            if !is_label_name(name) || name == METRIC_NAME {
                self.error(format!("{at}: invalid label name: {name}"));
            }
        }
        let rules = g.rules.into_iter().enumerate().filter_map(|(i, r)| self.rule(&g.name, i + 1, &g.labels, r)).collect();
        GroupConfig {
            file: self.file.to_owned(),
            name: g.name,
            interval_ms: g.interval.map(Duration::ms).filter(|ms| *ms > 0),
            query_offset_ms: g.query_offset.map(Duration::ms),
            limit: u64::try_from(g.limit).unwrap_or(0),
            rules,
        }
    }

    fn rule(&mut self, group: &str, number: usize, shared: &BTreeMap<String, String>, r: RuleYaml) -> Option<RuleConfig> {
        let (record, alert, expr) = (text(&r.record).to_owned(), text(&r.alert).to_owned(), text(&r.expr).to_owned());
        let name = if alert.is_empty() { record.clone() } else { alert.clone() };
        let before = self.errors.len();
        let mut complain = |at: &str, what: String| {
            let at = if at.is_empty() { String::new() } else { format!("{at}: ") };
            self.error(format!("{at}group {}, rule {number}, {}: {what}", quoted(group), quoted(&name)));
        };
        let (record_at, expr_at) = (place(&r.record), place(&r.expr));
        let both = format!("{record_at}: {}", place(&r.alert));
        if !record.is_empty() && !alert.is_empty() {
            complain(&both, "only one of 'record' and 'alert' must be set".into());
        }
        if record.is_empty() && alert.is_empty() {
            complain("0:0: 0:0", "one of 'record' or 'alert' must be set".into());
        }
        let mut parsed = None;
        if expr.is_empty() {
            complain("0:0", "field 'expr' must be set in rule".into());
        } else {
            match ferula_promql_parser::parse_expr(&expr) {
                Ok(e) => parsed = Some(e),
                Err(e) => complain(&expr_at, format!("could not parse expression: {e}")),
            }
        }
        if !record.is_empty() {
            for (set, field) in [
                (!r.annotations.is_empty(), "annotations"),
                (r.r#for.is_some_and(|d| !d.is_zero()), "for"),
                (r.keep_firing_for.is_some_and(|d| !d.is_zero()), "keep_firing_for"),
            ] {
                if set {
                    complain(&record_at, format!("invalid field '{field}' in recording rule"));
                }
            }
            if record.contains(['{', '}']) {
                complain(&record_at, format!("braces present in the recording rule name; should it be in expr?: {record}"));
            }
        }
        for name in r.labels.keys() {
            if !is_label_name(name) || name == METRIC_NAME {
                complain("", format!("invalid label name: {name}"));
            }
        }
        for name in r.annotations.keys().filter(|n| !is_label_name(n)) {
            complain("", format!("invalid annotation name: {name}"));
        }
        if !alert.is_empty() {
            for (what, texts) in [("label", &r.labels), ("annotation", &r.annotations)] {
                for (field, template) in texts {
                    if let Err(e) = AlertText::check(&alert, template) {
                        complain("", format!("{what} {}: {e}", quoted(field)));
                    }
                }
            }
        }
        if self.errors.len() > before {
            return None;
        }
        let expr = Arc::new(parsed?);
        let mut labels = LabelsBuilder::new();
        for (n, v) in shared.iter().chain(&r.labels) {
            labels.set(n, v);
        }
        let kind = if alert.is_empty() {
            RuleConfigKind::Recording
        } else {
            RuleConfigKind::Alerting {
                hold_ms: r.r#for.map_or(0, Duration::ms),
                keep_firing_ms: r.keep_firing_for.map_or(0, Duration::ms),
                annotations: r.annotations.into_iter().collect(),
            }
        };
        Some(RuleConfig { name, query: expr.to_string(), expr, labels: labels.labels(), kind })
    }
}
