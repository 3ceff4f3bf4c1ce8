//! Metrics that other programs leave in `*.prom` files.
//!
//! A file is foreign input: it is read through its directory without following links out of it, up to a size, and a
//! file that cannot be used counts as an error without spoiling the others.
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ferula_exposition::family::{Bucket, Family, Histogram, Metric, MetricValue, Summary, Text};
use ferula_exposition::parse::{Entry, Limits, Parser, Syntax};
use ferula_model::MetricType;
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat, openat2};

use super::{Collect, Collected, Context};
use crate::Error;
use crate::source::reason;

const FILE_BYTES_MAX: u64 = 16 << 20;

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let patterns: Vec<PathBuf> = context
        .flags
        .values("collector.textfile.directory")
        .iter()
        .filter(|p| !p.is_empty())
        .map(PathBuf::from)
        .collect();
    Ok(Box::new(move |out| collect(&patterns, out)))
}

fn collect(patterns: &[PathBuf], out: &mut Vec<Family>) -> Collected {
    let mut error = false;
    let mut merged: BTreeMap<String, Merged> = BTreeMap::new();
    let mut mtime = Family::gauge("node_textfile_mtime_seconds", "Unixtime mtime of textfiles successfully read.");
    for directory in patterns.iter().flat_map(|p| expand(p)) {
        let names = match names(&directory) {
            Ok(names) => names,
            Err(why) => {
                tracing::error!(path = %directory.display(), err = why, "failed to read textfile collector directory");
                error = true;
                continue;
            }
        };
        for name in names {
            let path = directory.join(&name).to_string_lossy().into_owned();
            match read(&directory, &name).and_then(|(text, seconds)| Ok((families(&text)?, seconds))) {
                Ok((families, seconds)) => {
                    mtime.push_with([("file", path.clone().into())], seconds);
                    for family in families {
                        error |= !merged.entry(family.name.to_string()).or_default().add(family, &path);
                    }
                }
                Err(why) => {
                    tracing::error!(file = path, err = why, "failed to collect textfile data");
                    error = true;
                }
            }
        }
    }
    out.extend(merged.into_values().map(Merged::finish));
    out.push(mtime);
    let help = "1 if there was an error opening or reading a file, 0 otherwise";
    out.push(Family::gauge("node_textfile_scrape_error", help).with(f64::from(u8::from(error))));
    Ok(())
}

/// The directories that a pattern names: `*` and `?` within a path component. A path that matches nothing stays, so that
/// it is reported as missing.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let text = component.as_os_str().to_string_lossy();
        if !text.contains(['*', '?']) {
            found.iter_mut().for_each(|p| p.push(component));
            continue;
        }
        let mut next = Vec::new();
        for parent in found {
            let here = if parent.as_os_str().is_empty() { Path::new(".") } else { &parent };
            let entries = crate::source::entries(here).unwrap_or_default();
            next.extend(entries.into_iter().filter(|name| matches(&text, name)).map(|name| parent.join(name)));
        }
        found = next;
    }
    if found.is_empty() { vec![pattern.to_path_buf()] } else { found }
}

