//! File patterns of `rule_files` and `scrape_config_files`: wildcards in the last segment of a path.
use std::path::{Path, PathBuf};

/// Whether the pattern has its wildcards where they may be.
pub(super) fn is_valid(pattern: &str) -> bool {
    match pattern.split_once('*') {
        Some((_, after)) => !after.contains(['*', '/']),
        None => true,
    }
}

/// The files a pattern names, sorted. A pattern without a wildcard names itself, there or not; an unreadable directory
/// has no files.
pub fn files(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|n| n.to_str()).unwrap_or("");
    if !name.contains(['*', '?', '[']) {
        return vec![pattern.to_owned()];
    }
    let dir = match pattern.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|e| e.file_name().to_str().is_some_and(|n| matches(name, n)))
        .map(|e| pattern.with_file_name(e.file_name()))
        .collect();
    found.sort();
    found
}

/// `*`, `?` and `[a-z]` against a file name, in time proportional to the product of both lengths.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when a match fails: the last asterisk takes one character more.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(pattern.get(p..).unwrap_or_default(), name.get(n).copied()),
            Some(c) if name.get(n) == Some(c) => Some(1),
            _ => None,
        };
        match (step, retry) {
            (Some(len), _) => {
                p += len;
                n += 1;
            }
            (None, Some((after, from))) => {
                retry = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == '*')
}

/// The length of the bracket expression at the start of `pattern`, if `c` is in it.
fn class(pattern: &[char], c: Option<char>) -> Option<usize> {
    let c = c?;
    let end = pattern.iter().skip(1).position(|p| *p == ']')? + 1;
    let inner = pattern.get(1..end)?;
    let (negated, inner) = match inner.split_first() {
        Some(('^', rest)) => (true, rest),
        _ => (false, inner),
    };
    let mut i = 0;
    let mut is_in = false;
    while let Some(from) = inner.get(i) {
        match (inner.get(i + 1), inner.get(i + 2)) {
            (Some('-'), Some(to)) => {
                is_in |= (*from..=*to).contains(&c);
                i += 3;
            }
            _ => {
                is_in |= *from == c;
                i += 1;
            }
        }
    }
    (is_in != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, fits) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("a?c*", "abcd", true),
            ("a?c*", "ac", false),
            ("[a-c]1", "b1", true),
            ("[^a-c]1", "b1", false),
            ("[", "[", false),
            ("*a*b", "xaxxb", true),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
        assert!(is_valid("a/*.yml") && is_valid("a/b.yml") && !is_valid("a/*/b.yml") && !is_valid("a/*b*"));
    }
}
