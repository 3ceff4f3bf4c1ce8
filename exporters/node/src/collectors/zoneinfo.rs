//! Memory zones: `/proc/zoneinfo`.
use std::collections::BTreeMap;

use ferula_exposition::family::{Family, Text};
use ferula_model::MetricType;

use super::Collected;
use super::attributes::{COUNTER, GAUGE};
use crate::source::Source;

/// The kernel's name, metric, help, type.
const NUMBERS: [(&str, &str, &str, MetricType); 32] = [
    ("high", "node_zoneinfo_high_pages", "Zone watermark pages_high", GAUGE),
    ("low", "node_zoneinfo_low_pages", "Zone watermark pages_low", GAUGE),
    ("managed", "node_zoneinfo_managed_pages", "Present pages managed by the buddy system", GAUGE),
    ("min", "node_zoneinfo_min_pages", "Zone watermark pages_min", GAUGE),
    ("nr_active_anon", "node_zoneinfo_nr_active_anon_pages", "Number of anonymous pages recently more used", GAUGE),
    ("nr_active_file", "node_zoneinfo_nr_active_file_pages", "Number of active pages with file-backing", GAUGE),
    ("nr_anon_pages", "node_zoneinfo_nr_anon_pages", "Number of anonymous pages currently used by the system", GAUGE),
    (
        "nr_anon_transparent_hugepages",
        "node_zoneinfo_nr_anon_transparent_hugepages",
        "Number of anonymous transparent huge pages currently used by the system",
        GAUGE,
    ),
    ("nr_dirtied", "node_zoneinfo_nr_dirtied_total", "Page dirtyings since bootup", COUNTER),
    ("nr_dirty", "node_zoneinfo_nr_dirty_pages", "Number of dirty pages", GAUGE),
    ("nr_file_pages", "node_zoneinfo_nr_file_pages", "Number of file pages", GAUGE),
    ("nr_free_pages", "node_zoneinfo_nr_free_pages", "Total number of free pages in the zone", GAUGE),
    ("nr_inactive_anon", "node_zoneinfo_nr_inactive_anon_pages", "Number of anonymous pages recently less used", GAUGE),
    ("nr_inactive_file", "node_zoneinfo_nr_inactive_file_pages", "Number of inactive pages with file-backing", GAUGE),
    ("nr_isolated_anon", "node_zoneinfo_nr_isolated_anon_pages", "Temporary isolated pages from anon lru", GAUGE),
    ("nr_isolated_file", "node_zoneinfo_nr_isolated_file_pages", "Temporary isolated pages from file lru", GAUGE),
    ("nr_kernel_stack", "node_zoneinfo_nr_kernel_stacks", "Number of kernel stacks", GAUGE),
    ("nr_mapped", "node_zoneinfo_nr_mapped_pages", "Number of mapped pages", GAUGE),
    ("nr_shmem", "node_zoneinfo_nr_shmem_pages", "Number of shmem pages (included tmpfs/GEM pages)", GAUGE),
    ("nr_slab_reclaimable", "node_zoneinfo_nr_slab_reclaimable_pages", "Number of reclaimable slab pages", GAUGE),
    ("nr_slab_unreclaimable", "node_zoneinfo_nr_slab_unreclaimable_pages", "Number of unreclaimable slab pages", GAUGE),
    ("nr_unevictable", "node_zoneinfo_nr_unevictable_pages", "Number of unevictable pages", GAUGE),
    ("nr_writeback", "node_zoneinfo_nr_writeback_pages", "Number of writeback pages", GAUGE),
    ("nr_written", "node_zoneinfo_nr_written_total", "Page writings since bootup", COUNTER),
    ("numa_foreign", "node_zoneinfo_numa_foreign_total", "Was intended here, hit elsewhere", COUNTER),
    ("numa_hit", "node_zoneinfo_numa_hit_total", "Allocated in intended node", COUNTER),
    ("numa_interleave", "node_zoneinfo_numa_interleave_total", "Interleaver preferred this zone", COUNTER),
    ("numa_local", "node_zoneinfo_numa_local_total", "Allocation from local node", COUNTER),
    ("numa_miss", "node_zoneinfo_numa_miss_total", "Allocated in non intended node", COUNTER),
    ("numa_other", "node_zoneinfo_numa_other_total", "Allocation from other node", COUNTER),
    ("present", "node_zoneinfo_present_pages", "Physical pages existing within the zone", GAUGE),
    ("spanned", "node_zoneinfo_spanned_pages", "Total pages spanned by the zone, including holes", GAUGE),
];

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let text = source.proc("zoneinfo")?;
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut place: Option<[(&'static str, Text); 2]> = None;
    for line in text.lines() {
        // `Node 0, zone   Normal`, then indented lines about it.
        if let Some((node, zone)) = line.strip_prefix("Node ").and_then(|l| l.split_once(", zone")) {
            place = Some([("node", node.to_owned().into()), ("zone", zone.trim().to_owned().into())]);
            continue;
        }
        let Some(labels) = &place else { continue };
        let line = line.trim();
        if let Some(list) = line.strip_prefix("protection: (").and_then(|l| l.strip_suffix(')')) {
            for (i, value) in list.split(", ").map_while(|v| v.parse().ok()).enumerate() {
                let name = format!("node_zoneinfo_protection_{i}");
                let help = format!("Protection array {i}. field");
                let family = families.entry(name.clone()).or_insert_with(|| Family::gauge(name, help));
                family.push_with(labels.clone(), value);
            }
            continue;
        }
        let Some((key, value)) = line.split_once(char::is_whitespace) else { continue };
        let known = NUMBERS.iter().find(|(k, ..)| *k == key);
        if let (Some((_, name, help, kind)), Ok(value)) = (known, value.trim().parse()) {
            let family = families.entry((*name).to_owned()).or_insert_with(|| Family::new(*name, *help, *kind));
            family.push_with(labels.clone(), value);
        }
    }
    out.extend(families.into_values());
    Ok(())
}
