//! What the fuzz target checks, here so that a normal test replays its seeds.
#![allow(clippy::panic)] // a violated claim is to stop the fuzzer

use crate::{Literals, Regex};

/// The first line is a pattern, the others are texts: what the literals say must be true of every match.
pub fn pattern(input: &str) {
    let mut lines = input.lines();
    let Some(pattern) = lines.next() else { return };
    let _ = Regex::plain(pattern);
    let Ok(re) = Regex::anchored(pattern) else { return };
    for text in lines.chain(["", pattern]) {
        let matched = re.is_match(text);
        if let Some(automaton) = re.automaton() {
            assert_eq!(matched, automaton.is_match(text), "{pattern:?} on {text:?}");
        }
        let claimed = match re.literals() {
            Literals::Exact(set) => set.iter().any(|s| s == text) == matched,
            Literals::Prefix(set) => !matched || set.iter().any(|s| text.starts_with(s.as_str())),
            Literals::Contains(part) => !matched || text.contains(part.as_str()),
            Literals::None => true,
        };
        assert!(claimed, "{pattern:?} on {text:?}: {:?}", re.literals());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds_replay() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/pattern");
        let files = std::fs::read_dir(dir).unwrap().map(|f| std::fs::read_to_string(f.unwrap().path()).unwrap());
        assert!(files.map(|text| super::pattern(&text)).count() >= 6);
    }
}
