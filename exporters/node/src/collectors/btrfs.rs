//! Btrfs file systems: `/sys/fs/btrfs/<uuid>`.
use ferula_exposition::family::{Family, Text};

use super::Collected;
use crate::source::{Source, attribute, number_attribute, read};

const SECTOR_BYTES: f64 = 512.0;

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let gauge = |name: &'static str, help: &'static str| Family::gauge(name, help);
    let mut info = gauge("node_btrfs_info", "Filesystem information");
    let mut reserve = gauge("node_btrfs_global_rsv_size_bytes", "Size of global reserve.");
    let mut device_size = gauge("node_btrfs_device_size_bytes", "Size of a device that is part of the filesystem.");
    let mut used = gauge("node_btrfs_used_bytes", "Amount of used space by a layout/data type");
    let mut size = gauge("node_btrfs_size_bytes", "Amount of space allocated for a layout/data type");
    let mut ratio = gauge("node_btrfs_allocation_ratio", "Data allocation ratio for a layout/data type");
    let mut reserved = gauge("node_btrfs_reserved_bytes", "Amount of space reserved for a data type");
    let mut commits = Family::counter("node_btrfs_commits_total", "The total number of commits that have occurred.");
    let help = "Sum of the duration of all commits, in seconds.";
    let mut commit_seconds = Family::counter("node_btrfs_commit_seconds_total", help);
    let help = "Duration of the most recent commit, in seconds.";
    let mut last_commit = gauge("node_btrfs_last_commit_seconds", help);
    let help = "Duration of the slowest commit, in seconds.";
    let mut max_commit = gauge("node_btrfs_max_commit_seconds", help);

    for uuid in source.sys_entries("fs/btrfs")?.unwrap_or_default() {
        let folder = source.sys_path(&format!("fs/btrfs/{uuid}"));
        // `features` is a folder too, but no file system.
        if !folder.join("allocation").is_dir() {
            continue;
        }
        let id = || Text::Owned(uuid.clone());
        let label = attribute(&folder.join("label")).unwrap_or_default();
        info.push_with([("label", label.into()), ("uuid", id())], 1.0);
        if let Some(v) = number_attribute(&folder.join("allocation/global_rsv_size")) {
            reserve.push_with([("uuid", id())], v);
        }
        let devices = source.sys_entries(&format!("fs/btrfs/{uuid}/devices"))?.unwrap_or_default();
        for device in &devices {
            let sectors = number_attribute(&folder.join(format!("devices/{device}/size"))).unwrap_or(0.0);
            device_size.push_with([("device", device.clone().into()), ("uuid", id())], sectors * SECTOR_BYTES);
        }
        for kind in ["data", "metadata", "system"] {
            let allocation = folder.join("allocation").join(kind);
            if let Some(v) = number_attribute(&allocation.join("bytes_reserved")) {
                reserved.push_with([("block_group_type", kind.into()), ("uuid", id())], v);
            }
            for mode in source.sys_entries(&format!("fs/btrfs/{uuid}/allocation/{kind}"))?.unwrap_or_default() {
                let Some(total) = number_attribute(&allocation.join(&mode).join("total_bytes")) else { continue };
                let labels =
                    || [("block_group_type", kind.into()), ("mode", Text::Owned(mode.clone())), ("uuid", id())];
                size.push_with(labels(), total);
                used.push_with(labels(), number_attribute(&allocation.join(&mode).join("used_bytes")).unwrap_or(0.0));
                ratio.push_with(labels(), copies(&mode, devices.len() as f64));
            }
        }
        // Since Linux 6.0; zero before.
        let statistics = read(&folder.join("commit_stats"), 1 << 16).unwrap_or_default();
        let number = |name: &str| {
            let line = statistics.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|v| v.trim().parse::<f64>().ok()).unwrap_or(0.0)
        };
        commits.push_with([("uuid", id())], number("commits"));
        commit_seconds.push_with([("uuid", id())], number("total_commit_ms") / 1000.0);
        last_commit.push_with([("uuid", id())], number("last_commit_ms") / 1000.0);
        max_commit.push_with([("uuid", id())], number("max_commit_ms") / 1000.0);
    }
    out.extend([info, reserve, device_size, used, size, ratio, reserved]);
    out.extend([commits, commit_seconds, last_commit, max_commit]);
    Ok(())
}

/// How many bytes of disk one byte of data takes.
fn copies(mode: &str, devices: f64) -> f64 {
    match mode {
        "dup" | "raid1" | "raid10" => 2.0,
        "raid1c3" => 3.0,
        "raid1c4" => 4.0,
        "raid5" if devices > 1.0 => devices / (devices - 1.0),
        "raid6" if devices > 2.0 => devices / (devices - 2.0),
        _ => 1.0,
    }
}
