//! Templates of notifications: our defaults, then the files of the configuration, which may replace any of them.
use std::path::Path;
use std::sync::Arc;

use ferula_model::Clock;
use ferula_template::{Function, Functions, MissingKey, Templates, Type, Value, functions};

use super::data::{self, Data};

const DEFAULTS: [(&str, &str); 3] = [
    ("default.tmpl", include_str!("../../templates/default.tmpl")),
    ("email.tmpl", include_str!("../../templates/email.tmpl")),
    ("receivers.tmpl", include_str!("../../templates/receivers.tmpl")),
];

/// The largest template file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

#[derive(Clone, Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("{path}: {reason}")]
    File { path: String, reason: String },
    #[error(transparent)]
    Template(#[from] ferula_template::Error),
}

#[derive(Clone, Debug)]
pub struct TemplateSet {
    templates: Templates,
}

impl TemplateSet {
    /// Defaults plus every file the globs name, in order; a glob without a match is no error. Relative globs start at
    /// `directory`, the configuration's.
    pub fn load(globs: &[String], directory: &Path, clock: Arc<dyn Clock>) -> Result<TemplateSet, TemplateError> {
        let mut known = functions::alertmanager::functions(clock);
        // Bound anew for each notification, see `render`.
        known.add("routeLabels", Function::new(&[Type::Str], |_| Ok(Value::str(""))));
        let mut templates = Templates::new(known).missing_key(MissingKey::Zero);
        for (name, text) in DEFAULTS {
            templates.parse(name, text)?;
        }
        for pattern in globs {
            for path in glob(&directory.join(pattern)) {
                let failed = |reason: String| TemplateError::File { path: path.display().to_string(), reason };
                let size = std::fs::metadata(&path).map_err(|e| failed(e.to_string()))?.len();
                if size > FILE_BYTES_MAX {
                    return Err(failed(format!("{size} bytes are more than the {FILE_BYTES_MAX} a template may have")));
                }
                let text = std::fs::read_to_string(&path).map_err(|e| failed(e.to_string()))?;
                let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                templates.parse(&name, &text)?;
            }
        }
        Ok(TemplateSet { templates })
    }

    /// Runs a text over data that came as JSON.
    pub fn render(&self, text: &str, data: &serde_json::Value, html: bool) -> Result<String, ferula_template::Error> {
        let value = data::of_json(data);
        if html { self.templates.expand_html(text, &value) } else { self.templates.expand(text, &value) }
    }

    /// Binds the templates to what one notification says. Route labels are rendered first, each seeing the others
    /// as far as they are rendered already, in name order.
    pub fn bind(
        &self,
        data: &mut Data,
        route_labels: &std::collections::BTreeMap<String, String>,
    ) -> Result<Bound, ferula_template::Error> {
        for (name, text) in route_labels {
            let rendered = self.bound(data).text(text)?;
            data.route_labels.insert(name.clone(), rendered);
        }
        Ok(self.bound(data))
    }

    /// Answers every template with `text`.
    pub fn fixed(&self, text: String) -> Bound {
        Bound { templates: self.templates.clone(), value: Value::Nil, route_labels: Arc::default(), fixed: Some(text) }
    }

    fn bound(&self, data: &Data) -> Bound {
        Bound {
            templates: self.templates.clone(),
            value: data.value(),
            route_labels: Arc::new(data.route_labels.clone()),
            fixed: None,
        }
    }
}

/// Templates and the data of one notification.
pub struct Bound {
    templates: Templates,
    value: Value,
    route_labels: Arc<std::collections::BTreeMap<String, String>>,
    fixed: Option<String>,
}

impl Bound {
    fn overrides(&self) -> Functions {
        let labels = self.route_labels.clone();
        let mut f = Functions::new();
        f.add(
            "routeLabels",
            Function::new(&[Type::Str], move |args| {
                let name = args.first().and_then(Value::as_str).unwrap_or("");
                Ok(Value::str(labels.get(name).map_or("", String::as_str)))
            }),
        );
        f
    }
    /// A text with template expressions.
    pub fn text(&self, text: &str) -> Result<String, ferula_template::Error> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.clone());
        }
        let mut set = self.templates.clone();
        set.parse("", text)?;
        set.execute_with("", &self.value, &self.overrides())
    }
    /// The same, escaped as HTML needs it.
    pub fn html(&self, text: &str) -> Result<String, ferula_template::Error> {
        match &self.fixed {
            Some(fixed) => Ok(fixed.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")),
            None => self.templates.expand_html_with(text, &self.value, &self.overrides()),
        }
    }
}

/// Files that a pattern names, sorted: `*` and `?` within the last part of the path, as in upstream's examples.
fn glob(pattern: &Path) -> Vec<std::path::PathBuf> {
    let name = pattern.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if !name.contains(['*', '?']) {
        return if pattern.is_file() { vec![pattern.to_owned()] } else { Vec::new() };
    }
    let directory = pattern.parent().unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut out: Vec<_> = entries
        .filter_map(Result::ok)
        .filter(|e| wildcard(name.as_bytes(), e.file_name().to_string_lossy().as_bytes()) && e.path().is_file())
        .map(|e| e.path())
        .collect();
    out.sort();
    out
}

/// Shell-like matching with `*` and `?`, in linear space and without recursion.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, t + 1),
            Some(c) if text.get(t) == Some(c) => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or(&[]).iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_name_is_there() {
        let set = TemplateSet::load(&[], Path::new("."), Arc::new(ferula_model::SystemClock)).unwrap();
        for name in include_str!("../../templates/names.txt").split_whitespace() {
            assert!(set.templates.contains(name), "{name}");
        }
    }

    #[test]
    fn html_sees_the_labels_of_the_route_escaped() {
        let set = TemplateSet::load(&[], Path::new("."), Arc::new(ferula_model::SystemClock)).unwrap();
        let labels = [("team".to_owned(), "<a&b>".to_owned())].into();
        let bound = set.bind(&mut Data::default(), &labels).unwrap();
        let text = "{{ routeLabels \"team\" }}|{{ .RouteLabels.team }}|{{ routeLabels \"none\" }}";
        assert_eq!(bound.html(text).unwrap(), "&lt;a&amp;b&gt;|&lt;a&amp;b&gt;|");
        assert_eq!(bound.text(text).unwrap(), "<a&b>|<a&b>|");
    }

    #[test]
    fn wildcards() {
        for (p, t, want) in [
            ("*.tmpl", "a.tmpl", true),
            ("*.tmpl", "a.tmplx", false),
            ("a?c*", "abcd", true),
            ("*a*b", "xaxxb", true),
            ("", "a", false),
        ] {
            assert_eq!(wildcard(p.as_bytes(), t.as_bytes()), want, "{p} {t}");
        }
    }
}
