//! Finds the line of a field, so that errors found after reading can name it as errors while reading do.
use std::cell::RefCell;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Field(String),
    Index(usize),
}

thread_local! {
    /// What is left of the path, last segment first. serde gives a plain type no other place to carry it.
    static PATH: RefCell<Vec<Segment>> = const { RefCell::new(Vec::new()) };
}

/// An error about the field at `path` (`scrape_configs[0].job_name`) of `text`, with its line and column where the path
/// can be found, or those of the nearest parent.
pub(super) fn error(file: &str, text: &str, path: &str, message: impl Into<String>) -> ferula_yaml::Error {
    let mut e = ferula_yaml::Error::invalid(file, path, message);
    let mut segments = parse(path);
    while !segments.is_empty() {
        PATH.with_borrow_mut(|p| *p = segments.iter().rev().cloned().collect());
        if let Err(found) = ferula_yaml::from_str::<Probe>(file, text)
            && found.message.contains(HERE)
        {
            (e.line, e.column) = (found.line, found.column);
            break;
        }
        segments.pop();
    }
    e
}

const HERE: &str = "the probe has arrived";

fn parse(path: &str) -> Vec<Segment> {
    path.split(['.', '['])
        .filter(|s| !s.is_empty())
        .map(|s| match s.strip_suffix(']').map(str::parse) {
            Some(Ok(i)) => Segment::Index(i),
            _ => Segment::Field(s.to_owned()),
        })
        .collect()
}

/// Reads a document, going down along the path, and fails at its end: the failure has a place.
struct Probe;

impl<'de> Deserialize<'de> for Probe {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Probe, D::Error> {
        let next = PATH.with_borrow_mut(Vec::pop);
        d.deserialize_any(Walk { next })?;
        Ok(Probe)
    }
}

struct Walk {
    /// `None` at the end of the path.
    next: Option<Segment>,
}

impl Walk {
    fn scalar<E: de::Error>(&self) -> Result<(), E> {
        if self.next.is_none() { Err(E::custom(HERE)) } else { Ok(()) }
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.scalar()?;
        while let Some(key) = map.next_key::<String>()? {
            if matches!(&self.next, Some(Segment::Field(name)) if *name == key) {
                map.next_value::<Probe>()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.scalar()?;
        let mut i = 0;
        loop {
            let more = if self.next == Some(Segment::Index(i)) {
                list.next_element::<Probe>()?.is_some()
            } else {
                list.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                return Ok(());
            }
            i += 1;
        }
    }
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.scalar()
    }
    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.scalar()
    }
    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.scalar()
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.scalar()
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.scalar()
    }
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.scalar()
    }
    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.scalar()
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_fields() {
        let text = "global:\n  scrape_interval: 5s\nscrape_configs:\n- job_name: a\n- job_name: b\n  params:\n    x: [1, 2]\n-\n";
        for (path, line) in [
            ("global.scrape_interval", 2),
            ("scrape_configs[1].job_name", 5),
            ("scrape_configs[1].params.x[1]", 7),
            ("scrape_configs[0].not_there", 4),
            ("scrape_configs[2]", 8),
            ("nothing", 0),
        ] {
            let e = error("p.yml", text, path, "m");
            assert!(e.line == line || (path.ends_with("[2]") && e.line > 7), "{path}: {e}");
            assert_eq!((e.path.as_str(), e.message.as_str()), (path, "m"));
        }
    }
}
