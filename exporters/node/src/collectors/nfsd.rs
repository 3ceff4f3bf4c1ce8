//! The NFS server: `/proc/net/rpc/nfsd`.
use ferula_exposition::family::Family;

use super::Collected;
use super::nfs::{VERSION_2, VERSION_3, numbers, procedures};
use crate::source::Source;

/// Operations of version 4 from number 3 on; empty names are not shown.
const OPERATIONS: &[&str] = &[
    "Access",
    "Close",
    "Commit",
    "Create",
    "DelegPurge",
    "DelegReturn",
    "GetAttr",
    "GetFH",
    "Link",
    "Lock",
    "Lockt",
    "Locku",
    "Lookup",
    "LookupRoot",
    "Nverify",
    "Open",
    "OpenAttr",
    "OpenConfirm",
    "OpenDgrd",
    "PutFH",
    "",
    "",
    "Read",
    "ReadDir",
    "ReadLink",
    "Remove",
    "Rename",
    "Renew",
    "RestoreFH",
    "SaveFH",
    "SecInfo",
    "SetAttr",
    "SetClientID",
    "SetClientIDConfirm",
    "Verify",
    "Write",
    "RelLockOwner",
];

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let text = source.proc_or_no_data("net/rpc/nfsd")?;
    let at = |word: &str, i: usize| numbers(&text, word).get(i).copied().unwrap_or(0.0);
    for (word, i, name, help) in [
        ("rc", 0, "reply_cache_hits_total", "Total number of NFSd Reply Cache hits (client lost server response)."),
        (
            "rc",
            1,
            "reply_cache_misses_total",
            "Total number of NFSd Reply Cache an operation that requires caching (idempotent).",
        ),
        (
            "rc",
            2,
            "reply_cache_nocache_total",
            "Total number of NFSd Reply Cache non-idempotent operations (rename/delete/\u{2026}).",
        ),
        ("fh", 0, "file_handles_stale_total", "Total number of NFSd stale file handles"),
        ("io", 0, "disk_bytes_read_total", "Total NFSd bytes read."),
        ("io", 1, "disk_bytes_written_total", "Total NFSd bytes written."),
        ("ra", 11, "read_ahead_cache_not_found_total", "Total number of NFSd read ahead cache not found."),
        ("net", 3, "connections_total", "Total number of NFSd TCP connections."),
        ("rpc", 0, "server_rpcs_total", "Total number of NFSd RPCs."),
    ] {
        out.push(Family::counter(format!("node_nfsd_{name}"), help).with(at(word, i)));
    }
    let help = "Total number of NFSd kernel threads that are running.";
    out.push(Family::gauge("node_nfsd_server_threads", help).with(at("th", 0)));
    let help = "How large the read ahead cache is in blocks.";
    out.push(Family::gauge("node_nfsd_read_ahead_cache_size_blocks", help).with(at("ra", 0)));
    let help = "Total NFSd network packets (sent+received) by protocol type.";
    let mut packets = Family::counter("node_nfsd_packets_total", help);
    packets.push_with([("proto", "udp".into())], at("net", 1));
    packets.push_with([("proto", "tcp".into())], at("net", 2));
    let help = "Total number of NFSd RPC errors by error type.";
    let mut errors = Family::counter("node_nfsd_rpc_errors_total", help);
    for (error, i) in [("fmt", 2), ("auth", 3), ("cInt", 4)] {
        errors.push_with([("error", error.into())], at("rpc", i));
    }
    let help = "Total number NFSd Requests by method and protocol.";
    let mut requests = Family::counter("node_nfsd_requests_total", help);
    for (word, proto, names) in [("proc2", "2", VERSION_2), ("proc3", "3", VERSION_3)] {
        let counts = numbers(&text, word);
        procedures(&mut requests, proto, names.get(1..).unwrap_or_default(), counts.get(2..).unwrap_or_default());
    }
    // The count of operations, then three numbers that stand for none.
    let operations = numbers(&text, "proc4ops");
    for (i, name) in OPERATIONS.iter().enumerate().filter(|(_, n)| !n.is_empty()) {
        let count = operations.get(i + 4).copied().unwrap_or(0.0);
        requests.push_with([("method", (*name).into()), ("proto", "4".into())], count);
    }
    let labels = [("method", "WdelegGetattr".into()), ("proto", "4".into())];
    requests.push_with(labels, at("wdeleg_getattr", 0));
    out.extend([packets, errors, requests]);
    Ok(())
}
