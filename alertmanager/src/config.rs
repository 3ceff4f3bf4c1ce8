//! The configuration file: read strictly, checked as upstream checks it, with global defaults handed down.
//!
//! Source followed: Alertmanager 0.33's documentation and the verdicts and messages of its `amtool check-config`.
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub mod event_recorder;
pub mod global;
pub mod http;
pub mod receiver;
pub mod route;
pub mod service;
pub mod tracing;
pub mod value;

pub use event_recorder::EventRecorder;
pub use global::Global;
pub use receiver::{Email, Receiver, Webhook};
pub use route::{InhibitRule, Route};
pub use service::Service;

use crate::time_interval::TimeInterval;

/// Why a configuration is refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Invalid(#[from] ferula_yaml::Error),
    #[error(
        "{file}: receivers[{index}]: receiver {receiver:?} uses the integration {integration}: known, not built in yet"
    )]
    NotBuiltIn { file: String, index: usize, receiver: String, integration: &'static str },
    #[error("{file}: event_recorder.kafka_outputs: known, not built in yet")]
    Kafka { file: String },
    #[error("{file}: {reason}")]
    Unreadable { file: String, reason: String },
}

impl ConfigError {
    /// The bare reason, as `amtool check-config` prints it.
    pub fn reason(&self) -> String {
        match self {
            ConfigError::Invalid(e) => e.message.clone(),
            other => other.to_string(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NamedInterval {
    pub name: String,
    pub time_intervals: Vec<TimeInterval>,
}

/// A whole file, valid, defaults filled in. Printing it hides every secret.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub global: Global,
    pub route: Option<Route>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inhibit_rules: Vec<InhibitRule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub receivers: Vec<Receiver>,
    /// Globs of template files.
    pub templates: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mute_time_intervals: Vec<NamedInterval>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub time_intervals: Vec<NamedInterval>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<tracing::Tracing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_recorder: Option<EventRecorder>,
}

impl Config {
    /// Reads and validates `text`; `file` only names the source in errors.
    pub fn parse(file: &str, text: &str) -> Result<Config, ConfigError> {
        let config = Config::check(file, text)?;
        for (index, r) in config.receivers.iter().enumerate() {
            r.can_send().map_err(|m| ferula_yaml::Error::invalid(file, format!("receivers[{index}]"), m))?;
            if let Some(u) = r.services.iter().find(|s| !s.is_built()) {
                return Err(ConfigError::NotBuiltIn {
                    file: file.to_owned(),
                    index,
                    receiver: r.name.clone(),
                    integration: u.integration(),
                });
            }
        }
        Ok(config)
    }

    /// As [`Config::parse`], but integrations that are not built in pass: upstream's verdict on the file.
    pub fn check(file: &str, text: &str) -> Result<Config, ConfigError> {
        let mut config: Config = ferula_yaml::from_str(file, text)?;
        let (path, result) = config.validate();
        result.map_err(|message| ferula_yaml::Error::invalid(file, path, message))?;
        Ok(config)
    }

    /// The place last looked at, and the verdict. The order is upstream's, so that the first error is the same.
    fn validate(&mut self) -> (String, Result<(), String>) {
        let mut path = "global".to_owned();
        let result = self.validate_at(&mut path);
        (path, result)
    }

    fn validate_at(&mut self, path: &mut String) -> Result<(), String> {
        "event_recorder".clone_into(path);
        self.event_recorder.as_ref().map_or(Ok(()), EventRecorder::validate)?;
        "tracing".clone_into(path);
        self.tracing.as_ref().map_or(Ok(()), |t| t.validate())?;
        "global".clone_into(path);
        self.global.validate()?;
        let mut names = BTreeSet::new();
        for (i, r) in self.receivers.iter_mut().enumerate() {
            *path = format!("receivers[{i}]");
            if !names.insert(r.name.clone()) {
                return Err(format!("notification config name {:?} is not unique", r.name));
            }
            r.inherit(&self.global)?;
        }
        "route".clone_into(path);
        let root = self.route.as_mut().ok_or("no routes provided")?;
        if root.receiver.is_empty() {
            return Err("root route must specify a default receiver".to_owned());
        }
        if !root.all_matchers().is_empty() {
            return Err("root route must not have any matchers".to_owned());
        }
        if !root.mute_time_intervals.is_empty() {
            return Err("root route must not have any mute time intervals".to_owned());
        }
        if !root.active_time_intervals.is_empty() {
            return Err("root route must not have any active time intervals".to_owned());
        }
        let root = &*root;
        check_tree(root, "route", path, &|r| {
            if !r.receiver.is_empty() && !names.contains(&r.receiver) {
                return Err(format!("undefined receiver {:?} used in route", r.receiver));
            }
            Ok(())
        })?;
        let mut intervals = BTreeSet::new();
        for (kind, list) in
            [("mute_time_intervals", &self.mute_time_intervals), ("time_intervals", &self.time_intervals)]
        {
            for (i, named) in list.iter().enumerate() {
                *path = format!("{kind}[{i}]");
                if named.name.is_empty() {
                    return Err(format!(
                        "missing name in {}time interval",
                        if kind.starts_with('m') { "mute " } else { "" }
                    ));
                }
                if !intervals.insert(named.name.clone()) {
                    return Err(format!("mute time interval {:?} is not unique", named.name));
                }
            }
        }
        check_tree(root, "route", path, &|r| {
            let unknown =
                r.mute_time_intervals.iter().chain(&r.active_time_intervals).find(|n| !intervals.contains(*n));
            unknown.map_or(Ok(()), |name| Err(format!("undefined time interval {name:?} used in route")))
        })
    }

    /// The file as `/api/v2/status` and `amtool config show` print it.
    pub fn to_yaml(&self) -> String {
        ferula_yaml::to_string(self).unwrap_or_default()
    }
}

/// Applies `check` to every node, without recursion: how deep a file nests is the file's choice.
fn check_tree(
    root: &Route,
    root_path: &str,
    path: &mut String,
    check: &dyn Fn(&Route) -> Result<(), String>,
) -> Result<(), String> {
    let mut todo = vec![(root, root_path.to_owned())];
    while let Some((route, at)) = todo.pop() {
        let result = check(route);
        todo.extend(route.routes.iter().enumerate().rev().map(|(i, child)| (child, format!("{at}.routes[{i}]"))));
        path.clone_from(&at);
        result?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_refused_at_load_by_name() {
        for (section, reason) in [
            (
                "jira_configs: [{api_url: 'http://j', project: p, issue_type: t}]",
                "receiver \"r\" uses the integration jira: known, not built in yet",
            ),
            (
                "sns_configs: [{topic_arn: 'arn:aws:sns:us-east-2:1:t', sigv4: {role_arn: hush}}]",
                "sns_configs: sigv4.role_arn is known, but not built in yet",
            ),
            (
                "email_configs: [{to: a@b, from: c@d, smarthost: 'h:25', auth_username: u, auth_secret: hush}]",
                "CRAM-MD5",
            ),
        ] {
            let text = format!("route: {{receiver: r}}\nreceivers: [{{name: r, {section}}}]\n");
            assert!(Config::check("f.yml", &text).is_ok(), "{section}");
            let e = Config::parse("f.yml", &text).unwrap_err().to_string();
            assert!(e.contains(reason) && e.contains("receivers[0]") && !e.contains("hush"), "{e}");
        }
    }

    #[test]
    fn errors_name_file_line_and_field() {
        let e = Config::parse("am.yml", "route:\n  receiver: r\n  group_by: [a, a]\nreceivers: [{name: r}]\n")
            .unwrap_err()
            .to_string();
        assert!(
            e.starts_with("am.yml:") && e.contains("route") && e.contains("duplicated label \"a\" in group_by"),
            "{e}"
        );
        let e = Config::parse("am.yml", "route: {receiver: r}\nreceivers:\n- name: r\n  webhook_configs:\n  - ur: x\n")
            .unwrap_err()
            .to_string();
        assert!(
            e.contains("am.yml:5:")
                && e.contains("receivers[0].webhook_configs[0]")
                && e.contains("unknown field \"ur\""),
            "{e}"
        );
    }
}
