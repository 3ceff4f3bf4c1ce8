//! Rule files: reading, and everything upstream refuses, in upstream's words with line and column.
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ferula_model::labels::{METRIC_NAME, quoted};
use ferula_model::{Labels, LabelsBuilder};
use ferula_promql_parser::{Expr, ParseOptions, parse_expr_with};
use ferula_yaml::Duration;
use serde::Deserialize;

use crate::places::{Places, RulePlaces};
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

impl GroupConfig {
    /// The name of the group in metrics and logs: `file;name`.
    pub fn key(&self) -> String {
        format!("{};{}", self.file, self.name)
    }
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
    groups: Vec<GroupYaml>,
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
    record: String,
    alert: String,
    expr: String,
    r#for: Option<Duration>,
    keep_firing_for: Option<Duration>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// Reads and checks a rule file. All complaints are answered, not only the first.
pub fn parse(file: &str, text: &str) -> Result<Vec<GroupConfig>, Vec<FileError>> {
    parse_with(file, text, &ParseOptions::default())
}

/// As [`parse`], with the feature gates of expressions.
pub fn parse_with(file: &str, text: &str, options: &ParseOptions) -> Result<Vec<GroupConfig>, Vec<FileError>> {
    let text = first_document(file, text);
    let yaml: FileYaml = ferula_yaml::from_str("", text)
        .map_err(|e| vec![FileError { file: file.to_owned(), message: e.to_string() }])?;
    let mut check = Check { file, text, options, places: None, errors: Vec::new(), names: HashSet::new() };
    let groups: Vec<GroupConfig> = yaml.groups.into_iter().enumerate().map(|(i, g)| check.group(i, g)).collect();
    if check.errors.is_empty() { Ok(groups) } else { Err(check.errors) }
}

/// Upstream reads the first document of a file and no other.
fn first_document<'t>(file: &str, text: &'t str) -> &'t str {
    let (mut begun, mut at) = (false, 0);
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        if begun && (bare == "---" || bare.starts_with("--- ") || bare == "...") {
            tracing::warn!(file, "only the first YAML document of a rule file is read");
            return text.get(..at).unwrap_or(text);
        }
        begun |= !(bare.is_empty() || bare.starts_with('#') || bare == "---");
        at += line.len();
    }
    text
}

struct Check<'a> {
    file: &'a str,
    text: &'a str,
    options: &'a ParseOptions,
    /// Where things are; looked up at the first complaint.
    places: Option<Places>,
    errors: Vec<FileError>,
    names: HashSet<String>,
}

/// Whether Prometheus 3 takes it for a label name: any text but the empty one.
fn is_label_name(name: &str) -> bool {
    !name.is_empty()
}

impl Check<'_> {
    fn error(&mut self, message: impl Into<String>) {
        self.errors.push(FileError { file: self.file.to_owned(), message: message.into() });
    }

    fn places(&mut self) -> &Places {
        self.places.get_or_insert_with(|| Places::of(self.text))
    }

    fn group_error(&mut self, index: usize, what: String) {
        let at = self.places().group(index).to_owned();
        self.error(format!("{at}: {what}"));
    }

    fn group(&mut self, index: usize, g: GroupYaml) -> GroupConfig {
        if g.name.is_empty() {
            self.group_error(index, "Groupname must not be empty".into());
        }
        if !self.names.insert(g.name.clone()) {
            self.error(format!("0:0: groupname: {} is repeated in the same file", quoted(&g.name)));
        }
        for name in g.labels.keys() {
            if !is_label_name(name) || name == METRIC_NAME {
                self.group_error(index, format!("invalid label name: {name}"));
            }
        }
        let rules =
            g.rules.into_iter().enumerate().filter_map(|(i, r)| self.rule((index, i), &g.name, &g.labels, r)).collect();
        GroupConfig {
            file: self.file.to_owned(),
            name: g.name,
            interval_ms: g.interval.map(Duration::ms).filter(|ms| *ms > 0),
            query_offset_ms: g.query_offset.map(Duration::ms),
            limit: u64::try_from(g.limit).unwrap_or(0),
            rules,
        }
    }

    fn rule(
        &mut self,
        at: (usize, usize),
        group: &str,
        shared: &BTreeMap<String, String>,
        r: RuleYaml,
    ) -> Option<RuleConfig> {
        let name = if r.alert.is_empty() { r.record.clone() } else { r.alert.clone() };
        let before = self.errors.len();
        let mut complaints: Vec<(Place, String)> = Vec::new();
        let mut complain = |place: Place, what: String| complaints.push((place, what));
        match (r.record.is_empty(), r.alert.is_empty()) {
            (false, false) => complain(Place::Both, "only one of 'record' and 'alert' must be set".into()),
            (true, true) => complain(Place::Both, "one of 'record' or 'alert' must be set".into()),
            _ => {}
        }
        let mut parsed = None;
        if r.expr.is_empty() {
            complain(Place::Expr, "field 'expr' must be set in rule".into());
        } else {
            match parse_expr_with(&r.expr, self.options) {
                Ok(e) => parsed = Some(e),
                Err(e) => complain(Place::Expr, format!("could not parse expression: {e}")),
            }
        }
        if !r.record.is_empty() {
            for (set, field) in [
                (!r.annotations.is_empty(), "annotations"),
                (r.r#for.is_some_and(|d| !d.is_zero()), "for"),
                (r.keep_firing_for.is_some_and(|d| !d.is_zero()), "keep_firing_for"),
            ] {
                if set {
                    complain(Place::Record, format!("invalid field '{field}' in recording rule"));
                }
            }
            if r.record.contains(['{', '}']) {
                let what = "braces present in the recording rule name; should it be in expr?";
                complain(Place::Record, format!("{what}: {}", r.record));
            }
        }
        for name in r.labels.keys().filter(|n| !is_label_name(n) || *n == METRIC_NAME) {
            complain(Place::None, format!("invalid label name: {name}"));
        }
        for name in r.annotations.keys().filter(|n| !is_label_name(n)) {
            complain(Place::None, format!("invalid annotation name: {name}"));
        }
        if !r.alert.is_empty() {
            for (what, texts) in [("label", &r.labels), ("annotation", &r.annotations)] {
                for (field, template) in texts {
                    if let Err(e) = AlertText::check(&r.alert, template) {
                        complain(Place::None, format!("{what} {}: {e}", quoted(field)));
                    }
                }
            }
        }
        for (place, what) in complaints {
            let place = self.places().rule(at.0, at.1).map_or_else(String::new, |p| place.of(p));
            let (group, name) = (quoted(group), quoted(&name));
            self.error(format!("{place}group {group}, rule {}, {name}: {what}", at.1 + 1));
        }
        if self.errors.len() > before {
            return None;
        }
        let expr = Arc::new(parsed?);
        let mut labels = LabelsBuilder::new();
        for (n, v) in shared.iter().chain(&r.labels) {
            labels.set(n, v);
        }
        let kind = if r.alert.is_empty() {
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

/// The part of a rule that a complaint is about.
enum Place {
    None,
    Record,
    Expr,
    Both,
}

impl Place {
    fn of(self, p: &RulePlaces) -> String {
        match self {
            Place::None => String::new(),
            Place::Record => format!("{}: ", p.record),
            Place::Expr => format!("{}: ", p.expr),
            Place::Both => format!("{}: {}: ", p.record, p.alert),
        }
    }
}
