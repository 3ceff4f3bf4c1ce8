//! `/proc/meminfo`, the fields upstream knows.
use ferula_exposition::family::Family;

use super::Collected;
use crate::parse;
use crate::source::Source;

/// As the kernel spells them. What newer kernels add is left out until upstream names it.
const FIELDS: &[&str] = &[
    "Active",
    "Active(anon)",
    "Active(file)",
    "AnonHugePages",
    "AnonPages",
    "Bounce",
    "Buffers",
    "Cached",
    "CmaFree",
    "CmaTotal",
    "CommitLimit",
    "Committed_AS",
    "DirectMap1G",
    "DirectMap2M",
    "DirectMap4k",
    "Dirty",
    "HardwareCorrupted",
    "HugePages_Free",
    "HugePages_Rsvd",
    "HugePages_Surp",
    "HugePages_Total",
    "Hugepagesize",
    "Inactive",
    "Inactive(anon)",
    "Inactive(file)",
    "KernelStack",
    "Mapped",
    "MemAvailable",
    "MemFree",
    "MemTotal",
    "Mlocked",
    "NFS_Unstable",
    "PageTables",
    "Percpu",
    "SReclaimable",
    "SUnreclaim",
    "Shmem",
    "ShmemHugePages",
    "ShmemPmdMapped",
    "Slab",
    "SwapCached",
    "SwapFree",
    "SwapTotal",
    "Unevictable",
    "VmallocChunk",
    "VmallocTotal",
    "VmallocUsed",
    "Writeback",
    "WritebackTmp",
    "Zswap",
    "Zswapped",
];

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let text = source.proc("meminfo")?;
    for (key, value, unit) in text.lines().filter_map(parse::key_value) {
        if !FIELDS.contains(&key) {
            continue;
        }
        let mut field = key.replace('(', "_").replace(')', "");
        let mut value = value;
        if unit == "kB" {
            field.push_str("_bytes");
            value *= 1024.0;
        }
        let help = format!("Memory information field {field}.");
        out.push(Family::gauge(format!("node_memory_{field}"), help).with(value));
    }
    Ok(())
}
