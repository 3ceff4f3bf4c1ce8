//! `file_sd_configs`: groups in JSON and YAML files, followed through their directories.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::config::FileSd;
use crate::group::{TargetGroup, WrittenGroup, groups_of};
use crate::manager::Publisher;
use crate::metrics::Metrics;

const META_FILEPATH: &str = "__meta_filepath";
/// A larger file is refused: it would be read into memory as a whole.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Publishes the files' groups now, whenever a file changes, and every refresh interval; never returns.
pub(crate) async fn run(config: FileSd, publish: Publisher) {
    let (changed, mut changes) = mpsc::channel::<()>(1);
    let mut watch = Watch::new(changed, publish.metrics().clone());
    let mut known: Files = Files::new();
    loop {
        watch.follow(&config.files);
        while changes.try_recv().is_ok() {}
        let (patterns, before, metrics) = (config.files.clone(), std::mem::take(&mut known), publish.metrics().clone());
        let started = publish.monotonic();
        let read = tokio::task::spawn_blocking(move || read_all(&patterns, before, &metrics)).await;
        publish.metrics().file_scan.observe_duration(publish.monotonic().saturating_sub(started));
        match read {
            Ok((files, error)) => {
                known = files;
                let groups = known.values().flatten().cloned();
                publish.groups(groups, error);
            }
            Err(e) => publish.failed(format!("reading target files: {e}")),
        }
        tokio::select! {
            _ = changes.recv() => {}
            () = tokio::time::sleep(config.refresh_interval.std()) => {}
        }
    }
}

/// Groups by file, in path order.
type Files = BTreeMap<PathBuf, Vec<TargetGroup>>;

/// Reads every file there is. One that cannot be read keeps its groups of last time.
fn read_all(patterns: &[String], mut before: Files, metrics: &Metrics) -> (Files, Option<String>) {
    let mut files = Files::new();
    let mut error = None;
    for path in patterns.iter().flat_map(|p| matching(p)) {
        match read(&path, metrics) {
            Ok(groups) => {
                files.insert(path, groups);
            }
            Err(e) => {
                metrics.file_read_errors.inc();
                tracing::error!(path = %path.display(), error = %e, "Error reading file");
                error = Some(format!("{}: {e}", path.display()));
                if let Some(groups) = before.remove(&path) {
                    files.insert(path, groups);
                }
            }
        }
    }
    (files, error)
}

fn read(path: &Path, metrics: &Metrics) -> Result<Vec<TargetGroup>, String> {
    let meta = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if meta.len() > FILE_BYTES_MAX {
        return Err(format!("file of {} bytes exceeds {FILE_BYTES_MAX} bytes", meta.len()));
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let name = path.to_string_lossy();
    let groups = parse(&name, &text)?;
    if let Ok(mtime) = meta.modified()
        && let Ok(since) = mtime.duration_since(UNIX_EPOCH)
    {
        metrics.file_mtime.with(&[&name]).set(since.as_secs_f64());
    }
    Ok(groups)
}

/// The groups of one file; its extension says which language it is in.
pub fn parse(path: &str, text: &str) -> Result<Vec<TargetGroup>, String> {
    let list: Vec<Option<WrittenGroup>> = if path.to_ascii_lowercase().ends_with(".json") {
        serde_json::from_str(text).map_err(|e| e.to_string())?
    } else {
        ferula_yaml::from_str(path, text).map_err(|e| e.to_string())?
    };
    groups_of(list, path, (META_FILEPATH, path))
}

/// Files a pattern names now: an asterisk or question mark may stand in the last segment.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let path = Path::new(pattern);
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    if !name.contains(['*', '?']) {
        return if path.is_file() { vec![path.to_owned()] } else { Vec::new() };
    }
    let Ok(entries) = std::fs::read_dir(directory(path)) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|e| e.file_name().to_str().is_some_and(|n| glob(name, n)))
        .map(|e| path.with_file_name(e.file_name()))
        .filter(|p| p.is_file())
        .collect();
    found.sort();
    found
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Shell pattern with `*` and `?`; remembers the last asterisk instead of recursing.
fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || name.get(n) == Some(c) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    p = at + 1;
                    n = taken + 1;
                    star = Some((at, taken + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

/// Watches the files' directories, for files that are replaced are seen only there.
struct Watch {
    watcher: Option<notify::RecommendedWatcher>,
    directories: BTreeSet<PathBuf>,
    metrics: Metrics,
}

impl Watch {
    fn new(changed: mpsc::Sender<()>, metrics: Metrics) -> Watch {
        let errors = metrics.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            // Reading the files is an event too; only what can change content counts.
            Ok(e) if e.kind.is_access() => {}
            Ok(_) => {
                let _ = changed.try_send(()); // full means that a re-read is due anyway
            }
            Err(_) => errors.file_watcher_errors.inc(),
        });
        if let Err(e) = &watcher {
            metrics.file_watcher_errors.inc();
            tracing::warn!(error = %e, "Files are not watched, only read again on their interval");
        }
        Watch { watcher: watcher.ok(), directories: BTreeSet::new(), metrics }
    }

    /// Adds directories not watched yet; one that does not exist is tried again next time.
    fn follow(&mut self, patterns: &[String]) {
        let Some(watcher) = &mut self.watcher else { return };
        for pattern in patterns {
            let dir = directory(Path::new(pattern)).to_owned();
            if self.directories.contains(&dir) {
                continue;
            }
            match watcher.watch(&dir, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.directories.insert(dir);
                }
                Err(_) => self.metrics.file_watcher_errors.inc(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, expect) in [
            ("*.json", "a.json", true),
            ("*.json", "a.yml", false),
            ("a*b.json", "axxb.json", true),
            ("a*b.json", "axxbc.json", false),
            ("a?.yml", "ab.yml", true),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern, name), expect, "{pattern} {name}");
        }
    }

    #[test]
    fn reads_both_languages_strictly() {
        let yaml = "- targets: [a:1, b:2]\n  labels: {x: y}\n- targets: [c:3]\n";
        let json = r#"[{"targets": ["a:1", "b:2"], "labels": {"x": "y"}}, {"targets": ["c:3"]}]"#;
        let groups = parse("t.yml", yaml).unwrap();
        assert_eq!(groups[0].labels.to_string(), r#"{__meta_filepath="t.yml", x="y"}"#);
        assert_eq!((groups[0].source.as_str(), groups[0].targets.len(), groups.len()), ("t.yml:0", 2, 2));
        assert_eq!(parse("t.json", json).unwrap().len(), 2);
        assert!(parse("t.yml", "- targts: [a]").is_err());
        assert_eq!(parse("t.json", "[null]").unwrap_err(), "nil target group item found (index 0)");
    }
}
