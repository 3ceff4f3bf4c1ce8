//! The NFS client: `/proc/net/rpc/nfs`.
use ferula_exposition::family::{Family, Text};

use super::Collected;
use crate::source::Source;

/// Procedures in the kernel's order, shared with the server for versions 2 and 3, whose calls of `Null` are not shown.
pub(super) const VERSION_2: &[&str] = &[
    "Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create", "Remove",
    "Rename", "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];
pub(super) const VERSION_3: &[&str] = &[
    "Null",
    "GetAttr",
    "SetAttr",
    "Lookup",
    "Access",
    "ReadLink",
    "Read",
    "Write",
    "Create",
    "MkDir",
    "SymLink",
    "MkNod",
    "Remove",
    "RmDir",
    "Rename",
    "Link",
    "ReadDir",
    "ReadDirPlus",
    "FsStat",
    "FsInfo",
    "PathConf",
    "Commit",
];
const VERSION_4: &[&str] = &[
    "Null",
    "Read",
    "Write",
    "Commit",
    "Open",
    "OpenConfirm",
    "OpenNoattr",
    "OpenDowngrade",
    "Close",
    "Setattr",
    "FsInfo",
    "Renew",
    "SetClientID",
    "SetClientIDConfirm",
    "Lock",
    "Lockt",
    "Locku",
    "Access",
    "Getattr",
    "Lookup",
    "LookupRoot",
    "Remove",
    "Rename",
    "Link",
    "Symlink",
    "Create",
    "Pathconf",
    "StatFs",
    "ReadLink",
    "ReadDir",
    "ServerCaps",
    "DelegReturn",
    "GetACL",
    "SetACL",
    "FsLocations",
    "ReleaseLockowner",
    "Secinfo",
    "FsidPresent",
    "ExchangeID",
    "CreateSession",
    "DestroySession",
    "Sequence",
    "GetLeaseTime",
    "ReclaimComplete",
    "GetDeviceInfo",
    "LayoutGet",
    "LayoutCommit",
    "LayoutReturn",
    "SecinfoNoName",
    "TestStateID",
    "FreeStateID",
    "GetDeviceList",
    "BindConnToSession",
    "DestroyClientID",
    "Seek",
    "Allocate",
    "DeAllocate",
    "LayoutStats",
    "Clone",
];

/// The numbers after a line's first word; empty if the line is missing.
pub(super) fn numbers(text: &str, word: &str) -> Vec<f64> {
    let line = text.lines().map(str::split_whitespace).find_map(|mut w| (w.next() == Some(word)).then_some(w));
    line.map(|w| w.map_while(|n| n.parse().ok()).collect()).unwrap_or_default()
}

/// One sample per procedure that has a name. The line tells how many follow; procedures it does not know yet count as zero.
pub(super) fn procedures(family: &mut Family, proto: &'static str, names: &[&'static str], counts: &[f64]) {
    for (i, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let labels = [("method", Text::Borrowed(*name)), ("proto", proto.into())];
        family.push_with(labels, counts.get(i).copied().unwrap_or(0.0));
    }
}

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let text = source.proc_or_no_data("net/rpc/nfs")?;
    let line = |word: &str| numbers(&text, word);
    let at = |list: &[f64], i: usize| list.get(i).copied().unwrap_or(0.0);

    let net = line("net");
    let help = "Total NFSd network packets (sent+received) by protocol type.";
    let mut packets = Family::counter("node_nfs_packets_total", help);
    packets.push_with([("protocol", "udp".into())], at(&net, 1));
    packets.push_with([("protocol", "tcp".into())], at(&net, 2));
    let help = "Total number of NFSd TCP connections.";
    out.extend([packets, Family::counter("node_nfs_connections_total", help).with(at(&net, 3))]);

    let rpc = line("rpc");
    for (i, name, help) in [
        (0, "node_nfs_rpcs_total", "Total number of RPCs performed."),
        (1, "node_nfs_rpc_retransmissions_total", "Number of RPC transmissions performed."),
        (2, "node_nfs_rpc_authentication_refreshes_total", "Number of RPC authentication refreshes performed."),
    ] {
        out.push(Family::counter(name, help).with(at(&rpc, i)));
    }
    let mut requests = Family::counter("node_nfs_requests_total", "Number of NFS procedures invoked.");
    for (word, proto, names) in [("proc2", "2", VERSION_2), ("proc3", "3", VERSION_3), ("proc4", "4", VERSION_4)] {
        procedures(&mut requests, proto, names, line(word).get(1..).unwrap_or_default());
    }
    out.push(requests);
    Ok(())
}
