//! Relabelling: the eleven actions, upstream's validation, one pass over a [`LabelsBuilder`].
//!
//! Source followed: the `relabel_config` section of Prometheus 3's configuration documentation and its error texts.
//! Cost: one regular-expression search per rule and label set; run once per new series, never per sample.
use ferula_regex::{Regex, expand};
use md5::{Digest, Md5};

use crate::labels::{LabelsBuilder, is_legacy_label_name, quoted};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Action {
    #[default]
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

impl Action {
    pub const ALL: [Action; 11] = [
        Action::Replace,
        Action::Keep,
        Action::Drop,
        Action::KeepEqual,
        Action::DropEqual,
        Action::HashMod,
        Action::LabelMap,
        Action::LabelDrop,
        Action::LabelKeep,
        Action::Lowercase,
        Action::Uppercase,
    ];
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Replace => "replace",
            Action::Keep => "keep",
            Action::Drop => "drop",
            Action::KeepEqual => "keepequal",
            Action::DropEqual => "dropequal",
            Action::HashMod => "hashmod",
            Action::LabelMap => "labelmap",
            Action::LabelDrop => "labeldrop",
            Action::LabelKeep => "labelkeep",
            Action::Lowercase => "lowercase",
            Action::Uppercase => "uppercase",
        }
    }
    /// Any letter case, as upstream.
    pub fn parse(text: &str) -> Result<Action, Error> {
        if text.is_empty() {
            return Err(Error("relabel action cannot be empty".to_owned()));
        }
        let lower = text.to_lowercase();
        Action::ALL
            .into_iter()
            .find(|a| a.as_str() == lower)
            .ok_or_else(|| Error(format!("unknown relabel action {}", quoted(text))))
    }
}

/// Which names a rule may produce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NameScheme {
    #[default]
    Utf8,
    Legacy,
}

impl NameScheme {
    pub fn is_valid_label_name(self, name: &str) -> bool {
        match self {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => is_legacy_label_name(name),
        }
    }
    pub fn is_valid_metric_name(self, name: &str) -> bool {
        match self {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => crate::labels::is_legacy_metric_name(name),
        }
    }
}

/// Why a rule is refused, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

pub const DEFAULT_SEPARATOR: &str = ";";
pub const DEFAULT_REGEX: &str = "(.*)";
pub const DEFAULT_REPLACEMENT: &str = "$1";

/// One rule as written, with upstream's defaults. [`Rule::build`] checks and compiles it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub source_labels: Vec<String>,
    pub separator: String,
    pub regex: String,
    pub modulus: u64,
    pub target_label: String,
    pub replacement: String,
    pub action: Action,
}

impl Default for Rule {
    fn default() -> Self {
        Rule {
            source_labels: Vec::new(),
            separator: DEFAULT_SEPARATOR.to_owned(),
            regex: DEFAULT_REGEX.to_owned(),
            modulus: 0,
            target_label: String::new(),
            replacement: DEFAULT_REPLACEMENT.to_owned(),
            action: Action::Replace,
        }
    }
}

impl Rule {
    /// Checks as upstream does, in its order.
    pub fn build(self, scheme: NameScheme) -> Result<Config, Error> {
        let (action, name) = (self.action, self.action.as_str());
        let fail = |text: String| Err(Error(text));
        let bad_target = || fail(format!("{} is invalid 'target_label' for {name} action", quoted(&self.target_label)));
        use Action::*;
        if action == HashMod && self.modulus == 0 {
            return fail("relabel configuration for hashmod requires non-zero modulus".to_owned());
        }
        let needs_target = matches!(action, Replace | KeepEqual | DropEqual | HashMod | Lowercase | Uppercase);
        if needs_target && self.target_label.is_empty() {
            return fail(format!("relabel configuration for {name} action requires 'target_label' value"));
        }
        let target_ok = match action {
            Replace if has_variable(&self.target_label) => is_name_template(scheme, &self.target_label),
            Replace | Lowercase | Uppercase | KeepEqual | DropEqual | HashMod => {
                scheme.is_valid_label_name(&self.target_label)
            }
            _ => true,
        };
        if !target_ok {
            return bad_target();
        }
        if matches!(action, Lowercase | Uppercase | KeepEqual | DropEqual) && self.replacement != DEFAULT_REPLACEMENT {
            return fail(format!("'replacement' can not be set for {name} action"));
        }
        if action == LabelMap && !is_name_template(scheme, &self.replacement) {
            return fail(format!("{} is invalid 'replacement' for {name} action", quoted(&self.replacement)));
        }
        let plain = self.modulus == 0 && self.separator == DEFAULT_SEPARATOR && self.replacement == DEFAULT_REPLACEMENT;
        if matches!(action, DropEqual | KeepEqual) && !(plain && self.regex == DEFAULT_REGEX) {
            return fail(format!(
                "{name} action requires only 'source_labels' and `target_label`, and no other fields"
            ));
        }
        if matches!(action, LabelDrop | LabelKeep)
            && !(plain && self.source_labels.is_empty() && self.target_label.is_empty())
        {
            return fail(format!("{name} action requires only 'regex', and no other fields"));
        }
        let regex = Regex::anchored(&self.regex).map_err(|e| Error(e.to_string()))?;
        Ok(Config { rule: self, regex, scheme })
    }
}

