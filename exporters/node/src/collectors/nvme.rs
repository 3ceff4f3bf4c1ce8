//! NVMe controllers and their namespaces: `/sys/class/nvme`.
use ferula_exposition::family::{Family, Text};

use super::Collected;
use crate::source::{Source, attribute, number_attribute};

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let help = "Non-numeric data from /sys/class/nvme/<device>, value is always 1.";
    let mut info = Family::gauge("node_nvme_info", help);
    let help = "Information about NVMe namespaces. Value is always 1";
    let mut namespace_info = Family::gauge("node_nvme_namespace_info", help);
    let help = "Capacity of the NVMe namespace in bytes. Computed as namespace_size * namespace_logical_block_size";
    let mut capacity = Family::gauge("node_nvme_namespace_capacity_bytes", help);
    let help = "Size of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/size";
    let mut size = Family::gauge("node_nvme_namespace_size_bytes", help);
    let help = "Used space of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/nuse";
    let mut used = Family::gauge("node_nvme_namespace_used_bytes", help);
    let help = "Logical block size of the NVMe namespace in bytes. Usually 4Kb. Available in \
                /sys/class/nvme/<device>/<namespace>/queue/logical_block_size";
    let mut block_size = Family::gauge("node_nvme_namespace_logical_block_size_bytes", help);

    for device in source.sys_entries_or_no_data("class/nvme")? {
        let folder = source.sys_path(&format!("class/nvme/{device}"));
        let text = |file: &str| Text::Owned(attribute(&folder.join(file)).unwrap_or_default());
        let labels = [
            ("cntlid", text("cntlid")),
            ("device", device.clone().into()),
            ("firmware_revision", text("firmware_rev")),
            ("model", text("model")),
            ("serial", text("serial")),
            ("state", text("state")),
        ];
        info.push_with(labels, 1.0);
        for entry in source.sys_entries(&format!("class/nvme/{device}"))?.unwrap_or_default() {
            let Some(nsid) = namespace_id(&device, &entry) else { continue };
            let number = |file: &str| number_attribute(&folder.join(&entry).join(file));
            let labels = || [("device", Text::Owned(device.clone())), ("nsid", nsid.to_owned().into())];
            let ana_state = attribute(&folder.join(&entry).join("ana_state")).unwrap_or_else(|_| "unknown".to_owned());
            let [device_label, nsid_label] = labels();
            namespace_info.push_with([("ana_state", ana_state.into()), device_label, nsid_label], 1.0);
            let Some(block_bytes) = number("queue/logical_block_size") else { continue };
            block_size.push_with(labels(), block_bytes);
            if let Some(blocks) = number("size") {
                size.push_with(labels(), blocks * block_bytes);
                capacity.push_with(labels(), blocks * block_bytes);
            }
            if let Some(blocks) = number("nuse") {
                used.push_with(labels(), blocks * block_bytes);
            }
        }
    }
    out.extend([info, namespace_info, capacity, size, used, block_size]);
    Ok(())
}

/// `nvme0n1` and, with several paths, `nvme0c1n1`, both below `nvme0`: 1.
fn namespace_id<'a>(device: &str, entry: &'a str) -> Option<&'a str> {
    let rest = entry.strip_prefix(device)?;
    let rest = rest.strip_prefix('c').map_or(rest, |r| r.trim_start_matches(|c: char| c.is_ascii_digit()));
    let id = rest.strip_prefix('n')?;
    (!id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())).then_some(id)
}
