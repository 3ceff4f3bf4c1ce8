//! The rule files a test names: paths beside the test file, with `*`, `?` and `[...]`.
use std::path::{Path, PathBuf};

/// All files the patterns name, in the order of the patterns, sorted within one. A pattern that matches nothing is kept
/// as it is when it has no wildcard, so that opening it says what is missing.
pub(super) fn resolve(dir: &Path, patterns: &[String]) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for pattern in patterns {
        if !pattern.contains(['*', '?', '[']) {
            out.push(join(dir, pattern));
            continue;
        }
        let mut found = expand(dir, pattern);
        if found.is_empty() {
            tracing::warn!(pattern, "no file match pattern");
        }
        found.sort();
        out.append(&mut found);
    }
    out
}

fn join(dir: &Path, name: &str) -> PathBuf {
    if dir.as_os_str().is_empty() { PathBuf::from(name) } else { dir.join(name) }
}

fn expand(dir: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![if pattern.starts_with('/') { PathBuf::from("/") } else { dir.to_owned() }];
    for part in pattern.split('/').filter(|p| !p.is_empty()) {
        let mut next = Vec::new();
        for base in &found {
            if !part.contains(['*', '?', '[']) {
                let path = join(base, part);
                next.extend(path.exists().then_some(path));
                continue;
            }
            let here = if base.as_os_str().is_empty() { Path::new(".") } else { base.as_path() };
            let Ok(entries) = std::fs::read_dir(here) else { continue };
            let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
            next.extend(names.filter(|n| matches(part, n)).map(|n| join(base, &n)));
        }
        found = next;
    }
    found
}

/// Go's `filepath.Match` on one path element.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go back to: after the last star, and how much of the name it has swallowed.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            None if n == name.len() => return true,
            None => None,
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(_) => name.get(n).and_then(|c| one(&pattern[p..], *c)),
        };
        match (step, &mut star) {
            (Some(used), _) => {
                p += used;
                n += 1;
            }
            (None, Some((after, swallowed))) if *swallowed < name.len() => {
                *swallowed += 1;
                (p, n) = (*after, *swallowed);
            }
            _ => return false,
        }
    }
}

/// Whether the first element of `pattern` takes `c`; answers the element's length.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', e, ..] => (*e == c).then_some(2),
        ['[', rest @ ..] => {
            let end = rest.iter().skip(1).position(|c| *c == ']')? + 1;
            let (negated, set) = match rest.get(..end)? {
                ['^', set @ ..] => (true, set),
                set => (false, set),
            };
            let mut found = false;
            let mut i = 0;
            while let Some(low) = set.get(i) {
                let high = if set.get(i + 1) == Some(&'-') { set.get(i + 2).unwrap_or(low) } else { low };
                found |= (low..=high).contains(&&c);
                i += if high == low { 1 } else { 3 };
            }
            (found != negated).then_some(end + 2)
        }
        [e, ..] => (*e == c).then_some(1),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn matches_as_go() {
        for (pattern, name, expected) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?x", "ax", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("*", "", true),
            ("", "", true),
            ("a\\*", "a*", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
