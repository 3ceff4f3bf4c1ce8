//! What `amtool` answers without a server: whether a file is valid, where an alert would go, what a template makes.
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use ferula_model::{Clock, Labels};

use crate::config::{Config, ConfigError, Route};
use crate::notify::template::{TemplateError, TemplateSet};
use crate::route::RouteTree;

#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Template(#[from] TemplateError),
    #[error("{file}: {reason}")]
    Unreadable { file: String, reason: String },
}

impl CheckError {
    /// The reason alone, as `amtool check-config` prints it after `FAILED:`.
    pub fn reason(&self) -> String {
        match self {
            CheckError::Config(e) => e.reason(),
            other => other.to_string(),
        }
    }
}

/// Reads a file as the server would, templates included, but lets integrations pass that this build does not send
/// through. The text is what `amtool check-config` prints below `SUCCESS`.
pub fn check_config(file: &Path, clock: Arc<dyn Clock>) -> Result<(Config, String), CheckError> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|e| CheckError::Unreadable { file: name.clone(), reason: e.to_string() })?;
    let config = Config::check(&name, &text)?;
    TemplateSet::load(&config.templates, file.parent().unwrap_or(Path::new(".")), clock)?;
    let text = found(&config);
    Ok((config, text))
}

/// A check in the two steps `amtool check-config` prints.
#[derive(Debug)]
pub struct Checked {
    /// What the file holds, or why it is refused.
    pub found: Result<String, String>,
    /// None where the file names no templates, or was refused.
    pub templates: Option<Result<(), String>>,
}

impl Checked {
    pub fn is_valid(&self) -> bool {
        self.found.is_ok() && self.templates.as_ref().is_none_or(Result::is_ok)
    }
}

/// As [`check_config`], telling a refused file from a refused template.
pub fn check_parts(file: &Path, clock: Arc<dyn Clock>) -> Checked {
    let name = file.display().to_string();
    let read = std::fs::read_to_string(file).map_err(|e| e.to_string());
    match read.and_then(|text| Config::check(&name, &text).map_err(|e| e.reason())) {
        Err(reason) => Checked { found: Err(reason), templates: None },
        Ok(config) => {
            let directory = file.parent().unwrap_or(Path::new("."));
            let templates = (!config.templates.is_empty())
                .then(|| TemplateSet::load(&config.templates, directory, clock).map(|_| ()).map_err(|e| e.to_string()));
            Checked { found: Ok(found(&config)), templates }
        }
    }
}

fn found(config: &Config) -> String {
    format!(
        "Found:\n - global config\n - route\n - {} inhibit rules\n - {} receivers\n - {} templates\n",
        config.inhibit_rules.len(),
        config.receivers.len(),
        config.templates.len()
    )
}

/// The routes that take an alert with these labels, as `amtool config routes test --tree` draws them.
pub fn matching_routes(config: &Config, labels: &Labels) -> String {
    let mut out = String::from(".\n");
    let Some(root) = &config.route else { return out };
    let mut todo = vec![(root, root.receiver.as_str(), String::new(), true)];
    while let Some((route, receiver, indent, is_last)) = todo.pop() {
        let receiver = if route.receiver.is_empty() { receiver } else { &route.receiver };
        let mut below: Vec<&Route> = Vec::new();
        for child in &route.routes {
            if crate::matcher::all_match(&child.all_matchers(), labels) {
                below.push(child);
                if !child.r#continue {
                    break;
                }
            }
        }
        let matchers = route.all_matchers();
        let shown = if matchers.is_empty() { "default-route".to_owned() } else { crate::matcher::print_set(&matchers) };
        let carries_on = if route.r#continue && below.is_empty() { "  continue: true" } else { "" };
        let told = if below.is_empty() { format!("{carries_on}  receiver: {receiver}") } else { String::new() };
        let _ = writeln!(out, "{indent}{}{shown}{told}", if is_last { "└── " } else { "├── " });
        let deeper = format!("{indent}{}", if is_last { "    " } else { "│   " });
        let n = below.len();
        todo.extend(below.into_iter().enumerate().rev().map(|(i, r)| (r, receiver, deeper.clone(), i + 1 == n)));
    }
    out
}

