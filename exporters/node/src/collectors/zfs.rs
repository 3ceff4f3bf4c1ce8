//! ZFS on Linux: `/proc/spl/kstat/zfs`, kernel statistics in Solaris's format.
//!
//! A file of names begins with two header lines, then `name type data` per line; a pool's `io` has names and values in
//! one line each.
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::{Family, Text};
use ferula_model::MetricType;
use std::collections::BTreeMap;

use super::Collected;
use crate::source::{Source, entries, read};

/// File, prefix of the metrics.
const FILES: [(&str, &str); 11] = [
    ("abdstats", "zfs_abd"),
    ("arcstats", "zfs_arc"),
    ("dbufstats", "zfs_dbuf"),
    ("dmu_tx", "zfs_dmu_tx"),
    ("dnodestats", "zfs_dnode"),
    ("fm", "zfs_fm"),
    ("vdev_cache_stats", "zfs_vdev_cache"),
    ("vdev_mirror_stats", "zfs_vdev_mirror"),
    ("xuio_stats", "zfs_xuio"),
    ("zfetchstats", "zfs_zfetch"),
    ("zil", "zfs_zil"),
];

const STATES: [&str; 7] = ["online", "degraded", "faulted", "offline", "removed", "unavail", "suspended"];

/// Families that several pools or data sets contribute to, by metric name.
#[derive(Default)]
struct Families(BTreeMap<String, Family>);

impl Families {
    fn get(&mut self, name: &str, help: String) -> &mut Family {
        self.0.entry(name.to_owned()).or_insert_with(|| Family::new(name.to_owned(), help, MetricType::Unknown))
    }
}

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let root = source.proc_path("spl/kstat/zfs");
    let Ok(names) = entries(&root) else { return Err(CollectError::NoData) };
    for (file, prefix) in FILES {
        // Which files there are differs between versions.
        for (name, value) in named(&source.proc_optional(&format!("spl/kstat/zfs/{file}"))?.unwrap_or_default()) {
            let help = format!("kstat.zfs.misc.{file}.{name}");
            let metric = format!("node_{prefix}_{}", name.replace('-', "_"));
            out.push(Family::unknown(metric, help).with(value));
        }
    }
    let mut families = Families::default();
    let mut state = Family::gauge("node_zfs_zpool_state", "kstat.zfs.misc.state");
    for pool in names.iter().filter(|n| root.join(n).is_dir()) {
        let text = |file: &str| read(&root.join(pool).join(file), 1 << 20).unwrap_or_default();
        for (name, value) in table(&text("io")) {
            let family = families.get(&format!("node_zfs_zpool_{name}"), format!("kstat.zfs.misc.io.{name}"));
            family.push_with([("zpool", pool.clone().into())], value);
        }
        let now = text("state").trim().to_lowercase();
        for name in STATES.iter().filter(|_| !now.is_empty()) {
            let labels = [("state", Text::Borrowed(*name)), ("zpool", pool.clone().into())];
            state.push_with(labels, f64::from(u8::from(now == *name)));
        }
        for file in entries(&root.join(pool)).unwrap_or_default().iter().filter(|f| f.starts_with("objset-")) {
            let text = text(file);
            let data_set = data_set(&text);
            for (name, value) in named(&text) {
                let metric = format!("node_zfs_zpool_dataset_{name}");
                let family = families.get(&metric, format!("kstat.zfs.misc.objset.{name}"));
                let labels = [("dataset", Text::Owned(data_set.to_owned())), ("zpool", pool.clone().into())];
                family.push_with(labels, value);
            }
        }
    }
    out.extend(families.0.into_values());
    out.push(state);
    Ok(())
}

/// The numeric entries of a file of names: types 1 to 4 are integers, 7 is text.
fn named(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines().skip(2).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, kind, data) = (words.next()?, words.next()?, words.next()?);
        if !matches!(kind, "1" | "2" | "3" | "4") {
            return None;
        }
        Some((name, data.parse().ok()?))
    })
}

/// Its name may hold blanks.
fn data_set(text: &str) -> &str {
    let line = text.lines().find_map(|l| l.strip_prefix("dataset_name")).unwrap_or_default();
    line.trim_start().split_once(char::is_whitespace).map_or("", |(_, name)| name.trim())
}

fn table(text: &str) -> impl Iterator<Item = (&str, f64)> {
    let mut lines = text.lines().skip(1);
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    names.split_whitespace().zip(values.split_whitespace().map_while(|v| v.parse().ok()))
}
