//! Statistics of the network stack's caches: `/proc/net/stat/*`, a row of hexadecimal numbers per CPU.
use std::collections::BTreeMap;

use ferula_exporters_shell::CollectError;
use ferula_exposition::family::{Family, Text};

use super::Collected;
use crate::source::{Source, entries, failed};

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let root = source.proc_path("net/stat");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for subsystem in entries(&root).map_err(|e| failed("open", &root, &e))? {
        let text = source.proc(&format!("net/stat/{subsystem}"))?;
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
        for (cpu, line) in lines.enumerate() {
            for (name, word) in names.iter().zip(line.split_whitespace()) {
                let count = u64::from_str_radix(word, 16)
                    .map_err(|_| CollectError::Failed(format!("invalid line in {subsystem}: {line:?}")))?;
                let metric = format!("node_lnstat_{name}_total");
                let family = families
                    .entry(metric.clone())
                    .or_insert_with(|| Family::counter(metric, "linux network cache stats"));
                let labels = [("cpu", Text::Owned(cpu.to_string())), ("subsystem", subsystem.clone().into())];
                family.push_with(labels, count as f64);
            }
        }
    }
    out.extend(families.into_values());
    Ok(())
}