/// Glob matching with one level of backtracking, which is all that `*` and `?` need.
fn matches(pattern: &str, name: &str) -> bool {
    let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut i, mut j) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while j < n.len() {
        match p.get(i) {
            Some('*') => {
                star = Some((i, j));
                i += 1;
            }
            Some(c) if *c == '?' || Some(c) == n.get(j) => (i, j) = (i + 1, j + 1),
            _ => match star {
                Some((at, from)) => {
                    (i, j) = (at + 1, from + 1);
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    p.get(i..).unwrap_or_default().iter().all(|c| *c == '*')
}

fn names(directory: &Path) -> Result<Vec<String>, String> {
    let names = crate::source::entries(directory).map_err(|e| reason(&e))?;
    Ok(names.into_iter().filter(|n| n.ends_with(".prom")).collect())
}

/// Text and modification time.
fn read(directory: &Path, name: &str) -> Result<(String, f64), String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK; // a fifo must not hold us
    let folder = open(directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| reason(&e.into()))?;
    let file = openat2(&folder, name, flags, Mode::empty(), ResolveFlags::BENEATH).or_else(|e| {
        // Kernels before 5.6 cannot check links: then a link is not followed at all.
        if e == rustix::io::Errno::NOSYS {
            openat(&folder, name, flags | OFlags::NOFOLLOW, Mode::empty())
        } else {
            Err(e)
        }
    });
    let file = File::from(file.map_err(|e| match e {
        rustix::io::Errno::XDEV => "links out of its directory".to_owned(),
        e => reason(&e.into()),
    })?);
    let metadata = file.metadata().map_err(|e| reason(&e))?;
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut text = Vec::new();
    let got = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|e| reason(&e))?;
    if got as u64 > FILE_BYTES_MAX {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    let text = String::from_utf8(text).map_err(|_| "not valid UTF-8".to_owned())?;
    Ok((text, metadata.mtime() as f64 + metadata.mtime_nsec() as f64 / 1e9))
}

/// What one file says. Timestamps are refused, because the value would be exposed again and again as new.
fn families(text: &str) -> Result<Vec<Family>, String> {
    let mut families: BTreeMap<String, Building> = BTreeMap::new();
    let mut parser = Parser::new(text.as_bytes(), Syntax::Text, Limits::default());
    while let Some(entry) = parser.next() {
        match entry.map_err(|e| e.to_string())? {
            Entry::Help { family, text } => families.entry(family.into_owned()).or_default().help = text.into_owned(),
            Entry::Type { family, metric_type } => {
                families.entry(family.into_owned()).or_default().metric_type = metric_type;
            }
            Entry::Sample(sample) if sample.t_ms.is_some() => {
                return Err("textfile contains unsupported client-side timestamps".to_owned());
            }
            Entry::Sample(sample) => {
                let (mut name, mut labels) = (String::new(), Vec::new());
                parser.labels(|n, v| {
                    if n == ferula_model::labels::METRIC_NAME {
                        name = v.into_owned();
                    } else {
                        labels.push((n.into_owned(), v.into_owned()));
                    }
                });
                let (family, part) = family_of(&families, &name);
                families.entry(family).or_default().add(part, labels, sample.value)?;
            }
            Entry::Unit { .. } | Entry::Comment => {}
        }
    }
    Ok(families.into_iter().map(|(name, b)| b.finish(name)).filter(|f| !f.metrics.is_empty()).collect())
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Plain,
    Sum,
    Count,
    Bucket,
}

/// `x_bucket` belongs to `x` if that is a histogram, and so on.
fn family_of(families: &BTreeMap<String, Building>, name: &str) -> (String, Part) {
    for (suffix, part) in [("_sum", Part::Sum), ("_count", Part::Count), ("_bucket", Part::Bucket)] {
        let Some(base) = name.strip_suffix(suffix) else { continue };
        let fits = match families.get(base).map(|f| f.metric_type) {
            Some(MetricType::Histogram) => true,
            Some(MetricType::Summary) => part != Part::Bucket,
            _ => false,
        };
        if fits {
            return (base.to_owned(), part);
        }
    }
    (name.to_owned(), Part::Plain)
}

type Labels = BTreeMap<String, String>;

/// A family while its lines come in.
#[derive(Default)]
struct Building {
    help: String,
    metric_type: MetricType,
    metrics: BTreeMap<Labels, MetricValue>,
}

impl Building {
    fn add(&mut self, part: Part, labels: Vec<(String, String)>, value: f64) -> Result<(), String> {
        let mut labels: Labels = labels.into_iter().collect();
        let mut bound = |name: &str| {
            let text = labels.remove(name)?;
            text.parse::<f64>().ok()
        };
        match self.metric_type {
            MetricType::Summary => {
                let quantile = bound("quantile");
                let entry = self.metrics.entry(labels).or_insert_with(|| MetricValue::Summary(Summary::default()));
                if let MetricValue::Summary(s) = entry {
                    match (part, quantile) {
                        (Part::Sum, _) => s.sum = value,
                        (Part::Count, _) => s.count = value,
                        (_, Some(quantile)) => s.quantiles.push((quantile, value)),
                        _ => return Err("summary sample without a quantile".to_owned()),
                    }
                }
            }
            MetricType::Histogram => {
                let upper_bound = bound("le");
                let entry = self.metrics.entry(labels).or_insert_with(|| MetricValue::Histogram(Histogram::default()));
                if let MetricValue::Histogram(h) = entry {
                    match (part, upper_bound) {
                        (Part::Sum, _) => h.sum = value,
                        (Part::Count, _) => h.count = value,
                        (Part::Bucket, Some(upper_bound)) => {
                            h.buckets.push(Bucket { upper_bound, cumulative_count: value, exemplar: None });
                        }
                        _ => return Err("histogram bucket without a bound".to_owned()),
                    }
                }
            }
            _ => {
                if self.metrics.insert(labels, MetricValue::Number(value)).is_some() {
                    return Err("the same series twice".to_owned());
                }
            }
        }
        Ok(())
    }

    /// All metrics of a family get the same label names, missing ones being empty: what upstream's registry demands.
    fn finish(self, name: String) -> Family {
        let names: BTreeSet<String> = self.metrics.keys().flat_map(|l| l.keys().cloned()).collect();
        let metrics = self.metrics.into_iter().map(|(labels, value)| {
            let pair = |n: &String| (Text::Owned(n.clone()), Text::Owned(labels.get(n).cloned().unwrap_or_default()));
            Metric::new(names.iter().map(pair).collect(), value)
        });
        Family { metrics: metrics.collect(), ..Family::new(name, self.help, self.metric_type) }
    }
}

/// A family that may come from several files.
#[derive(Default)]
struct Merged {
    family: Option<Family>,
    /// Files that gave no help text of their own.
    files: Vec<String>,
}

impl Merged {
    /// False if it contradicts what was there: then the first file wins.
    fn add(&mut self, family: Family, path: &str) -> bool {
        let has_help = !family.help.is_empty();
        let agrees = match &mut self.family {
            None => {
                self.family = Some(family);
                true
            }
            Some(first) if first.help == family.help && first.metric_type == family.metric_type => {
                first.metrics.extend(family.metrics);
                true
            }
            Some(first) => {
                let reason = if first.help == family.help { "types" } else { "help texts" };
                tracing::error!(file = path, metric = %first.name, "inconsistent metric {reason}");
                false
            }
        };
        if agrees && !has_help {
            self.files.push(path.to_owned());
        }
        agrees
    }

    fn finish(self) -> Family {
        let mut family = self.family.unwrap_or_default();
        if family.help.is_empty() {
            family.help = format!("Metric read from {}", self.files.join(", ")).into();
        }
        family
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, want) in
            [("*", "abc", true), ("a*c", "abbc", true), ("a?c", "abc", true), ("a*b", "abc", false), ("", "a", false)]
        {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn links_out_of_the_directory_and_bad_files_are_errors_of_their_own() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.prom"), "secret 1\n").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("good.prom", "good{a=\"1\"} 1\n");
        write("bad.prom", "not a metric line\n");
        write("time.prom", "t 1 123\n");
        std::os::unix::fs::symlink(outside.path().join("secret.prom"), dir.path().join("link.prom")).unwrap();
        std::os::unix::fs::symlink("good.prom", dir.path().join("inside.txt")).unwrap();
        let mut out = Vec::new();
        collect(&[dir.path().to_path_buf()], &mut out).unwrap();
        let names: Vec<&str> = out.iter().filter(|f| !f.metrics.is_empty()).map(|f| &*f.name).collect();
        assert_eq!(names, ["good", "node_textfile_mtime_seconds", "node_textfile_scrape_error"]);
        let error = out.last().unwrap();
        assert_eq!(error.metrics[0].value, MetricValue::Number(1.0));
    }
}
