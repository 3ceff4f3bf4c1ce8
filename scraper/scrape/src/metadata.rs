//! Help, type and unit of a target's metric families, as last scraped.
use ferula_model::{Metadata, MetricType};
use hashbrown::HashMap;

/// Families by name. Those that did not come for some scrapes are forgotten.
#[derive(Default)]
pub(crate) struct Families {
    by_name: HashMap<String, Family>,
    /// What the last line of metadata was about; empty before the first.
    current: String,
    pass: u32,
    /// The last pass was rolled back, so that the store knows nothing of what changed in it.
    is_owed: bool,
}

#[derive(Default)]
struct Family {
    metadata: Metadata,
    /// The passes that saw it, and changed it, last.
    seen: u32,
    changed: u32,
}

/// Scrapes a family may be absent before it is forgotten.
const ABSENT_MAX: u32 = 10;

impl Families {
    pub(crate) fn begin(&mut self) {
        self.pass += 1;
        self.current.clear();
    }

    fn change(&mut self, family: &str, change: impl FnOnce(&mut Metadata) -> bool) {
        let pass = self.pass;
        let known = self.by_name.entry_ref(family).or_insert_with(|| Family { changed: pass, ..Family::default() });
        known.seen = pass;
        if change(&mut known.metadata) {
            known.changed = pass;
        }
        if self.current != family {
            family.clone_into(&mut self.current);
        }
    }

    pub(crate) fn set(&mut self, family: &str, metric_type: MetricType, help: &str, unit: &str) {
        self.set_type(family, metric_type);
        self.set_help(family, help);
        self.set_unit(family, unit);
    }
    pub(crate) fn set_type(&mut self, family: &str, metric_type: MetricType) {
        self.change(family, |m| std::mem::replace(&mut m.metric_type, metric_type) != metric_type);
    }
    pub(crate) fn set_help(&mut self, family: &str, help: &str) {
        self.change(family, |m| replace(&mut m.help, help));
    }
    pub(crate) fn set_unit(&mut self, family: &str, unit: &str) {
        self.change(family, |m| replace(&mut m.unit, unit));
    }

    /// Name and metadata of the family that the lines are in, and whether the store has yet to hear of them.
    pub(crate) fn current(&self) -> Option<(&str, &Metadata, bool)> {
        let family = self.by_name.get(&self.current)?;
        Some((&self.current, &family.metadata, self.is_owed || family.changed == self.pass))
    }

    /// After a scrape that was rolled back.
    pub(crate) fn fail(&mut self) {
        self.is_owed = true;
    }

    /// After a complete scrape.
    pub(crate) fn end(&mut self) {
        let pass = self.pass;
        self.is_owed = false;
        self.by_name.retain(|_, family| pass.saturating_sub(family.seen) < ABSENT_MAX);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Metadata)> {
        self.by_name.iter().map(|(name, family)| (name.as_str(), &family.metadata))
    }
}

/// Whether it was another text.
fn replace(text: &mut String, by: &str) -> bool {
    let is_other = text != by;
    if is_other {
        by.clone_into(text);
    }
    is_other
}

/// Whether a series of this name belongs to the family, so that the family's metadata is its own: lines of metadata are
/// optional, and what follows them may be of another family.
pub(crate) fn is_part_of(name: &str, family: &str, metric_type: MetricType) -> bool {
    let suffixes: &[&str] = match metric_type {
        MetricType::Counter => &["_total"],
        MetricType::Histogram => &["_bucket", "_sum", "_count"],
        MetricType::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
        MetricType::Summary => &["_sum", "_count"],
        MetricType::Info => &["_info"],
        _ => &[],
    };
    // Text 0.0.4 names a counter's family as its series.
    let stem =
        if metric_type == MetricType::Counter { family.strip_suffix("_total").unwrap_or(family) } else { family };
    name.starts_with(family) && suffixes.iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name) == stem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_family() {
        use MetricType::{Counter, Gauge, Histogram, Info, Summary};
        for (name, family, metric_type, expect) in [
            ("a_total", "a", Counter, true),
            ("a_total", "a_total", Counter, true),
            ("a", "a", Counter, true),
            ("a_total", "a", Gauge, false),
            ("ab", "a", Gauge, false),
            ("a_bucket", "a", Histogram, true),
            ("a_sum", "a", Summary, true),
            ("a_bucket", "a", Summary, false),
            ("a_info", "a", Info, true),
            ("b", "a", Counter, false),
        ] {
            assert_eq!(is_part_of(name, family, metric_type), expect, "{name} {family} {metric_type:?}");
        }
    }

    #[test]
    fn what_changed_is_told_once_and_again_after_a_failure() {
        let mut f = Families::default();
        let is_news = |f: &mut Families, help: &str| {
            f.begin();
            f.set_help("a", help);
            f.current().map(|(_, _, news)| news)
        };
        assert_eq!(is_news(&mut f, "x"), Some(true));
        f.end();
        assert_eq!(is_news(&mut f, "x"), Some(false));
        f.fail();
        assert_eq!(is_news(&mut f, "x"), Some(true));
        f.end();
        assert_eq!((is_news(&mut f, "y"), is_news(&mut f, "y")), (Some(true), Some(false)));
        f.begin();
        assert!(f.current().is_none(), "lines before any metadata");
    }
}
