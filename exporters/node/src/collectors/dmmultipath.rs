//! Multipath block devices of the device mapper: `/sys/block/dm-*`.
use ferula_exposition::family::{Family, Text};

use super::Collected;
use crate::source::{Source, attribute, number_attribute};

const SECTOR_BYTES: f64 = 512.0;

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let gauge = |name: &'static str, help: &'static str| Family::gauge(name, help);
    let help = "Non-numeric information about a DM-multipath device.";
    let mut info = gauge("node_dmmultipath_device_info", help);
    let help = "Whether the multipath device-mapper device is active (1) or suspended (0).";
    let mut active = gauge("node_dmmultipath_device_active", help);
    let help = "Size of the multipath device in bytes, read from /sys/block/<dm>/size.";
    let mut size = gauge("node_dmmultipath_device_size_bytes", help);
    let mut paths = gauge("node_dmmultipath_device_paths", "Number of paths for a multipath device.");
    let help = "Number of paths in active state (SCSI running or NVMe live) for a multipath device.";
    let mut paths_active = gauge("node_dmmultipath_device_paths_active", help);
    let help = "Number of paths not in active state for a multipath device.";
    let mut paths_failed = gauge("node_dmmultipath_device_paths_failed", help);
    let help = "Reports the underlying device state for a multipath path, as read from /sys/block/<dev>/device/state.";
    let mut path_state = gauge("node_dmmultipath_path_state", help);

    for dm in source.sys_entries("block")?.unwrap_or_default() {
        let folder = source.sys_path(&format!("block/{dm}"));
        let Some(uuid) = attribute(&folder.join("dm/uuid")).ok().filter(|u| u.starts_with("mpath-")) else { continue };
        let name = attribute(&folder.join("dm/name")).unwrap_or_default();
        let labels = || [("device", Text::Owned(name.clone())), ("sysfs_name", dm.clone().into())];
        let [device, sysfs_name] = labels();
        info.push_with([device, sysfs_name, ("uuid", uuid.into())], 1.0);
        let is_suspended = number_attribute(&folder.join("dm/suspended")) == Some(1.0);
        active.push_with(labels(), f64::from(u8::from(!is_suspended)));
        size.push_with(labels(), number_attribute(&folder.join("size")).unwrap_or(0.0) * SECTOR_BYTES);
        let members = source.sys_entries(&format!("block/{dm}/slaves"))?.unwrap_or_default();
        let mut working = 0.0;
        for path in &members {
            let state = attribute(&source.sys_path(&format!("block/{path}/device/state")));
            let state = state.unwrap_or_else(|_| "unknown".to_owned());
            working += f64::from(u8::from(state == "running" || state == "live"));
            let labels =
                [("device", Text::Owned(name.clone())), ("path", path.clone().into()), ("state", state.into())];
            path_state.push_with(labels, 1.0);
        }
        paths.push_with(labels(), members.len() as f64);
        paths_active.push_with(labels(), working);
        paths_failed.push_with(labels(), members.len() as f64 - working);
    }
    out.extend([info, active, size, paths, paths_active, paths_failed, path_state]);
    Ok(())
}
