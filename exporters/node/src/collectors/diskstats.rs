//! `/proc/diskstats`, with what udev and sysfs know about each device.
use std::collections::HashMap;

use ferula_exporters_shell::CollectError;
use ferula_exposition::family::{Family, Text};

use super::{Collect, Collected, Context};
use crate::Error;
use crate::filter::Filter;
use crate::source::{Source, attribute};

/// The kernel counts in sectors of this size, whatever the device does.
const SECTOR_BYTES: f64 = 512.0;
const MS: f64 = 0.001;

/// Columns after the device name (Documentation/admin-guide/iostats.rst): name, help, factor. One is a gauge.
const COLUMNS: [(&str, &str, f64); 17] = [
    ("node_disk_reads_completed_total", "The total number of reads completed successfully.", 1.0),
    ("node_disk_reads_merged_total", "The total number of reads merged.", 1.0),
    ("node_disk_read_bytes_total", "The total number of bytes read successfully.", SECTOR_BYTES),
    ("node_disk_read_time_seconds_total", "The total number of seconds spent by all reads.", MS),
    ("node_disk_writes_completed_total", "The total number of writes completed successfully.", 1.0),
    ("node_disk_writes_merged_total", "The number of writes merged.", 1.0),
    ("node_disk_written_bytes_total", "The total number of bytes written successfully.", SECTOR_BYTES),
    ("node_disk_write_time_seconds_total", "This is the total number of seconds spent by all writes.", MS),
    (IO_NOW, "The number of I/Os currently in progress.", 1.0),
    ("node_disk_io_time_seconds_total", "Total seconds spent doing I/Os.", MS),
    ("node_disk_io_time_weighted_seconds_total", "The weighted # of seconds spent doing I/Os.", MS),
    ("node_disk_discards_completed_total", "The total number of discards completed successfully.", 1.0),
    ("node_disk_discards_merged_total", "The total number of discards merged.", 1.0),
    ("node_disk_discarded_sectors_total", "The total number of sectors discarded successfully.", 1.0),
    ("node_disk_discard_time_seconds_total", "This is the total number of seconds spent by all discards.", MS),
    ("node_disk_flush_requests_total", "The total number of flush requests completed successfully", 1.0),
    (
        "node_disk_flush_requests_time_seconds_total",
        "This is the total number of seconds spent by all flush requests.",
        MS,
    ),
];
const IO_NOW: &str = "node_disk_io_now";

/// What udev found out by asking an ATA disk.
const ATA: [(&str, &str, &str); 3] = [
    ("ID_ATA_WRITE_CACHE", "node_disk_ata_write_cache", "ATA disk has a write cache."),
    ("ID_ATA_WRITE_CACHE_ENABLED", "node_disk_ata_write_cache_enabled", "ATA disk has its write cache enabled."),
    ("ID_ATA_ROTATION_RATE_RPM", "node_disk_ata_rotation_rate_rpm", "ATA disk rotation rate in RPMs (0 for SSDs)."),
];

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let (exclude, include) = ("collector.diskstats.device-exclude", "collector.diskstats.device-include");
    let filter = Filter::from_flags(&context.flags, exclude, include)?;
    Ok(Box::new(move |out| collect(&source, &filter, out)))
}

fn collect(source: &Source, filter: &Filter, out: &mut Vec<Family>) -> Collected {
    let text = source.proc("diskstats")?;
    let mut columns: Vec<Family> = COLUMNS
        .iter()
        .map(
            |(name, help, _)| if *name == IO_NOW { Family::gauge(*name, *help) } else { Family::counter(*name, *help) },
        )
        .collect();
    let mut known = Known::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(major), Some(minor), Some(device)) = (words.next(), words.next(), words.next()) else {
            return Err(CollectError::Failed(format!("invalid line in diskstats: {line:?}")));
        };
        if filter.ignores(device) {
            continue;
        }
        for ((family, (_, _, factor)), word) in columns.iter_mut().zip(COLUMNS).zip(words) {
            let Ok(count) = word.parse::<f64>() else {
                return Err(CollectError::Failed(format!("invalid value {word:?} in diskstats of {device}")));
            };
            family.push_with([("device", device.to_owned().into())], count * factor);
        }
        known.add(source, device, major, minor);
    }
    out.append(&mut columns);
    known.finish(out);
    Ok(())
}

/// The families that describe devices.
struct Known {
    info: Family,
    file_system: Family,
    mapper: Family,
    ata: Vec<Family>,
}

impl Known {
    fn new() -> Known {
        Known {
            info: Family::gauge("node_disk_info", "Info of /sys/block/<block_device>."),
            file_system: Family::gauge("node_disk_filesystem_info", "Info about disk filesystem."),
            mapper: Family::gauge("node_disk_device_mapper_info", "Info about disk device mapper."),
            ata: ATA.iter().map(|(_, name, help)| Family::gauge(*name, *help)).collect(),
        }
    }

    fn add(&mut self, source: &Source, device: &str, major: &str, minor: &str) {
        let udev = source.udev_block_device(major, minor);
        let properties: HashMap<&str, &str> =
            udev.lines().filter_map(|l| l.strip_prefix("E:")?.split_once('=')).collect();
        let property = |key: &str| properties.get(key).copied().unwrap_or_default();
        let text = |key: &str| Text::Owned(property(key).to_owned());
        let device = || Text::Owned(device.to_owned());

        let serial = ["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"];
        let serial = serial.into_iter().map(property).find(|s| !s.is_empty()).unwrap_or_default().to_owned();
        let rotational = attribute(&source.sys_path(&format!("block/{}/queue/rotational", device())));
        self.info.push_with(
            [
                ("device", device()),
                ("major", major.to_owned().into()),
                ("minor", minor.to_owned().into()),
                ("model", text("ID_MODEL")),
                ("path", text("ID_PATH")),
                ("revision", text("ID_REVISION")),
                ("rotational", rotational.unwrap_or_else(|_| "0".to_owned()).into()),
                ("serial", serial.into()),
                ("wwn", text("ID_WWN")),
            ],
            1.0,
        );
        if !property("ID_FS_TYPE").is_empty() {
            self.file_system.push_with(
                [
                    ("device", device()),
                    ("type", text("ID_FS_TYPE")),
                    ("usage", text("ID_FS_USAGE")),
                    ("uuid", text("ID_FS_UUID")),
                    ("version", text("ID_FS_VERSION")),
                ],
                1.0,
            );
        }
        if !property("DM_NAME").is_empty() {
            self.mapper.push_with(
                [
                    ("device", device()),
                    ("lv_layer", text("DM_LV_LAYER")),
                    ("lv_name", text("DM_LV_NAME")),
                    ("name", text("DM_NAME")),
                    ("uuid", text("DM_UUID")),
                    ("vg_name", text("DM_VG_NAME")),
                ],
                1.0,
            );
        }
        if !property("ID_ATA").is_empty() {
            for ((key, ..), family) in ATA.iter().zip(&mut self.ata) {
                if let Ok(v) = property(key).parse() {
                    family.push_with([("device", device())], v);
                }
            }
        }
    }

    fn finish(self, out: &mut Vec<Family>) {
        out.extend([self.info, self.file_system, self.mapper]);
        out.extend(self.ata);
    }
}
