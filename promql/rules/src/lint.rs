//! What `promtool check rules` warns of besides errors: rules that write the same series.
use std::fmt;

use ferula_model::Labels;

use crate::file::GroupConfig;

/// Rules of equal name and labels; each is named once per repetition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Duplicates(pub Vec<(String, Labels)>);

/// Finds rules that repeat another one of the same file.
pub fn duplicates(groups: &[GroupConfig]) -> Duplicates {
    let mut all: Vec<(&str, &Labels)> =
        groups.iter().flat_map(|g| &g.rules).map(|r| (r.name.as_str(), &r.labels)).collect();
    all.sort();
    let repeated = all.windows(2).filter_map(|w| match w {
        [a, b] if a == b => Some((b.0.to_owned(), b.1.clone())),
        _ => None,
    });
    Duplicates(repeated.collect())
}

/// The warning as promtool prints it, without the last line end.
impl fmt::Display for Duplicates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} duplicate rule(s) found.", self.0.len())?;
        for (name, labels) in &self.0 {
            writeln!(f, "Metric: {name}\nLabel(s):")?;
            for (n, v) in labels {
                writeln!(f, "\t{n}: {v}")?;
            }
        }
        f.write_str("Might cause inconsistency while recording expressions")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_as_promtools() {
        let text = "groups:\n- name: g\n  rules:\n  - {alert: A, expr: x, labels: {severity: page}}\n  - {alert: A, expr: y, labels: {severity: page}}\n  - {record: b, expr: x}\n- name: h\n  rules:\n  - {record: b, expr: x, labels: {l: v}}\n";
        let found = super::duplicates(&crate::file::parse("f", text).unwrap());
        assert_eq!(
            found.to_string(),
            "1 duplicate rule(s) found.\nMetric: A\nLabel(s):\n\tseverity: page\nMight cause inconsistency while recording expressions"
        );
    }
}
