//! Help, type and unit of a target's metric families, as last scraped.
//!
//! Targets repeat these lines too. A scrape either *learns* them, all read in full, or *follows*: a line that has the
//! fingerprint of the one that came there last time says nothing new. The first that differs ends the following, and the
//! next scrape learns. Cost: 8 bytes a line.
use ferula_exposition::parse::Syntax;
use ferula_model::{Metadata, MetricType};
use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Families by name. Those that did not come for some scrapes are forgotten.
#[derive(Default)]
pub(crate) struct Families {
    by_name: HashMap<String, Family>,
    /// What the last line of metadata was about; empty before the first.
    current: String,
    pass: u32,
    /// The last pass was rolled back, so that the store knows nothing of what changed in it.
    is_owed: bool,
    lines: Vec<Line>,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Learning,
    /// As many lines came as last time.
    Following(usize),
    /// Nothing is compared, and nothing learned.
    Reading,
    /// Some lines of this scrape were only compared, so not all families are known to have come.
    Astray,
}

/// A line's fingerprint, and in its lowest bits which type it declares.
#[derive(Clone, Copy, Debug)]
struct Line(u64);

const TYPE_BITS: u64 = 15;

impl Line {
    /// The same line may mean something else in another format.
    fn print(line: &[u8], syntax: Syntax) -> u64 {
        xxh3_64_with_seed(line, syntax as u64) & !TYPE_BITS
    }
    fn new(line: &[u8], syntax: Syntax, metric_type: Option<MetricType>) -> Line {
        let at = MetricType::ALL.iter().position(|t| Some(*t) == metric_type);
        Line(Line::print(line, syntax) | at.map_or(0, |i| i as u64 + 1))
    }
    fn metric_type(self) -> Option<MetricType> {
        MetricType::ALL.get(((self.0 & TYPE_BITS) as usize).wrapping_sub(1)).copied()
    }
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
    /// `may_follow`: nobody needs to know which family each series is in.
    pub(crate) fn begin(&mut self, may_follow: bool) {
        self.pass += 1;
        self.current.clear();
        self.mode = match self.mode {
            Mode::Following(_) if may_follow => Mode::Following(0),
            _ => {
                self.lines.clear();
                if may_follow { Mode::Learning } else { Mode::Reading }
            }
        };
    }

    /// Whether the line that comes now is the one that came here last time, and then which type it declares, if any.
    pub(crate) fn take_expected(&mut self, line: &[u8], syntax: Syntax) -> Option<Option<MetricType>> {
        let Mode::Following(at) = &mut self.mode else { return None };
        match self.lines.get(*at) {
            Some(expected) if expected.0 & !TYPE_BITS == Line::print(line, syntax) => {
                *at += 1;
                Some(expected.metric_type())
            }
            _ => {
                self.mode = Mode::Astray;
                None
            }
        }
    }

    /// A line that was read in full.
    pub(crate) fn learn(&mut self, line: &[u8], syntax: Syntax, metric_type: Option<MetricType>) {
        if self.mode == Mode::Learning {
            self.lines.push(Line::new(line, syntax, metric_type));
        }
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
        self.is_owed = false;
        match self.mode {
            // Those that were followed came, without a note of it: nobody gets older.
            Mode::Following(_) | Mode::Astray if !self.lines.is_empty() => {
                self.pass -= 1;
                if self.mode != Mode::Following(self.lines.len()) {
                    self.mode = Mode::Astray;
                }
            }
            _ => {
                let pass = self.pass;
                self.by_name.retain(|_, family| pass.saturating_sub(family.seen) < ABSENT_MAX);
                self.lines.shrink_to_fit();
                if self.mode == Mode::Learning {
                    self.mode = Mode::Following(0);
                }
            }
        }
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
            f.begin(false);
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
        f.begin(false);
        assert!(f.current().is_none(), "lines before any metadata");
    }

    /// One scrape in which `families` come, one line each. Returns how many lines had to be read.
    fn scrape(all: &mut Families, families: &[&str]) -> usize {
        all.begin(true);
        let mut read = 0;
        for family in families {
            let line = format!("# TYPE {family} gauge\n");
            match all.take_expected(line.as_bytes(), Syntax::Text) {
                Some(metric_type) => assert_eq!(metric_type, Some(MetricType::Gauge)),
                None => {
                    read += 1;
                    all.set_type(family, MetricType::Gauge);
                    all.learn(line.as_bytes(), Syntax::Text, Some(MetricType::Gauge));
                }
            }
        }
        all.end();
        read
    }

    #[test]
    fn what_repeats_is_not_read_again_and_stays_known() {
        let mut all = Families::default();
        assert_eq!(scrape(&mut all, &["a", "b"]), 2);
        for _ in 0..3 * ABSENT_MAX {
            assert_eq!(scrape(&mut all, &["a", "b"]), 0);
        }
        assert_eq!(scrape(&mut all, &["a", "c"]), 1, "the rest is read");
        assert_eq!(scrape(&mut all, &["a", "c"]), 2, "learns");
        assert_eq!(scrape(&mut all, &["a", "c"]), 0);
        assert_eq!(scrape(&mut all, &["a"]), 0, "one is missing");
        assert_eq!(scrape(&mut all, &["a"]), 1, "learns");
        assert_eq!(all.iter().count(), 3);
    }

    #[test]
    fn what_does_not_come_is_forgotten_and_what_comes_is_not() {
        let mut all = Families::default();
        scrape(&mut all, &["a", "b", "gone"]);
        // Never twice the same, so that following ends each time.
        for i in 0..3 * ABSENT_MAX {
            let other = format!("other{i}");
            scrape(&mut all, &["a", "b", &other]);
        }
        let names: Vec<&str> = all.iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"a") && names.contains(&"b") && !names.contains(&"gone"), "{names:?}");
    }

    #[test]
    fn a_failed_scrape_changes_nothing() {
        let mut all = Families::default();
        scrape(&mut all, &["a", "b"]);
        all.begin(true); // and no end
        assert_eq!(all.take_expected(b"# TYPE a gauge\n", Syntax::Text), Some(Some(MetricType::Gauge)));
        assert_eq!(all.take_expected(b"# TYPE a gauge\n", Syntax::Text), None);
        scrape(&mut all, &["a", "b"]);
        assert_eq!(scrape(&mut all, &["a", "b"]), 0);
        assert_eq!(all.iter().count(), 2);
    }
}
