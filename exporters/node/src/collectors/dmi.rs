//! What the firmware says about the machine: `/sys/class/dmi/id`.
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::{Family, Metric, Text};

use super::Collected;
use crate::source::{Source, attribute};

/// Label and file are spelled alike.
const FIELDS: [&str; 20] = [
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_asset_tag",
    "board_name",
    "board_serial",
    "board_vendor",
    "board_version",
    "chassis_asset_tag",
    "chassis_serial",
    "chassis_vendor",
    "chassis_version",
    "product_family",
    "product_name",
    "product_serial",
    "product_sku",
    "product_uuid",
    "product_version",
    "sys_vendor",
];

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    if !source.sys_path("class/dmi/id").exists() {
        return Err(CollectError::NoData);
    }
    // Serial numbers are for root only: a label is left out when its file cannot be read.
    let label = |field: &'static str| {
        let value = attribute(&source.sys_path(&format!("class/dmi/id/{field}"))).ok()?;
        let name = if field == "sys_vendor" { "system_vendor" } else { field };
        Some((Text::Borrowed(name), Text::Owned(value)))
    };
    let help = "A metric with a constant '1' value labeled by bios_date, bios_release, bios_vendor, bios_version, \
                board_asset_tag, board_name, board_serial, board_vendor, board_version, chassis_asset_tag, \
                chassis_serial, chassis_vendor, chassis_version, product_family, product_name, product_serial, \
                product_sku, product_uuid, product_version, system_vendor if provided by DMI.";
    let mut info = Family::gauge("node_dmi_info", help);
    info.metrics.push(Metric::number(FIELDS.into_iter().filter_map(label).collect(), 1.0));
    out.push(info);
    Ok(())
}
