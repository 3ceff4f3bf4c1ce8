//! `$NAME` in the values of external labels.
use super::load::Environment;

/// Replaces `$NAME` and `${NAME}`; `$$` is a dollar sign. A variable without a value is noted and becomes nothing.
pub(super) fn expand(text: &str, environment: &Environment, warnings: &mut Vec<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(rest.get(..at).unwrap_or_default());
        let after = rest.get(at + 1..).unwrap_or_default();
        let (name, len) = if after.starts_with('$') {
            out.push('$');
            rest = after.get(1..).unwrap_or_default();
            continue;
        } else if let Some(braced) = after.strip_prefix('{')
            && let Some(end) = braced.find('}')
        {
            (braced.get(..end).unwrap_or_default(), end + 2)
        } else {
            let len = after.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
            (after.get(..len).unwrap_or_default(), len)
        };
        rest = after.get(len..).unwrap_or_default();
        if name.is_empty() {
            out.push('$');
            continue;
        }
        match environment(name) {
            Some(value) if !value.is_empty() => out.push_str(&value),
            _ => warnings.push(format!("Empty environment variable {name} in external_labels")),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_external_labels() {
        let environment: Environment = std::sync::Arc::new(|name| (name == "REGION").then(|| "eu".to_owned()));
        let mut warnings = Vec::new();
        for (text, expanded) in [
            ("$REGION", "eu"),
            ("a-${REGION}-b", "a-eu-b"),
            ("$$REGION", "$REGION"),
            ("$", "$"),
            ("$ x", "$ x"),
            ("${", "${"),
            ("x$GONE/", "x/"),
        ] {
            assert_eq!(expand(text, &environment, &mut warnings), expanded, "{text}");
        }
        assert_eq!(warnings, ["Empty environment variable GONE in external_labels"]);
    }
}
