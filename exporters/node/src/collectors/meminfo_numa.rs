//! Memory per NUMA node: `/sys/devices/system/node/node*/{meminfo,numastat}`.
use std::collections::BTreeMap;

use ferula_exposition::family::Family;
use ferula_model::MetricType;

use super::Collected;
use crate::parse;
use crate::source::{Source, failed, read};

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut add = |field: String, kind, node: &str, value| {
        let family = families.entry(field.clone()).or_insert_with(|| {
            let help = format!("Memory information field {field}.");
            Family::new(format!("node_memory_numa_{field}"), help, kind)
        });
        family.push_with([("node", node.to_owned().into())], value);
    };
    for entry in source.sys_entries_or_no_data("devices/system/node")? {
        let Some(node) = entry.strip_prefix("node").filter(|n| n.parse::<u32>().is_ok()) else { continue };
        let file = |name: &str| {
            let path = source.sys_path(&format!("devices/system/node/{entry}/{name}"));
            read(&path, 1 << 20).map_err(|e| failed("open", &path, &e))
        };
        for line in file("meminfo")?.lines() {
            // `Node 0 Active(anon):  1 kB`
            let rest = line.trim_start().strip_prefix("Node ").and_then(|l| l.split_once(' ')).map(|(_, r)| r);
            let Some((key, value, unit)) = rest.and_then(parse::key_value) else { continue };
            let value = if unit == "kB" { value * 1024.0 } else { value };
            add(key.replace('(', "_").replace(')', ""), MetricType::Gauge, node, value);
        }
        for (key, value, _) in file("numastat")?.lines().filter_map(parse::key_value) {
            add(format!("{key}_total"), MetricType::Counter, node, value);
        }
    }
    out.extend(families.into_values());
    Ok(())
}
