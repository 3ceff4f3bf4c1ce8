//! Kernel samepage merging: `/sys/kernel/mm/ksm`.
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;

use super::Collected;
use super::attributes::{Attribute, Attributes, COUNTER, GAUGE};
use crate::source::Source;

const NUMBERS: [Attribute; 10] = [
    ("full_scans", "node_ksmd_full_scans_total", "How many times all mergeable areas have been scanned.", COUNTER, 1.0),
    (
        "general_profit",
        "node_ksmd_general_profit_bytes",
        "How effective is KSM. ksm_saved_pages * sizeof(page) - (all_rmap_items) * sizeof(rmap_item)",
        GAUGE,
        1.0,
    ),
    (
        "merge_across_nodes",
        "node_ksmd_merge_across_nodes",
        "Specifies if pages from different NUMA nodes can be merged.",
        GAUGE,
        1.0,
    ),
    ("pages_shared", "node_ksmd_pages_shared", "How many shared pages are being used.", GAUGE, 1.0),
    (
        "pages_sharing",
        "node_ksmd_pages_sharing",
        "How many more sites are sharing them i.e. how much saved.",
        GAUGE,
        1.0,
    ),
    ("pages_to_scan", "node_ksmd_pages_to_scan", "How many pages to scan before ksmd goes to sleep.", GAUGE, 1.0),
    (
        "pages_unshared",
        "node_ksmd_pages_unshared",
        "How many pages unique but repeatedly checked for merging.",
        GAUGE,
        1.0,
    ),
    (
        "pages_volatile",
        "node_ksmd_pages_volatile",
        "How many pages changing too fast to be placed in a tree.",
        GAUGE,
        1.0,
    ),
    ("run", "node_ksmd_run", "The status of ksmd. stopped = 0, running = 1", GAUGE, 1.0),
    (
        "sleep_millisecs",
        "node_ksmd_sleep_seconds",
        "How many seconds ksmd should sleep before next scan.",
        GAUGE,
        0.001,
    ),
];

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let folder = source.sys_path("kernel/mm/ksm");
    if !folder.exists() {
        return Err(CollectError::NoData);
    }
    let mut numbers = Attributes::new(&NUMBERS);
    numbers.read(&folder, &[]);
    numbers.finish(out);
    Ok(())
}