/// A checked rule, ready to run.
#[derive(Clone, Debug)]
pub struct Config {
    rule: Rule,
    regex: Regex,
    scheme: NameScheme,
}

impl PartialEq for Config {
    fn eq(&self, o: &Self) -> bool {
        self.rule == o.rule && self.scheme == o.scheme
    }
}

impl Config {
    /// The rule as written.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Applies this rule alone; `false` drops the label set.
    pub fn apply(&self, b: &mut LabelsBuilder) -> bool {
        let rule = &self.rule;
        match rule.action {
            Action::Keep => self.regex.is_match(&self.source(b)),
            Action::Drop => !self.regex.is_match(&self.source(b)),
            Action::KeepEqual => b.get(&rule.target_label).unwrap_or("") == self.source(b),
            Action::DropEqual => b.get(&rule.target_label).unwrap_or("") != self.source(b),
            Action::Replace => {
                self.replace(b);
                true
            }
            Action::Lowercase => {
                let value = self.source(b).to_lowercase();
                b.set(&rule.target_label, &value);
                true
            }
            Action::Uppercase => {
                let value = self.source(b).to_uppercase();
                b.set(&rule.target_label, &value);
                true
            }
            Action::HashMod => {
                let hash = hash_of(&self.source(b)).checked_rem(rule.modulus).unwrap_or(0);
                b.set(&rule.target_label, &hash.to_string());
                true
            }
            Action::LabelMap => {
                let mapped: Vec<(String, String)> = b
                    .iter()
                    .filter(|(name, _)| self.regex.is_match(name))
                    .map(|(name, value)| (self.regex.replace_all(name, &rule.replacement), value.to_owned()))
                    .collect();
                for (name, value) in mapped.iter().filter(|(name, _)| !name.is_empty()) {
                    b.set(name, value);
                }
                true
            }
            Action::LabelDrop => {
                b.retain(|name, _| !self.regex.is_match(name));
                true
            }
            Action::LabelKeep => {
                b.retain(|name, _| self.regex.is_match(name));
                true
            }
        }
    }

    fn source(&self, b: &LabelsBuilder) -> String {
        let mut value = String::new();
        for (i, name) in self.rule.source_labels.iter().enumerate() {
            if i > 0 {
                value.push_str(&self.rule.separator);
            }
            value.push_str(b.get(name).unwrap_or(""));
        }
        value
    }

    fn replace(&self, b: &mut LabelsBuilder) {
        let rule = &self.rule;
        let source = self.source(b);
        let Some(captures) = self.regex.captures(&source) else { return };
        let mut target = String::new();
        expand(&rule.target_label, &captures, &mut target);
        if !self.scheme.is_valid_label_name(&target) {
            return;
        }
        let mut value = String::new();
        expand(&rule.replacement, &captures, &mut value);
        b.set(&target, &value); // an empty value deletes
    }
}

/// Runs all rules in order; `false` as soon as one drops the label set.
pub fn process(configs: &[Config], b: &mut LabelsBuilder) -> bool {
    configs.iter().all(|c| c.apply(b))
}

/// The last eight bytes of the text's MD5, big-endian: what sharding by `hashmod` is compatible with.
fn hash_of(text: &str) -> u64 {
    let digest = Md5::digest(text.as_bytes());
    digest.iter().skip(8).fold(0u64, |h, b| h << 8 | u64::from(*b))
}

fn has_variable(template: &str) -> bool {
    template.contains('$')
}

