//! Connection tracking: how full the table is, and what happened in it.
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;

use super::Collected;
use crate::source::Source;

/// Column of `/proc/net/stat/nf_conntrack`, help.
const STATISTICS: [(&str, &str); 8] = [
    ("found", "Number of searched entries which were successful."),
    ("invalid", "Number of packets seen which can not be tracked."),
    ("ignore", "Number of packets seen which are already connected to a conntrack entry."),
    ("insert", "Number of entries inserted into the list."),
    ("insert_failed", "Number of entries for which list insertion was attempted but failed."),
    ("drop", "Number of packets dropped due to conntrack failure."),
    ("early_drop", "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached."),
    ("search_restart", "Number of conntrack table lookups which had to be restarted due to hashtable resizes."),
];

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    for (file, name, help) in [
        (
            "nf_conntrack_count",
            "node_nf_conntrack_entries",
            "Number of currently allocated flow entries for connection tracking.",
        ),
        ("nf_conntrack_max", "node_nf_conntrack_entries_limit", "Maximum size of connection tracking table."),
    ] {
        let text = source.proc_or_no_data(&format!("sys/net/netfilter/{file}"))?;
        let v = text.trim().parse().map_err(|_| CollectError::Failed(format!("unexpected {file}: {text:?}")))?;
        out.push(Family::gauge(name, help).with(v));
    }
    let text = source.proc_or_no_data("net/stat/nf_conntrack")?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let mut sums = vec![0u64; header.len()];
    for line in lines {
        for (sum, word) in sums.iter_mut().zip(line.split_whitespace()) {
            *sum += u64::from_str_radix(word, 16)
                .map_err(|_| CollectError::Failed(format!("invalid line in nf_conntrack: {line:?}")))?;
        }
    }
    for (column, help) in STATISTICS {
        // Newer kernels call it clash_resolve and leave the column at another name: upstream shows zero.
        let sum = header.iter().position(|h| *h == column).and_then(|at| sums.get(at)).copied().unwrap_or(0);
        out.push(Family::gauge(format!("node_nf_conntrack_stat_{column}"), help).with(sum as f64));
    }
    Ok(())
}
