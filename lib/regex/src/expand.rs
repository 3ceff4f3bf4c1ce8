//! Submatches and Go's replacement templates: `$1`, `${1}`, `${name}`, `$$`.
use crate::Regex;

/// What each group matched in one text.
#[derive(Debug)]
pub struct Captures<'t> {
    found: regex::Captures<'t>,
    regex: Regex,
}

impl<'t> Captures<'t> {
    /// What the group of that number matched; 0 is the whole match.
    pub fn get(&self, group: usize) -> Option<&'t str> {
        self.found.get(group).map(|m| m.as_str())
    }
    /// What the group of that name matched; of several, the first that took part.
    pub fn name(&self, name: &str) -> Option<&'t str> {
        let names = self.regex.inner.group_names.iter().enumerate();
        names.filter(|(_, n)| n.as_deref() == Some(name)).find_map(|(group, _)| self.get(group))
    }
}

impl Regex {
    /// The first match and its groups.
    pub fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        let found = self.automaton()?.captures(text)?;
        Some(Captures { found, regex: self.clone() })
    }

    /// Every match replaced by the template, as Go's `ReplaceAllString`.
    pub fn replace_all(&self, text: &str, template: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut last = 0;
        let Some(automaton) = self.automaton() else { return text.to_owned() };
        for found in automaton.captures_iter(text) {
            let Some(whole) = found.get(0) else { continue };
            out.push_str(text.get(last..whole.start()).unwrap_or(""));
            last = whole.end();
            expand(template, &Captures { found, regex: self.clone() }, &mut out);
        }
        out.push_str(text.get(last..).unwrap_or(""));
        out
    }
}

/// Appends `template` with its variables replaced by groups of `captures`; unknown and unmatched groups are empty. A name
/// is the longest run of letters, digits and underscores, so `$1x` is the group named `1x`.
pub fn expand(template: &str, captures: &Captures<'_>, out: &mut String) {
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        let (before, dollar) = rest.split_at(at);
        out.push_str(before);
        let after = dollar.get(1..).unwrap_or("");
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = variable(after) {
            out.push_str(group(captures, name));
            rest = tail;
        } else {
            out.push('$'); // malformed: stays as it is
            rest = after;
        }
    }
    out.push_str(rest);
}

fn variable(after_dollar: &str) -> Option<(&str, &str)> {
    let (braced, text) = match after_dollar.strip_prefix('{') {
        Some(inner) => (true, inner),
        None => (false, after_dollar),
    };
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, tail) = text.split_at(end);
    if name.is_empty() {
        return None;
    }
    if braced { tail.strip_prefix('}').map(|tail| (name, tail)) } else { Some((name, tail)) }
}

fn group<'t>(captures: &Captures<'t>, name: &str) -> &'t str {
    let is_number = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    let found = if is_number { name.parse().ok().and_then(|i| captures.get(i)) } else { captures.name(name) };
    found.unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_as_go() {
        let re = Regex::anchored("(a+)(?P<rest>.*)(x)?").unwrap();
        for (template, expect) in [
            ("$1", "aa"),
            ("${1}b", "aab"),
            ("$1b", ""),
            ("$rest-$2", "bc-bc"),
            ("$3|$9|$0", "||aabc"),
            ("$$1 $ ${ ${1 $-", "$1 $ ${ ${1 $-"),
        ] {
            let mut out = String::new();
            expand(template, &re.captures("aabc").unwrap(), &mut out);
            assert_eq!(out, expect, "{template}");
        }
        assert_eq!(Regex::plain("(b)").unwrap().replace_all("abcb", "<$1>"), "a<b>c<b>");
    }
}