/// Whether expanding the template can give a valid name. UTF-8 names may hold anything, dollars included.
fn is_name_template(scheme: NameScheme, template: &str) -> bool {
    if scheme == NameScheme::Utf8 {
        return !template.is_empty();
    }
    let mut rest = template;
    let mut first = true;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..).unwrap_or("");
        match c {
            '$' => {
                let (braced, text) = rest.strip_prefix('{').map_or((false, rest), |t| (true, t));
                let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
                let (name, tail) = text.split_at(end);
                let tail = if braced { tail.strip_prefix('}') } else { Some(tail) };
                match tail {
                    Some(tail) if !name.is_empty() => rest = tail,
                    _ => return false,
                }
            }
            'a'..='z' | 'A'..='Z' | '_' => {}
            '0'..='9' if !first => {}
            _ => return false,
        }
        first = false;
    }
    !template.is_empty()
}

/// Reads `text` as a rule and labels, by lines: action, regex, target, replacement, then `name=value` each, whose names are
/// the source labels too. The rule is refused or applied; what comes out must be a label set. Panics if not; for tests and
/// fuzz targets.
#[doc(hidden)]
pub fn check_rule(text: &str) {
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or("").to_owned();
    let (action, regex, target_label, replacement) = (line(), line(), line(), line());
    let mut b = LabelsBuilder::new();
    let mut source_labels = Vec::new();
    for (name, value) in lines.filter_map(|l| l.split_once('=')).filter(|(name, _)| !name.is_empty()).take(64) {
        b.set(name, value);
        source_labels.push(name.to_owned());
    }
    let Ok(action) = Action::parse(&action) else { return };
    if matches!(action, Action::LabelDrop | Action::LabelKeep) {
        source_labels.clear();
    }
    let rule = Rule { source_labels, regex, target_label, replacement, action, modulus: 7, ..Rule::default() };
    let rule = if action == Action::HashMod { rule } else { Rule { modulus: 0, ..rule } };
    for scheme in [NameScheme::Utf8, NameScheme::Legacy] {
        let (Ok(config), mut b) = (rule.clone().build(scheme), b.clone()) else { continue };
        config.apply(&mut b);
        assert!(b.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()), "{b:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;

    fn rule(action: Action, source: &[&str], regex: &str, target: &str, replacement: &str) -> Rule {
        let or = |s: &str, default: &str| if s.is_empty() { default.to_owned() } else { s.to_owned() };
        Rule {
            source_labels: source.iter().map(|s| (*s).to_owned()).collect(),
            regex: or(regex, DEFAULT_REGEX),
            target_label: target.to_owned(),
            replacement: or(replacement, DEFAULT_REPLACEMENT),
            action,
            ..Rule::default()
        }
    }

    #[track_caller]
    fn check(rules: &[Rule], input: &[(&str, &str)], expect: Option<&[(&str, &str)]>) {
        let configs: Vec<Config> = rules.iter().map(|r| r.clone().build(NameScheme::Utf8).unwrap()).collect();
        let mut b = LabelsBuilder::from_view(&Labels::from_pairs(input.iter().copied()));
        let kept = process(&configs, &mut b).then(|| b.labels());
        assert_eq!(kept, expect.map(|e| Labels::from_pairs(e.iter().copied())));
    }

    #[test]
    fn all_actions() {
        use Action::*;
        let abc = [("a", "foo"), ("b", "bar"), ("c", "baz")];
        check(
            &[rule(Replace, &["a"], "f(.*)", "d", "ch${1}-ch$1")],
            &abc,
            Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "choo-choo")]),
        );
        check(
            &[rule(Replace, &["a", "b"], "f(.*);(.*)r", "a", "b${1}${2}m")],
            &abc,
            Some(&[("a", "boobam"), ("b", "bar"), ("c", "baz")]),
        );
        check(&[rule(Replace, &["a"], "no", "d", "x")], &abc, Some(&abc));
        check(&[rule(Replace, &["a"], "(f).*", "$1", "x")], &[("a", "foo")], Some(&[("a", "foo"), ("f", "x")]));
        check(&[rule(Replace, &["a"], "(no)?.*", "${1}", "x")], &[("a", "foo")], Some(&[("a", "foo")]));
        check(&[rule(Replace, &["a"], "", "b", "${2}")], &[("a", "foo"), ("b", "x")], Some(&[("a", "foo")]));
        check(&[rule(Replace, &["a"], "f.o", "b", "x")], &[("a", "f\no")], Some(&[("a", "f\no"), ("b", "x")]));
        check(&[rule(Keep, &["a"], "fo", "", "")], &abc, None);
        check(&[rule(Keep, &["a"], "fo+", "", "")], &abc, Some(&abc));
        check(&[rule(Drop, &["a"], "fo+", "", "")], &abc, None);
        check(&[rule(DropEqual, &["a"], "", "b", "")], &[("a", "1"), ("b", "1")], None);
        check(&[rule(KeepEqual, &["a"], "", "b", "")], &[("a", "1"), ("b", "2")], None);
        check(&[rule(KeepEqual, &["a"], "", "b", "")], &[("a", "1"), ("b", "1")], Some(&[("a", "1"), ("b", "1")]));
        check(&[rule(Uppercase, &["a"], "", "d", "")], &[("a", "Foo")], Some(&[("a", "Foo"), ("d", "FOO")]));
        check(&[rule(Lowercase, &["a"], "", "a", "")], &[("a", "Foo")], Some(&[("a", "foo")]));
        check(
            &[rule(LabelMap, &[], "(b.*)", "", "bar_${1}")],
            &[("a", "foo"), ("b1", "bar"), ("b2", "baz")],
            Some(&[("a", "foo"), ("b1", "bar"), ("b2", "baz"), ("bar_b1", "bar"), ("bar_b2", "baz")]),
        );
        check(&[rule(LabelDrop, &[], "[ab]", "", "")], &abc, Some(&[("c", "baz")]));
        check(&[rule(LabelKeep, &[], "[ab]", "", "")], &abc, Some(&[("a", "foo"), ("b", "bar")]));
    }

    #[test]
    fn hashmod_is_compatible() {
        let mut r = rule(Action::HashMod, &["c"], "", "d", "");
        r.modulus = 1000;
        let abc = [("a", "foo"), ("b", "bar"), ("c", "baz")];
        check(&[r.clone()], &abc, Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "976")]));
        check(&[r.clone()], &[("c", "foo\nbar")], Some(&[("c", "foo\nbar"), ("d", "734")]));
        r.source_labels = ["a", "b", "c"].map(str::to_owned).to_vec();
        check(&[r], &abc, Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "719")]));
    }

    #[test]
    fn refuses_as_upstream() {
        use Action::*;
        let legacy = |r: Rule| r.build(NameScheme::Legacy).map(drop).map_err(|e| e.0);
        for (r, expect) in [
            (rule(HashMod, &["a"], "", "d", ""), "relabel configuration for hashmod requires non-zero modulus"),
            (
                rule(Replace, &["a"], "", "", ""),
                "relabel configuration for replace action requires 'target_label' value",
            ),
            (rule(Replace, &["a"], "", "a-b", ""), "\"a-b\" is invalid 'target_label' for replace action"),
            (rule(Replace, &["a"], "", "9a$1", ""), "\"9a$1\" is invalid 'target_label' for replace action"),
            (rule(Lowercase, &["a"], "", "${3}", ""), "\"${3}\" is invalid 'target_label' for lowercase action"),
            (rule(Uppercase, &["a"], "", "b", "x"), "'replacement' can not be set for uppercase action"),
            (rule(LabelMap, &[], "", "", "a-$1"), "\"a-$1\" is invalid 'replacement' for labelmap action"),
            (rule(LabelDrop, &["a"], "x", "", ""), "labeldrop action requires only 'regex', and no other fields"),
            (
                rule(DropEqual, &["a"], "x", "b", ""),
                "dropequal action requires only 'source_labels' and `target_label`, and no other fields",
            ),
        ] {
            assert_eq!(legacy(r.clone()), Err(expect.to_owned()), "{r:?}");
        }
        assert_eq!(legacy(rule(Replace, &["a"], "", "${1}_x$2", "")), Ok(()));
        assert_eq!(Action::parse("Replace"), Ok(Replace));
        assert_eq!(Action::parse("nope").unwrap_err().0, "unknown relabel action \"nope\"");
    }

    /// The seeds of the fuzz target, and whatever it once found, stay green.
    #[test]
    fn fuzz_seeds() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/relabel");
        let mut seeds = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            check_rule(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
            seeds += 1;
        }
        assert!(seeds >= 4);
    }

    proptest::proptest! {
        #[test]
        fn any_rule_leaves_labels(
            action in proptest::sample::select(Action::ALL.map(Action::as_str).to_vec()),
            rest in "[a-z_$(){}.*|0-9\\\\]{0,12}\n[a-c$1{}_]{0,6}\n[a-c$12{}_]{0,6}(\n[a-c_]{0,3}=[a-z;]{0,4}){0,4}",
        ) {
            check_rule(&format!("{action}\n{rest}"));
        }
    }
}
