//! Lines and columns of a rule file's parts, for complaints about them. Read only when there is one.
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::Spanned;

/// `line:column`, both from 1; `0:0` for what is not there.
pub(crate) struct Places(Vec<(String, Vec<RulePlaces>)>);

pub(crate) struct RulePlaces {
    pub record: String,
    pub alert: String,
    pub expr: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileYaml {
    groups: Vec<Spanned<GroupYaml>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GroupYaml {
    rules: Vec<RuleYaml>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RuleYaml {
    record: Option<Spanned<IgnoredAny>>,
    alert: Option<Spanned<IgnoredAny>>,
    expr: Option<Spanned<IgnoredAny>>,
}

fn place<T>(node: Option<&Spanned<T>>) -> String {
    let (line, column) = node.map_or((0, 0), |n| (n.referenced.line(), n.referenced.column()));
    format!("{line}:{column}")
}

impl Places {
    /// The places of a file that has been read before; of any other, none.
    pub fn of(text: &str) -> Places {
        let file: FileYaml = serde_saphyr::from_str(text).unwrap_or_default();
        let groups = file.groups.iter().map(|g| {
            let rules = g.value.rules.iter().map(|r| RulePlaces {
                record: place(r.record.as_ref()),
                alert: place(r.alert.as_ref()),
                expr: place(r.expr.as_ref()),
            });
            (place(Some(g)), rules.collect())
        });
        Places(groups.collect())
    }
    pub fn group(&self, index: usize) -> &str {
        self.0.get(index).map_or("0:0", |g| g.0.as_str())
    }
    pub fn rule(&self, group: usize, rule: usize) -> Option<&RulePlaces> {
        self.0.get(group)?.1.get(rule)
    }
}