/// The receivers an alert with these labels goes to, in order: `amtool config routes test`.
pub fn receivers_of(config: &Config, labels: &Labels) -> Vec<String> {
    let Some(root) = &config.route else { return Vec::new() };
    let tree = RouteTree::new(root);
    tree.matches(labels).iter().filter_map(|r| tree.node(*r)).map(|n| n.options.receiver.to_string()).collect()
}

/// The routing tree as `amtool config routes show` draws it.
pub fn routes(config: &Config) -> String {
    let mut out = String::from("Routing tree:\n.\n");
    if let Some(root) = &config.route {
        let mut todo = vec![(root, root.receiver.as_str(), String::new(), true)];
        while let Some((route, receiver, indent, is_last)) = todo.pop() {
            let receiver = if route.receiver.is_empty() { receiver } else { &route.receiver };
            let branch = if is_last { "└── " } else { "├── " };
            let _ = writeln!(out, "{indent}{branch}{}", line(route, receiver));
            let below = format!("{indent}{}", if is_last { "    " } else { "│   " });
            let last = route.routes.len();
            let children = route.routes.iter().enumerate().rev();
            todo.extend(children.map(|(i, child)| (child, receiver, below.clone(), i + 1 == last)));
        }
    }
    out
}

fn line(route: &Route, receiver: &str) -> String {
    let matchers = route.all_matchers();
    let shown = if matchers.is_empty() { "default-route".to_owned() } else { crate::matcher::print_set(&matchers) };
    let carries_on = if route.r#continue { "  continue: true" } else { "" };
    format!("{shown}{carries_on}  receiver: {receiver}")
}

/// Renders `text` over `data` (JSON as the webhook gets it) with our default templates and the files of `globs`:
/// `amtool template render`. `html` escapes as e-mail needs it.
pub fn render(
    globs: &[String],
    text: &str,
    data: &serde_json::Value,
    html: bool,
    clock: Arc<dyn Clock>,
) -> Result<String, CheckError> {
    let set = TemplateSet::load(globs, Path::new("."), clock)?;
    Ok(set.render(text, data, html).map_err(TemplateError::Template)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferula_model::SystemClock;

    const CONFIG: &str = "route:\n  receiver: a\n  routes:\n  - matchers: [x=1]\n    continue: true\n    routes: [{matchers: [y=2], receiver: c}]\n  - match: {x: '1'}\n    receiver: b\nreceivers: [{name: a}, {name: b}, {name: c}]\n";

    #[test]
    fn routes_are_drawn_and_tested() {
        let config = Config::parse("t", CONFIG).unwrap();
        assert_eq!(receivers_of(&config, &Labels::from_pairs([("x", "1"), ("y", "2")])), ["c", "b"]);
        assert_eq!(receivers_of(&config, &Labels::from_pairs([("x", "3")])), ["a"]);
        let drawn = "Routing tree:\n.\n└── default-route  receiver: a\n    ├── {x=\"1\"}  continue: true  receiver: a\n    │   └── {y=\"2\"}  receiver: c\n    └── {x=\"1\"}  receiver: b\n";
        assert_eq!(routes(&config), drawn);
    }

    #[test]
    fn templates_render_over_json() {
        let data = serde_json::json!({"status": "firing", "receiver": "r", "externalURL": "http://am",
            "groupLabels": {"alertname": "A"}, "commonLabels": {"alertname": "A", "job": "<j>"}, "commonAnnotations": {},
            "alerts": [{"status": "firing", "labels": {"alertname": "A", "job": "<j>"}, "annotations": {}, "startsAt": "2026-01-02T03:04:05Z",
                "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://g", "fingerprint": "00"}]});
        let render = |text: &str, html| render(&[], text, &data, html, Arc::new(SystemClock)).unwrap();
        assert_eq!(render("{{ template \"email.default.subject\" . }}", false), "[FIRING:1] A (<j>)");
        assert_eq!(
            render(
                "{{ range .Alerts.Firing }}{{ .Labels.job }} {{ .StartsAt.Unix }} {{ .Labels.none }}{{ end }}",
                true
            ),
            "&lt;j&gt; 1767323045 "
        );
        let mail = render("{{ template \"email.default.html\" . }}", true);
        assert!(
            mail.contains("[FIRING:1] A (&lt;j&gt;)") && mail.contains("href=\"http://g\"") && !mail.contains("<j>"),
            "{mail}"
        );
    }
}
