//! `check metrics` asks a second parser, one that shares no code with ours, about every line it can be asked about.
//!
//! `prometheus-parse` reads less than the format allows (lib/exposition/tests/oracle_corpus.rs lists where): lines that need
//! more are not put to it. Of the others, both must say the same; where they do not, one has a bug, and the user should hear
//! of it rather than trust either.
use std::collections::BTreeMap;

use ferula_exposition::parse::{Entry, Limits, Parser, Syntax};

/// Numbers of the lines, from 1, that the two read differently. `body` is one that our parser takes as a whole.
pub(super) fn disagreements(body: &[u8]) -> Vec<usize> {
    let Ok(text) = std::str::from_utf8(body) else { return Vec::new() };
    let differs = |line: &str| is_plain(line) && ours(line) != theirs(line);
    text.lines().zip(1..).filter(|(line, _)| differs(line)).map(|(_, number)| number).collect()
}

/// `name{label="value",...} number`, each of it of the plainest kind.
fn is_plain(line: &str) -> bool {
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let Some((series, number)) = line.rsplit_once(' ') else { return false };
    let (name, labels) = series.split_once('{').unwrap_or((series, "a=\"a\"}"));
    let name_is_plain = !name.is_empty() && name.as_bytes().iter().all(word);
    let number_is_plain = number.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let Some(labels) = labels.strip_suffix('}') else { return false };
    let labels_are_plain = labels.split(',').all(|pair| {
        let value = pair.split_once('=').and_then(|(_, v)| v.strip_prefix('"')).and_then(|v| v.strip_suffix('"'));
        let odd = |b: u8| b" \"\\,={}\t".contains(&b);
        value.is_some_and(|v| !v.is_empty() && !v.bytes().any(odd))
    });
    name_is_plain && number_is_plain && labels_are_plain
}

/// Labels with the name, and the value's bits.
type Sample = (BTreeMap<String, String>, u64);

fn ours(line: &str) -> Option<Sample> {
    let line = format!("{line}\n");
    let mut parser = Parser::new(line.as_bytes(), Syntax::Text, Limits::default());
    let Some(Ok(Entry::Sample(sample))) = parser.next() else { return None };
    let mut labels = BTreeMap::new();
    parser.labels(|n, v| {
        labels.insert(n.into_owned(), v.into_owned());
    });
    Some((labels, sample.value.to_bits()))
}

fn theirs(line: &str) -> Option<Sample> {
    let scrape = prometheus_parse::Scrape::parse(std::iter::once(Ok(line.to_owned()))).ok()?;
    let sample = scrape.samples.into_iter().next()?;
    let mut labels: BTreeMap<String, String> = sample.labels.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    labels.insert("__name__".to_owned(), sample.metric);
    let prometheus_parse::Value::Untyped(value) = sample.value else { return None };
    Some((labels, value.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_are_asked_about_and_read_alike() {
        let page =
            "# TYPE a counter\na_total{b=\"c\",d=\"e/f:1\"} 1.5\na_total 2\nb -1e-3\nq{x=\"a,b\"} 1\nw:z 1\nn NaN\n";
        let asked: Vec<&str> = page.lines().filter(|l| is_plain(l)).collect();
        assert_eq!(asked, ["a_total{b=\"c\",d=\"e/f:1\"} 1.5", "a_total 2", "b -1e-3"]);
        for line in asked {
            let ours = ours(line);
            assert!(ours.is_some() && ours == theirs(line), "{line}: {ours:?} {:?}", theirs(line));
        }
        assert!(disagreements(page.as_bytes()).is_empty());
    }

    #[test]
    fn what_the_other_cannot_read_is_not_put_to_it() {
        // It reads no empty braces, for one; asked about them, the difference would be seen.
        assert!(!is_plain("m{} 1"));
        assert_ne!(ours("m{} 1"), theirs("m{} 1"));
    }
}
